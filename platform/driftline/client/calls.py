"""Every call of the API as a request to send and a way to read the answer: no input and output happens here.

The keyword arguments are the fields of the API; ``None`` leaves a field to the service.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote

from driftline.client.messages import (
    DriftVerdict,
    Event,
    EventsOutcome,
    Filters,
    FoundList,
    Item,
    RankedList,
    RerankResult,
    Seen,
    StoredItem,
    Timeline,
    User,
    Webhook,
    Written,
)

T = TypeVar("T")

BATCH_EVENTS: Final = 500
BATCH_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request.

    Parameters
    ----------
    read
        Makes the answer out of the body.
    demands
        Whether the request can demand a version (``min_version``).
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    read: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    lines: bytes | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    demands: bool = False


def event_batches(events: Iterable[Event]) -> Iterator[Call[EventsOutcome]]:
    """Events in requests of ``BATCH_EVENTS`` and ``BATCH_BYTES`` at most."""
    lines: list[bytes] = []
    num_bytes = 0
    for event in events:
        line = event.model_dump_json(exclude_none=True).encode()
        if lines and (len(lines) >= BATCH_EVENTS or num_bytes + len(line) > BATCH_BYTES):
            yield _events(lines)
            lines, num_bytes = [], 0
        lines.append(line)
        num_bytes += len(line) + 1
    if lines:
        yield _events(lines)


def _events(lines: list[bytes]) -> Call[EventsOutcome]:
    return Call("POST", "/v1/events", EventsOutcome.model_validate, lines=b"\n".join(lines))


def put_item(item: Item) -> Call[Written]:
    """Add or replace a catalogue entry."""
    body = item.model_dump(exclude={"item_id"})
    return Call("PUT", f"/v1/items/{_segment(item.item_id)}", Written.model_validate, body)


def put_items(items: Sequence[Item]) -> Call[Written]:
    """Add or replace many catalogue entries in one transaction."""
    return Call("POST", "/v1/items:batch", Written.model_validate, {"items": [item.model_dump() for item in items]})


def get_item(item_id: str) -> Call[StoredItem]:
    """Read a catalogue entry."""
    return Call("GET", f"/v1/items/{_segment(item_id)}", StoredItem.model_validate)


def delete_item(item_id: str) -> Call[Written]:
    """Take an item out of every list."""
    return Call("DELETE", f"/v1/items/{_segment(item_id)}", Written.model_validate)


def get_user(user_id: str) -> Call[User]:
    """Read a profile."""
    return Call("GET", f"/v1/users/{_segment(user_id)}", User.model_validate)


def get_timeline(user_id: str, *, cursor: str | None = None, limit: int = 100) -> Call[Timeline]:
    """Read a page of a history with surprise and P(drift); ``next_cursor`` leads to the next."""
    path = f"/v1/users/{_segment(user_id)}/timeline"
    return Call("GET", path, Timeline.model_validate, query=_given(cursor=cursor, limit=limit))


def delete_user(user_id: str) -> Call[Written]:
    """Erase everything about a user."""
    return Call("DELETE", f"/v1/users/{_segment(user_id)}", Written.model_validate)


def recommend(
    user_id: str,
    k: int = 10,
    *,
    filters: Filters | None = None,
    exclude: Sequence[str] = (),
    diversity: float | None = None,
    seen: Seen | None = None,
    max_per_category: int | Mapping[str, int] | None = None,
    min_version: int | None = None,
) -> Call[RankedList]:
    """Ask for a list for a user."""
    body = _given(
        user_id=user_id,
        k=k,
        filters=_fields(filters),
        exclude=list(exclude),
        diversity=diversity,
        seen=seen,
        max_per_category=max_per_category
        if max_per_category is None or isinstance(max_per_category, int)
        else dict(max_per_category),
        min_version=min_version,
    )
    return Call("POST", "/v1/recommend", RankedList.model_validate, body, demands=True)


def rank(
    candidates: Sequence[str],
    *,
    user_id: str | None = None,
    history: Sequence[str] | None = None,
    filters: Filters | None = None,
    min_version: int | None = None,
) -> Call[RankedList]:
    """Put candidates in order, for a user or for a history (one of them)."""
    body = _given(
        user_id=user_id,
        history=None if history is None else list(history),
        candidates=list(candidates),
        filters=_fields(filters),
        min_version=min_version,
    )
    return Call("POST", "/v1/rank", RankedList.model_validate, body, demands=True)


def similar(
    *,
    item_id: str | None = None,
    text: str | None = None,
    k: int = 10,
    filters: Filters | None = None,
    exclude: Sequence[str] = (),
    min_version: int | None = None,
) -> Call[FoundList]:
    """Ask for items like an item or like a text (one of them)."""
    body = _given(
        item_id=item_id, text=text, k=k, filters=_fields(filters), exclude=list(exclude), min_version=min_version
    )
    return Call("POST", "/v1/similar", FoundList.model_validate, body, demands=True)


def search(
    query: str,
    k: int = 10,
    *,
    user_id: str | None = None,
    personalisation: float | None = None,
    seen: Seen | None = None,
    filters: Filters | None = None,
    exclude: Sequence[str] = (),
    min_version: int | None = None,
) -> Call[FoundList]:
    """Ask for items that answer a query; with a user, by that user's taste as well."""
    body = _given(
        query=query,
        k=k,
        user_id=user_id,
        personalisation=personalisation,
        seen=seen,
        filters=_fields(filters),
        exclude=list(exclude),
        min_version=min_version,
    )
    return Call("POST", "/v1/search", FoundList.model_validate, body, demands=True)


def rerank(query: str, documents: Sequence[str], *, top_n: int | None = None) -> Call[list[RerankResult]]:
    """Put documents in order of relevance to a query."""
    body = _given(query=query, documents=list(documents), top_n=top_n)
    return Call("POST", "/v2/rerank", lambda a: [RerankResult.model_validate(r) for r in a["results"]], body)


def drift(history: Sequence[str]) -> Call[DriftVerdict]:
    """Ask whether a history changed; nothing is stored."""
    return Call("POST", "/v1/drift", DriftVerdict.model_validate, {"history": list(history)})


def put_webhook(url: str, secret: str) -> Call[Webhook]:
    """Set where the tenant is told of changes (scope admin)."""
    return Call("PUT", "/v1/webhook", Webhook.model_validate, {"url": url, "secret": secret})


def get_webhook() -> Call[Webhook]:
    """Read where the tenant is told of changes (scope admin)."""
    return Call("GET", "/v1/webhook", Webhook.model_validate)


def delete_webhook() -> Call[None]:
    """Tell the tenant nothing any more (scope admin)."""
    return Call("DELETE", "/v1/webhook", lambda _: None)


def _segment(identifier: str) -> str:
    return quote(identifier, safe="")


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _fields(filters: Filters | None) -> dict[str, Any] | None:
    return None if filters is None else filters.model_dump(exclude_none=True)
