"""One seed of one track: calibrate every detector on validation users, then scan the streams of test users.

Shape legend: T events of a stream, F features, P labelled positions, D detectors.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.special import expit

from driftline.drift.benchmark.splits import FUSED_SPLIT, SPLIT_NAMES, SplitClassifier, pair_statistics
from driftline.drift.benchmark.world import World
from driftline.drift.calibration import fit_log_odds, labelled_positions, threshold_for, with_reach
from driftline.drift.detectors.contract import Detector, Statistic
from driftline.drift.detectors.fused import Fused
from driftline.drift.detectors.roster import own_statistics, river_statistics
from driftline.drift.evidence import weigh
from driftline.drift.reading import Reader, Reading
from driftline.drift.restart import FloatArray
from driftline.drift.streams import Recipe, Stream, Track, draw_steady, draw_streams, with_noise
from driftline.models.recommender import Recommender

AGES = (10, 20, 40)
"""W: events since the change point."""
RUN_LENGTHS = (200, 500)
NOISE_SHARES = (0.05, 0.1, 0.2)
RAMP_EVENTS = 20
ORACLE = "oracle CUSUM"
CLIP_NATS = 1e3
"""Infinite statistics (nothing can have changed yet) are stored as this many nats."""


@dataclass(frozen=True)
class Size:
    """How many streams a trial has."""

    pairs: int = 200
    """Of a drifted and an undrifted stream of a test user; half as many for each variant (gradual, noise)."""
    fit_pairs: int = 250
    """Of calibration users, behind P(drift) and the pair classifier."""
    steady_per_user: int = 4
    """Undrifted streams of every calibration user, behind the thresholds."""


@dataclass(frozen=True)
class Trial:
    """What one seed of one track leaves."""

    rows: pd.DataFrame
    """One per stream: what it is, its items, every detector's series (by its name), and the pair statistics."""
    summary: dict[str, Any]

    def save(self, stem: Path) -> None:
        """Write ``stem``.parquet, then ``stem``.json: a trial whose JSON is there is whole."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        self.rows.to_parquet(stem.with_suffix(".parquet"))
        part = stem.with_suffix(".part")
        part.write_text(json.dumps(self.summary, indent=1))
        part.rename(stem.with_suffix(".json"))

    @classmethod
    def load(cls, stem: Path) -> "Trial":
        """Read what :meth:`save` wrote."""
        return cls(pd.read_parquet(stem.with_suffix(".parquet")), json.loads(stem.with_suffix(".json").read_text()))


@dataclass(frozen=True)
class Scanner:
    """Reads streams and scans them with every statistic."""

    reader: Reader
    statistics: Sequence[Statistic]

    def __call__(self, stream: Stream) -> tuple[Reading, dict[str, FloatArray]]:
        """The reading, and the statistic after every event by detector."""
        reading = read(self.reader, stream)
        usable = [s for s in self.statistics if s.name != ORACLE or "oracle" in reading.signals]
        return reading, {s.name: s.series(reading).clip(-CLIP_NATS, CLIP_NATS) for s in usable}


def read(reader: Reader, stream: Stream) -> Reading:
    """A reading, with what the oracle knows; on track G it knows nothing, for there is no B."""
    reading = reader.read(stream.items)
    if stream.other_before is None:
        return reading
    k = stream.change_point
    return reader.with_oracle(reading, k, stream.items[:k], stream.other_before)


def run_trial(
    world: World,
    model: Recommender,
    track: Track,
    seed: int,
    size: Size,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Trial:
    """Calibrate on calibration users and scan test users.

    Parameters
    ----------
    world, model
        The data, and the encoder trained on its training users.
    tell
        Hears how many streams of how many are done.
    """
    recipe = Recipe(track)
    reader = world.reader(model, world.verifier(track, seed))
    scanner = Scanner(reader, [*own_statistics(world.config.drift), *river_statistics()])
    calibration_users, test_users = world.histories["calibration"], world.histories["test"]
    fit = draw_streams(calibration_users, world.taste, recipe, size.fit_pairs, seed + 1000)
    steady = draw_steady(calibration_users, world.taste, recipe, size.steady_per_user, seed + 2000)
    test = draw_streams(test_users, world.taste, recipe, size.pairs, seed)
    variants = list(_variants(world, track, seed, size, test))
    total, done = len(fit) + len(steady) + len(test) + len(variants), 0

    def step() -> None:
        nonlocal done
        done += 1
        tell(done, total)

    fused, splits = _fit(world, scanner, fit, seed, step)
    thresholds = _thresholds(scanner, fused, steady, step)
    rows = []
    for stream, reach in with_reach(test):
        reading, series = scanner(stream)
        series[fused.name] = fused.series(reading)
        rows.append(
            _row(stream, seed, "sudden", reach)
            | _series(series, reading, fused)
            | _splits(reading, reach, stream, splits)
        )
        step()
    for kind, stream, reach in variants:
        reading = scanner.reader.read(stream.items)
        rows.append(_row(stream, seed, kind, reach) | _series({fused.name: fused.series(reading)}, reading, fused))
        step()
    summary = {
        "track": track,
        "seed": seed,
        "detectors": [fused.name, *(s.name for s in scanner.statistics if track != "G" or s.name != ORACLE)],
        "thresholds": thresholds,
        "prevalence": fused.classifier.prevalence,
        "weights": dict(zip(fused.classifier.features, fused.classifier.weights, strict=True)),
        "steady_streams": len(steady),
        "state_bytes": _state_bytes([fused, *scanner.statistics], read(scanner.reader, test[0])),
        "speed": speed(scanner.reader, fused, [stream.items for stream in test[:40]]),
    }
    return Trial(pa.Table.from_pylist(rows).to_pandas(), summary)


def _variants(
    world: World, track: Track, seed: int, size: Size, test: Sequence[Stream]
) -> Iterator[tuple[str, Stream, int]]:
    """Kind, stream, and the age up to which both streams of its pair reach."""
    half = size.pairs // 2
    if track != "G":
        gradual = Recipe(track, ramp_events=RAMP_EVENTS)
        streams = draw_streams(world.histories["test"], world.taste, gradual, half, seed + 3000)
        yield from (("gradual", stream, reach) for stream, reach in with_reach(streams))
    if track == "X":
        rng = np.random.default_rng([seed, 4000])
        for share in NOISE_SHARES:
            noisy = [with_noise(stream, share, len(world.popularity_N), rng) for stream in test[: 2 * half]]
            yield from ((f"noise {share:.0%}", stream, reach) for stream, reach in with_reach(noisy))


def _fit(
    world: World,
    scanner: Scanner,
    streams: Sequence[Stream],
    seed: int,
    step: Callable[[], None],
) -> tuple[Fused, dict[int, SplitClassifier]]:
    """P(drift), and the classifier of given splits, on pairs of calibration users' streams."""
    rng = np.random.default_rng([seed, 1])
    features: list[FloatArray] = []
    labels: list[bool] = []
    weights: list[float] = []
    split_rows: dict[int, list[FloatArray]] = {age: [] for age in AGES}
    for stream, reach in with_reach(streams):
        reading = scanner.reader.read(stream.items)
        positions, drifted, counted = labelled_positions(stream, rng, reach)
        features.append(weigh(reading, world.config.drift).features_TF[positions])
        labels += drifted
        weights += counted
        for age, rows in split_rows.items():
            rows.append(pair_statistics(reading, stream.change_point, min(age, reach)))
        step()
    log_odds = fit_log_odds(np.concatenate(features), np.array(labels), np.array(weights))
    drifted_streams = [stream.drifted for stream in streams]
    splits = {age: SplitClassifier(np.stack(rows), drifted_streams) for age, rows in split_rows.items()}
    return Fused(log_odds, world.config.drift), splits


def _thresholds(
    scanner: Scanner, fused: Fused, steady: Sequence[Stream], step: Callable[[], None]
) -> dict[str, dict[str, float]]:
    """By detector and run length; the oracle's against a random other user."""
    runs: dict[str, list[FloatArray]] = {}
    for stream in steady:
        reading, series = scanner(stream)
        for name, statistic_T in {fused.name: fused.series(reading), **series}.items():
            runs.setdefault(name, []).append(statistic_T)
        step()
    return {name: {str(arl): threshold_for(own, arl) for arl in RUN_LENGTHS} for name, own in runs.items()}


def _row(stream: Stream, seed: int, kind: str, reach: int) -> dict[str, Any]:
    return {
        "stream_id": stream.stream_id,
        "user": stream.user,
        "other": stream.other,
        "track": stream.track,
        "kind": kind,
        "severity": stream.severity,
        "seed": seed,
        "label": stream.drifted,
        "k": stream.change_point,
        "reach": reach,
        "items": stream.items,
    }


def _series(series: dict[str, FloatArray], reading: Reading, fused: Fused) -> dict[str, Any]:
    stored: dict[str, Any] = {name: statistic_T.astype(np.float32) for name, statistic_T in series.items()}
    stored["p_drift"] = expit(series[fused.name]).astype(np.float32)
    stored["change_point"] = weigh(reading, fused.config).change_point_T
    return stored


def _splits(reading: Reading, reach: int, stream: Stream, splits: dict[int, SplitClassifier]) -> dict[str, float]:
    found: dict[str, float] = {}
    for age, classify in splits.items():
        statistic_F = pair_statistics(reading, stream.change_point, min(age, reach))
        found |= {f"split {name} {age}": float(v) for name, v in zip(SPLIT_NAMES, statistic_F, strict=True)}
        found[f"split {FUSED_SPLIT} {age}"] = classify(statistic_F)
    return found


def _state_bytes(statistics: Sequence[Statistic], reading: Reading) -> dict[str, int]:
    """Of a detector that has read a whole stream."""
    sizes = {}
    for statistic in statistics:
        if statistic.name == ORACLE and "oracle" not in reading.signals:
            continue
        detector = Detector(statistic, np.inf)
        for event in reading.events():
            detector.update(event)
        sizes[statistic.name] = len(detector.state)
    return sizes


def speed(reader: Reader, fused: Fused, histories: Sequence[NDArray[np.int64]]) -> dict[str, float]:
    """Events per second of CPU time on one thread: the whole scan; and river's ADWIN, whose signal is there already."""
    from river.drift import ADWIN

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.process_time()
    readings = reader.read_all(histories)
    for reading in readings:
        fused.series(reading)
    scan_s = time.process_time() - began
    torch.set_num_threads(threads)
    began = time.process_time()
    for reading in readings:
        test = ADWIN(clock=1)
        for value in reading.signal("lift").tolist():
            test.update(value)
    adwin_s = time.process_time() - began
    events = sum(map(len, readings))
    return {
        "scan_events_per_s": events / scan_s,
        "adwin_events_per_s": events / adwin_s,
        "ratio_to_adwin": scan_s / adwin_s,
    }
