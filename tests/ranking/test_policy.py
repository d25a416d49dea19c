"""Which reading of a history makes the list, at and around every boundary."""

import pytest

from driftline.config import PolicyConfig
from driftline.drift.report import DriftVerdict
from driftline.ranking.policy import decide

CONFIG = PolicyConfig(drifting_above=0.5, reset_above=0.95)


def report(p_drift: float, change_point: int | None = 12, alarm: bool = True) -> DriftVerdict:
    return DriftVerdict(p_drift, change_point, alarm)


@pytest.mark.parametrize(("known_events", "name"), [(0, "cold-start"), (3, "cold-start"), (4, "reset"), (20, "reset")])
def test_up_to_three_known_events_are_a_cold_start_whatever_drift_says(known_events: int, name: str) -> None:
    assert decide(CONFIG, known_events, report(1.0)).name == name


@pytest.mark.parametrize(
    ("p_drift", "name", "weight_recent"),
    [
        (0.0, "steady", 0.0),
        (0.4999, "steady", 0.0),
        (0.5, "drifting", 0.5),
        (0.7, "drifting", 0.7),
        (0.9499, "drifting", 0.9499),
        (0.95, "reset", 1.0),
        (1.0, "reset", 1.0),
    ],
)
def test_policy_by_probability(p_drift: float, name: str, weight_recent: float) -> None:
    policy = decide(CONFIG, 20, report(p_drift))
    assert (policy.name, policy.weight_recent) == (name, weight_recent)


def test_without_a_change_point_the_whole_history_is_read() -> None:
    policy = decide(CONFIG, 20, report(0.99, change_point=None))
    assert (policy.name, policy.weight_recent) == ("steady", 0.0)
    assert policy.reason == "P(drift) 0.99, but no change point: the whole history is read"


def test_without_an_alarm_the_whole_history_is_read_however_probable_drift_is() -> None:
    policy = decide(CONFIG, 20, report(0.99, alarm=False))
    assert (policy.name, policy.weight_recent) == ("steady", 0.0)
    assert policy.reason == "P(drift) 0.99, but no alarm: the whole history is read"


def test_without_drift_detection_the_whole_history_is_read() -> None:
    policy = decide(CONFIG, 20, None)
    assert (policy.name, policy.reason) == ("steady", "drift detection is off: the whole history is read")


def test_reasons_name_the_figures_and_the_first_event_that_counts() -> None:
    assert decide(CONFIG, 0, None).reason == "0 known events: text and popularity carry the list"
    assert decide(CONFIG, 20, report(0.2)).reason == "P(drift) 0.20 < 0.5: the whole history is read"
    assert decide(CONFIG, 20, report(0.97)).reason == "P(drift) 0.97 >= 0.95: only events from number 13 on are read"
    assert decide(CONFIG, 20, report(0.75)).reason == (
        "P(drift) 0.75: events from number 13 on count 75%, the whole history 25%"
    )
