"""How unlike the two sides of a history are, and how alike its events are at all, by item vectors.

A second look that the likelihood ratio does not give: it does not need the model to predict, only to know which items
are alike, and it is ahead once both sides are long.

Shape legend: K = T = n events (split k, event t), D width.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from driftline.drift.restart import FloatArray

MIN_SIDE_EVENTS = 5
"""Splits that leave fewer events than this on a side say nothing."""
SHARPNESS = 2.0
"""How much more the best split counts than the average one."""


@dataclass(frozen=True)
class Discrepancy:
    """Per event, from similarities of the item vectors so far (cosines, dimensionless)."""

    split_T: FloatArray
    """Soft maximum over recent splits of the scaled kernel two-sample statistic; 0 where there is no split."""
    coherence_T: FloatArray
    """Mean similarity of two different events."""


def measure(vectors_ND: NDArray[np.float32], recent_events: int) -> Discrepancy:
    """Compare the sides of every split of every prefix.

    Parameters
    ----------
    vectors_ND
        Unit vectors of the history's items, oldest first.
    recent_events
        A split counts if at most this many events lie after it.
    """
    n = len(vectors_ND)
    if n < 2:
        return Discrepancy(np.zeros(n), np.zeros(n))
    similarity = (vectors_ND @ vectors_ND.T).astype(np.float64)
    np.fill_diagonal(similarity, 0)
    t = np.arange(n)
    pairs_T = np.maximum(t * (t + 1), 1)
    coherence_T = np.diagonal(similarity.cumsum(0).cumsum(1)) / pairs_T
    return Discrepancy(_soft_best_split(two_sample(similarity), recent_events), coherence_T)


def two_sample(similarity: FloatArray) -> FloatArray:
    """Unbiased MMD² between events before ``k`` and events ``k .. t``, times ``n_before n_after / n``.

    Gretton et al. 2012, with the cosine as kernel; the factor makes its spread the same for every split.

    Parameters
    ----------
    similarity
        n by n, zero on the diagonal.

    Returns
    -------
    ndarray ``mmd_KT``
        ``-inf`` where a side has fewer than ``MIN_SIDE_EVENTS`` events.
    """
    n = len(similarity)
    total = np.zeros((n + 1, n + 1))
    total[1:, 1:] = similarity.cumsum(0).cumsum(1)
    before = np.arange(n)[:, None].astype(np.float64)
    after = np.arange(1, n + 1)[None] - before
    within_before = np.diagonal(total)[:-1, None]
    across = total[:-1, 1:] - within_before
    within_after = np.diagonal(total)[None, 1:] - within_before - 2 * across
    usable_KT = (before >= MIN_SIDE_EVENTS) & (after >= MIN_SIDE_EVENTS)
    a, b = np.where(usable_KT, before, 2.0), np.where(usable_KT, after, 2.0)
    mmd_KT = within_before / (a * (a - 1)) + within_after / (b * (b - 1)) - 2 * across / (a * b)
    return np.where(usable_KT, mmd_KT * a * b / (a + b), -np.inf)


def _soft_best_split(mmd_KT: FloatArray, recent_events: int) -> FloatArray:
    """``log mean_k exp(SHARPNESS mmd[k, t])`` over recent usable splits, per event."""
    n = len(mmd_KT)
    k, t = np.arange(n)[:, None], np.arange(n)[None]
    usable_KT = np.isfinite(mmd_KT) & (k > t - recent_events)
    count_T = usable_KT.sum(axis=0)
    best_T = np.zeros(n)
    some = count_T > 0
    best_T[some] = logsumexp(np.where(usable_KT, SHARPNESS * mmd_KT, -np.inf)[:, some], axis=0) - np.log(count_T[some])
    return best_T
