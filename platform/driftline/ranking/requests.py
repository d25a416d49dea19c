"""What a ranker is asked, and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from driftline.drift.report import DriftVerdict
from driftline.ranking.caps import Caps

PolicyName = Literal["steady", "drifting", "reset", "cold-start", "popular"]
"""'popular' is for lists that no model made."""


@dataclass(frozen=True)
class RankRequest:
    """One list to make.

    Parameters
    ----------
    history
        External item ids, oldest first. Unknown ids are passed over and reported.
    times_s, types
        When each of them happened, in seconds, and its event type; ``None`` where that is not known.
    attributes
        Of the user: value by name, among those that the bundle reads (``data.user_attributes``); what is missing is
        unknown, another name a ``DataError``.
    now_s
        When the list is asked for, in seconds; bundles that were trained with ``encoder.target_gap`` read it.
    k
        Length of the list; fewer come back when fewer can be ranked.
    exclude
        Items that must not be in the list.
    candidates
        Items to choose from; ``None`` means the whole catalogue and every new item.
    keep_seen
        Rank items of the history too, even where the catalogue masks them: the caller chose the candidates.
    new_items
        Text by item id, for items that the bundle does not know; an id that it knows keeps its trained vector.
    diversity
        MMR trade-off in [0, 1); ``None`` takes the bundle's policy.
    drift
        What is believed of drift in this history, so that it is not computed again; it may lag. ``None`` means: work
        it out.
    caps
        At most so many items of a category in the list; see :class:`~driftline.ranking.caps.CategoryCaps`.
    categories
        Categories by item id, for new items and for those whose categories are not the bundle's. Only caps read them.
    """

    history: Sequence[str]
    k: int = 10
    exclude: Sequence[str] = ()
    candidates: Sequence[str] | None = None
    keep_seen: bool = False
    new_items: Mapping[str, str] | None = None
    diversity: float | None = None
    drift: DriftVerdict | None = None
    caps: Caps | None = None
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    times_s: Sequence[float] | None = None
    types: Sequence[str] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    now_s: float | None = None

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k={self.k}: a list cannot be shorter than 0 items")
        if self.diversity is not None and not 0 <= self.diversity < 1:
            raise ValueError(f"diversity={self.diversity}: must be at least 0 and below 1")
        for name, column in (("times_s", self.times_s), ("types", self.types)):
            if column is not None and len(column) != len(self.history):
                raise ValueError(f"{name} has {len(column)} entries for {len(self.history)} events: give one for each")


@dataclass(frozen=True)
class RankedItem:
    """One place of a list; a higher ``score`` is better, and scores of different requests do not compare."""

    item_id: str
    title: str
    score: float


@dataclass(frozen=True)
class Policy:
    """How the history was read, and why.

    Parameters
    ----------
    weight_recent
        Weight in [0, 1] of the reading 'since the change point' against 'the whole history'.
    """

    name: PolicyName
    reason: str
    weight_recent: float


@dataclass(frozen=True)
class Recommendation:
    """A ranked list with the policy that made it and what it believed of drift."""

    items: list[RankedItem]
    policy: Policy
    drift: DriftVerdict | None = None
    unknown_items: list[str] = field(default_factory=list)
