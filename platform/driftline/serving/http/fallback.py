"""What is served when no Ranker answers in time: popular items, by the request's own rules, and the answer says so."""

import math
import time
from dataclasses import dataclass
from typing import Final

from driftline.ranking.caps import CategoryCaps, capped
from driftline.ranking.requests import Policy, RankedItem, Recommendation
from driftline.serving.calls import Ranking, RankQuestion
from driftline.serving.catalogue import CatalogueFollower, TenantCatalogue
from driftline.serving.http.backends import Backends
from driftline.state.store import CatalogueItem

POPULAR_ITEMS: Final = 1000
REFRESH_SECONDS: Final = 60.0
IN_USE_SECONDS: Final = 1.0
"""While no Ranker answers, every list would wait for one: it waits so long at most, until one answers again."""
RETRY_SECONDS: Final = 1.0
"""Pause after a refresh that failed."""


@dataclass(frozen=True)
class Popular:
    """A bundle's most popular items, the first one most; ``scores`` are logs of their shares of the events."""

    bundle: str
    items: list[CatalogueItem]
    scores: list[float]


class Fallback:
    """Keeps popular items at hand while Rankers answer.

    Parameters
    ----------
    backends
        The other deployments; the tenants' catalogues come from UserState, so a deleted item is not shown here either.
    """

    def __init__(self, backends: Backends) -> None:
        async def fetch_since(tenant: str, version: int) -> tuple[int, list[CatalogueItem]]:
            changes: tuple[int, list[CatalogueItem]]
            changes = await backends.ask(backends.user_state, "catalogue_since", tenant, version)
            return changes

        self._backends = backends
        self._catalogues = CatalogueFollower(fetch_since)
        self._popular: Popular | None = None
        self._in_use = False
        self._refresh_at = -math.inf

    def patience(self, rank_seconds: float) -> float:
        """How long to wait for a Ranker, seconds: shorter after one has let somebody wait in vain."""
        return min(rank_seconds, IN_USE_SECONDS) if self._in_use else rank_seconds

    def refresh(self) -> None:
        """To be called when a Ranker has answered: it is asked for popular items, unless it was asked a moment ago."""
        self._in_use = False
        if time.monotonic() >= self._refresh_at:
            self._refresh_at = time.monotonic() + RETRY_SECONDS
            self._backends.follow(self._fetch())

    async def _fetch(self) -> None:
        self._popular = await self._backends.ask(self._backends.ranker, "popular", POPULAR_ITEMS)
        self._refresh_at = time.monotonic() + REFRESH_SECONDS

    async def rank(self, question: RankQuestion) -> Ranking | None:
        """A list of popular items; ``None`` before the first Ranker has answered."""
        popular = self._popular
        if popular is None:
            return None
        self._in_use = True
        catalogue = await self._catalogues.at_least(question.tenant, question.catalogue_version)
        return Ranking(popular_list(question, popular, catalogue), popular.bundle, drift_used=True)


def popular_list(question: RankQuestion, popular: Popular, catalogue: TenantCatalogue) -> Recommendation:
    """The most popular items that the tenant's catalogue and the rules of a request leave."""
    had, barred = set(question.history), {*question.exclude, *catalogue.deleted, *catalogue.unavailable}
    only = None if question.only_items is None else set(question.only_items)
    open_items: list[tuple[CatalogueItem, float]] = []
    for known, score in zip(popular.items, popular.scores, strict=True):
        item = catalogue.entries.get(known.item_id, known)
        wanted = question.seen == "include" or (item.item_id in had) == (question.seen == "only")
        if item.item_id in barred or not wanted or (only is not None and item.item_id not in only):
            continue
        if question.rules.admit(item.categories, item.year):
            open_items.append((item, score))
    places = list(range(len(open_items)))[: question.k]
    if question.caps is not None:
        caps = CategoryCaps([item.categories for item, _ in open_items], question.caps)
        places = capped(range(len(open_items)), question.k, caps)
    items = [
        RankedItem(item.item_id, catalogue.title(item.item_id) or item.title, score)
        for item, score in (open_items[place] for place in places)
    ]
    reason = "no ranker answered in time: the most popular items"
    return Recommendation(items, Policy("popular", reason, 0.0), question.drift)
