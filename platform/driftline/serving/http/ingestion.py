"""Bodies of ``POST /v1/events``: a JSON array, or one JSON object per line. A bad row is rejected, the others go on."""

from typing import Any, Literal

from pydantic import ValidationError

from driftline.serving.http.json_text import JsonFault, parse_json
from driftline.serving.http.messages.events import EventIn, EventStatus
from driftline.serving.http.problems import Problem, json_pointer
from driftline.state.store import Status, StoredEvent

NDJSON = "application/x-ndjson"
_OUTCOME: dict[Status, tuple[Literal["accepted", "duplicate", "rejected"], str | None]] = {
    "accepted": ("accepted", None),
    "duplicate": ("duplicate", None),
    "conflict": ("rejected", "event_id already belongs to a different event: give each event an id of its own"),
}


def parse_events(body: bytes, media_type: str, max_rows: int) -> list[StoredEvent | EventStatus]:
    """Read a body into events, with a rejection in the place of every row that is not one.

    Raises
    ------
    Problem
        400 if the body is not JSON that requests may hold, 413 if it has too many rows, 422 if it is no array.
    """
    if media_type == NDJSON:
        lines = [line for line in body.split(b"\n") if line.strip()]
        _check_count(len(lines), max_rows)
        return [_parse_line(line) for line in lines]
    try:
        rows = parse_json(body)
    except JsonFault as error:
        raise Problem(400, f"the body is not JSON: {error}") from error
    if not isinstance(rows, list):
        fault = {"detail": f"the body must be an array of events, or {NDJSON}", "pointer": ""}
        raise Problem(422, "1 fault in the request; see errors", errors=[fault])
    _check_count(len(rows), max_rows)
    return [_parse_row(row) for row in rows]


def merge_statuses(rows: list[StoredEvent | EventStatus], stored: list[Status]) -> list[EventStatus]:
    """Put the store's outcomes (one per event, in order) beside the rejections."""
    outcomes = iter(stored)
    merged: list[EventStatus] = []
    for row in rows:
        if isinstance(row, EventStatus):
            merged.append(row)
        else:
            status, reason = _OUTCOME[next(outcomes)]
            merged.append(EventStatus.model_construct(event_id=row.event_id, status=status, reason=reason))
    return merged


def _check_count(num_rows: int, max_rows: int) -> None:
    if num_rows > max_rows:
        raise Problem(413, f"{num_rows} events in one request: send at most {max_rows} at a time")


def _parse_line(line: bytes) -> StoredEvent | EventStatus:
    try:
        row = parse_json(line)
    except JsonFault as error:
        return EventStatus(event_id=None, status="rejected", reason=f"not JSON: {error}")
    return _parse_row(row)


def _parse_row(row: Any) -> StoredEvent | EventStatus:
    if not isinstance(row, dict):
        return EventStatus(event_id=None, status="rejected", reason="an event must be a JSON object")
    try:
        event = EventIn.model_validate(row)
    except ValidationError as error:
        reason = "; ".join(_sentence(fault["loc"], fault["msg"]) for fault in error.errors(include_url=False))
        given = row.get("event_id")
        event_id = given if isinstance(given, str) and len(given) <= 256 and given.isprintable() else None
        return EventStatus(event_id=event_id, status="rejected", reason=reason)
    return StoredEvent(**event.model_dump())


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    return f"{json_pointer(location)}: {message.removeprefix('Value error, ')}"
