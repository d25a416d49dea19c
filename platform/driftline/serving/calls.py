"""What goes between deployments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from driftline.drift.report import DriftReport, DriftVerdict
from driftline.errors import DriftlineError
from driftline.ranking.caps import Caps
from driftline.ranking.filters import NO_RULES, ItemRules
from driftline.ranking.requests import Policy, Recommendation
from driftline.registry.lookup import SEARCH_WEIGHT, Found
from driftline.serving.arms import ArmName
from driftline.state.store import HistoryEvent

DriftStatus = Literal["current", "stale", "none"]
Seen = Literal["exclude", "include", "only"]
"""What becomes of items that the history holds."""


class VersionAheadError(DriftlineError):
    """A request demands a version that the store has never acknowledged."""


@dataclass(frozen=True)
class RateLimit:
    """How many requests a key may make: ``per_second`` in the long run, ``burst`` at once."""

    per_second: float
    burst: int


@dataclass(frozen=True)
class Principal:
    """Who is asking: tenant, scopes and limits of an API key; ``expires_at`` in seconds since the epoch."""

    tenant: str
    key_id: str
    scopes: frozenset[str]
    limit: RateLimit | None = None
    expires_at: float | None = None


@dataclass(frozen=True)
class UserView:
    """A user as UserState hands it out.

    Parameters
    ----------
    known
        Whether the tenant has such a user.
    num_events
        Length of the whole history.
    item_ids
        Items of the newest events, oldest first, as models read them.
    times_s, types
        Their timestamps, seconds since the epoch, and their types.
    drift
        What is stored of drift, its change point moved to where it lies in ``item_ids``; ``None`` if nothing is yet.
    drift_bundle
        Bundle that said it.
    drift_status
        ``current`` if it covers every event, ``stale`` if it lags or is still to come, ``none`` without events.
    """

    version: int
    catalogue_version: int
    known: bool
    num_events: int
    item_ids: list[str]
    times_s: list[float]
    types: list[str]
    drift: DriftVerdict | None
    drift_bundle: str | None
    drift_status: DriftStatus


@dataclass(frozen=True)
class UserHistory:
    """A user with the newest events themselves, oldest first: ``events[n]`` is about ``view.item_ids[n]``."""

    view: UserView
    events: list[HistoryEvent]


@dataclass(frozen=True)
class RankQuestion:
    """What the Router asks the Ranker; see :class:`~driftline.ranking.requests.RankRequest` for the shared fields.

    ``catalogue_version`` is the least that the Ranker must know; ``only_items`` and ``rules`` restrict the candidates;
    ``seen`` of ``None`` is the catalogue's setting, and 'include' for given candidates. ``user_id`` chooses the arm.
    With a ``request_id`` the list will be recorded as served, and a shadow bundle makes one beside it. ``now_s``: when
    the question was asked, seconds since the epoch.
    """

    tenant: str
    catalogue_version: int
    history: Sequence[str]
    k: int = 10
    exclude: Sequence[str] = ()
    candidates: Sequence[str] | None = None
    only_items: Sequence[str] | None = None
    rules: ItemRules = NO_RULES
    seen: Seen | None = None
    caps: Caps | None = None
    diversity: float | None = None
    drift: DriftVerdict | None = None
    drift_bundle: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    times_s: Sequence[float] | None = None
    types: Sequence[str] | None = None
    now_s: float | None = None


def question_of(tenant: str, user_id: str, view: UserView) -> RankQuestion:
    """What ranking for a stored user begins with."""
    return RankQuestion(
        tenant,
        view.catalogue_version,
        view.item_ids,
        drift=view.drift,
        drift_bundle=view.drift_bundle,
        user_id=user_id,
        times_s=view.times_s,
        types=view.types,
    )


@dataclass(frozen=True)
class Ranking:
    """The Ranker's answer; ``drift_used`` says whether the question's drift report was what the policy acted on."""

    recommendation: Recommendation
    bundle: str
    drift_used: bool
    arm: ArmName = "champion"
    unavailable_items: Sequence[str] = ()


@dataclass(frozen=True)
class ExplainQuestion:
    """What the Router asks the Ranker about a list that ``bundle`` made.

    ``history``, ``times_s``, ``types`` and ``now_s`` are what was read then; policy, ``p_drift`` and ``change_point``
    (an index into the history) say how.
    """

    tenant: str
    catalogue_version: int
    bundle: str
    history: Sequence[str]
    items: Sequence[str]
    policy: Policy
    p_drift: float | None
    change_point: int | None
    keep_seen: bool
    times_s: Sequence[float] | None = None
    types: Sequence[str] | None = None
    now_s: float | None = None


@dataclass(frozen=True)
class LookupQuestion:
    """What the Router asks the Ranker about similar items and searches; see :class:`RankQuestion` for shared fields.

    ``user_id`` without a ``history`` only chooses the arm.
    """

    tenant: str
    catalogue_version: int
    item_id: str | None = None
    text: str | None = None
    by_words: bool = False
    k: int = 10
    exclude: Sequence[str] = ()
    only_items: Sequence[str] | None = None
    rules: ItemRules = NO_RULES
    seen: Seen | None = None
    history: Sequence[str] | None = None
    drift: DriftVerdict | None = None
    drift_bundle: str | None = None
    user_id: str | None = None
    weight: float = SEARCH_WEIGHT
    times_s: Sequence[float] | None = None
    types: Sequence[str] | None = None
    now_s: float | None = None


@dataclass(frozen=True)
class LookupAnswer:
    """The Ranker's answer; ``known`` is false if the question's item is in no catalogue."""

    found: Sequence[Found]
    bundle: str
    known: bool = True


@dataclass(frozen=True)
class RerankAnswer:
    """Relevance of each document, and how many tokens of one the bundle's text tower can read."""

    relevance: Sequence[float]
    bundle: str
    max_tokens: int


@dataclass(frozen=True)
class Portrait:
    """What the bundle says about a user: interests ``(tag, weight)``, heaviest first, and the policy in force."""

    interests: list[tuple[str, float]]
    policy: Policy
    drift: DriftVerdict | None
    bundle: str
    drift_used: bool


@dataclass(frozen=True)
class Assessment:
    """The DriftDetector's answer."""

    report: DriftReport
    bundle: str
    titles: list[str]
    """``[n]`` title of each event's item, or its id."""


@dataclass(frozen=True)
class Followed:
    """The DriftDetector's answer about a user whose state it was given."""

    verdict: DriftVerdict
    bundle: str
    state: bytes
    """What the next event is scored from, by the same bundle."""


@dataclass(frozen=True)
class ArmServed:
    """A bundle that a replica holds, and the share of the users that it is for."""

    arm: ArmName
    bundle: str
    path: str
    weight: float
    shadow: bool = False


@dataclass(frozen=True)
class Serving:
    """What one replica answers with.

    Parameters
    ----------
    promotion
        Number of the promotion that asked for it; ``None``: it is configured.
    since
        Seconds since the epoch.
    fault
        Why it is not what was asked for.
    """

    deployment: Literal["Ranker", "DriftDetector"]
    arms: list[ArmServed]
    promotion: int | None
    since: float
    fault: str | None
