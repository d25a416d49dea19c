"""What goes to the service and comes back. Unknown fields of answers are passed over: a newer service may send more."""

import secrets
import time
import uuid
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EventType = Literal["view", "click", "cart", "purchase", "listen", "read", "rating", "review"]
Seen = Literal["exclude", "include", "only"]


def new_event_id() -> str:
    """A UUID of version 7 (RFC 9562): in order of time, unique without asking anybody."""
    milliseconds = time.time_ns() // 1_000_000
    random_a, random_b = secrets.randbits(12), secrets.randbits(62)
    return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | random_a << 64 | 0b10 << 62 | random_b))


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Received(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Event(_Sent):
    """Something that a user did. The id is made once, here: however often the event is sent, it is one event."""

    user_id: str
    item_id: str
    type: EventType
    timestamp: float = Field(default_factory=time.time)
    value: float | None = None
    text: str | None = None
    request_id: str | None = None
    event_id: str = Field(default_factory=new_event_id)


class Item(_Sent):
    """A catalogue entry."""

    item_id: str
    title: str
    year: str = ""
    categories: list[str] = []
    description: str = ""
    available: bool = True


class Filters(_Sent):
    """Which items may be in a list; all that is given must hold."""

    categories: list[str] | None = None
    categories_all: list[str] | None = None
    categories_none: list[str] | None = None
    year_from: int | None = None
    year_to: int | None = None
    items: list[str] | None = None


class Written(_Received):
    """Acknowledgement of a write."""

    version: int


class EventStatus(_Received):
    """What became of one event."""

    event_id: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    reason: str | None = None


class EventsOutcome(_Received):
    """What became of many events, in the order in which they were given. Accepted ones are on the disk."""

    accepted: int
    duplicate: int
    rejected: int
    version: int
    events: list[EventStatus]

    def faults(self) -> Iterator[EventStatus]:
        """The rejected ones; their ``reason`` says why."""
        return (event for event in self.events if event.status == "rejected")

    def __add__(self, other: "EventsOutcome") -> "EventsOutcome":
        """Outcome of both."""
        return EventsOutcome(
            accepted=self.accepted + other.accepted,
            duplicate=self.duplicate + other.duplicate,
            rejected=self.rejected + other.rejected,
            version=max(self.version, other.version),
            events=[*self.events, *other.events],
        )


class StoredItem(_Received):
    """A catalogue entry as the service has it."""

    item_id: str
    title: str
    year: str
    categories: list[str]
    description: str
    available: bool = True
    source: Literal["catalogue", "bundle"]


class RankedItem(_Received):
    """One place of a list."""

    item_id: str
    title: str
    score: float


class Policy(_Received):
    """How the history was read, and why."""

    name: str
    reason: str
    weight_recent: float


class Drift(_Received):
    """Drift state of a user."""

    status: Literal["current", "stale", "none"]
    p_drift: float | None = None
    change_point: int | None = None
    alarm: bool | None = None


class RankedList(_Received):
    """A list, best first."""

    request_id: str
    items: list[RankedItem]
    policy: Policy
    drift: Drift
    bundle: str
    degraded: str | None = None
    """``popularity``: no ranker answered in time, and these are popular items."""
    version: int
    unknown_items: list[str] = []
    unavailable_items: list[str] = []


class FoundItem(_Received):
    """One place of what was found."""

    item_id: str
    title: str
    score: float
    match: float
    taste: float | None = None


class FoundList(_Received):
    """What was found, best first."""

    items: list[FoundItem]
    bundle: str
    version: int


class RerankResult(_Received):
    """One document by its place in the request."""

    index: int
    relevance_score: float


class Interest(_Received):
    """Share of a history in a category."""

    tag: str
    weight: float


class History(_Received):
    """Summary of a history."""

    num_events: int
    num_items: int
    first_timestamp: float | None
    last_timestamp: float | None
    newest_items: list[str]


class User(_Received):
    """Profile of a user."""

    user_id: str
    interests: list[Interest]
    history: History
    drift: Drift
    policy: Policy
    bundle: str
    version: int


class TimelineEvent(_Received):
    """One event with what the drift model made of it."""

    event_id: str
    item_id: str
    type: str
    timestamp: float
    value: float | None = None
    text: str | None = None
    request_id: str | None = None
    surprise: float | None = None
    p_drift: float | None = None


class ChangePoint(_Received):
    """A change that was believed at some time."""

    event_id: str
    timestamp: float
    p_drift: float
    first_believed: str


class PolicyChange(_Received):
    """The first list under another policy."""

    served_at: float
    policy: str
    bundle: str
    request_id: str


class Timeline(_Received):
    """A page of a history, oldest event first."""

    user_id: str
    events: list[TimelineEvent]
    change_points: list[ChangePoint]
    policy_changes: list[PolicyChange]
    next_cursor: str | None
    bundle: str | None


class DriftVerdict(_Received):
    """Whether a history changed."""

    p_drift: float
    change_point: int | None
    statistic: list[float | None]
    p_drift_by_event: list[float]
    verdict: Literal["changed", "unchanged"]
    alarm: bool
    unknown_items: list[str]
    bundle: str


class Webhook(_Received):
    """Where changes are told."""

    url: str
    updated_at: float
