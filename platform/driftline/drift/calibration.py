"""From evidence to a calibrated P(drift) and an alarm threshold, on users that the drift model never saw.

P(drift) is a logistic regression on the evidence features (Platt 1999) over streams with and without a splice; the
alarm threshold gives the statistic the stated average run length (ARL) between false alarms. Both orders of events
are calibrated, because they differ: in shuffled order the restart ratio is what theory says it is (ARL 200 needs about
log 200 nats); in natural order a steady user's browsing alone moves it, and the threshold is far higher.

Shape legend: F features, P labelled positions, T events of a stream.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from driftline.config import DriftConfig
from driftline.drift.evidence import FEATURES, Evidence, EvidenceReader
from driftline.drift.restart import FloatArray
from driftline.drift.streams import Recipe, Stream, Track, draw_streams
from driftline.errors import BundleError
from driftline.models.recommender import Recommender
from driftline.sequences.batches import History

PAIRS_PER_TRACK = 100
WARM_UP_EVENTS = 15
"""Run lengths are counted from here on."""
AGES = (5, 10, 20, 30, 40)
"""Events since the change point at which a stream is labelled 'drifted' or 'not'."""
INVERSE_PENALTY = 1.0


@dataclass(frozen=True)
class DriftCalibration:
    """How evidence becomes a probability and an alarm; plain numbers."""

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    """Per standardised feature."""
    intercept: float
    prevalence: float
    """Share of drifted positions among those it was fitted on: P(drift) is stated at this prior."""
    arl_events: int
    threshold_natural: float
    """nats of the statistic: one false alarm per ``arl_events`` on steady users in natural order; alarms use it."""
    threshold_shuffled: float
    """The same in shuffled order (track X of the benchmark)."""

    def log_odds(self, features_TF: FloatArray) -> FloatArray:
        """Log odds of drift after each event."""
        standard_TF = (features_TF - np.array(self.means)) / np.array(self.scales)
        log_odds_T: FloatArray = standard_TF @ np.array(self.weights) + self.intercept
        return log_odds_T

    def p_drift(self, features_TF: FloatArray) -> FloatArray:
        """P(drift) after each event, at the prevalence of the calibration streams."""
        p_T: FloatArray = expit(self.log_odds(features_TF))
        return p_T

    def to_json(self) -> str:
        """Serialise; :meth:`from_json` gives back an equal value."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "DriftCalibration":
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        BundleError
            If it was written for other features than this version computes.
        """
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}
        if values.get("features") != FEATURES:
            raise BundleError(
                f"drift calibration is for features {values.get('features')}, this version has {FEATURES}: retrain"
            )
        return cls(**values)


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
    pairs_per_track: int = PAIRS_PER_TRACK,
) -> DriftCalibration:
    """Fit P(drift) and the thresholds.

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

    Raises
    ------
    DataError
        If too few calibration users are long enough.
    """
    reader = EvidenceReader(model, config)
    users = {user: History(items) for user, items in histories.items()}
    rng = np.random.default_rng([seed, 1])
    rows: list[FloatArray] = []
    labels: list[bool] = []
    runs: dict[Track, list[FloatArray]] = {"X": [], "N": []}
    for track, own_runs in runs.items():
        for stream in draw_streams(users, None, Recipe(track), pairs_per_track, seed):
            evidence = reader.read(stream.items)
            for position, drifted in labelled_positions(stream, rng):
                rows.append(evidence.features_TF[position])
                labels.append(drifted)
            if not stream.drifted:
                own_runs.append(evidence.statistic_T)
    return fit(np.stack(rows), np.array(labels), runs, config.arl_events)
