"""A user's history, event by event."""

from typing import Annotated

from fastapi import FastAPI, Query, Request

from driftline.serving.calls import Assessment, UserHistory
from driftline.serving.http.backends import Backends
from driftline.serving.http.cursors import PATTERN, read_cursor
from driftline.serving.http.messages.timeline import TimelineOut
from driftline.serving.http.problems import Problem
from driftline.serving.http.routes.base import PathUserId, Reader
from driftline.serving.http.timelines import timeline
from driftline.state.records import EventsPage, PolicyChange

MAX_EVENTS = 1000
CursorText = Annotated[
    str,
    Query(pattern=f"^$|{PATTERN}", description="next_cursor of the page before; left out for the first page"),
]
Limit = Annotated[int, Query(ge=1, le=MAX_EVENTS, description="events of a page")]


def add(app: FastAPI, backends: Backends) -> None:
    """Must come before the routes of users: their ids may hold slashes, and the first pattern that fits wins."""

    @app.get("/v1/users/{user_id:path}/timeline")
    async def get_timeline(
        request: Request, user_id: PathUserId, key: Reader, cursor: CursorText = "", limit: Limit = 100
    ) -> TimelineOut:
        """Events with surprise and P(drift) at each, change points, policy changes; stable while events come in."""
        after = read_cursor(cursor) if cursor else None
        state = backends.user_state
        user: UserHistory = await backends.ask(state, "read_history", key.tenant, user_id)
        if not user.view.known:
            raise Problem(404, "there is no such user: a user begins with the first event")
        page: EventsPage = await backends.ask(state, "events_page", key.tenant, user_id, after, limit)
        assessment: Assessment | None = await backends.ask(backends.drift_detector, "assess", user.view.item_ids)
        policies: list[PolicyChange] = []
        if after is None:
            policies = await backends.ask(state, "policy_changes", key.tenant, user_id)
        answer = timeline(user_id, page, user, assessment, policies, request.state.request_id)
        return answer if after is None else answer.model_copy(update={"change_points": []})
