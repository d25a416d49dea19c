"""``/v1/users/{id}/timeline``."""

from pydantic import BaseModel, Field


class TimelineEventOut(BaseModel):
    """One event, and what the drift model made of it."""

    event_id: str
    item_id: str
    type: str
    timestamp: float
    value: float | None
    text: str | None
    request_id: str | None
    surprise: float | None = Field(
        description="-log p of the event given those before it, nats; null where the model did not read it"
    )
    p_drift: float | None = Field(description="P(drift) after this event; null where surprise cannot be")


class ChangePointOut(BaseModel):
    """A change that was believed at some time, even if it is long ago."""

    event_id: str = Field(description="first event of the new regime")
    timestamp: float
    p_drift: float = Field(description="the highest that it reached")
    first_believed: str = Field(description="event after which the change was first believed")


class PolicyChangeOut(BaseModel):
    """The first list under another policy than the list before."""

    served_at: float
    policy: str
    bundle: str
    request_id: str


class TimelineOut(BaseModel):
    """A page of a user's history, oldest event first. What is not about single events is on the first page."""

    user_id: str
    events: list[TimelineEventOut]
    change_points: list[ChangePointOut]
    policy_changes: list[PolicyChangeOut]
    next_cursor: str | None = Field(description="hand it back for the next page; null: this is the last one")
    bundle: str | None = Field(description="model behind surprise and P(drift); null if it has no drift part")
    version: int
    request_id: str
