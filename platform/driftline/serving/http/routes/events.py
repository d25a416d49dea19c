"""``/v1/events``."""

import asyncio
import json

from fastapi import FastAPI, Request

from driftline.serving.http.backends import Backends
from driftline.serving.http.envelope import EVENTS_PATH, media_type
from driftline.serving.http.ingestion import NDJSON, merge_statuses, parse_events
from driftline.serving.http.messages.events import EventIn, EventsOut, EventStatus
from driftline.serving.http.routes.base import Writer
from driftline.state.store import StoredEvent

_ROW = {"anyOf": [EventIn.model_json_schema(), {"description": "anything else is rejected in its place in the answer"}]}
_EXAMPLE = EventIn.model_json_schema()["examples"][0]
EVENT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "array", "items": _ROW}, "example": [_EXAMPLE]},
            NDJSON: {
                "schema": {"description": "one event as a JSON object per line"},
                "example": json.dumps(_EXAMPLE) + "\n",
            },
        },
    }
}
"""Rows are judged one by one, so the schema of the whole body takes any array."""


def add(app: FastAPI, backends: Backends, max_event_rows: int) -> None:
    @app.post(EVENTS_PATH, openapi_extra=EVENT_BODY)
    async def post_events(request: Request, key: Writer) -> EventsOut:
        """Ingest events. The answer comes after the commit; sending the same events again is harmless."""
        kind = media_type(request.headers)
        rows = await asyncio.to_thread(parse_events, await request.body(), kind, max_event_rows)
        events = [row for row in rows if isinstance(row, StoredEvent)]
        appended = await backends.ask(backends.user_state, "append_events", key.tenant, events)
        outcomes = merge_statuses(rows, appended.statuses)
        return EventsOut(
            accepted=_count(outcomes, "accepted"),
            duplicate=_count(outcomes, "duplicate"),
            rejected=_count(outcomes, "rejected"),
            version=appended.version,
            events=outcomes,
            request_id=request.state.request_id,
        )


def _count(outcomes: list[EventStatus], status: str) -> int:
    return sum(outcome.status == status for outcome in outcomes)
