"""Ranker: ranked lists, in batches, over the bundle's items and those that the tenant has added since."""

import asyncio
from itertools import groupby
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from driftline.events.store import CatalogueItem
from driftline.ranking.profile import interest_tags
from driftline.ranking.requests import RankedItem, RankRequest, Recommendation
from driftline.registry.model import Model
from driftline.serving.calls import Portrait, Ranking, RankQuestion
from driftline.serving.catalogue import CatalogueFollower, TenantCatalogue
from driftline.serving.loaded_model import BATCH_WAIT_SECONDS, MAX_BATCH_SIZE, BundleConfig, LoadedModel, sample_history


class Ranker:
    """Autoscaling deployment.

    Parameters
    ----------
    torch_threads
        See :class:`~driftline.serving.loaded_model.LoadedModel`.
    """

    def __init__(self, user_state: DeploymentHandle[Any], torch_threads: int) -> None:
        async def fetch_since(tenant: str, version: int) -> tuple[int, list[CatalogueItem]]:
            changes: tuple[int, list[CatalogueItem]] = await user_state.catalogue_since.remote(tenant, version)
            return changes

        self._catalogues = CatalogueFollower(fetch_since)
        self._loaded = LoadedModel(_warm_up, torch_threads)

    async def reconfigure(self, config: BundleConfig) -> None:
        """Swap the bundle."""
        await self._loaded.load(config["bundle"])

    def check_health(self) -> None:
        """Fail if no bundle is loaded."""
        assert self._loaded.model

    async def bundle(self) -> str:
        """Id of the bundle in force."""
        return self._loaded.model.version

    async def swap_fault(self) -> str | None:
        """Why the bundle in force is not the one that was asked for; ``None`` if it is."""
        return self._loaded.fault

    async def bundle_item(self, item_id: str) -> CatalogueItem | None:
        """Item of the bundle as a catalogue entry; ``None`` if the bundle does not know it."""
        catalog = self._loaded.model.catalog
        place = catalog.index.get(item_id)
        if place is None:
            return None
        return CatalogueItem(item_id, catalog.titles[place], catalog.years[place], catalog.categories[place])

    async def rank(self, question: RankQuestion) -> Ranking:
        """Make one list, from a catalogue at least as new as the question demands."""
        catalogue = await self._catalogues.at_least(question.tenant, question.catalogue_version)
        model = self._loaded.model
        request, unknown = _rank_request(question, model, catalogue)
        bundle, made = await self._make((question.tenant, request))
        shown = Recommendation(
            items=[
                RankedItem(item.item_id, catalogue.title(item.item_id) or item.title, item.score) for item in made.items
            ],
            policy=made.policy,
            drift=made.drift,
            unknown_items=list(dict.fromkeys([*made.unknown_items, *unknown])),
        )
        return Ranking(shown, bundle, drift_used=request.drift is not None)

    async def portray(self, question: RankQuestion) -> Portrait:
        """Interests of a user and the policy in force."""
        ranking = await self.rank(question)
        catalogue = await self._catalogues.at_least(question.tenant, question.catalogue_version)
        model = self._loaded.model
        categories = [_categories(item_id, model, catalogue) for item_id in question.history]
        made = ranking.recommendation
        return Portrait(interest_tags(categories), made.policy, made.drift, ranking.bundle, ranking.drift_used)

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=BATCH_WAIT_SECONDS)
    async def _make(self, asked: list[tuple[str, RankRequest]]) -> list[tuple[str, Recommendation]]:
        model = self._loaded.model
        made = await asyncio.to_thread(_recommend_by_tenant, model, asked)
        return [(model.version, recommendation) for recommendation in made]


def _recommend_by_tenant(model: Model, asked: list[tuple[str, RankRequest]]) -> list[Recommendation]:
    """Lists in the given order, one pass per tenant: in a pass, an id of a new item means one text."""
    order = sorted(range(len(asked)), key=lambda place: asked[place][0])
    made: dict[int, Recommendation] = {}
    for _, group in groupby(order, key=lambda place: asked[place][0]):
        places = list(group)
        made.update(zip(places, model.recommend_batch([asked[place][1] for place in places]), strict=True))
    return [made[place] for place in range(len(asked))]


def _warm_up(model: Model) -> object:
    """One list for a known history, one with an item that is known by its text only."""
    history = sample_history(model)
    new_item = {"a new item": "A new item (2026). Genres: Drama."}
    return model.recommend_batch([RankRequest(history), RankRequest(history, new_items=new_item)])


def _rank_request(question: RankQuestion, model: Model, catalogue: TenantCatalogue) -> tuple[RankRequest, list[str]]:
    """The model's request, and the candidates that nobody has described."""
    trained = model.catalog.index
    new_items = catalogue.new_texts(trained)
    candidates, unknown = question.candidates, []
    if candidates is not None:
        described = [c for c in candidates if (c in trained or c in new_items) and c not in catalogue.deleted]
        unknown = [c for c in candidates if c not in set(described)]
        candidates = described
    elif question.categories:
        wanted = {name.casefold() for name in question.categories}
        candidates = [
            item_id
            for item_id in (*model.item_ids, *new_items)
            if wanted & {name.casefold() for name in _categories(item_id, model, catalogue)}
        ]
    request = RankRequest(
        history=question.history,
        k=question.k,
        exclude=[*question.exclude, *catalogue.deleted],
        candidates=candidates,
        keep_seen=question.candidates is not None,
        new_items=new_items or None,
        diversity=question.diversity,
        drift=question.drift if question.drift_bundle == model.version else None,
    )
    return request, unknown


def _categories(item_id: str, model: Model, catalogue: TenantCatalogue) -> tuple[str, ...]:
    entry = catalogue.entries.get(item_id)
    if entry is not None:
        return entry.categories
    place = model.catalog.index.get(item_id)
    return model.catalog.categories[place] if place is not None else ()
