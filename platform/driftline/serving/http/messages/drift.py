"""``/v1/drift``."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from driftline.serving.http.messages.base import MAX_HISTORY, Body, Id


class DriftIn(Body):
    """Ask whether a history changed; nothing is stored."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"history": ["50", "181", "172", "402", "739"]}]})

    history: list[Id] = Field(min_length=1, max_length=MAX_HISTORY, description="item ids, oldest first")


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
    alarm: bool = Field(description="a threshold has been crossed that is calibrated to a rate of false alarms")
    evidence: EvidenceOut
    unknown_items: list[str]
    bundle: str
    request_id: str
