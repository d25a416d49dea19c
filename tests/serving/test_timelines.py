"""Cursors, and what a timeline makes of a report."""

import base64
import math
import re
import struct
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import StringConstraints, TypeAdapter, ValidationError

from driftline.drift.report import DriftReport
from driftline.serving.calls import Assessment, UserHistory, UserView
from driftline.serving.http.cursors import PATTERN, read_cursor, write_cursor
from driftline.serving.http.timelines import change_points, timeline
from driftline.state.records import EventsPage, HistoryEvent, PolicyChange, StoredEvent

HISTORY = [HistoryEvent(f"e{n}", f"i{n}", "view", 10.0 + n) for n in range(6)]
REPORT = DriftReport(
    p_drift=0.8,
    change_point=4,
    statistic=np.zeros(6),
    p_drift_by_event=np.array([0.1, 0.7, 0.6, 0.2, 0.2, 0.8]),
    alarm=False,
    unknown_items=["i3"],
    surprise=np.array([np.nan, 2.0, 3.0, np.nan, 1.5, 6.0]),
    change_point_by_event=np.array([-1, 1, 2, -1, -1, 4]),
)


@pytest.mark.parametrize("place", [(0.0, 0), (1_700_000_000.25, 2**62), (-5.5, 1)])
def test_a_cursor_comes_back_as_it_was(place: tuple[float, int]) -> None:
    text = write_cursor(place)
    assert len(text) == 22  # 16 bytes
    assert read_cursor(text) == place


def forged(timestamp: float, number: int) -> str:
    return base64.urlsafe_b64encode(struct.pack(">dq", timestamp, number)).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "A" * 21,
        "A" * 23,
        "Ä" * 22,
        "A" * 21 + "B",  # spare bits are set
        " " + write_cursor((1.0, 1)),
        write_cursor((1.0, 1)) + "\n",
        forged(float("nan"), 1),
        forged(float("-inf"), 1),
        "' OR 1=1 --",
    ],
)
def test_what_is_no_position_does_not_fit_the_pattern(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Annotated[str, StringConstraints(pattern=PATTERN)]).validate_python(text)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1))
def test_every_position_fits_the_pattern(timestamp: float, number: int) -> None:
    text = forged(timestamp, number)
    assert re.fullmatch(PATTERN, text)
    assert read_cursor(text) == (timestamp, number)


@given(st.from_regex(PATTERN, fullmatch=True).filter(lambda text: not text.endswith("\n")))
def test_whatever_fits_the_pattern_is_a_position(text: str) -> None:
    place = read_cursor(text)
    assert math.isfinite(place[0])
    assert write_cursor(place) == text


def test_every_stretch_of_belief_has_one_change_point_as_it_was_at_its_height() -> None:
    found = [(c.event_id, c.timestamp, c.p_drift, c.first_believed) for c in change_points(HISTORY, REPORT)]
    assert found == [("e1", 11.0, 0.7, "e1"), ("e4", 14.0, 0.8, "e5")]


def test_events_have_figures_where_the_model_has_read_them() -> None:
    events = [StoredEvent(e.event_id, "ada", e.item_id, e.type, e.timestamp, text="t") for e in HISTORY[2:5]]
    older = StoredEvent("e-1", "ada", "i9", "view", 1.0)
    items = [event.item_id for event in HISTORY]
    times_s, types = [event.timestamp for event in HISTORY], [event.type for event in HISTORY]
    view = UserView(7, 0, True, 7, items, times_s, types, None, None, "current")
    user = UserHistory(view, HISTORY)
    changes = [PolicyChange(5.0, "reset", "b1", "r1")]
    page = EventsPage([older, *events], (14.0, 3))
    answer = timeline("ada", page, user, Assessment(REPORT, "b1", []), changes, "q")
    assert [(e.event_id, e.surprise, e.p_drift) for e in answer.events] == [
        ("e-1", None, None),  # older than what models read
        ("e2", 3.0, 0.6),
        ("e3", None, None),  # an item that the bundle does not know
        ("e4", 1.5, 0.2),
    ]
    assert answer.events[1].text == "t"
    assert read_cursor(answer.next_cursor or "") == (14.0, 3)
    assert answer.policy_changes[0].policy == "reset"
    without = timeline("ada", page, user, None, [], "q")
    assert (without.bundle, without.change_points, without.events[1].p_drift) == (None, [], None)
