"""When the served detector may alarm, and by which of its two calibrations; P(drift) is the same for any history."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from driftline.drift.calibration import DriftCalibration, OrderCalibration, run_length
from driftline.drift.detector import DriftDetector
from driftline.drift.evidence import WITHOUT_VERIFIER
from driftline.drift.report import DriftVerdict
from tests.drift.tastes import CONFIG, fresh_model

EventOrder = Literal["natural", "shuffled"]
NOTHING, ONES = (0.0,) * len(WITHOUT_VERIFIER), (1.0,) * len(WITHOUT_VERIFIER)
EVEN = OrderCalibration(
    WITHOUT_VERIFIER, NOTHING, ONES, NOTHING, intercept=0.0, prevalence=0.5, threshold=1e9, p_alarm=0.5
)
LIKELY = replace(EVEN, intercept=float(np.log(3)), p_alarm=0.8)
"""P(drift) = 3/4, which is not enough."""
MODEL = fresh_model()
HISTORY = np.arange(40)


def detector(natural: OrderCalibration, shuffled: OrderCalibration, order: EventOrder = "natural") -> DriftDetector:
    config = CONFIG.model_copy(update={"event_order": order})
    return DriftDetector(MODEL, DriftCalibration(200, natural, shuffled), config)


def verdicts(served: DriftDetector, lengths: range) -> list[DriftVerdict]:
    """After so many events, each worked out from the state after those before."""
    state, found = None, []
    for n in lengths:
        ((verdict, state),) = served.follow([HISTORY[:n]], [state])
        found.append(verdict)
    return found


def test_no_alarm_in_the_first_fifteen_events() -> None:
    """The level is reached from the first event on; the sixteenth is the first that may alarm."""
    served = detector(EVEN, LIKELY)
    alarms = [scan.alarm for scan in served.scan([HISTORY[:n] for n in range(20)])]
    assert alarms == [False] * 16 + [True] * 4
    assert [verdict.alarm for verdict in verdicts(served, range(20))] == alarms
    # and so counts the run length that the level was calibrated to: one event after the warm-up
    assert run_length([served.scan([HISTORY])[0].p_drift], 0.5).exposure_events == 1


def test_the_configured_order_says_what_p_drift_is_and_what_alarms() -> None:
    cases: list[tuple[EventOrder, float, bool]] = [("natural", 0.5, True), ("shuffled", 0.75, False)]
    for order, p_drift, alarm in cases:
        served = detector(EVEN, LIKELY, order)
        ((verdict, _),), scan = served.follow([HISTORY], [None]), served.scan([HISTORY])[0]
        assert (verdict.p_drift, scan.p_drift[-1]) == pytest.approx((p_drift, p_drift))
        assert verdict.alarm == scan.alarm == alarm


def test_a_bundle_of_before_alarms_by_its_statistic() -> None:
    """log(1 + SR) is at least 0: a threshold of 0 alarms after the warm-up whatever P(drift), one of 1e9 never."""
    for threshold, alarms in ((0.0, [False, True]), (1e9, [False, False])):
        served = detector(replace(EVEN, p_alarm=None, threshold=threshold), LIKELY)
        assert [scan.alarm for scan in served.scan([HISTORY[:15], HISTORY[:16]])] == alarms
        assert [verdict.alarm for verdict in verdicts(served, range(15, 17))] == alarms
