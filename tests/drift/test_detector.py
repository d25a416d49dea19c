"""The detector with a model that really learnt two tastes."""

import numpy as np
import pytest

from driftline.drift.calibration import calibrate
from driftline.drift.check import check_drift, delay
from driftline.drift.detector import DriftDetector
from driftline.drift.evidence import FEATURES
from driftline.drift.state import DriftState
from driftline.drift.streams import Stream, TasteDistance
from driftline.drift.verifier import verifier_table
from driftline.sequences.batches import History
from tests.drift.tastes import CONFIG, ITEMS, ITEMS_PER_TASTE, trained_model, users


@pytest.fixture(scope="module")
def detector() -> DriftDetector:
    model = trained_model()
    trained = [History(items) for items in users(80, seed=1).values()]
    verifier_ND = verifier_table(trained, ITEMS, CONFIG.encoder.dim, "N", seed=0, steps=40)
    calibration = calibrate(model, users(24, seed=2), CONFIG, seed=0, pairs=30, verifier_ND=verifier_ND)
    assert all(
        order.weights[FEATURES.index("verifier split")] > 0 for order in (calibration.natural, calibration.shuffled)
    )
    return DriftDetector(model, calibration, CONFIG, verifier_ND=verifier_ND)


def spliced(k: int = 40, after: int = 40) -> np.ndarray:
    one, other = list(users(2, seed=3).values())
    rest = other[~np.isin(other, one[:k])]
    return np.concatenate([one[:k], rest[:after]])


def test_a_change_of_taste_is_found_where_it_is(detector: DriftDetector) -> None:
    scan = detector.scan([spliced(40, 30)])[0]
    assert scan.p_drift[39] < 0.5 < scan.p_drift[-1]
    assert abs(scan.change_points[-1] - 40) <= 5
    assert scan.statistic[-1] > scan.statistic[39] + 5


def test_batch_equals_one_by_one_and_nothing_is_remembered(detector: DriftDetector) -> None:
    histories = [spliced(), np.arange(7), np.empty(0, dtype=np.int64), spliced(25, 60)]
    together = detector.scan(histories)
    for history, scan in zip(histories, together, strict=True):
        alone = detector.scan([history])[0]
        np.testing.assert_allclose(scan.p_drift, alone.p_drift, atol=1e-5)
        np.testing.assert_allclose(scan.statistic, alone.statistic, atol=1e-4)
        np.testing.assert_allclose(scan.posterior, alone.posterior, atol=1e-5)


def test_event_by_event_is_the_scan_also_beyond_the_window(detector: DriftDetector) -> None:
    encoder = CONFIG.encoder.model_copy(update={"window_events": 30})
    config = CONFIG.model_copy(update={"encoder": encoder, "recent_events": 20})
    narrow = DriftDetector(detector.reader.model, detector.calibration, config, verifier_ND=detector.reader.verifier_ND)
    histories = [spliced(25, 50), users(1, seed=5)["5-0"][:75]]
    stored: list[bytes | None] = [None, None]
    sizes = []
    for n in [0, 1, 2, 3, 10, 11, *range(28, 76), 75]:
        parts = [history[:n] for history in histories]
        states = [DriftState.from_bytes(state, "b1") if state else None for state in stored]
        followed = narrow.follow(parts, states)
        for part, (verdict, _), scan in zip(parts, followed, narrow.scan(parts), strict=True):
            report = scan.report(range(n), part.astype(str).tolist())
            assert verdict.p_drift == pytest.approx(report.p_drift, abs=1e-4)
            assert (verdict.change_point, verdict.alarm) == (report.change_point, report.alarm)
        stored = [state.to_bytes("b1") for _, state in followed]
        sizes.append(len(stored[0] or b""))
    assert sizes[-1] == max(sizes) == 12 + 8 * 30


def test_a_state_of_another_history_is_not_gone_on_from(detector: DriftDetector) -> None:
    history = spliced(40, 30)
    (_, before), (whole, _) = detector.follow([history[:60], history], [None, None])
    late = np.insert(history, 30, ITEMS - 1)
    assert before.rest_of(late, 120) is None
    (found, _), (expected, _) = detector.follow([late, late], [before, None])
    assert found == expected != whole


def test_the_events_after_a_state_are_counted() -> None:
    state = DriftState(np.array([1, 2, 3]), np.zeros(3))
    assert state.rest_of(np.array([1, 2, 3]), 120) == 0
    assert state.rest_of(np.array([1, 2, 3, 4, 3]), 120) == 2
    assert state.rest_of(np.array([0, 1, 2, 3]), 120) is None  # an older event came late
    assert state.rest_of(np.array([1, 2]), 120) is None
    assert state.rest_of(np.array([9, 1, 2, 3, 4]), 3) == 1  # a full window: what is before it may be
    assert state.rest_of(np.array([1, 2, 3, 4, 5, 6]), 3) is None  # a window away: as well read anew
    stored = state.to_bytes("b1")
    assert DriftState.from_bytes(b"\xff\xff" + stored[2:], "b1") is None  # another version's
    assert DriftState.from_bytes(stored, "b2") is None
    again = DriftState.from_bytes(stored, "b1")
    assert again is not None
    assert again.items_K.tolist() == [1, 2, 3]


def test_each_event_is_judged_without_those_after_it(detector: DriftDetector) -> None:
    history = spliced()
    whole, part = detector.scan([history, history[:55]])
    np.testing.assert_allclose(whole.p_drift[:55], part.p_drift, atol=1e-5)
    np.testing.assert_allclose(whole.statistic[:55], part.statistic, atol=1e-4)
    np.testing.assert_array_equal(whole.change_points[:55], part.change_points)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_short_histories_are_low_and_finite(detector: DriftDetector, n: int) -> None:
    scan = detector.scan([np.arange(n)])[0]
    assert scan.p_drift.shape == scan.statistic.shape == scan.posterior.shape == (n,)
    assert np.isfinite(scan.statistic).all()
    assert (scan.p_drift < 0.5).all()
    assert not scan.alarm


def test_a_constant_stream_is_finite(detector: DriftDetector) -> None:
    scan = detector.scan([np.full(60, 5)])[0]
    assert np.isfinite(scan.p_drift).all()
    assert np.isfinite(scan.statistic).all()


def test_the_posterior_adds_up_and_agrees_with_p_drift(detector: DriftDetector) -> None:
    scan = detector.scan([spliced()])[0]
    assert scan.posterior.sum() == pytest.approx(1)
    assert scan.posterior[-CONFIG.recent_events :].sum() == pytest.approx(scan.p_drift[-1])


def test_only_the_window_is_read(detector: DriftDetector) -> None:
    long = np.random.default_rng(0).permutation(ITEMS)[:200]
    scan = detector.scan([long])[0]
    assert scan.p_drift.shape == scan.posterior.shape == (200,)
    np.testing.assert_array_equal(scan.statistic[:80], 0)
    assert scan.change_points[-1] > 80


def test_report_places_unknown_items(detector: DriftDetector) -> None:
    history = spliced(40, 30)
    names = ["?", *map(str, history[:50]), "??", *map(str, history[50:])]
    kept = [*range(1, 51), *range(52, 72)]
    scan = detector.scan([history])[0]
    report = scan.report(kept, names)
    assert report.unknown_items == ["?", "??"]
    assert report.p_drift == scan.p_drift[-1]
    assert len(report.statistic) == len(report.p_drift_by_event) == len(names)
    assert (report.p_drift_by_event[0], report.p_drift_by_event[51]) == (0, scan.p_drift[49])
    assert report.change_point == kept[scan.change_points[-1]]
    nothing = detector.scan([np.empty(0, dtype=np.int64)])[0].report([], ["?"])
    assert (nothing.p_drift, nothing.change_point, nothing.alarm) == (0, None, False)


def test_stream_auroc_of_far_splices(detector: DriftDetector) -> None:
    names = [str(item) for item in range(ITEMS)]

    def drift_batch(histories):  # type: ignore[no-untyped-def]
        scans = detector.scan([np.array([int(item) for item in history]) for history in histories])
        return [scan.report(range(len(h)), h) for scan, h in zip(scans, histories, strict=True)]

    figures = check_drift(
        drift_batch,
        names,
        {user: History(items) for user, items in users(24, seed=4).items()},
        TasteDistance(np.eye(2)[np.arange(ITEMS) // ITEMS_PER_TASTE], np.ones(ITEMS, dtype=np.int64)),
        detector.calibration.shuffled,
        splices=60,
        seed=0,
    )
    far = figures["far B"]
    assert far.auroc[20].mean > 0.85
    assert far.auroc[20].low <= far.auroc[20].mean <= far.auroc[20].high
    assert far.detected[10] <= far.detected[20] <= far.detected[40]
    assert figures["random B"].auroc[20].mean < far.auroc[20].mean  # half of them are of the same taste


def test_delay_counts_from_the_change() -> None:
    stream = Stream("s", np.arange(60), "a", "b", 20, None, "X", 0)
    statistic = np.zeros(60)
    assert delay(stream, statistic, 5.0) == float("inf")
    statistic[24] = 6
    assert delay(stream, statistic, 5.0) == 5
    statistic[14] = 6  # inside the warm-up: not counted
    assert delay(stream, statistic, 5.0) == 5
    statistic[17] = 6  # a false alarm before the change
    assert delay(stream, statistic, 5.0) == -2  # event 17 instead of 20


def test_surprise_is_that_of_the_whole_window_and_unknown_items_have_none(detector: DriftDetector) -> None:
    history = spliced(40, 30)
    scan = detector.scan([history])[0]
    reader = detector.reader
    (log_p,) = reader.log_probabilities([history], [len(history)])
    np.testing.assert_allclose(scan.surprise, [-log_p_K[0] for log_p_K in log_p], atol=1e-5)
    assert scan.surprise[40:45].mean() > scan.surprise[35:40].mean()
    kept = [n for n in range(71) if n != 2]
    report = scan.report(kept, [f"i{n}" for n in range(71)])
    assert report.surprise is not None
    assert np.isnan(report.surprise[2])
    np.testing.assert_array_equal(report.surprise[kept], scan.surprise)
    long = detector.scan([np.random.default_rng(0).permutation(ITEMS)[:200]])[0]
    assert np.isnan(long.surprise[:80]).all()  # the window holds 120
    assert np.isfinite(long.surprise[80:]).all()


def test_the_change_point_is_told_after_every_event(detector: DriftDetector) -> None:
    history = spliced(40, 30)
    report = detector.scan([history])[0].report(range(70), [str(item) for item in history])
    assert report.change_point_by_event is not None
    assert report.change_point_by_event[-1] == report.change_point
    np.testing.assert_array_equal(report.change_point_by_event[report.p_drift_by_event <= 0.5], -1)
    empty = detector.scan([np.empty(0, np.int64)])[0].report([], ["unknown"])
    assert empty.change_point_by_event is not None
    assert empty.change_point_by_event.tolist() == [-1]
