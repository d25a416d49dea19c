"""Streams of two tastes with a model that can be worked out by hand: Laplace's rule of succession.

Every event is of taste 0 or 1. A user who began afresh at event k gives taste c the probability
(events of taste c since k + 1) / (events since k + 2).
"""

import numpy as np
from numpy.typing import NDArray

from driftline.drift.reading import Reading

OWN_SHARE = 0.9


def tastes(seed: int, before: int = 40, after: int = 40) -> NDArray[np.int64]:
    """Mostly taste 0, then mostly taste 1."""
    rng = np.random.default_rng(seed)
    strange = rng.random(before + after) > OWN_SHARE
    return np.where(strange, 1, 0) ^ np.repeat([0, 1], [before, after])


def reading(taste_T: NDArray[np.int64], seed: int = 0) -> Reading:
    """What a model that follows Laplace's rule reads; item vectors are noisy, one genre per taste and one of both."""
    n = len(taste_T)
    is_one_T = taste_T == 1
    before_T = np.concatenate([[0], np.cumsum(is_one_T)])
    log_p_KT = np.zeros((n, n))
    for k in range(n):
        ones = before_T[k:n] - before_T[k]  # among the events k .. t-1
        count = np.arange(n - k)
        own = np.where(is_one_T[k:], ones, count - ones)
        log_p_KT[k, k:] = np.log((own + 1) / (count + 2))
    rng = np.random.default_rng([seed, n])
    vectors_TD = np.eye(2)[taste_T] @ np.eye(2, 8) + 0.5 * rng.normal(size=(n, 8))
    vectors_TD /= np.linalg.norm(vectors_TD, axis=1, keepdims=True)
    verifier_TD = np.eye(2)[taste_T] @ np.eye(2, 3) + 0.5 * rng.normal(size=(n, 3))
    genres_TG = np.stack([~is_one_T, is_one_T, np.arange(n) % 2 == 0], axis=1).astype(np.float64)
    jitter_T = 1e-6 * rng.random(n)  # a Kolmogorov-Smirnov test wants no ties
    log_p_T = log_p_KT[0] if n else np.zeros(0)
    oracle_T = np.where(is_one_T, 1, -1) * np.log(OWN_SHARE / (1 - OWN_SHARE))
    signals = {"surprise": -log_p_T - jitter_T, "lift": log_p_T - np.log(0.5) + jitter_T, "oracle": oracle_T}
    rows = vectors_TD.astype(np.float32), verifier_TD.astype(np.float32)
    return Reading(np.arange(n), log_p_KT, *rows, genres_TG, signals)
