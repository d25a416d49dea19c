"""``/v1/events``."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from driftline.events.schema import EVENT_TYPES
from driftline.serving.http.messages.base import Body, Id, Prose, Seconds, Storable, UserId

EventType = Literal["view", "click", "cart", "purchase", "listen", "read", "rating", "review"]
assert get_args(EventType) == EVENT_TYPES


class EventIn(Body):
    """One event; ``event_id`` is the producer's and makes a retry harmless."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_id": "ada-0",
                    "user_id": "ada",
                    "item_id": "7",
                    "type": "rating",
                    "value": 5,
                    "timestamp": 893286638,
                }
            ]
        }
    )

    event_id: Id
    user_id: UserId
    item_id: Id
    type: EventType
    timestamp: Seconds
    value: float | None = None
    text: Prose | None = None
    request_id: Annotated[str, StringConstraints(max_length=128), Storable] | None = None


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
