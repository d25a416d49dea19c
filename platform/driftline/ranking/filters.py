"""Business rules: which items may be in a list, by the fields of the catalogue.

Shape legend: N items.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_YEAR: Final = re.compile(r"\d{4}")


@dataclass(frozen=True)
class ItemRules:
    """What an item must be like; every rule that is given must hold. Names are compared without regard to case.

    Parameters
    ----------
    any_category, all_categories, no_category
        It has at least one of these, all of these, none of these.
    year_from, year_to
        Its year lies in between, both included; an item without a year does not.
    """

    any_category: tuple[str, ...] = ()
    all_categories: tuple[str, ...] = ()
    no_category: tuple[str, ...] = ()
    year_from: int | None = None
    year_to: int | None = None

    def admit(self, categories: Sequence[str], year: str) -> bool:
        """Whether one item may be in the list."""
        return bool(FieldIndex([categories], [year]).admitted(self)[0])


NO_RULES: Final = ItemRules()
"""Everything may be in the list."""


class FieldIndex:
    """Categories and years of a fixed set of items, arranged for :class:`ItemRules`.

    Parameters
    ----------
    categories_N, years_N
        Of each item, as the catalogue has them.
    """

    def __init__(self, categories_N: Sequence[Sequence[str]], years_N: Sequence[str]) -> None:
        self._num_items = len(categories_N)
        places: dict[str, list[int]] = {}
        for place, categories in enumerate(categories_N):
            for name in {category.casefold() for category in categories}:
                places.setdefault(name, []).append(place)
        self._places = {name: np.array(found, dtype=np.int64) for name, found in places.items()}
        self._year_N = np.array([year_number(year) or -1 for year in years_N], dtype=np.int64)

    def admitted(self, rules: ItemRules) -> NDArray[np.bool_]:
        """bool ``[N]``: which items may be in the list."""
        open_N = np.ones(self._num_items, dtype=bool)
        if rules.any_category:
            open_N &= np.logical_or.reduce([self._having(name) for name in rules.any_category])
        for name in rules.all_categories:
            open_N &= self._having(name)
        for name in rules.no_category:
            open_N &= ~self._having(name)
        if rules.year_from is not None or rules.year_to is not None:
            open_N &= self._year_N >= max(rules.year_from or 0, 0)
        if rules.year_to is not None:
            open_N &= self._year_N <= rules.year_to
        return open_N

    def _having(self, category: str) -> NDArray[np.bool_]:
        having_N = np.zeros(self._num_items, dtype=bool)
        having_N[self._places.get(category.casefold(), np.empty(0, np.int64))] = True
        return having_N


def year_number(text: str) -> int | None:
    """First four digits of a year as the catalogue has it.

    Examples
    --------
    >>> year_number("1995"), year_number("c. 1995-07"), year_number("unknown")
    (1995, 1995, None)
    """
    found = _YEAR.search(text)
    return int(found[0]) if found else None
