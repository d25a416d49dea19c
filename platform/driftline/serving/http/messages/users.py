"""``/v1/users``."""

from pydantic import BaseModel, Field

from driftline.serving.http.messages.lists import DriftOut, PolicyOut


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
