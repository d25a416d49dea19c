"""``/v1/recommend`` and ``/v1/rank``."""

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from driftline.ranking.requests import PolicyName
from driftline.serving.messages.base import MAX_CANDIDATES, MAX_HISTORY, MAX_K, Body, Id, Line, Version


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
