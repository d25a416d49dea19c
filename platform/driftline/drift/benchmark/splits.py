"""Pair statistics: the candidate change point is given, the figure compares the two sides of it.

Shape legend: T events of a stream, F pair statistics, P labelled pairs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from driftline.drift.detectors.genre_chi_square import chi_square
from driftline.drift.discrepancy import two_sample
from driftline.drift.divergence import jensen_shannon
from driftline.drift.reading import Reading
from driftline.drift.restart import FloatArray, restart_ratio
from driftline.drift.verifier import unlike

SPLIT_NAMES = (
    "restart ratio",
    "MMD",
    "cosine",
    "genre chi-square",
    "genre Jensen-Shannon",
    "lift difference",
    "surprise difference",
    "verifier",
)
FUSED_SPLIT = "fused"
INVERSE_PENALTY = 1.0


def split_statistics(reading: Reading, change_point: int, after_events: int) -> FloatArray:
    """Compare everything before ``change_point`` with at most ``after_events`` from it on: ``statistic_F``.

    In the order of ``SPLIT_NAMES``, without the verifier; high = different.
    """
    k, stop = change_point, min(change_point + after_events, len(reading))
    before, after = slice(0, k), slice(k, stop)
    vectors_TD = reading.vectors_TD[:stop].astype(np.float64)
    similarity = vectors_TD @ vectors_TD.T
    np.fill_diagonal(similarity, 0)
    means = [vectors_TD[side].mean(axis=0) for side in (before, after)]
    genres = [reading.genres_TG[side].sum(axis=0, keepdims=True) for side in (before, after)]
    lift_T, surprise_T = reading.signal("lift"), reading.signal("surprise")
    cosine = means[0] @ means[1] / max(float(np.linalg.norm(means[0]) * np.linalg.norm(means[1])), 1e-12)
    return np.array(
        [
            restart_ratio(reading.log_p_KT[:stop, :stop])[k, -1],
            two_sample(similarity)[k, -1],
            1 - cosine,
            chi_square(*genres)[0],
            jensen_shannon(*genres)[0],
            lift_T[before].mean() - lift_T[after].mean(),
            surprise_T[after].mean() - surprise_T[before].mean(),
        ]
    )


def pair_statistics(reading: Reading, change_point: int, after_events: int) -> FloatArray:
    """All of ``SPLIT_NAMES``: :func:`split_statistics`, and what the verifier says of the two windows."""
    stop = change_point + after_events
    strange = unlike(reading.verifier_TD[:stop], reading.items_T[:stop], change_point)
    return np.append(split_statistics(reading, change_point, after_events), strange)


class SplitClassifier:
    """A logistic regression on all pair statistics, for one number of events after the split.

    Parameters
    ----------
    statistics_PF
        Of calibration users' streams, from :func:`pair_statistics`.
    labels_P
        Whether the stream has drifted.
    """

    def __init__(self, statistics_PF: FloatArray, labels_P: Sequence[bool] | NDArray[np.bool_]) -> None:
        scales_F = statistics_PF.std(axis=0)
        self._means_F, self._scales_F = statistics_PF.mean(axis=0), np.where(scales_F > 0, scales_F, 1.0)
        standard_PF = (statistics_PF - self._means_F) / self._scales_F
        self._fitted = LogisticRegression(C=INVERSE_PENALTY).fit(standard_PF, labels_P)

    def __call__(self, statistic_F: FloatArray) -> float:
        """Log odds of drift."""
        return float(self._fitted.decision_function([(statistic_F - self._means_F) / self._scales_F])[0])
