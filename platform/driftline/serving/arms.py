"""Arms: the bundle that answers, and at most one that challenges it."""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ArmName = Literal["champion", "challenger"]


class Arms(BaseModel):
    """Which bundles answer whom; ``user_config`` of the deployments that hold models.

    Without ``shadow`` the challenger answers a share of the users (a canary). With it nobody sees the challenger: it
    makes the same lists for that share of the users, off the request path, and they are recorded beside those served.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: str
    """Directory of a bundle."""
    challenger: str | None = None
    challenger_weight: float = Field(0.0, ge=0, le=1)
    """Share of the users that the challenger is for."""
    shadow: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "Arms":
        if self.challenger is None and (self.challenger_weight or self.shadow):
            raise ValueError("challenger_weight and shadow need a challenger: name one")
        if self.challenger == self.champion:
            raise ValueError(f"challenger={self.challenger!r} is the champion: name another bundle")
        return self


def share_of(challenger: str, tenant: str, user_id: str) -> float:
    """Where a user stands in ``[0, 1)``; the challenger is for those below its weight.

    A hash keyed by the challenger's id: a user stays in an arm while the weight only grows, and every challenger is
    tried out by other users.
    """
    key = hashlib.sha256(challenger.encode()).digest()
    place = hashlib.blake2b(f"{len(tenant)}:{tenant}{user_id}".encode(), key=key, digest_size=7).digest()
    return int.from_bytes(place) / 2**56
