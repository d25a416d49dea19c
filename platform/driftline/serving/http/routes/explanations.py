"""``/v1/explanations``: why each item was in a list."""

from typing import Annotated

from fastapi import FastAPI, Query

from driftline.registry.explanation import ItemExplanation
from driftline.serving.calls import UserView
from driftline.serving.explanations import question_about
from driftline.serving.http import answers
from driftline.serving.http.backends import Backends
from driftline.serving.http.messages.explanations import ExplanationOut
from driftline.serving.http.problems import Problem
from driftline.serving.http.routes.base import PathId, Reader
from driftline.state.store import ServedList


def add(app: FastAPI, backends: Backends) -> None:
    """Why items were in a list."""

    @app.get("/v1/explanations/{request_id}")
    async def get_explanation(
        request_id: PathId, key: Reader, items: Annotated[int, Query(ge=1, le=50)] = 10
    ) -> ExplanationOut:
        """Why the first ``items`` of a list are in it; the list must have been asked for with ``explain: true``.

        Worked out by the bundle that made the list, from the history as it was then, which takes a second.
        """
        served: ServedList | None = await backends.ask(backends.user_state, "served_list", key.tenant, request_id)
        if served is None:
            raise Problem(404, "there is no such list: it was never served, or its user was erased")
        if served.reading is None:
            raise Problem(404, "this list was asked for without explain: true, so nothing was kept to explain it by")
        view: UserView = await backends.ask(
            backends.user_state, "read_user_as_of", key.tenant, served.user_id, served.version
        )
        question = question_about(served, view, items)
        if question.policy.name == "popular":
            raise Problem(409, "no ranker made this list: it holds the most popular items, whatever the history")
        found: list[ItemExplanation] | None = await backends.ask(backends.ranker, "explain", question)
        if found is None:
            raise Problem(409, f"the bundle {served.bundle} that made this list is not in force any more")
        return answers.explanation(served, question, found)
