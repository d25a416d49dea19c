"""What all messages share: limits, types of fields, errors."""

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from driftline.events.schema import LATEST_SECONDS, storable_fault

MAX_CANDIDATES = 1000
MAX_HISTORY = 2000
MAX_K = 1000
TIMELINE = "/timeline"
"""What the path of a user's timeline ends in."""


def _storable(text: str) -> str:
    fault = storable_fault(text)
    if fault is not None:
        raise ValueError(f"must not hold a {fault}")
    return text


def _addressable(user_id: str) -> str:
    if user_id.endswith(TIMELINE):
        raise ValueError(f"must not end in {TIMELINE!r}: that path means the timeline, so the user could not be erased")
    return user_id


Storable = AfterValidator(_storable)
# The patterns of the schema say in the OpenAPI document what Storable checks, with a better message, in bodies.
_NO_NUL = Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
_NOT_BLANK = Field(json_schema_extra={"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"})
Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"\S"), Storable, _NOT_BLANK]
UserId = Annotated[Id, AfterValidator(_addressable), Field(json_schema_extra={"not": {"pattern": f"{TIMELINE}$"}})]
Line = Annotated[str, StringConstraints(max_length=1_000), Storable, _NO_NUL]
Prose = Annotated[str, StringConstraints(max_length=20_000), Storable, _NO_NUL]
Seconds = Annotated[float, Field(gt=-LATEST_SECONDS, lt=LATEST_SECONDS, description="seconds since the epoch, UTC")]
Version = Annotated[int, Field(ge=0, lt=2**53)]  # what JSON numbers hold exactly everywhere


class Body(BaseModel):
    """A request body: strict types, no unknown fields, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class WrittenOut(BaseModel):
    """Acknowledgement of a write."""

    version: int = Field(description="a later request can demand it as min_version")
    request_id: str


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
