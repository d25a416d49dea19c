"""Probes."""

from typing import Literal

from pydantic import BaseModel, Field


class ReadyOut(BaseModel):
    """The service can answer."""

    status: Literal["ready"] = "ready"
    bundle: str
    swap_fault: str | None = Field(None, description="why a bundle that was asked for is not in force")
