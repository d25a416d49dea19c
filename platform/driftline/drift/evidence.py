"""What P(drift) is computed from: a handful of figures after every event of a history.

Shape legend: K = T = n events of the window, F features, D width.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftline.config import DriftConfig
from driftline.drift.discrepancy import measure, measure_now
from driftline.drift.posterior import map_change_point, recent_log_odds, recent_log_odds_now, restart_posterior
from driftline.drift.reading import Reading
from driftline.drift.restart import FloatArray, cusum, restart_ratio, shiryaev_roberts

FEATURES: Final = ("restart", "split", "coherence", "length", "verifier split", "verifier coherence")
"""Log odds of a recent restart; two-sample statistic of the best split; mean similarity; log(1 + events); the second
and the third by the verifier's vectors, 0 without them."""
WITHOUT_VERIFIER: Final = FEATURES[:4]
"""What older bundles were calibrated on."""


@dataclass(frozen=True)
class Evidence:
    """Everything about the newest ``n`` events of one history that needs no calibration."""

    surprise_T: FloatArray
    """``-log p`` of each event given everything in the window before it, nats."""
    statistic_T: FloatArray
    """log(1 + Shiryaev-Roberts), nats."""
    cusum_T: FloatArray
    """nats."""
    change_point_T: NDArray[np.int64]
    """Most probable recent restart; -1 where there is none."""
    log_posterior_K: FloatArray
    """Over restarts after the last event; row 0 is 'no change'."""
    features_TF: FloatArray


def weigh(reading: Reading, config: DriftConfig) -> Evidence:
    """Evidence after each event of a reading; ``config`` gives hazard and what counts as recent."""
    ratio_KT = restart_ratio(reading.log_p_KT)
    log_posterior_KT = restart_posterior(ratio_KT, config.hazard)
    return Evidence(
        surprise_T=reading.signal("surprise"),
        statistic_T=shiryaev_roberts(ratio_KT),
        cusum_T=cusum(ratio_KT),
        change_point_T=map_change_point(log_posterior_KT, config.recent_events),
        log_posterior_K=log_posterior_KT[:, -1] if len(log_posterior_KT) else np.zeros(0),
        features_TF=_features(reading, log_posterior_KT, config),
    )


def weigh_now(
    log_posterior_K: FloatArray,
    vectors_KD: NDArray[np.float32],
    verifier_KD: NDArray[np.float32],
    config: DriftConfig,
) -> FloatArray:
    """The features after the last event of a window: ``features_F``."""
    split, coherence = measure_now(vectors_KD, config.recent_events)
    odds = recent_log_odds_now(log_posterior_K, config.recent_events)
    restart = odds if np.isfinite(odds) else no_evidence(config.hazard)
    verifier = measure_now(verifier_KD, config.recent_events)
    return np.array([restart, split, coherence, np.log1p(len(vectors_KD)), *verifier])


def no_evidence(hazard: float) -> float:
    """Log odds after one event: there is nothing yet that it could have changed from."""
    return float(np.log(hazard) - np.log1p(-hazard))


def _features(reading: Reading, log_posterior_KT: FloatArray, config: DriftConfig) -> FloatArray:
    """Columns in the order of ``FEATURES``; finite everywhere."""
    n = len(reading)
    if n == 0:
        return np.zeros((0, len(FEATURES)))
    restart_T = recent_log_odds(log_posterior_KT, config.recent_events)
    restart_T[0] = no_evidence(config.hazard)
    items, verifier = (measure(rows, config.recent_events) for rows in (reading.vectors_TD, reading.verifier_TD))
    length_T = np.log1p(np.arange(1, n + 1))
    columns = [restart_T, items.split_T, items.coherence_T, length_T, verifier.split_T, verifier.coherence_T]
    return np.stack(columns, axis=1)
