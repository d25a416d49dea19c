"""At most so many items of a category in one list."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

Caps = int | Mapping[str, int]
"""One limit for every category, or limits by category name (the others are free); names without regard to case."""


class CategoryCaps:
    """Which places are closed once others are taken. One object serves the making of one list.

    Parameters
    ----------
    categories
        Categories of each candidate; an item counts in each of its categories, one without any never does.
    caps
        The limits.
    """

    def __init__(self, categories: Sequence[Sequence[str]], caps: Caps) -> None:
        self._categories = [{name.casefold() for name in names} for names in categories]
        self._every = caps if isinstance(caps, int) else None
        self._named = {} if isinstance(caps, int) else {name.casefold(): cap for name, cap in caps.items()}
        self._taken: Counter[str] = Counter()
        self._holding: defaultdict[str, list[int]] = defaultdict(list)
        for place, names in enumerate(self._categories):
            for name in names:
                self._holding[name].append(place)

    def closed(self) -> set[int]:
        """Places that are closed before anything is taken: those of a category that is capped at 0."""
        return {place for name, places in self._holding.items() if self._full(name) for place in places}

    def take(self, place: int) -> set[int]:
        """Take an item; returns the places of every category that is full now."""
        self._taken.update(self._categories[place])
        return {other for name in self._categories[place] if self._full(name) for other in self._holding[name]}

    def _full(self, name: str) -> bool:
        cap = self._named.get(name) if self._every is None else self._every
        return cap is not None and self._taken[name] >= cap


def capped(order: Sequence[int], k: int, caps: CategoryCaps) -> list[int]:
    """First ``k`` places of an order that the caps leave, passing over what is closed.

    Where each item has one category, the list has ``k`` places whenever that is possible; where items have several, an
    early item may close more than another choice would have, but nothing that is still open is ever left out.
    """
    closed = caps.closed()
    chosen: list[int] = []
    for place in order:
        if len(chosen) == k:
            break
        if place not in closed:
            chosen.append(place)
            closed |= caps.take(place)
    return chosen
