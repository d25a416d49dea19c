"""How unlike the two sides of a history are, and how alike its events are at all, by item vectors.

A second look that the likelihood ratio does not give: it does not need the model to predict, only to know which items
are alike, and it is ahead once both sides are long.

Shape legend: K = T = n events (split k, event t), D width.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftline.drift.restart import FloatArray, log_sum_exp

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


def measure_now(vectors_ND: NDArray[np.float32], recent_events: int) -> tuple[float, float]:
    """The last entries of :func:`measure`, split and coherence, in n D steps instead of n² D: from sums of vectors."""
    n = len(vectors_ND)
    if n < 2:
        return 0.0, 0.0
    vectors = vectors_ND.astype(np.float64)
    sum_SD = np.concatenate([np.zeros((1, vectors.shape[1])), vectors.cumsum(axis=0)])
    own_S = np.concatenate([[0.0], (vectors**2).sum(axis=1).cumsum()])  # an event with itself: not a pair
    coherence = float(sum_SD[-1] @ sum_SD[-1] - own_S[-1]) / (n * (n - 1))
    split_K = np.arange(max(MIN_SIDE_EVENTS, n - recent_events), n - MIN_SIDE_EVENTS + 1)
    if not len(split_K):
        return 0.0, coherence
    before_KD, own_K = sum_SD[split_K], own_S[split_K]
    after_KD = sum_SD[-1] - before_KD
    mmd_K = _scaled_mmd(
        (before_KD**2).sum(axis=1) - own_K,
        (after_KD**2).sum(axis=1) - (own_S[-1] - own_K),
        (before_KD * after_KD).sum(axis=1),
        split_K.astype(np.float64),
        (n - split_K).astype(np.float64),
    )
    return float(log_sum_exp(SHARPNESS * mmd_K) - np.log(len(split_K))), coherence


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
    return np.where(usable_KT, _scaled_mmd(within_before, within_after, across, a, b), -np.inf)


def _scaled_mmd(
    within_before: FloatArray, within_after: FloatArray, across: FloatArray, a: FloatArray, b: FloatArray
) -> FloatArray:
    """From sums of similarities of different events, each pair in both orders (``across``: in one), and side sizes."""
    return (within_before / (a * (a - 1)) + within_after / (b * (b - 1)) - 2 * across / (a * b)) * a * b / (a + b)


def _soft_best_split(mmd_KT: FloatArray, recent_events: int) -> FloatArray:
    """``log mean_k exp(SHARPNESS mmd[k, t])`` over recent usable splits, per event."""
    n = len(mmd_KT)
    k, t = np.arange(n)[:, None], np.arange(n)[None]
    usable_KT = np.isfinite(mmd_KT) & (k > t - recent_events)
    count_T = usable_KT.sum(axis=0)
    best_T = np.zeros(n)
    some = count_T > 0
    best_T[some] = log_sum_exp(np.where(usable_KT, SHARPNESS * mmd_KT, -np.inf)[:, some]) - np.log(count_T[some])
    return best_T
