"""What goes between deployments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from driftline.drift.report import DriftReport
from driftline.errors import DriftlineError
from driftline.events.store import HistoryEvent
from driftline.ranking.requests import Policy, Recommendation

DriftStatus = Literal["current", "stale", "none"]


class VersionAheadError(DriftlineError):
    """A request demands a version that the store has never acknowledged."""


@dataclass(frozen=True)
class Principal:
    """Who is asking: the tenant and the scopes of an API key."""

    tenant: str
    key_id: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class UserView:
    """A user as UserState hands it out.

    Parameters
    ----------
    known
        Whether the tenant has such a user.
    num_events
        Length of the whole history.
    history
        The newest events, oldest first.
    drift
        Last drift report, its change point moved to where it lies in ``history``; ``None`` if there is none yet.
    drift_bundle
        Bundle that made the report.
    drift_status
        ``current`` if the report covers every event, ``stale`` if it lags or is still to come, ``none`` without events.
    """

    version: int
    catalogue_version: int
    known: bool
    num_events: int
    history: list[HistoryEvent]
    drift: DriftReport | None
    drift_bundle: str | None
    drift_status: DriftStatus

    @property
    def item_ids(self) -> list[str]:
        """The history as models read it."""
        return [event.item_id for event in self.history]


@dataclass(frozen=True)
class RankQuestion:
    """What the Router asks the Ranker; see :class:`~driftline.ranking.requests.RankRequest` for the shared fields.

    ``catalogue_version`` is the least that the Ranker must know; ``categories`` restricts the candidates.
    """

    tenant: str
    catalogue_version: int
    history: Sequence[str]
    k: int = 10
    exclude: Sequence[str] = ()
    candidates: Sequence[str] | None = None
    categories: Sequence[str] = ()
    diversity: float | None = None
    drift: DriftReport | None = None
    drift_bundle: str | None = None


def question_of(tenant: str, view: UserView) -> RankQuestion:
    """What ranking for a stored user begins with."""
    return RankQuestion(tenant, view.catalogue_version, view.item_ids, drift=view.drift, drift_bundle=view.drift_bundle)


@dataclass(frozen=True)
class Ranking:
    """The Ranker's answer; ``drift_used`` says whether the question's drift report was what the policy acted on."""

    recommendation: Recommendation
    bundle: str
    drift_used: bool


@dataclass(frozen=True)
class Portrait:
    """What the bundle says about a user: interests ``(tag, weight)``, heaviest first, and the policy in force."""

    interests: list[tuple[str, float]]
    policy: Policy
    drift: DriftReport | None
    bundle: str
    drift_used: bool


@dataclass(frozen=True)
class Assessment:
    """The DriftDetector's answer."""

    report: DriftReport
    bundle: str
    titles: list[str]
    """``[n]`` title of each event's item, or its id."""
