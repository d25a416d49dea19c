"""From evidence to a calibrated P(drift) and an alarm threshold, on users that the drift model never saw.

P(drift) is a logistic regression on the evidence features (Platt 1999) over streams with and without a splice; the
alarm threshold gives it the stated average run length (ARL) between false alarms.

There is one of each for shuffled and for natural orders, because steady users differ: in shuffled order labels are
exact and the restart ratio is what theory says it is (ARL 200 needs about log 200 nats); in natural order browsing
alone moves it, the threshold is far higher, and a P(drift) of shuffled histories would run high.

Shape legend: F features, P labelled positions, T events of a stream.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from driftline.config import DriftConfig
from driftline.drift.detectors.contract import WARM_UP_EVENTS
from driftline.drift.evidence import FEATURES, WITHOUT_VERIFIER, weigh
from driftline.drift.reading import Reader
from driftline.drift.restart import FloatArray
from driftline.drift.streams import Recipe, Stream, Track, draw_steady, draw_streams
from driftline.errors import BundleError
from driftline.models.recommender import Recommender
from driftline.sequences.batches import History

PAIRS = 100
STEADY_PER_USER = 4
"""Undrifted streams of every calibration user behind a threshold."""
AGES = (5, 10, 20, 30, 40)
"""Events since the change point at which a stream is labelled 'drifted' or 'not'."""
BEFORE_WEIGHT = 0.5
"""What a position before the change counts for in the fit. It is easily told from drift: at full weight P(drift) runs
high at those after a change point, which are hard."""
INVERSE_PENALTY = 1.0


@dataclass(frozen=True)
class LogOdds:
    """How evidence becomes a probability: a logistic regression on standardised features."""

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    """Per standardised feature."""
    intercept: float
    prevalence: float
    """Weight of drifted positions among those it was fitted on: P(drift) is stated at this prior."""

    def log_odds(self, features_TF: FloatArray) -> FloatArray:
        """Log odds of drift after each event, from the features (of all of ``FEATURES``) that it was fitted on."""
        standard_TF = (features_TF[:, : len(self.features)] - np.array(self.means)) / np.array(self.scales)
        log_odds_T: FloatArray = standard_TF @ np.array(self.weights) + self.intercept
        return log_odds_T

    def p_drift(self, features_TF: FloatArray) -> FloatArray:
        """P(drift) after each event, at the prevalence of the calibration streams."""
        p_T: FloatArray = expit(self.log_odds(features_TF))
        return p_T


@dataclass(frozen=True)
class OrderCalibration(LogOdds):
    """How evidence of histories in one order becomes a probability and an alarm."""

    threshold: float
    """nats of the statistic: one false alarm per ``arl_events`` on steady users. Older bundles alarm by it."""
    p_alarm: float | None = None
    """P(drift) that does the same: alarms are at or above it. None in bundles before format 4, which are older."""

    @property
    def alarms_at(self) -> float:
        """Lowest :meth:`level` that alarms."""
        return self.threshold if self.p_alarm is None else self.p_alarm

    def level(self, statistic_T: FloatArray, p_drift_T: FloatArray) -> FloatArray:
        """What alarms are read from, after each event."""
        return statistic_T if self.p_alarm is None else p_drift_T


@dataclass(frozen=True)
class DriftCalibration:
    """For either order of events, of which ``drift.event_order`` names one; plain numbers."""

    arl_events: int
    natural: OrderCalibration
    shuffled: OrderCalibration
    """Track X of the benchmark."""

    def to_json(self) -> str:
        """Serialise; :meth:`from_json` gives back an equal value."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "DriftCalibration":
        """Read what :meth:`to_json` wrote, in this version or an older one.

        Raises
        ------
        BundleError
            If it was written for other features than this version computes.
        """
        values = json.loads(text)
        if "natural" not in values:  # before format 4: P(drift) of shuffled histories for both, two thresholds
            for order in ("natural", "shuffled"):
                shared = {field.name: values[field.name] for field in fields(LogOdds)}
                values[order] = shared | {"threshold": values[f"threshold_{order}"]}
        return cls(values["arl_events"], *(_order_calibration(values[order]) for order in ("natural", "shuffled")))


def _order_calibration(values: Mapping[str, Any]) -> OrderCalibration:
    read: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    found = OrderCalibration(**read)
    if found.features not in (FEATURES, WITHOUT_VERIFIER):
        raise BundleError(
            f"drift calibration is for features {found.features}, this version has {FEATURES}: train the bundle again"
        )
    return found


def at_prior(p_drift: FloatArray, calibrated: float, wanted: float) -> FloatArray:
    """Restate probabilities that hold at prior ``calibrated`` for the prior ``wanted`` (Saerens et al. 2002)."""
    drifted = p_drift * wanted / calibrated
    steady = (1 - p_drift) * (1 - wanted) / (1 - calibrated)
    return drifted / (drifted + steady)


def calibrate(
    model: Recommender,
    histories: Mapping[str, NDArray[np.int64]],
    config: DriftConfig,
    seed: int,
    pairs: int = PAIRS,
    steady_per_user: int = STEADY_PER_USER,
    verifier_ND: NDArray[np.float32] | None = None,
) -> DriftCalibration:
    """Fit P(drift) and a threshold for either order of events.

    Parameters
    ----------
    model
        The trained drift encoder.
    histories
        Item indices of each calibration user in natural order. None of them may have trained the model.
    config
        Hazard, window, recent events, wanted ARL.
    seed
        Draws the streams.
    pairs
        Of a drifted and an undrifted stream, behind each P(drift).
    steady_per_user
        Undrifted streams of every user, behind each threshold.
    verifier_ND
        The verifier's table; none of the users may have trained it either.

    Raises
    ------
    DataError
        If too few calibration users are long enough.
    """
    reader = Reader(model, config.encoder.window_events, verifier_ND)
    users = {user: History(items) for user, items in histories.items()}

    def calibrated(track: Track) -> OrderCalibration:
        rng = np.random.default_rng([seed, 1])
        rows: list[FloatArray] = []
        labels: list[bool] = []
        weights: list[float] = []
        for stream, reach in with_reach(draw_streams(users, None, Recipe(track), pairs, seed)):
            positions, drifted, counted = labelled_positions(stream, rng, reach)
            rows.append(weigh(reader.read(stream.items), config).features_TF[positions])
            labels += drifted
            weights += counted
        fitted = fit_log_odds(np.concatenate(rows), np.array(labels), np.array(weights))
        steady = draw_steady(users, None, Recipe(track), steady_per_user, seed)
        runs = [weigh(reader.read(stream.items), config) for stream in steady]
        return OrderCalibration(
            **asdict(fitted),
            threshold=threshold_for([run.statistic_T for run in runs], config.arl_events),
            p_alarm=threshold_for([fitted.p_drift(run.features_TF) for run in runs], config.arl_events),
        )

    return DriftCalibration(config.arl_events, natural=calibrated("N"), shuffled=calibrated("X"))


def with_reach(streams: Sequence[Stream]) -> list[tuple[Stream, int]]:
    """Streams of pairs, each with the events after the change point that *both* streams of its pair have.

    A drifted stream is shorter (what B shares with A is left out): compared beyond that, its length would tell.
    """
    shorter = [
        min(len(one.items), len(other.items)) - one.change_point
        for one, other in zip(streams[::2], streams[1::2], strict=True)
    ]
    return [(stream, shorter[number // 2]) for number, stream in enumerate(streams)]


def labelled_positions(
    stream: Stream, rng: np.random.Generator, reach: int
) -> tuple[list[int], list[bool], list[float]]:
    """Events of a stream at which P(drift) is fitted, whether the stream has drifted by then, and what they count for.

    The events ``AGES`` after the change point, at most ``reach`` (of undrifted streams too, so that length alone tells
    nothing), and one random event before it, which is never drifted.
    """
    after = sorted({stream.change_point + min(age, reach) - 1 for age in AGES})
    before = int(rng.integers(stream.change_point))
    return [before, *after], [False] + [stream.drifted] * len(after), [BEFORE_WEIGHT] + [1.0] * len(after)


def fit_log_odds(features_PF: FloatArray, labels_P: NDArray[np.bool_], weights_P: FloatArray) -> LogOdds:
    """Logistic regression on standardised features, in the order of ``FEATURES``."""
    means_F, scales_F = features_PF.mean(axis=0), features_PF.std(axis=0)
    scales_F = np.where(scales_F > 0, scales_F, 1.0)
    standard_PF = (features_PF - means_F) / scales_F
    fitted = LogisticRegression(C=INVERSE_PENALTY).fit(standard_PF, labels_P, sample_weight=weights_P)
    return LogOdds(
        features=FEATURES,
        means=tuple(map(float, means_F)),
        scales=tuple(map(float, scales_F)),
        weights=tuple(float(w) for w in fitted.coef_[0]),
        intercept=float(fitted.intercept_[0]),
        prevalence=float(np.average(labels_P, weights=weights_P)),
    )


@dataclass(frozen=True)
class RunLength:
    """How long a detector runs between false alarms."""

    exposure_events: int
    """Steady events watched: up to and with each stream's alarm, or to its end (censored)."""
    alarms: int

    @property
    def arl_events(self) -> float:
        """Exposure per alarm; infinite without alarms."""
        return self.exposure_events / self.alarms if self.alarms else float("inf")


def run_length(runs: Sequence[FloatArray], threshold: float, warm_up_events: int = WARM_UP_EVENTS) -> RunLength:
    """Average run length of 'statistic >= threshold' over steady streams; each stops at its first alarm."""
    exposure, alarms = 0, 0
    for statistic_T in runs:
        crossed = np.flatnonzero(statistic_T[warm_up_events:] >= threshold)
        exposure += int(crossed[0]) + 1 if len(crossed) else max(len(statistic_T) - warm_up_events, 0)
        alarms += bool(len(crossed))
    return RunLength(exposure, alarms)


def threshold_for(runs: Sequence[FloatArray], arl_events: int, warm_up_events: int = WARM_UP_EVENTS) -> float:
    """The lowest threshold whose average run length over these steady streams is at least ``arl_events``.

    A higher threshold has a longer run length, so it is found by bisection among the values that occur.
    """
    levels = np.unique(np.concatenate([statistic_T[warm_up_events:] for statistic_T in runs]))
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        if run_length(runs, float(levels[middle]), warm_up_events).arl_events >= arl_events:
            high = middle
        else:
            low = middle + 1
    return float(levels[low]) if low < len(levels) else float(np.nextafter(levels[-1], np.inf))
