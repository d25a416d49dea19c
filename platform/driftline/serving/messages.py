"""What goes over HTTP: the bodies of requests and responses. Unknown fields are errors."""

import math
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from driftline.events.schema import EVENT_TYPES, LATEST_SECONDS, storable_fault
from driftline.ranking.requests import PolicyName

MAX_CANDIDATES = 1000
MAX_HISTORY = 2000
MAX_K = 1000

EventType = Literal["view", "click", "cart", "purchase", "listen", "read", "rating", "review"]
assert get_args(EventType) == EVENT_TYPES


def _storable(text: str) -> str:
    fault = storable_fault(text)
    if fault is not None:
        raise ValueError(f"must not hold a {fault}")
    return text


Storable = AfterValidator(_storable)
Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"\S"), Storable]
Line = Annotated[str, StringConstraints(max_length=1_000), Storable]
Prose = Annotated[str, StringConstraints(max_length=20_000), Storable]
Seconds = Annotated[float, Field(gt=-LATEST_SECONDS, lt=LATEST_SECONDS, description="seconds since the epoch, UTC")]
Version = Annotated[int, Field(ge=0, lt=2**63)]


class Body(BaseModel):
    """A request body: strict types, no unknown fields, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class EventIn(Body):
    """One event; ``event_id`` is the producer's and makes a retry harmless."""

    event_id: Id
    user_id: Id
    item_id: Id
    type: EventType
    timestamp: Seconds
    value: float | None = None
    text: Prose | None = None
    request_id: Annotated[str, StringConstraints(max_length=128), Storable] | None = None


class ItemIn(Body):
    """A catalogue entry. What it says is enough to rank the item before anybody has touched it."""

    title: Annotated[Line, StringConstraints(min_length=1)]
    year: Annotated[str, StringConstraints(max_length=16), Storable] = ""
    categories: list[Annotated[Line, StringConstraints(min_length=1)]] = Field([], max_length=64)
    description: Prose = ""


class ItemWithId(ItemIn):
    """A catalogue entry of a batch."""

    item_id: Id


class ItemBatchIn(Body):
    """Entries to write in one transaction."""

    items: list[ItemWithId] = Field(min_length=1, max_length=10_000)


class Filters(Body):
    """Which items may be in the list."""

    categories: list[Line] = Field(min_length=1, max_length=64, description="items with at least one of these")


class RecommendIn(Body):
    """Ask for a list for a user."""

    user_id: Id
    k: int = Field(10, ge=1, le=MAX_K)
    filters: Filters | None = None
    exclude: list[Id] = Field([], max_length=MAX_CANDIDATES)
    diversity: float | None = Field(None, ge=0, lt=1)
    min_version: Version | None = None


class RankIn(Body):
    """Ask for an order of given candidates, for a user or for a history."""

    user_id: Id | None = None
    history: list[Id] | None = Field(None, max_length=MAX_HISTORY, description="item ids, oldest first")
    candidates: list[Id] = Field(min_length=1, max_length=MAX_CANDIDATES)
    min_version: Version | None = None

    @model_validator(mode="after")
    def _one_subject(self) -> "RankIn":
        if (self.user_id is None) == (self.history is None):
            raise ValueError("give exactly one of user_id and history")
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError("candidates must not hold an item twice")
        return self


class DriftIn(Body):
    """Ask whether a history changed; nothing is stored."""

    history: list[Id] = Field(min_length=1, max_length=MAX_HISTORY, description="item ids, oldest first")


class EventStatus(BaseModel):
    """What became of one row, in the order in which the rows were sent."""

    event_id: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    reason: str | None = None


class EventsOut(BaseModel):
    """Outcome of an ingestion. Accepted events are on the disk."""

    accepted: int
    duplicate: int
    rejected: int
    version: int = Field(description="a later request can demand it as min_version")
    events: list[EventStatus]
    request_id: str


class WrittenOut(BaseModel):
    """Acknowledgement of a write."""

    version: int = Field(description="a later request can demand it as min_version")
    request_id: str


class ItemOut(BaseModel):
    """A catalogue entry as the tenant wrote it, or as the bundle knows it."""

    item_id: str
    title: str
    year: str
    categories: list[str]
    description: str
    source: Literal["catalogue", "bundle"]


class RankedOut(BaseModel):
    """One place of a list."""

    item_id: str
    title: str
    score: float


class PolicyOut(BaseModel):
    """How the history was read, and why."""

    name: PolicyName
    reason: str
    weight_recent: float


class DriftOut(BaseModel):
    """Drift state of a user. ``stale``: the newest events, or the bundle in force, are not in it yet."""

    status: Literal["current", "stale", "none"]
    p_drift: float | None = None
    change_point: int | None = Field(None, description="index into the history that was read")
    alarm: bool | None = None


class ListOut(BaseModel):
    """A ranked list, best first."""

    request_id: str
    items: list[RankedOut]
    policy: PolicyOut
    drift: DriftOut
    bundle: str
    version: int = Field(description="version of the store that the list was made from")
    unknown_items: list[str] = Field(description="ids of the request or history that nobody has described")


class TagOut(BaseModel):
    """An interest: share of the history's events in a category; weights add up to 1."""

    tag: str
    weight: float


class HistoryOut(BaseModel):
    """Summary of a history; times in seconds since the epoch."""

    num_events: int
    num_items: int = Field(description="distinct items among the newest events that models read")
    first_timestamp: float | None = Field(description="of the newest events that models read")
    last_timestamp: float | None
    newest_items: list[str] = Field(description="item ids, newest first")


class UserOut(BaseModel):
    """Profile of a user."""

    user_id: str
    interests: list[TagOut]
    history: HistoryOut
    drift: DriftOut
    policy: PolicyOut
    bundle: str
    version: int
    request_id: str


class EvidenceOut(BaseModel):
    """Titles around the change point, for a reader to judge."""

    before: list[str]
    after: list[str]
    peak_statistic: float | None
    peak_index: int


class DriftVerdictOut(BaseModel):
    """What the detector says about a history; one number per event, ``null`` where a restart is not possible yet."""

    p_drift: float
    change_point: int | None
    statistic: list[float | None]
    p_drift_by_event: list[float]
    verdict: Literal["changed", "unchanged"] = Field(description="changed: the alarm is raised")
    alarm: bool = Field(description="the statistic has crossed its threshold, calibrated to a rate of false alarms")
    evidence: EvidenceOut
    unknown_items: list[str]
    bundle: str
    request_id: str


class ReadyOut(BaseModel):
    """The service can answer."""

    status: Literal["ready"] = "ready"
    bundle: str
    swap_fault: str | None = Field(None, description="why a bundle that was asked for is not in force")


class ProblemOut(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[dict[str, Any]] | None = Field(None, description="on 422: detail and JSON pointer of each fault")


def finite_or_none(value: float) -> float | None:
    """JSON has no infinity."""
    return float(value) if math.isfinite(value) else None
