"""What came of the lists that each bundle served, and how a shadow bundle's lists differ from those served.

An event is attributed to a list if it carries the list's ``request_id``, is of the same tenant and user, and its item
is in the list. Nothing is guessed from times. Lists of popular items, served while no Ranker answered, are nobody's.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Select, select

from driftline.evaluation.bootstrap import Interval, user_bootstrap
from driftline.evaluation.list_agreement import overlap, rank_correlation
from driftline.evaluation.proportions import Rate, clustered_rate, difference
from driftline.state.store import Store
from driftline.state.tables import events, served

Group = tuple[str, str]
"""Arm and bundle."""
User = tuple[str, str]
"""Tenant and user id."""


@dataclass(frozen=True)
class Period:
    """Which lists are compared; times of serving in seconds since the epoch, ``event_types`` empty for all."""

    tenant: str | None = None
    since: float = 0.0
    until: float = math.inf
    event_types: Sequence[str] = ()


@dataclass(frozen=True)
class ArmResult:
    """Lists of one bundle in one arm; ``rate.hits`` are those with an attributed event, clusters are users."""

    arm: str
    bundle: str
    first_served_at: float
    last_served_at: float
    rate: Rate


@dataclass(frozen=True)
class Gap:
    """Rate of a challenger minus the rate of a champion."""

    challenger: str
    champion: str
    difference: Interval


@dataclass(frozen=True)
class ShadowResult:
    """Lists of a shadow bundle against those served in answer to the same requests; means with intervals over users."""

    shadow: str
    champion: str
    lists: int
    overlap: Interval
    rank_correlation: Interval | None


@dataclass(frozen=True)
class Comparison:
    """The whole report."""

    arms: list[ArmResult]
    gaps: list[Gap]
    shadows: list[ShadowResult]

    def to_json(self) -> str:
        """JSON with every figure."""
        return json.dumps(asdict(self), indent=2)


@dataclass
class _Lists:
    """Lists of one group, by user."""

    trials: defaultdict[User, int] = field(default_factory=lambda: defaultdict(int))
    hits: defaultdict[User, int] = field(default_factory=lambda: defaultdict(int))
    first: float = math.inf
    last: float = -math.inf


def compare(store: Store, period: Period) -> Comparison:
    """Read the lists of a period and what came of them."""
    groups: defaultdict[Group, _Lists] = defaultdict(_Lists)
    shadows: defaultdict[tuple[str, str], list[tuple[User, float, float]]] = defaultdict(list)
    with store.engine.connect() as connection:
        taken = _taken(connection.execute(_events(period)))
        for row in connection.execution_options(yield_per=1000).execute(_lists(period)).mappings():
            shown, user = json.loads(row["items"]), (row["tenant"], row["user_id"])
            lists = groups[row["arm"], row["bundle"]]
            lists.trials[user] += 1
            lists.hits[user] += bool(taken.get(row["seq"], set()) & set(shown))
            lists.first, lists.last = min(lists.first, row["served_at"]), max(lists.last, row["served_at"])
            if row["shadow"] is not None:
                shadow = json.loads(row["shadow"])
                agreement = (user, overlap(shown, shadow["items"]), rank_correlation(shown, shadow["items"]))
                shadows[shadow["bundle"], row["bundle"]].append(agreement)
    arms = [_arm(group, lists) for group, lists in sorted(groups.items())]
    gaps = [
        Gap(challenger.bundle, champion.bundle, difference(challenger.rate, champion.rate))
        for challenger in arms
        for champion in arms
        if (challenger.arm, champion.arm) == ("challenger", "champion")
    ]
    return Comparison(arms, gaps, [_shadow(*pair, rows) for pair, rows in sorted(shadows.items())])


def _lists(period: Period) -> Select[Any]:
    names = ("seq", "tenant", "user_id", "items", "arm", "bundle", "served_at", "shadow")
    return select(*(served.c[name] for name in names)).where(*_of(period)).order_by(served.c.seq)


def _events(period: Period) -> Select[Any]:
    """Place of a list, and an item that an event with its request id is about."""
    same = ("tenant", "request_id", "user_id")
    joined = served.join(events, onclause=_all_equal(same))
    statement = select(served.c.seq, events.c.item_id).select_from(joined).where(*_of(period))
    return statement.where(events.c.type.in_(period.event_types)) if period.event_types else statement


def _all_equal(names: Sequence[str]) -> Any:
    first, *others = (served.c[name] == events.c[name] for name in names)
    for other in others:
        first = first & other
    return first


def _of(period: Period) -> list[Any]:
    bounds = [served.c.served_at >= period.since, served.c.policy != "popular"]
    if math.isfinite(period.until):
        bounds.append(served.c.served_at < period.until)
    if period.tenant is not None:
        bounds.append(served.c.tenant == period.tenant)
    return bounds


def _taken(rows: Any) -> dict[int, set[str]]:
    taken: defaultdict[int, set[str]] = defaultdict(set)
    for seq, item_id in rows:
        taken[seq].add(item_id)
    return taken


def _arm(group: Group, lists: _Lists) -> ArmResult:
    users = list(lists.trials)
    rate = clustered_rate([lists.trials[user] for user in users], [lists.hits[user] for user in users])
    return ArmResult(*group, lists.first, lists.last, rate)


def _shadow(shadow: str, champion: str, rows: list[tuple[User, float, float]]) -> ShadowResult:
    users = np.array(["/".join(user) for user, _, _ in rows], dtype=object)
    correlations = np.array([value for _, _, value in rows])
    ordered = np.isfinite(correlations)
    return ShadowResult(
        shadow,
        champion,
        len(rows),
        user_bootstrap(np.array([value for _, value, _ in rows]), users),
        user_bootstrap(correlations[ordered], users[ordered]) if ordered.any() else None,
    )
