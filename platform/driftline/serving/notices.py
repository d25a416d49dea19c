"""What is worth telling a tenant: a user's interests changed, or the share of users whose did left its band."""

import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from driftline.drift.report import DriftVerdict
from driftline.state.outbox import Message
from driftline.state.records import HistoryEvent, StoredDrift

NEW_REGIME_EVENTS: Final = 10
"""A change point that moves by fewer events is the same change, seen more clearly."""
Band = Literal["below", "inside", "above"]


def drift_notice(
    user_id: str, before: StoredDrift | None, state: StoredDrift, verdict: DriftVerdict, history: Sequence[HistoryEvent]
) -> Message | None:
    """Message about a user whose alarm rose, or whose change point moved on to another regime; else ``None``.

    Parameters
    ----------
    before
        The state that ``state`` replaces.
    verdict
        What ``state`` holds, over ``history``.
    """
    if not verdict.alarm:
        return None
    risen = before is None or not before.report["alarm"]
    if not risen and not _moved_on(before, state, history):
        return None
    return _message(
        "user.interests_changed",
        {
            "user_id": user_id,
            "reason": "alarm" if risen else "new-regime",
            "p_drift": verdict.p_drift,
            "change_event_id": state.change_event_id,
            "bundle": state.bundle,
        },
        user_id,
    )


def _moved_on(before: StoredDrift | None, state: StoredDrift, history: Sequence[HistoryEvent]) -> bool:
    """Another bundle may see another change point in the same events: that is no news."""
    if before is None or before.bundle != state.bundle or state.change_event_id is None:
        return False
    places = {event.event_id: place for place, event in enumerate(history)}
    old = -1 if before.change_event_id is None else places.get(before.change_event_id, -1)
    return old >= 0 and places[state.change_event_id] - old >= NEW_REGIME_EVENTS


@dataclass(frozen=True)
class PopulationBand:
    """What is expected of the population.

    Parameters
    ----------
    low, high
        The share of users with an alarm that is expected, both included.
    window
        Newest assessed users of a tenant that the share is taken over; before there are so many, nothing is said.
    """

    low: float
    high: float
    window: int


class Population:
    """Who of the users assessed last has an alarm, by tenant. In memory: after a restart the window fills again.

    Parameters
    ----------
    band
        What is expected.
    """

    def __init__(self, band: PopulationBand) -> None:
        self._band = band
        self._alarms: dict[str, OrderedDict[str, bool]] = {}
        self._was: dict[str, Band] = {}

    def observe(self, tenant: str, user_id: str, alarm: bool) -> tuple[float, Message | None]:
        """Take in an assessment; returns the share, and a message if it has just left the band."""
        users = self._alarms.setdefault(tenant, OrderedDict())
        users[user_id] = alarm
        users.move_to_end(user_id)
        while len(users) > self._band.window:
            users.popitem(last=False)
        share = sum(users.values()) / len(users)
        if len(users) < self._band.window:
            return share, None
        now: Band = "below" if share < self._band.low else "above" if share > self._band.high else "inside"
        left = now not in ("inside", self._was.get(tenant, "inside"))
        self._was[tenant] = now
        if not left:
            return share, None
        data = {"share": share, "band": [self._band.low, self._band.high], "side": now, "users": len(users)}
        return share, _message("population.share_left_band", data)

    def forget(self, tenant: str, user_id: str) -> None:
        """Take out a user who is erased."""
        self._alarms.get(tenant, OrderedDict()).pop(user_id, None)


def _message(kind: str, data: Mapping[str, Any], user_id: str | None = None) -> Message:
    event_id = f"evt_{secrets.token_hex(16)}"
    body = {"id": event_id, "type": kind, "created_at": time.time(), "data": dict(data)}
    return Message(event_id, json.dumps(body, allow_nan=False, ensure_ascii=False), user_id)
