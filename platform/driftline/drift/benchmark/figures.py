"""Every figure of the benchmark, from the rows that trials leave.

Shape legend: R resamples, P drifted streams, Q undrifted ones, T events.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from driftline.drift.benchmark.resampling import (
    Estimate,
    Resamples,
    estimate,
    weighted_auroc,
    weighted_mean,
    weighted_median,
)
from driftline.drift.benchmark.splits import FUSED_SPLIT, SPLIT_NAMES
from driftline.drift.benchmark.trial import AGES, RUN_LENGTHS, Trial
from driftline.drift.calibration import at_prior
from driftline.drift.classification import WITHIN_EVENTS, AlarmDelays
from driftline.drift.detectors.contract import WARM_UP_EVENTS
from driftline.drift.restart import FloatArray
from driftline.drift.streams import SEVERITIES

RESAMPLES = 300
RARE = 0.02
"""The prevalence that P(drift) is restated for, beside the benchmark's own of one half."""
BINS = 10
BELIEVED_ABOVE = 0.5


@dataclass(frozen=True)
class Sample:
    """Rows of one seed of one track, with the weights of every resample."""

    drifted: pd.DataFrame
    steady: pd.DataFrame
    weights_RP: FloatArray
    weights_RQ: FloatArray
    thresholds: Mapping[str, Mapping[str, float]]
    prevalence: float

    @classmethod
    def of(cls, trial: Trial, resamples: Resamples, kind: str = "sudden", severity: str | None = None) -> "Sample":
        """One kind of change; ``severity`` keeps the pairs whose B is of one tercile."""
        rows = trial.rows[trial.rows["kind"] == kind]
        label = rows["label"].to_numpy(dtype=bool)
        drifted, steady = rows[label].reset_index(drop=True), rows[~label].reset_index(drop=True)
        if severity is not None:
            kept = (drifted["severity"] == severity).to_numpy()
            drifted, steady = drifted[kept].reset_index(drop=True), steady[kept].reset_index(drop=True)
        weights_RP = resamples.weights(list(zip(drifted["user"], drifted["other"], strict=True)))
        weights_RQ = resamples.weights([(user,) for user in steady["user"]])
        return cls(drifted, steady, weights_RP, weights_RQ, trial.summary["thresholds"], trial.summary["prevalence"])

    @property
    def stream_ids(self) -> set[str]:
        """Of all streams."""
        return {*self.drifted["stream_id"], *self.steady["stream_id"]}

    def only(self, stream_ids: Collection[str]) -> "Sample":
        """Some of the streams."""
        sides = []
        for rows, weights in ((self.drifted, self.weights_RP), (self.steady, self.weights_RQ)):
            kept = rows["stream_id"].isin(stream_ids).to_numpy()
            sides.append((rows[kept].reset_index(drop=True), weights[:, kept]))
        (drifted, weights_RP), (steady, weights_RQ) = sides
        return Sample(drifted, steady, weights_RP, weights_RQ, self.thresholds, self.prevalence)

    def values_at(self, name: str, age: int) -> tuple[FloatArray, FloatArray]:
        """A series after the W-th event past the change, or as many as both streams of a pair have."""
        found = []
        for rows in (self.drifted, self.steady):
            last = rows["k"] + rows["reach"].clip(upper=age) - 1
            found.append(np.array([series[t] for series, t in zip(rows[name], last, strict=True)], dtype=np.float64))
        return found[0], found[1]

    def delays(self, name: str, threshold: float) -> tuple[FloatArray, FloatArray]:
        """Events from the change to the first alarm, of drifted and of steady streams (at the same position).

        Infinite without an alarm; 0 or less where the alarm came before the change, and nothing after it counts.
        """
        return _delays(self.drifted, name, threshold), _delays(self.steady, name, threshold)


def alarm_delays(samples: Sequence[Sample], name: str, arl: str) -> AlarmDelays:
    """Of all streams of all seeds, each counted once."""
    drifted, steady = zip(*(sample.delays(name, sample.thresholds[name][arl]) for sample in samples), strict=True)
    return AlarmDelays(np.concatenate(drifted), np.concatenate(steady))


def _delays(rows: pd.DataFrame, name: str, threshold: float) -> FloatArray:
    delays = np.full(len(rows), np.inf)
    for number, (series, k) in enumerate(zip(rows[name], rows["k"], strict=True)):
        crossed = np.flatnonzero(np.asarray(series)[WARM_UP_EVENTS:] >= threshold)
        if len(crossed):
            delays[number] = crossed[0] + WARM_UP_EVENTS - k + 1
    return delays


def track_figures(trials: Sequence[Trial]) -> dict[str, Any]:
    """All figures of one track, of all its seeds."""
    users = {str(user) for trial in trials for column in ("user", "other") for user in trial.rows[column].dropna()}
    resamples = Resamples(sorted(users), RESAMPLES)
    samples = [Sample.of(trial, resamples) for trial in trials]
    names = trials[0].summary["detectors"]
    figures: dict[str, Any] = {
        "seeds": [trial.summary["seed"] for trial in trials],
        "streams": sum(len(sample.drifted) + len(sample.steady) for sample in samples),
        "split_auroc": {name: _split_auroc(samples, name) for name in (FUSED_SPLIT, *SPLIT_NAMES)},
        "detectors": {name: detector_figures(samples, name) for name in names},
        "severity": {},
        "classification": {str(arl): alarm_delays(samples, names[0], str(arl)).figures() for arl in RUN_LENGTHS},
        "probability": probability_figures(samples),
        "change_point_error": _over(samples, _change_point_error),
        "state_bytes": trials[0].summary["state_bytes"],
        "speed": [trial.summary["speed"] for trial in trials],
    }
    if samples[0].drifted["severity"].notna().any():
        for severity in SEVERITIES:
            parts = [Sample.of(trial, resamples, "sudden", severity) for trial in trials]
            figures["severity"][severity] = detector_figures(parts, names[0])
    kinds = [kind for kind in trials[0].rows["kind"].unique() if kind != "sudden"]
    figures["variants"] = {}
    for kind in kinds:
        changed = [Sample.of(trial, resamples, kind) for trial in trials]
        figures["variants"][kind] = detector_figures(changed, names[0])
        if kind.startswith("noise"):
            figures["variants"][kind]["auroc_fall"] = auroc_fall(samples, changed, names[0])
    return figures


def detector_figures(samples: Sequence[Sample], name: str) -> dict[str, Any]:
    """Stream AUROC, and detection at each calibrated run length."""
    return {
        "stream_auroc": {str(age): _over(samples, _stream_auroc, name, age) for age in AGES},
        "at_arl": {str(arl): _at_run_length(samples, name, str(arl)) for arl in RUN_LENGTHS},
    }


def auroc_fall(clean: Sequence[Sample], noisy: Sequence[Sample], name: str) -> dict[str, Estimate]:
    """By how much stream AUROC is higher on the same streams without noise."""

    def fall(pair: tuple[Sample, Sample], age: int) -> FloatArray:
        return _stream_auroc(pair[0], name, age) - _stream_auroc(pair[1], name, age)

    pairs = [(whole.only(some.stream_ids), some) for whole, some in zip(clean, noisy, strict=True)]
    return {str(age): estimate([fall(pair, age) for pair in pairs]) for age in AGES}


def _at_run_length(samples: Sequence[Sample], name: str, arl: str) -> dict[str, Estimate]:
    found = {f"detected_within_{age}": _over(samples, _detected, name, arl, age) for age in AGES}
    return {
        **found,
        "median_delay": _over(samples, _median_delay, name, arl),
        "f1_20": _over(samples, _f1, name, arl),
        "achieved_arl": _over(samples, _achieved_arl, name, arl),
        "false_alarms_per_1000": _over(samples, lambda sample: 1000 / _achieved_arl(sample, name, arl)),
    }


def detection_ratio(samples: Sequence[Sample], first: str, second: str, arl: str = "200", age: int = 20) -> Estimate:
    """How many times as many changes ``first`` detects as ``second``, on the same streams."""
    return _over(samples, lambda sample: _detected(sample, first, arl, age) / _detected(sample, second, arl, age))


def _over(samples: Sequence[Sample], figure: Callable[..., FloatArray], *arguments: Any) -> Estimate:
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate([figure(sample, *arguments) for sample in samples])


def _stream_auroc(sample: Sample, name: str, age: int) -> FloatArray:
    drifted_P, steady_Q = sample.values_at(name, age)
    return weighted_auroc(sample.weights_RP, sample.weights_RQ, drifted_P, steady_Q)


def _split_auroc(samples: Sequence[Sample], name: str) -> dict[str, Estimate]:
    def auroc(sample: Sample, column: str) -> FloatArray:
        values = (rows[column].to_numpy(dtype=np.float64) for rows in (sample.drifted, sample.steady))
        return weighted_auroc(sample.weights_RP, sample.weights_RQ, *values)

    return {str(age): _over(samples, auroc, f"split {name} {age}") for age in AGES}


def _detected(sample: Sample, name: str, arl: str, age: int) -> FloatArray:
    """Share of the drifted streams without an earlier false alarm."""
    delays_P, _ = sample.delays(name, sample.thresholds[name][arl])
    return weighted_mean(sample.weights_RP * (delays_P >= 1), (delays_P <= age).astype(np.float64))


def _median_delay(sample: Sample, name: str, arl: str) -> FloatArray:
    delays_P, _ = sample.delays(name, sample.thresholds[name][arl])
    return weighted_median(sample.weights_RP * (delays_P >= 1), delays_P)


def _achieved_arl(sample: Sample, name: str, arl: str) -> FloatArray:
    """Steady events watched after the warm-up, up to each stream's alarm or end, per alarm."""
    threshold = sample.thresholds[name][arl]
    exposure, alarms = [], []
    for series in sample.steady[name]:
        crossed = np.flatnonzero(np.asarray(series)[WARM_UP_EVENTS:] >= threshold)
        exposure.append(crossed[0] + 1 if len(crossed) else len(series) - WARM_UP_EVENTS)
        alarms.append(bool(len(crossed)))
    weights_RQ = sample.weights_RQ
    alarms_R = weights_RQ @ np.array(alarms, dtype=np.float64)
    exposure_R = weights_RQ @ np.array(exposure, dtype=np.float64)
    achieved_R: FloatArray = np.divide(exposure_R, alarms_R, out=np.full(len(alarms_R), np.inf), where=alarms_R > 0)
    return achieved_R


def _f1(sample: Sample, name: str, arl: str) -> FloatArray:
    """F1 of 'alarm within 20 events past the change', streams with an earlier alarm left out."""
    delays_P, delays_Q = sample.delays(name, sample.thresholds[name][arl])
    weights_RP, weights_RQ = sample.weights_RP * (delays_P >= 1), sample.weights_RQ * (delays_Q >= 1)
    # resampled positives have product weights: both classes are brought to the same total
    hit_R = weighted_mean(weights_RP, (delays_P <= WITHIN_EVENTS).astype(np.float64))
    false_R = weighted_mean(weights_RQ, (delays_Q <= WITHIN_EVENTS).astype(np.float64))
    f1_R: FloatArray = 2 * hit_R / (hit_R + false_R + 1)
    return f1_R


def probability_figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """Brier score and expected calibration error of P(drift), at one half and restated for two in a hundred."""
    found: dict[str, Any] = {}
    for name, prior in (("half", 0.5), ("rare", RARE)):
        found[name] = {
            "prior": prior,
            "brier": _over(samples, _brier, prior),
            "ece": _over(samples, lambda sample, prior=prior: _calibration_error(sample, prior)),
        }
    return found


def probabilities(sample: Sample, prior: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """P(drift), label and weights_RP of all streams at every W; each class has the weight of the prior."""
    p, labels, weights = [], [], []
    for age in AGES:
        for drifted, values in zip((True, False), sample.values_at("p_drift", age), strict=True):
            p.append(at_prior(values, sample.prevalence, prior))
            labels.append(np.full(len(values), drifted))
            own_R = sample.weights_RP if drifted else sample.weights_RQ
            weights.append(own_R / own_R.sum(axis=1, keepdims=True) * (prior if drifted else 1 - prior) / len(AGES))
    return np.concatenate(p), np.concatenate(labels).astype(np.float64), np.concatenate(weights, axis=1)


def _brier(sample: Sample, prior: float) -> FloatArray:
    p, labels, weights_RP = probabilities(sample, prior)
    return weighted_mean(weights_RP, (p - labels) ** 2)


def _calibration_error(sample: Sample, prior: float) -> FloatArray:
    """Mean distance of P(drift) from the share that drifted, over ten bins of equal width."""
    p, labels, weights_RP = probabilities(sample, prior)
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    error_R = np.zeros(len(weights_RP))
    for number in range(BINS):
        inside = place == number
        error_R += np.abs(weights_RP[:, inside] @ (p[inside] - labels[inside]))
    mean_R: FloatArray = error_R / weights_RP.sum(axis=1)
    return mean_R


def _change_point_error(sample: Sample) -> FloatArray:
    """Median over drifted streams that are believed to have drifted at their end."""
    rows = sample.drifted
    believed = np.array([p[-1] > BELIEVED_ABOVE for p in rows["p_drift"]])
    errors = np.array([abs(points[-1] - k) for points, k in zip(rows["change_point"], rows["k"], strict=True)], float)
    return weighted_median(sample.weights_RP * believed, errors)
