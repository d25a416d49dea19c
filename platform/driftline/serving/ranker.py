"""Ranker: ranked lists, in batches, over the bundle's items and those that the tenant has added since."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from ray.serve.handle import DeploymentHandle

from driftline.models.text_precision import TextPrecision
from driftline.ranking.profile import interest_tags
from driftline.ranking.requests import RankedItem, RankRequest, Recommendation
from driftline.registry.explanation import ItemExplanation
from driftline.registry.lookup import LookupRequest
from driftline.registry.model import Model
from driftline.serving import telemetry
from driftline.serving.arms import Arms
from driftline.serving.batching import batched
from driftline.serving.calls import (
    ExplainQuestion,
    LookupAnswer,
    LookupQuestion,
    Portrait,
    Ranking,
    RankQuestion,
    RerankAnswer,
    Serving,
)
from driftline.serving.catalogue import CatalogueFollower, TenantCatalogue
from driftline.serving.deadlines import takes_deadlines
from driftline.serving.explanations import Explanations
from driftline.serving.http.fallback import Popular
from driftline.serving.loaded_arms import LoadedArms, sample_history
from driftline.serving.lookups import Lookups, relevance
from driftline.serving.promotions import Promotion
from driftline.serving.rank_request import categories_of, rank_request
from driftline.serving.shadow import ShadowLists
from driftline.serving.short_work import ShortWork
from driftline.state.store import CatalogueItem, ShadowList

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Asked:
    """One list to make, and which model makes it: the bundle may be swapped before its turn comes."""

    tenant: str
    model: Model
    request: RankRequest
    question: RankQuestion


@takes_deadlines
class Ranker:
    """Autoscaling deployment.

    Parameters
    ----------
    torch_threads, text_precision
        See :class:`~driftline.serving.loaded_arms.LoadedArms`.
    """

    def __init__(
        self, user_state: DeploymentHandle[Any], torch_threads: int, text_precision: TextPrecision = "fp32"
    ) -> None:
        async def fetch_since(tenant: str, version: int) -> tuple[int, list[CatalogueItem]]:
            changes: tuple[int, list[CatalogueItem]] = await user_state.catalogue_since.remote(tenant, version)
            return changes

        async def find_promotion(champion: str) -> Promotion | None:
            found: Promotion | None = await user_state.promotion.remote(champion)
            return found

        async def record_shadows(lists: list[tuple[Asked, Recommendation]]) -> None:
            await user_state.record_shadows.remote([_shadow_list(asked, made) for asked, made in lists])

        self._catalogues = CatalogueFollower(fetch_since)
        self._loaded = LoadedArms(_warm_up, torch_threads, find_promotion, text_precision=text_precision)
        self._short = ShortWork()
        self._lookups = Lookups()
        self._explanations = Explanations()
        self._shadow = ShadowLists(_recommend, record_shadows)

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Take in what is configured (see :class:`~driftline.serving.arms.Arms`); swaps without a restart."""
        await self._loaded.configure(config)

    def check_health(self) -> None:
        """Fail if no bundle is loaded, and show which: a gauge that is not set again and again disappears."""
        telemetry.hand_over()
        telemetry.show_bundles(self._loaded.in_force.bundles)

    async def bundle(self) -> str:
        """Id of the champion in force."""
        return self._loaded.in_force.champion.version

    async def swap_fault(self) -> str | None:
        """Why the bundles in force are not those that were asked for; ``None`` if they are."""
        return self._loaded.fault

    async def configured(self) -> Arms:
        """What promotions are made over."""
        return self._loaded.configured

    async def serving(self) -> Serving:
        """What this replica answers with."""
        return self._loaded.serving("Ranker")

    async def bundle_item(self, item_id: str) -> CatalogueItem | None:
        """Item of the bundle as a catalogue entry; ``None`` if the bundle does not know it."""
        catalog = self._loaded.in_force.champion.catalog
        place = catalog.index.get(item_id)
        if place is None:
            return None
        return CatalogueItem(item_id, catalog.titles[place], catalog.years[place], catalog.categories[place])

    async def popular(self, count: int) -> Popular:
        """The champion's most popular items, for Routers to fall back on."""
        model = self._loaded.in_force.champion
        return await asyncio.to_thread(_most_popular, model, count)

    async def rank(self, question: RankQuestion) -> Ranking:
        """Make one list, from a catalogue at least as new as the question demands."""
        catalogue = await self._catalogues.at_least(question.tenant, question.catalogue_version)
        in_force = self._loaded.in_force
        arm, model = in_force.arm_of(question.tenant, question.user_id)
        resolved = rank_request(question, model, catalogue)
        made = await self._make(Asked(question.tenant, model, resolved.request, question))
        self._make_shadow(question, catalogue)
        shown = Recommendation(
            items=[
                RankedItem(item.item_id, catalogue.title(item.item_id) or item.title, item.score) for item in made.items
            ],
            policy=made.policy,
            drift=made.drift and made.drift.verdict,
            unknown_items=list(dict.fromkeys([*made.unknown_items, *resolved.unknown])),
        )
        return Ranking(shown, model.version, resolved.request.drift is not None, arm, resolved.unavailable)

    async def find(self, question: LookupQuestion) -> LookupAnswer:
        """Items like an item or a text, perhaps by a user's taste."""
        catalogue = await self._catalogues.at_least(question.tenant, question.catalogue_version)
        _, model = self._loaded.in_force.arm_of(question.tenant, question.user_id)
        return await self._lookups.find(question, model, catalogue)

    async def rerank(self, query: str, documents: list[str], max_tokens: int) -> RerankAnswer:
        """Relevance of documents to a query."""
        model = self._loaded.in_force.champion
        figures = await relevance(model, query, documents, max_tokens)
        return RerankAnswer(figures, model.version, model.config.text.max_tokens)

    async def explain(self, question: ExplainQuestion) -> list[ItemExplanation] | None:
        """Why items are in a list; ``None`` if the bundle that made it is not in force."""
        catalogue = await self._catalogues.at_least(question.tenant, question.catalogue_version)
        model = self._loaded.in_force.model_of(question.bundle)
        return None if model is None else await self._explanations.explain(question, model, catalogue)

    async def portray(self, question: RankQuestion) -> Portrait:
        """Interests of a user and the policy in force."""
        ranking = await self.rank(question)
        catalogue = await self._catalogues.at_least(question.tenant, question.catalogue_version)
        _, model = self._loaded.in_force.arm_of(question.tenant, question.user_id)
        categories = [categories_of(item_id, model, catalogue) for item_id in question.history]
        made = ranking.recommendation
        return Portrait(interest_tags(categories), made.policy, made.drift, ranking.bundle, ranking.drift_used)

    @batched
    async def _make(self, asked: list[Asked]) -> list[Recommendation]:
        if all(_is_usual(one.request) for one in asked):
            return await self._short.run(_recommend, asked)
        return await asyncio.to_thread(_recommend, asked)

    def _make_shadow(self, question: RankQuestion, catalogue: TenantCatalogue) -> None:
        if question.user_id is None or question.request_id is None:
            return
        try:
            challenger = self._loaded.in_force.shadow_of(question.tenant, question.user_id)
            if challenger is not None:
                request = rank_request(question, challenger, catalogue).request
                self._shadow.add(Asked(question.tenant, challenger, request, question))
        except Exception:  # a challenger must not touch the champion's answer
            logger.exception("a shadow list could not be asked for")


def _most_popular(model: Model, count: int) -> Popular:
    catalog, events_N = model.catalog, np.asarray(model.scorer.tables.popularity_N, dtype=np.float64)
    best = np.argsort(-events_N, kind="stable")[:count]
    shares = np.log((events_N[best] + 1) / (events_N.sum() + len(events_N)))
    items = [CatalogueItem(catalog.ids[n], catalog.titles[n], catalog.years[n], catalog.categories[n]) for n in best]
    return Popular(model.version, items, shares.tolist())


def _is_usual(request: RankRequest) -> bool:
    """Whether a list takes about as long as others: no text is to be read for it, and no history scanned for drift."""
    return request.drift is not None and not request.new_items


def _recommend(asked: list[Asked]) -> list[Recommendation]:
    """Lists in the given order, one pass per model and tenant: in a pass, an id of a new item means one text."""

    def key(place: int) -> tuple[int, str]:
        return id(asked[place].model), asked[place].tenant

    made: dict[int, Recommendation] = {}
    for _, group in groupby(sorted(range(len(asked)), key=key), key=key):
        places = list(group)
        model = asked[places[0]].model
        made.update(zip(places, model.recommend_batch([asked[place].request for place in places]), strict=True))
    return [made[place] for place in range(len(asked))]


def _shadow_list(asked: Asked, made: Recommendation) -> ShadowList:
    assert asked.question.request_id is not None
    shown = {
        "bundle": asked.model.version,
        "items": [item.item_id for item in made.items],
        "scores": [item.score for item in made.items],
        "policy": made.policy.name,
    }
    return ShadowList(asked.tenant, asked.question.request_id, shown)


def _warm_up(model: Model) -> object:
    """One list for a known history, one with an item that is known by its text only; one search."""
    history = sample_history(model)
    new_item = {"a new item": "A new item (2026). Genres: Drama."}
    assert model.fields
    model.lookup.find([LookupRequest(text="Drama", by_words=True)])
    return model.recommend_batch([RankRequest(history), RankRequest(history, new_items=new_item)])
