"""What the Ranker answers beside lists for users: similar items, searches, relevance of documents. In batches."""

import asyncio
from dataclasses import dataclass, replace
from itertools import groupby

from driftline.registry.lookup import Found, LookupRequest
from driftline.registry.model import Model
from driftline.serving.batching import batched
from driftline.serving.calls import LookupAnswer, LookupQuestion
from driftline.serving.catalogue import TenantCatalogue
from driftline.serving.rank_request import lookup_request


@dataclass(frozen=True)
class Sought:
    """One question with the model that answers it."""

    tenant: str
    model: Model
    request: LookupRequest


class Lookups:
    """Batches the questions of one replica; the mathematics runs in a thread."""

    async def find(self, question: LookupQuestion, model: Model, catalogue: TenantCatalogue) -> LookupAnswer:
        """Answer one question."""
        request = lookup_request(question, model, catalogue)
        item_id = request.item_id
        if item_id is not None:
            described = item_id in model.catalog.index or item_id in catalogue.entries
            if not described or item_id in catalogue.deleted:
                return LookupAnswer((), model.version, known=False)
        found = await self._find(Sought(question.tenant, model, request))
        shown = [replace(one, title=catalogue.title(one.item_id) or one.title) for one in found]
        return LookupAnswer(shown, model.version)

    @batched
    async def _find(self, sought: list[Sought]) -> list[list[Found]]:
        return await asyncio.to_thread(_find_all, sought)


async def relevance(model: Model, query: str, documents: list[str], max_tokens: int) -> list[float]:
    """Relevance of each document to a query; the documents of one request are a batch of their own."""
    return [float(one) for one in await asyncio.to_thread(model.lookup.relevance, query, documents, max_tokens)]


def _find_all(sought: list[Sought]) -> list[list[Found]]:
    """Answers in the given order, one pass per model and tenant: in a pass, an id of a new item means one text."""

    def key(place: int) -> tuple[int, str]:
        return id(sought[place].model), sought[place].tenant

    found: dict[int, list[Found]] = {}
    for _, group in groupby(sorted(range(len(sought)), key=key), key=key):
        places = list(group)
        lookup = sought[places[0]].model.lookup
        found.update(zip(places, lookup.find([sought[place].request for place in places]), strict=True))
    return [found[place] for place in range(len(sought))]
