"""A user's history with what the drift model makes of it: the answer of ``/v1/users/{id}/timeline``."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from driftline.drift.report import DriftReport
from driftline.serving.calls import Assessment, UserHistory
from driftline.serving.http.cursors import write_cursor
from driftline.serving.http.messages.timeline import ChangePointOut, PolicyChangeOut, TimelineEventOut, TimelineOut
from driftline.state.records import EventsPage, HistoryEvent, PolicyChange


def timeline(
    user_id: str,
    page: EventsPage,
    user: UserHistory,
    assessment: Assessment | None,
    policies: Sequence[PolicyChange],
    request_id: str,
) -> TimelineOut:
    """Put a page of events and an assessment of the newest history together.

    Parameters
    ----------
    user
        With the history that was assessed.
    assessment
        ``None`` if the bundle has no drift part.
    """
    report = None if assessment is None else assessment.report
    places = {event.event_id: place for place, event in enumerate(user.events)}
    events = []
    for event in page.events:
        surprise, p_drift = _read(report, places.get(event.event_id))
        values = {name: value for name, value in asdict(event).items() if name != "user_id"}
        events.append(TimelineEventOut(**values, surprise=surprise, p_drift=p_drift))
    return TimelineOut(
        user_id=user_id,
        events=events,
        change_points=[] if report is None else change_points(user.events, report),
        policy_changes=[PolicyChangeOut(**asdict(change)) for change in policies],
        next_cursor=None if page.next_cursor is None else write_cursor(page.next_cursor),
        bundle=None if assessment is None else assessment.bundle,
        version=user.view.version,
        request_id=request_id,
    )


def change_points(history: Sequence[HistoryEvent], report: DriftReport) -> list[ChangePointOut]:
    """One for every stretch of events after which a change was believed: as it was seen where P(drift) was highest."""
    believed = report.change_point_by_event
    found = []
    for is_believed, group in groupby(range(len(history)), key=lambda place: bool(believed[place] >= 0)):
        if not is_believed:
            continue
        stretch = list(group)
        peak = max(stretch, key=lambda place: float(report.p_drift_by_event[place]))
        change = history[int(believed[peak])]
        found.append(
            ChangePointOut(
                event_id=change.event_id,
                timestamp=change.timestamp,
                p_drift=float(report.p_drift_by_event[peak]),
                first_believed=history[stretch[0]].event_id,
            )
        )
    return found


def _read(report: DriftReport | None, place: int | None) -> tuple[float | None, float | None]:
    """Surprise and P(drift) of an event; ``None`` for what the model did not read."""
    if report is None or place is None:
        return None, None
    surprise = float(report.surprise[place])
    return (None, None) if math.isnan(surprise) else (surprise, float(report.p_drift_by_event[place]))
