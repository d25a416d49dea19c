"""Figures of the benchmark against numbers worked out by hand."""

import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from driftline.drift.benchmark.figures import Sample, alarm_delays, auroc_fall, detector_figures, probability_figures
from driftline.drift.benchmark.judged import judge_trial
from driftline.drift.benchmark.report import write_report
from driftline.drift.benchmark.resampling import Resamples, estimate, weighted_auroc, weighted_median
from driftline.drift.benchmark.storage import Storage
from driftline.drift.benchmark.trial import Size, Trial
from driftline.drift.benchmark.world import World
from driftline.drift.calibration import with_reach
from driftline.drift.streams import Stream
from driftline.errors import ConfigError
from driftline.ranking.replay import replay
from tests.drift.judges import small_judge
from tests.drift.small_world import small_world

INF = np.inf


def series(length: int, alarm: int | None = None, level: float = 0.0) -> np.ndarray:
    """``level`` everywhere, 9 from event ``alarm`` on."""
    values = np.full(length, level)
    if alarm is not None:
        values[alarm:] = 9.0
    return values


def row(user: str, other: str | None, x: np.ndarray, p: float) -> dict[str, object]:
    return {
        "user": user, "other": other, "kind": "sudden", "severity": None, "label": other is not None, "k": 20,
        "reach": 30, "x": x, "p_drift": np.full(len(x), p), "change_point": np.full(len(x), 22),
    }  # fmt: skip


@pytest.fixture
def sample() -> Sample:
    rows = [
        row("a", "b", series(50, 24), 0.9),  # delay 5
        row("b", "c", series(50, 34), 0.9),  # delay 15
        row("c", "a", series(50), 0.9),  # missed
        row("a", "c", series(50, 17), 0.9),  # a false alarm before the change: no delay
        row("a", None, series(60), 0.1),
        row("b", None, series(60, 29), 0.1),  # after 15 steady events beyond the warm-up
        row("c", None, series(60), 0.1),
    ]
    summary = {"thresholds": {"x": {"200": 5.0, "500": 50.0}}, "prevalence": 0.5}
    return Sample.of(Trial(pd.DataFrame(rows), summary), Resamples(["a", "b", "c"], 50))


def test_detection(sample: Sample) -> None:
    at = detector_figures([sample], "x")["at_arl"]["200"]
    assert at["detected_within_10"].mean == pytest.approx(1 / 3)
    assert at["detected_within_20"].mean == at["detected_within_40"].mean == pytest.approx(2 / 3)
    assert at["median_delay"].mean == 15  # of 5, 15 and infinity
    assert at["achieved_arl"].mean == 45 + 15 + 45
    assert at["false_alarms_per_1000"].mean == pytest.approx(1000 / 105)
    # recall 2/3; one of three steady streams alarms within 20: precision (2/3) / (2/3 + 1/3)
    assert at["f1_20"].mean == pytest.approx(2 / 3)


def test_alarms_as_a_classifier(sample: Sample) -> None:
    alarms = alarm_delays([sample, sample], "x", "200")
    found = alarms.figures()
    # the stream with an alarm before the change is left out, of both seeds
    assert found["drifted"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1-score": 2 / 3, "support": 6})
    assert found["not drifted"]["support"] == 6
    assert found["accuracy"] == pytest.approx(8 / 12)
    assert [line.split()[-1] for line in alarms.report().splitlines() if "avg" in line] == ["12", "12"]


def test_no_alarm_is_an_infinite_run_length(sample: Sample) -> None:
    at = detector_figures([sample], "x")["at_arl"]["500"]
    assert (at["achieved_arl"].mean, at["median_delay"].mean, at["detected_within_40"].mean) == (INF, INF, 0)


def test_stream_auroc_looks_at_the_same_age(sample: Sample) -> None:
    # after event 29 (W = 10): drifted 9 0 0 9, steady 0 9 0: 2 of 4 win against 2 of 3, ties count half
    found = detector_figures([sample], "x")["stream_auroc"]["10"]
    assert found.mean == pytest.approx((2 * (2 + 0.5) + 2 * (2 * 0.5)) / 12)
    assert found.low <= found.mean <= found.high


def test_probability(sample: Sample) -> None:
    found = probability_figures([sample])
    assert found["half"]["brier"].mean == pytest.approx(0.01)
    assert found["half"]["ece"].mean == pytest.approx(0.1)
    # odds 9 at one half are 9 / 49 at 2 %; odds 1/9 are 1 / 441
    p, q = 9 / 58, 1 / 442
    assert found["rare"]["ece"].mean == pytest.approx(0.02 * (1 - p) + 0.98 * q)


def test_weighted_auroc_and_median() -> None:
    weights = np.array([[1.0, 1.0], [3.0, 0.0]])
    np.testing.assert_allclose(weighted_auroc(weights, weights, np.array([2.0, 0.0]), np.array([1.0, 1.0])), [0.5, 1])
    np.testing.assert_allclose(weighted_median(weights, np.array([INF, 4.0])), [4, INF])


def test_estimate_over_seeds() -> None:
    found = estimate([np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 5.0])])
    assert (found.mean, found.standard_error, found.low, found.high) == (2, 1, 3, 4)


def test_resamples_multiply_the_users_of_a_row() -> None:
    resamples = Resamples(["a", "b"], 20)
    (one_R, other_R, both_R) = resamples.weights([("a",), ("b",), ("a", "b")]).T
    np.testing.assert_array_equal(one_R * other_R, both_R)
    np.testing.assert_array_equal((one_R + other_R)[1:], 2)


def test_reach_is_that_of_the_shorter_stream_of_a_pair() -> None:
    pair = [Stream(str(n), np.arange(n), "a", "b", 20, None, "X", 0) for n in (47, 60)]
    assert [reach for _, reach in with_reach(pair)] == [27, 27]


@pytest.fixture(scope="module")
def world() -> World:
    return small_world()


def test_a_benchmark_from_training_to_the_report(world: World, tiny_folder: Path, tmp_path: Path) -> None:
    storage, size = Storage(tmp_path), Size(pairs=6, fit_pairs=6, steady_per_user=1)
    storage.claim("bundle", size)
    storage.claim("bundle", size)
    with pytest.raises(ConfigError, match="holds trials of .*'pairs': 6.* give another --out"):
        storage.claim("bundle", Size(pairs=7))
    assert not storage.trained(0)
    storage.train(world, 0)
    for track in ("X", "G"):
        assert not storage.finished(track, 0)
        storage.run(world, track, 0, size)  # type: ignore[arg-type]
        assert storage.finished(track, 0)
    assert storage.replayed("G", 0)  # it has none
    assert not storage.replayed("X", 0)
    trial = storage.trial("X", 0)
    assert set(trial.rows["kind"]) == {"sudden", "gradual", "noise 5%", "noise 10%", "noise 20%"}
    assert trial.rows["oracle CUSUM"].notna().sum() == 12
    storage.keep_replay(replay(world, storage.model(world, 0), trial))
    assert storage.replayed("X", 0)
    replays = {"X": [storage.replay("X", 0)]}
    judge = small_judge(tiny_folder, [chr(97 + number % 26) * 9 for number in range(len(world.popularity_N))])
    storage.keep_opinions(judge_trial(world, storage.model(world, 0), judge, trial, fit_pairs=20))
    assert storage.judged("X", 0)
    opinions = storage.opinions("X", 0)
    # an opinion on every alarm of which the classifier says where the change was
    asked = opinions.rows["alarm judge"].notna()
    assert opinions.summary["alarms"] == asked.sum() <= (opinions.rows["alarm"] >= 0).sum()
    trials = {"X": [trial], "G": [storage.trial("G", 0)]}
    assert not storage.whole("X", 1, judged=False)
    assert storage.whole("X", 0, judged=True)
    report = write_report(trials, replays, tmp_path, {"seed": 0}, {"X": [opinions]})
    wanted = {bar.what for bar in report.bars}
    assert {"stream AUROC, W=20", "achieved ARL", "ECE of P(drift)"} <= wanted
    assert "track X, lists: gain in NDCG@10, drifted less undrifted" in wanted
    half = Sample.of(trial, Resamples(sorted(world.histories["test"]), 2), "noise 10%")
    whole = Sample.of(trial, Resamples(sorted(world.histories["test"]), 2))
    assert whole.only(half.stream_ids).stream_ids == half.stream_ids != whole.stream_ids
    assert auroc_fall([whole], [whole], "fused")["20"].mean == 0
    tracks = json.loads((tmp_path / "benchmark.json").read_text())["tracks"]
    assert "oracle CUSUM" in tracks["X"]["detectors"]
    assert "oracle CUSUM" not in tracks["G"]["detectors"]
    assert set(tracks["X"]["downstream"]["gain"]["HR@10"]["random alarms"]["1-5"]) == {
        "drifted", "undrifted", "difference"
    }  # fmt: skip
    streams = pd.read_parquet(tmp_path / "streams.parquet")
    drifted = streams[(streams["track"] == "X") & (streams["kind"] == "sudden") & streams["label"]]
    assert drifted["stream_id"].nunique() == 6
    assert not streams.loc[streams["t"] <= 15, "alarm"].any()
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png") == 6 + 4
    (said,) = report.of_the_judge()
    assert said.startswith("track X: The judge changes the classifier's pair AUROC at W=20 by ")
    assert said.removeprefix("track X: ").split("; ")[0] in html.unescape(page)
    assert tracks["X"]["judge"]["pair_auroc"]["judge"]["20"]["mean"] is not None
