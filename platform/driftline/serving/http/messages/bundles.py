"""``/v1/bundles``."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from driftline.serving.arms import ArmName
from driftline.serving.http.messages.base import Body, Line
from driftline.serving.promotions import Mode


def _needs(mode: Mode, *required: str, **types: str) -> dict[str, Any]:
    fields: dict[str, Any] = {name: {"type": kind} for name, kind in types.items()}
    return {"required": list(required), "properties": {"mode": {"const": mode}, **fields}}


class PromoteIn(Body):
    """Put a bundle in force."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                _needs("champion", "bundle", bundle="string", weight="null"),
                _needs("challenger", "bundle", "weight", bundle="string", weight="number"),
                _needs("shadow", "bundle", bundle="string"),
                _needs("rollback", bundle="null", weight="null"),
            ],
            "examples": [
                {"mode": "champion", "bundle": "demo-20261122-011327"},
                {"mode": "challenger", "bundle": "demo-20261122-011327", "weight": 0.1},
                {"mode": "rollback"},
            ],
        }
    )

    bundle: Line | None = Field(None, description="directory under the service's bundle root, by name or by path")
    mode: Mode = Field(
        description="champion: answers everybody, and ends a challenge; challenger: answers a share of the users; "
        "shadow: makes lists for them that nobody sees; rollback: takes back the last promotion"
    )
    weight: float | None = Field(None, gt=0, le=1, description="share of the users; a shadow has all by default")

    @model_validator(mode="after")
    def _what_the_mode_needs(self) -> "PromoteIn":
        if (self.bundle is None) != (self.mode == "rollback"):
            raise ValueError("a rollback names no bundle, every other mode names one")
        if self.mode == "challenger" and self.weight is None:
            raise ValueError("a challenger needs a weight: the share of the users that it answers")
        if self.mode in ("champion", "rollback") and self.weight is not None:
            raise ValueError(f"mode={self.mode} takes no weight: it is for challenger and shadow")
        return self


class ArmOut(BaseModel):
    """A bundle and the share of the users that it is for."""

    arm: ArmName
    bundle: str
    path: str
    weight: float
    shadow: bool = Field(description="its lists are recorded and not served")


class ReplicaOut(BaseModel):
    """What one replica answers with."""

    deployment: Literal["Ranker", "DriftDetector"]
    arms: list[ArmOut]
    promotion: int | None = Field(description="number of the promotion that it follows; null: the configuration")
    since: float = Field(description="seconds since the epoch")
    swap_fault: str | None = Field(description="why it does not answer with what was asked for")


class ConfiguredOut(BaseModel):
    """Bundles that a promotion or the configuration asks for."""

    champion: str
    challenger: str | None
    challenger_weight: float
    shadow: bool


class PromotionOut(BaseModel):
    """The last entry of the log of promotions."""

    number: int
    mode: Mode
    arms: ConfiguredOut
    promoted_at: float = Field(description="seconds since the epoch")
    key_id: str


class BundlesOut(BaseModel):
    """What is served, and why."""

    replicas: list[ReplicaOut]
    promotion: PromotionOut | None = Field(description="what the replicas follow; null: the configuration")
    configured: ConfiguredOut
    registry: dict[str, str] | None = Field(
        description="directory of the bundle behind each alias of the registry, if it was asked for"
    )
    request_id: str


class PromotedOut(BaseModel):
    """The promotion is in the log; the replicas follow within seconds, as ``GET /v1/bundles`` shows."""

    promotion: PromotionOut
    request_id: str
