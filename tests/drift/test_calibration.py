import dataclasses
import json

import numpy as np
import pytest

from driftline.drift.calibration import (
    DriftCalibration,
    OrderCalibration,
    RunLength,
    at_prior,
    fit_log_odds,
    labelled_positions,
    run_length,
    threshold_for,
)
from driftline.drift.evidence import FEATURES
from driftline.drift.streams import Stream
from driftline.errors import BundleError

NATURAL = OrderCalibration(
    features=FEATURES,
    means=(0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
    scales=(2.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    weights=(1.0, 0.0, 0.0, -1.0, 0.0, 3.0),
    intercept=0.5,
    prevalence=0.5,
    threshold=30.0,
)
CALIBRATION = DriftCalibration(200, NATURAL, dataclasses.replace(NATURAL, intercept=0.1, threshold=5.3))


def test_round_trip() -> None:
    assert DriftCalibration.from_json(CALIBRATION.to_json()) == CALIBRATION


def test_a_calibration_of_before_the_verifier_reads_what_it_was_fitted_on() -> None:
    four = {name: getattr(NATURAL, name)[:4] for name in ("features", "means", "scales", "weights")}
    older = dataclasses.replace(NATURAL, **four)
    flat = dataclasses.asdict(older) | {"arl_events": 200, "threshold_natural": 30.0, "threshold_shuffled": 5.3}
    read = DriftCalibration.from_json(json.dumps(flat))
    assert read == DriftCalibration(200, older, dataclasses.replace(older, threshold=5.3))
    np.testing.assert_allclose(older.log_odds(np.array([[4.0, 9.0, 9.0, 1.0, 7.0, 7.0]])), [1.5])


def test_other_features_are_refused() -> None:
    other = dataclasses.replace(CALIBRATION, shuffled=dataclasses.replace(NATURAL, features=FEATURES[:5]))
    with pytest.raises(BundleError, match="train the bundle again"):
        DriftCalibration.from_json(other.to_json())


def test_log_odds() -> None:
    features = np.array([[4.0, 9.0, 9.0, 1.0, 9.0, 1.0]])  # 4/2 - 1 + 3 (1 - 1) + 0.5
    np.testing.assert_allclose(NATURAL.log_odds(features), [1.5])
    np.testing.assert_allclose(NATURAL.p_drift(features), [1 / (1 + np.exp(-1.5))])


def test_at_prior() -> None:
    # odds 1 at prior 1/2 are odds 1/49 at prior 2 %
    np.testing.assert_allclose(at_prior(np.array([0.5]), 0.5, 0.02), [0.02])
    np.testing.assert_allclose(at_prior(np.array([0.3]), 0.4, 0.4), [0.3])


def test_run_length_counts_to_the_first_alarm_and_censors() -> None:
    runs = [np.array([9.0, 1, 1, 5, 9]), np.array([0.0, 0, 0, 0])]
    # after a warm-up of 1: alarm at the third event, then four steady ones in all: (3 + 3) / 1
    assert run_length(runs, 5.0, warm_up_events=1) == RunLength(exposure_events=6, alarms=1)
    assert run_length(runs, 5.0, warm_up_events=1).arl_events == 6
    assert run_length(runs, 10.0, warm_up_events=1).arl_events == float("inf")


def test_threshold_is_the_lowest_level_with_the_run_length() -> None:
    rng = np.random.default_rng(0)
    runs = [rng.exponential(size=80) for _ in range(200)]
    threshold = threshold_for(runs, 100)
    assert run_length(runs, threshold).arl_events >= 100
    levels = np.unique(np.concatenate([run[15:] for run in runs]))
    below = levels[np.searchsorted(levels, threshold) - 1]
    assert run_length(runs, float(below)).arl_events < 100
    assert threshold == pytest.approx(np.log(100), abs=0.2)  # P(x >= log 100) = 1/100


def test_a_constant_stream_alarms_above_its_value_only() -> None:
    runs = [np.zeros(80)] * 3
    threshold = threshold_for(runs, 200)
    assert threshold > 0
    assert run_length(runs, threshold).alarms == 0


def test_labelled_positions() -> None:
    stream = Stream("s", np.arange(57), "a", "b", 30, None, "X", 0)
    positions, drifted, weights = labelled_positions(stream, np.random.default_rng(0), reach=27)
    assert positions[0] < 30
    assert positions[1:] == [34, 39, 49, 56]  # ages 5, 10, 20 and the end; 30 and 40 lie beyond it
    assert drifted == [False, True, True, True, True]
    assert weights == [0.5, 1, 1, 1, 1]


def test_positions_count_by_their_weight() -> None:
    # one feature without information: the odds are those of the weights, 2 drifted against 1 + 1/4 + 3/4
    features, weights = np.ones((5, 1)), np.array([1.0, 1.0, 1.0, 0.25, 0.75])
    fitted = fit_log_odds(features, np.array([True, True, False, False, False]), weights)
    assert fitted.prevalence == pytest.approx(0.5)
    np.testing.assert_allclose(fitted.log_odds(features), 0, atol=1e-6)
