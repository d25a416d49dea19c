"""``/v1/recommend`` and ``/v1/rank``."""

import time
from dataclasses import replace

from fastapi import FastAPI, Request

from driftline.events.store import ServedList
from driftline.serving import answers
from driftline.serving.backends import Backends
from driftline.serving.calls import RankQuestion, UserView, question_of
from driftline.serving.messages.lists import ListOut, RankIn, RecommendIn
from driftline.serving.routes.base import Reader


def add(app: FastAPI, backends: Backends) -> None:
    @app.post("/v1/recommend")
    async def recommend(request: Request, body: RecommendIn, key: Reader) -> ListOut:
        """A list for a user; an unknown user gets one too, and the policy says so."""
        view: UserView = await backends.ask(
            backends.user_state, "read_user", key.tenant, body.user_id, body.min_version
        )
        question = replace(
            question_of(key.tenant, view),
            k=body.k,
            exclude=body.exclude,
            categories=body.filters.categories if body.filters else (),
            diversity=body.diversity,
        )
        answer = answers.ranked_list(
            await backends.ask(backends.ranker, "rank", question), view, view.version, request.state.request_id
        )
        backends.tell(backends.user_state, "record_served", _served(key.tenant, body.user_id, answer))
        return answer

    @app.post("/v1/rank")
    async def rank(request: Request, body: RankIn, key: Reader) -> ListOut:
        """Order given candidates for a user or a history."""
        if body.user_id is not None:
            view: UserView | None = await backends.ask(
                backends.user_state, "read_user", key.tenant, body.user_id, body.min_version
            )
            assert view is not None
            version, question = view.version, question_of(key.tenant, view)
        else:
            view = None
            version, catalogue = await backends.ask(backends.user_state, "versions", key.tenant, body.min_version)
            question = RankQuestion(key.tenant, catalogue, body.history or [])
        question = replace(question, k=len(body.candidates), candidates=body.candidates)
        ranking = await backends.ask(backends.ranker, "rank", question)
        return answers.ranked_list(ranking, view, version, request.state.request_id)


def _served(tenant: str, user_id: str, answer: ListOut) -> ServedList:
    return ServedList(
        tenant=tenant,
        request_id=answer.request_id,
        user_id=user_id,
        items=tuple(item.item_id for item in answer.items),
        policy=answer.policy.name,
        bundle=answer.bundle,
        served_at=time.time(),
        version=answer.version,
    )
