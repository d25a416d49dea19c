"""``/v1/recommend`` and ``/v1/rank``."""

import time
from dataclasses import replace

from fastapi import FastAPI, Request

from driftline.serving.calls import Ranking, RankQuestion, UserView, question_of
from driftline.serving.explanations import reading_of
from driftline.serving.http import answers
from driftline.serving.http.backends import Backends
from driftline.serving.http.fallback import Fallback
from driftline.serving.http.messages.lists import ListOut, RankIn, RecommendIn
from driftline.serving.http.messages.rules import item_rules
from driftline.serving.http.problems import Problem
from driftline.serving.http.routes.base import Reader
from driftline.serving.http.served_records import ServedRecords
from driftline.state.store import ServedList


def add(app: FastAPI, backends: Backends) -> None:
    """Lists for users, and given candidates in order."""
    fallback, records = Fallback(backends), ServedRecords(backends)

    async def made(question: RankQuestion) -> Ranking:
        """The Ranker's list, or popular items if there is none."""
        try:
            seconds = fallback.patience(backends.rank_seconds)
            ranking: Ranking = await backends.ask(backends.ranker, "rank", question, seconds=seconds)
        except Problem as problem:
            popular = await fallback.rank(question) if problem.status in (503, 504) else None
            if popular is None:
                raise
            return popular
        fallback.refresh()
        return ranking

    @app.post("/v1/recommend")
    async def recommend(request: Request, body: RecommendIn, key: Reader) -> ListOut:
        """A list for a user; an unknown user gets one too, and the policy says so.

        While no ranker answers, popular items are served, and ``degraded`` says so.
        """
        view: UserView = await backends.ask(
            backends.user_state, "read_user", key.tenant, body.user_id, body.min_version
        )
        asked_at = time.time()
        question = replace(
            question_of(key.tenant, body.user_id, view),
            now_s=asked_at,
            request_id=request.state.request_id,
            k=body.k,
            exclude=body.exclude,
            only_items=body.filters.items if body.filters else None,
            rules=item_rules(body.filters),
            seen=body.seen,
            caps=body.max_per_category,
            diversity=body.diversity,
        )
        ranking = await made(question)
        answer = answers.ranked_list(ranking, view, view.version, request.state.request_id)
        served = _served(key.tenant, body.user_id, answer, ranking, asked_at)
        if body.explain:
            served = replace(served, reading=reading_of(ranking, keep_seen=body.seen in ("include", "only")))
        records.add(served)
        return answer

    @app.post("/v1/rank")
    async def rank(request: Request, body: RankIn, key: Reader) -> ListOut:
        """Order given candidates for a user or a history."""
        if body.user_id is not None:
            view: UserView | None = await backends.ask(
                backends.user_state, "read_user", key.tenant, body.user_id, body.min_version
            )
            assert view is not None
            version, question = view.version, question_of(key.tenant, body.user_id, view)
        else:
            view = None
            version, catalogue = await backends.ask(backends.user_state, "versions", key.tenant, body.min_version)
            question = RankQuestion(key.tenant, catalogue, body.history or [])
        question = replace(
            question,
            now_s=time.time(),
            k=len(body.candidates),
            candidates=body.candidates,
            only_items=body.filters.items if body.filters else None,
            rules=item_rules(body.filters),
        )
        ranking = await backends.ask(backends.ranker, "rank", question)
        return answers.ranked_list(ranking, view, version, request.state.request_id)


def _served(tenant: str, user_id: str, answer: ListOut, ranking: Ranking, asked_at: float) -> ServedList:
    return ServedList(
        tenant=tenant,
        request_id=answer.request_id,
        user_id=user_id,
        items=tuple(item.item_id for item in answer.items),
        policy=answer.policy.name,
        bundle=answer.bundle,
        served_at=asked_at,  # what an explanation reads the list as of
        version=answer.version,
        arm=ranking.arm,
        scores=tuple(item.score for item in answer.items),
    )
