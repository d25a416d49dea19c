"""A Ranker's copy of the tenants' catalogues: a follower of the store, which is the log."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from driftline.catalog.text import compose, display_title
from driftline.state.store import CatalogueItem

FetchSince = Callable[[str, int], Awaitable[tuple[int, list[CatalogueItem]]]]


@dataclass
class TenantCatalogue:
    """What one tenant wrote.

    Parameters
    ----------
    version
        Catalogue version that this copy has reached.
    entries
        Entries by item id.
    texts
        What the text tower reads, by item id.
    deleted
        Ids of items that must not be shown.
    unavailable
        Ids of items that cannot be had at present: they are in no list, but histories may hold them.
    """

    version: int = 0
    entries: dict[str, CatalogueItem] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    unavailable: set[str] = field(default_factory=set)

    def apply(self, version: int, changes: list[CatalogueItem]) -> None:
        """Take in what was written since :attr:`version`."""
        for item in changes:
            if item.available:
                self.unavailable.discard(item.item_id)
            else:
                self.unavailable.add(item.item_id)
            if item.deleted:
                self.entries.pop(item.item_id, None)
                self.texts.pop(item.item_id, None)
                self.deleted.add(item.item_id)
            else:
                self.entries[item.item_id] = item
                self.texts[item.item_id] = compose(item.title, item.year, item.categories, item.description)
                self.deleted.discard(item.item_id)
        self.version = version

    def new_texts(self, trained: Mapping[str, int]) -> dict[str, str]:
        """Texts of the items that a bundle does not know; those it knows keep their trained vectors."""
        return {item_id: text for item_id, text in self.texts.items() if item_id not in trained}

    def title(self, item_id: str) -> str | None:
        """Title as the tenant wrote it; ``None`` if it did not."""
        entry = self.entries.get(item_id)
        return display_title(entry.title) if entry else None


class CatalogueFollower:
    """Copies of all tenants' catalogues, brought up to date when a request demands it.

    Parameters
    ----------
    fetch_since
        Asks the store for what a tenant wrote after a version.
    """

    def __init__(self, fetch_since: FetchSince) -> None:
        self._fetch_since = fetch_since
        self._tenants: dict[str, TenantCatalogue] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def at_least(self, tenant: str, version: int) -> TenantCatalogue:
        """Copy of a tenant's catalogue that has reached ``version``; one fetch serves all who wait for it."""
        catalogue = self._tenants.setdefault(tenant, TenantCatalogue())
        if catalogue.version < version:
            async with self._locks.setdefault(tenant, asyncio.Lock()):
                if catalogue.version < version:
                    catalogue.apply(*await self._fetch_since(tenant, catalogue.version))
        return catalogue
