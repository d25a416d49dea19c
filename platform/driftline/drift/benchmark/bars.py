"""What a good detector has to reach, and how far this run is from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driftline.drift.benchmark.downstream import ALL_AGES, LABELS, MIXTURE
from driftline.drift.benchmark.figures import Sample, detection_ratio
from driftline.drift.benchmark.resampling import Estimate, Resamples
from driftline.drift.benchmark.splits import FUSED_SPLIT
from driftline.drift.benchmark.trial import ORACLE, Trial

FUSED = "fused"
RIVER = ("ADWIN", "KSWIN", "Page-Hinkley")
NOISE = "noise 10%"


@dataclass(frozen=True)
class Bar:
    """One requirement."""

    what: str
    wanted: str
    value: float
    reached: bool
    error: float = float("nan")
    """Between seeds."""
    oracle: float = float("nan")
    """What the oracle has, where it has one."""


def bars(figures: Mapping[str, Any], trials: Mapping[str, Sequence[Trial]]) -> list[Bar]:
    """Requirements of the tracks that were run."""
    found: list[Bar] = []
    if "X" in figures:
        found += _track_x(figures["X"], trials["X"])
    if "N" in figures:
        found.append(_at_least("track N: pair AUROC, W=20", 0.74, figures["N"]["split_auroc"][FUSED_SPLIT]["20"]))
    for track, of_track in figures.items():
        if "downstream" in of_track:
            found += _downstream(f"track {track}, lists: ", of_track["downstream"])
    return found


def _track_x(figures: Mapping[str, Any], trials: Sequence[Trial]) -> list[Bar]:
    fused, oracle = figures["detectors"][FUSED], figures["detectors"][ORACLE]
    split = figures["split_auroc"][FUSED_SPLIT]
    stream, ideal = fused["stream_auroc"], oracle["stream_auroc"]
    at_200, ideal_200 = fused["at_arl"]["200"], oracle["at_arl"]["200"]
    found = [
        _at_least("pair AUROC, W=20", 0.90, split["20"]),
        _at_least("pair AUROC, W=40", 0.93, split["40"]),
        _at_least("stream AUROC, W=20", 0.85, stream["20"], ideal["20"]),
        _at_least("stream AUROC, W=40", 0.88, stream["40"], ideal["40"]),
        _at_least("stream AUROC, W=40, far B", 0.95, figures["severity"]["far"]["stream_auroc"]["40"]),
        _at_least("within 20 events at ARL 200", 0.64, at_200["detected_within_20"], ideal_200["detected_within_20"]),
        _at_least("within 40 events at ARL 200", 0.80, at_200["detected_within_40"], ideal_200["detected_within_40"]),
        _at_most("median delay at ARL 200, events", 12, at_200["median_delay"], ideal_200["median_delay"]),
    ]
    arl: Estimate = at_200["achieved_arl"]
    within = arl.low <= 200 <= arl.high
    interval = f"200 inside {arl.low:.0f}-{arl.high:.0f}"
    found.append(Bar("achieved ARL", interval, arl.mean, within, arl.standard_error))
    best, ratio = against_river(figures, trials)
    found.append(_at_least(f"detected within 20 over {best}, the best of river", 2, ratio))
    found.append(_at_most("ECE of P(drift)", 0.05, figures["probability"]["half"]["ece"]))
    found.append(_at_most("change-point error, median events", 5, figures["change_point_error"]))
    if NOISE in figures["variants"]:
        fall: Estimate = figures["variants"][NOISE]["auroc_fall"]["20"]
        found.append(_at_most("fall of stream AUROC, W=20, with 10 % noise", 0.05, fall))
    size = figures["state_bytes"][FUSED] + 4 * 120  # and the item ids of the window
    found.append(Bar("state and item ids, bytes", "<= 2048", size, size <= 2048))
    speeds = [speed["scan_events_per_s"] for speed in figures["speed"]]
    speed = sum(speeds) / len(speeds)
    found.append(Bar("events per second and core", ">= 5000", speed, speed >= 5000))
    return found


def _downstream(lists: str, figures: Mapping[str, Any]) -> list[Bar]:
    """What the mixture policy has to be worth, and may cost."""
    acted: list[Estimate] = [figures["acted_per_1000"][label] for label in LABELS]
    ndcg = figures["gain"]["NDCG@10"][MIXTURE][ALL_AGES]
    harm: Estimate = ndcg["undrifted"]
    far: Estimate = figures["gain_by_severity"]["far"]["HR@10"][MIXTURE]["1-5"]["drifted"]
    rate = "acted on, per 1,000 drifted events"
    return [
        Bar(lists + rate, "> 0", acted[0].mean, acted[0].mean > 0, acted[0].standard_error),
        _at_least(lists + "gain in NDCG@10, drifted less undrifted", 0, ndcg["difference"]),
        Bar(lists + "gain in NDCG@10, undrifted, lower end", ">= -0.0015", harm.low, harm.low >= -0.0015),
        Bar(lists + f"gain in HR@10, far B, events 1-5 {_interval(far)}", "> 0", far.mean, far.mean > 0,
            far.standard_error),
    ]  # fmt: skip


def _interval(value: Estimate) -> str:
    return f"[{value.low:.4f}, {value.high:.4f}]"


def against_river(figures: Mapping[str, Any], trials: Sequence[Trial]) -> tuple[str, Estimate]:
    """The river detector that finds most within 20 events at ARL 200, and how many times as many are found here."""
    names = [name for name in figures["detectors"] if name.startswith(RIVER)]
    best = max(names, key=lambda name: figures["detectors"][name]["at_arl"]["200"]["detected_within_20"].mean)
    users = {str(user) for trial in trials for column in ("user", "other") for user in trial.rows[column].dropna()}
    resamples = Resamples(sorted(users), 300)
    return best, detection_ratio([Sample.of(trial, resamples) for trial in trials], FUSED, best)


def _at_least(what: str, wanted: float, value: Estimate, oracle: Estimate | None = None) -> Bar:
    ceiling = float("nan") if oracle is None else oracle.mean
    return Bar(what, f">= {wanted:g}", value.mean, value.mean >= wanted, value.standard_error, ceiling)


def _at_most(what: str, wanted: float, value: Estimate, oracle: Estimate | None = None) -> Bar:
    ceiling = float("nan") if oracle is None else oracle.mean
    return Bar(what, f"<= {wanted:g}", value.mean, value.mean <= wanted, value.standard_error, ceiling)
