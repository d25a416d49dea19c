"""One contract for every detector: exact alarms, constant streams, reset, pickling, batch = streaming, small state."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from driftline.config import DriftConfig
from driftline.drift.calibration import LogOdds
from driftline.drift.detectors.contract import Detector, Statistic, unpack
from driftline.drift.detectors.roster import all_statistics
from driftline.drift.evidence import FEATURES
from driftline.errors import BundleError, DataError
from tests.drift.synthetic import reading, tastes

WEIGHTS = (1.0, 0.5, 0.0, 0.0, 0.1, 0.1)
CALIBRATION = LogOdds(FEATURES, (0.0,) * 6, (1.0,) * 6, WEIGHTS, 0.0, 0.5)
STATISTICS = all_statistics(DriftConfig(), CALIBRATION)
SERVED = {"fused", "restart Shiryaev-Roberts", "restart CUSUM", "restart posterior"}
# by name: a threshold that steady streams stay below, and the event of the first alarm; the change is at event 40
ALARMS = {
    "fused": (0.0, 42),
    "restart Shiryaev-Roberts": (5.3, 42),
    "restart CUSUM": (4.0, 42),
    "restart posterior": (0.0, 44),
    "MMD": (2.5, 45),
    "online MMD": (0.28, 45),
    "cosine": (0.31, 44),
    "genre chi-square": (5.5, 44),
    "genre Jensen-Shannon": (0.05, 45),
    "genre run length": (0.3, 43),
    "popularity CUSUM": (4.0, 42),
    "oracle CUSUM": (6.5, 42),  # events 40, 41 and 42 bring log 9 = 2.2 each
    "ADWIN (lift)": (0.3, 46),
    "ADWIN (surprise)": (0.3, 46),
    "KSWIN (lift)": (8.0, 49),
    "KSWIN (surprise)": (8.0, 49),
    "Page-Hinkley (lift, δ=0.005, from 30)": (6.5, 43),
    "Page-Hinkley (lift, δ=0.005, from 15)": (6.5, 43),
    "Page-Hinkley (lift, δ=0.1, from 15)": (5.4, 43),
    "Page-Hinkley (surprise, δ=0.005, from 30)": (6.5, 43),
    "Page-Hinkley (surprise, δ=0.005, from 15)": (6.5, 43),
    "Page-Hinkley (surprise, δ=0.1, from 15)": (5.4, 43),
}


def detector(statistic: Statistic) -> Detector:
    return Detector(statistic, ALARMS[statistic.name][0])


def test_names_are_unique() -> None:
    assert len({statistic.name for statistic in STATISTICS}) == len(STATISTICS)
    assert ALARMS.keys() == {statistic.name for statistic in STATISTICS}


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: s.name)
class TestContract:
    def test_first_alarm_on_a_seeded_stream(self, statistic: Statistic) -> None:
        watching = detector(statistic)
        alarms = [alarm for event in reading(tastes(0)).events() if (alarm := watching.update(event))]
        assert alarms[0].event == ALARMS[statistic.name][1]
        if alarms[0].change_point is not None:
            assert abs(alarms[0].change_point - 40) <= 3

    def test_a_steady_stream_raises_none(self, statistic: Statistic) -> None:
        noise_T = 0.5 * np.random.default_rng(1).normal(size=80)
        signals = {"surprise": 5 + noise_T, "lift": 1 + noise_T, "oracle": noise_T - 1}
        steady = replace(reading(tastes(1, 80, 0)), signals=signals)
        assert not detector(statistic).scan([steady])[0].alarm_T.any()

    def test_a_constant_stream_raises_none_and_is_finite_after_the_first_event(self, statistic: Statistic) -> None:
        same = reading(np.zeros(80, dtype=np.int64))
        flat = replace(
            same, signals={"surprise": np.full(80, 5.0), "lift": np.full(80, 0.5), "oracle": np.full(80, -1.0)}
        )
        scanned = detector(statistic).scan([flat])[0]
        assert np.isfinite(scanned.statistic_T[1:]).all()
        assert not scanned.alarm_T.any()

    def test_batch_is_streaming(self, statistic: Statistic) -> None:
        streams = [
            reading(tastes(seed, before, after)) for seed, before, after in ((2, 40, 40), (3, 25, 20), (4, 7, 0))
        ]
        watching = detector(statistic)
        for stream, scanned in zip(streams, watching.scan(streams), strict=True):
            watching.reset()
            alarmed, values = [], []
            for event in stream.events():
                alarmed.append(watching.update(event) is not None)
                values.append(watching.value)
            np.testing.assert_allclose(values, scanned.statistic_T, atol=1e-4)
            np.testing.assert_array_equal(alarmed, scanned.alarm_T)

    def test_reset_forgets_everything(self, statistic: Statistic) -> None:
        watching, fresh = detector(statistic), detector(statistic)
        for event in reading(tastes(0)).events():
            watching.update(event)
        watching.reset()
        assert watching.state == fresh.state
        for event in reading(tastes(5, 20, 0)).events():
            assert watching.update(event) == fresh.update(event)
            assert watching.value == fresh.value

    @pytest.mark.parametrize("how", ["pickle", "state"])
    def test_it_goes_on_where_it_was(self, statistic: Statistic, how: str) -> None:
        events = list(reading(tastes(0)).events())
        whole = detector(statistic)
        for event in events[:50]:
            whole.update(event)
        moved = detector(statistic)
        if how == "pickle":
            moved = pickle.loads(pickle.dumps(whole))
        else:
            moved.state = whole.state
        for event in events[50:]:
            expected, got = whole.update(event), moved.update(event)
            assert (got is None) == (expected is None)
            assert moved.value == pytest.approx(whole.value, abs=1e-4)

    def test_another_statistics_state_is_refused(self, statistic: Statistic) -> None:
        other = next(s for s in STATISTICS if s.name != statistic.name)
        with pytest.raises(BundleError, match="was not written by"):
            detector(statistic).state = detector(other).state

    def test_another_versions_state_is_refused(self, statistic: Statistic) -> None:
        older = replace(statistic, version=statistic.version + 1)  # type: ignore[type-var]
        with pytest.raises(BundleError, match=f"of version {statistic.version} "):
            detector(statistic).state = detector(older).state

    def test_what_is_served_is_small(self, statistic: Statistic) -> None:
        watching = detector(statistic)
        for event in reading(tastes(6, 60, 60)).events():
            watching.update(event)
        item_ids = 4 * 120  # those of the window lie beside the state
        if statistic.name in SERVED:
            assert len(watching.state) + item_ids <= 2048

    def test_merging(self, statistic: Statistic) -> None:
        events = list(reading(tastes(0)).events())
        whole, first, second = (detector(statistic) for _ in range(3))
        for number, event in enumerate(events):
            whole.update(event)
            (first if number < 35 else second).update(event)
        if statistic.name in ("popularity CUSUM", "oracle CUSUM"):
            first.merge(second.state)
            merged, expected = unpack(statistic, first.state), unpack(statistic, whole.state)
            assert merged[1] == expected[1] == 80
            np.testing.assert_allclose(merged[0]["best"], expected[0]["best"], atol=1e-4)
        else:
            with pytest.raises(TypeError, match="depends on the past"):
                first.merge(second.state)


def test_warm_up_raises_no_alarm() -> None:
    watching = Detector(STATISTICS[1], threshold=-np.inf, warm_up_events=15)
    alarmed = [watching.update(event) is not None for event in reading(tastes(0)).events()]
    assert alarmed == [False] * 15 + [True] * 65


def test_a_missing_signal_is_named() -> None:
    with pytest.raises(DataError, match="no signal 'mood'.*lift.*oracle.*surprise"):
        reading(tastes(0)).signal("mood")
