"""Looking things up: similar items, search, relevance of documents."""

import time
from collections.abc import Sequence
from dataclasses import replace

from fastapi import FastAPI, Request

from driftline.serving.calls import LookupAnswer, LookupQuestion, RerankAnswer, UserView
from driftline.serving.http.backends import Backends
from driftline.serving.http.messages.lookups import (
    FoundListOut,
    FoundOut,
    RerankIn,
    RerankMetaOut,
    RerankOut,
    RerankResultOut,
    SearchIn,
    SimilarIn,
)
from driftline.serving.http.messages.rules import item_rules
from driftline.serving.http.problems import Problem
from driftline.serving.http.routes.base import Reader

MAX_TOKENS_PER_DOCUMENT = 4096
"""Cohere's default; the text tower of a bundle reads less."""
OWN_NAME = "driftline"


def add(app: FastAPI, backends: Backends) -> None:
    """Similar items, searches, and documents in the order of a query."""

    async def find(request: Request, question: LookupQuestion, version: int) -> FoundListOut:
        """The Ranker's answer; an item that nobody knows is a 404."""
        answer: LookupAnswer = await backends.ask(backends.ranker, "find", question)
        if not answer.known:
            raise Problem(404, "there is no such item: add it with PUT /v1/items/{id}, or ask with its text")
        return FoundListOut(
            items=[FoundOut(**vars(one)) for one in answer.found],
            bundle=answer.bundle,
            version=version,
            request_id=request.state.request_id,
        )

    @app.post("/v1/similar")
    async def similar(request: Request, body: SimilarIn, key: Reader) -> FoundListOut:
        """Items like an item, which is not among them, or like a text; nobody's taste has a say."""
        version, catalogue = await backends.ask(backends.user_state, "versions", key.tenant, body.min_version)
        question = LookupQuestion(
            tenant=key.tenant,
            catalogue_version=catalogue,
            item_id=body.item_id,
            text=body.text,
            k=body.k,
            exclude=body.exclude,
            only_items=body.filters.items if body.filters else None,
            rules=item_rules(body.filters),
        )
        return await find(request, question, version)

    @app.post("/v1/search")
    async def search(request: Request, body: SearchIn, key: Reader) -> FoundListOut:
        """Items that answer a query by meaning and by words; for a user, by taste as well, within a bound."""
        question = LookupQuestion(
            tenant=key.tenant,
            catalogue_version=0,
            text=body.query,
            by_words=True,
            k=body.k,
            exclude=body.exclude,
            only_items=body.filters.items if body.filters else None,
            rules=item_rules(body.filters),
            seen=body.seen,
            user_id=body.user_id,
            weight=body.personalisation,
        )
        if body.user_id is None:
            version, catalogue = await backends.ask(backends.user_state, "versions", key.tenant, body.min_version)
            return await find(request, replace(question, catalogue_version=catalogue), version)
        view: UserView = await backends.ask(
            backends.user_state, "read_user", key.tenant, body.user_id, body.min_version
        )
        question = replace(
            question,
            catalogue_version=view.catalogue_version,
            history=view.item_ids,
            times_s=view.times_s,
            types=view.types,
            now_s=time.time(),
            drift=view.drift,
            drift_bundle=view.drift_bundle,
        )
        return await find(request, question, view.version)

    @app.post("/v2/rerank")
    async def rerank(request: Request, body: RerankIn, key: Reader) -> RerankOut:
        """Documents by relevance to a query; compatible with Cohere's rerank API v2 and its client."""
        documents = [document if isinstance(document, str) else document.text for document in body.documents]
        allowed = body.max_tokens_per_doc or MAX_TOKENS_PER_DOCUMENT
        answer: RerankAnswer = await backends.ask(backends.ranker, "rerank", body.query, documents, allowed)
        order = sorted(range(len(documents)), key=lambda place: -answer.relevance[place])
        return RerankOut(
            id=request.state.request_id,
            results=[
                RerankResultOut(index=place, relevance_score=answer.relevance[place]) for place in order[: body.top_n]
            ],
            meta=RerankMetaOut(warnings=_warnings(body, allowed, answer)),
        )


def _warnings(body: RerankIn, allowed_tokens: int, answer: RerankAnswer) -> Sequence[str]:
    warnings = []
    if body.model not in (None, OWN_NAME, answer.bundle):
        warnings.append(f"model {body.model!r} is not here: bundle {answer.bundle!r} answered")
    if allowed_tokens > answer.max_tokens:
        warnings.append(f"no more than {answer.max_tokens} tokens of a document are read")
    if body.priority is not None:
        warnings.append("priority has no effect")
    return warnings
