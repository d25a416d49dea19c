"""``/v1/recommend`` and ``/v1/rank``."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from driftline.ranking.requests import PolicyName
from driftline.serving.http.messages.base import MAX_CANDIDATES, MAX_HISTORY, MAX_K, Body, Id, UserId, Version
from driftline.serving.http.messages.rules import Filters, MaxPerCategory, SeenRule


class RecommendIn(Body):
    """Ask for a list for a user."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"user_id": "ada"}, {"user_id": "ada", "k": 3, "filters": {"categories": ["Drama"]}}]
        }
    )

    user_id: UserId
    k: int = Field(10, ge=1, le=MAX_K)
    filters: Filters | None = None
    exclude: list[Id] = Field([], max_length=MAX_CANDIDATES)
    explain: bool = Field(False, description="keep what GET /v1/explanations/{request_id} needs")
    diversity: float | None = Field(None, ge=0, lt=1)
    seen: SeenRule = None
    max_per_category: MaxPerCategory = None
    min_version: Version | None = None


_USER_OR_HISTORY: dict[str, Any] = {
    "oneOf": [
        {"required": ["user_id"], "properties": {"user_id": {"type": "string"}, "history": {"type": "null"}}},
        {"required": ["history"], "properties": {"history": {"type": "array"}, "user_id": {"type": "null"}}},
    ],
    "examples": [
        {"user_id": "ada", "candidates": ["7", "100", "15"]},
        {"history": ["50", "181"], "candidates": ["7", "100"]},
    ],
}


class RankIn(Body):
    """Ask for an order of given candidates, for a user or for a history."""

    model_config = ConfigDict(json_schema_extra=_USER_OR_HISTORY)

    user_id: UserId | None = None
    history: list[Id] | None = Field(None, max_length=MAX_HISTORY, description="item ids, oldest first")
    candidates: list[Id] = Field(
        min_length=1, max_length=MAX_CANDIDATES, json_schema_extra={"uniqueItems": True}, description="no item twice"
    )
    filters: Filters | None = None
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
    degraded: Literal["popularity"] | None = Field(
        None, description="'popularity': no ranker answered in time, and these are popular items"
    )
    version: int = Field(description="version of the store that the list was made from")
    unknown_items: list[str] = Field(description="ids of the request or history that nobody has described")
    unavailable_items: list[str] = Field([], description="given candidates that cannot be had at present")
