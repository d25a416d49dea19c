"""The posterior over restart points: which event began the current regime.

Bayesian online change-point detection (Adams & MacKay 2007) with a neural predictive model and at most one change in
the window: with hazard ``h`` per event, "regime began at event k >= 1" has prior odds ``h / (1 - h)`` against "no
change", for every k alike, and its likelihood ratio is the restart ratio.

Shape legend: K = T = n events (restart k, event t).
"""

import numpy as np
from numpy.typing import NDArray

from driftline.drift.restart import FloatArray, log_sum_exp

TEMPER = 0.5
"""Power of the likelihood: events of one user are not independent given the model, so evidence counts half."""


def restart_posterior(ratio_KT: FloatArray, hazard: float, temper: float = TEMPER) -> FloatArray:
    """``log P(current regime began at event k | events up to t)``.

    Parameters
    ----------
    ratio_KT
        From :func:`driftline.drift.restart.restart_ratio`.
    hazard
        Prior probability that one event starts a new regime.
    temper
        Power of the likelihood ratio; 1 = take the model at its word.

    Returns
    -------
    ndarray ``log_posterior_KT``
        Each column's exponentials add up to 1; row 0 is 'no change'; ``-inf`` where ``k > t``.
    """
    if not ratio_KT.size:
        return ratio_KT
    log_joint_KT = temper * ratio_KT
    log_joint_KT[1:] += np.log(hazard) - np.log1p(-hazard)
    log_posterior_KT: FloatArray = log_joint_KT - log_sum_exp(log_joint_KT)
    return log_posterior_KT


def recent_log_odds(log_posterior_KT: FloatArray, recent_events: int) -> FloatArray:
    """Log odds of 'the current regime began within the last ``recent_events`` events', per event.

    ``-inf`` after the first event: there is nothing yet that it could have changed from.
    """
    if not log_posterior_KT.size:
        return np.zeros(0)
    recent_KT = recent_restarts(len(log_posterior_KT), recent_events)
    inside_T = log_sum_exp(np.where(recent_KT, log_posterior_KT, -np.inf))
    outside_T = log_sum_exp(np.where(recent_KT, -np.inf, log_posterior_KT))
    log_odds_T: FloatArray = inside_T - outside_T
    return log_odds_T


def recent_log_odds_now(log_posterior_K: FloatArray, recent_events: int) -> float:
    """The same for one event: its column of the posterior."""
    first = max(1, len(log_posterior_K) - recent_events)
    inside, outside = log_posterior_K[first:], log_posterior_K[:first]
    return float(log_sum_exp(inside) - log_sum_exp(outside)) if len(inside) else -np.inf


def recent_onset(log_posterior_K: FloatArray, recent_events: int) -> int | None:
    """The most probable recent restart by one column of the posterior; None after the first event."""
    first = max(1, len(log_posterior_K) - recent_events)
    recent_K = log_posterior_K[first:]
    return first + int(recent_K.argmax()) if len(recent_K) else None


def recent_restarts(n: int, recent_events: int) -> NDArray[np.bool_]:
    """Which restarts count as recent: ``k >= 1`` and ``t - recent_events < k <= t``; bool ``recent_KT``."""
    k, t = np.arange(n)[:, None], np.arange(n)[None]
    return np.array((k >= 1) & (k <= t) & (k > t - recent_events))


def map_change_point(log_posterior_KT: FloatArray, recent_events: int) -> NDArray[np.int64]:
    """The most probable recent restart after each event; -1 after the first, where there is none."""
    n = len(log_posterior_KT)
    if n < 2:
        return np.full(n, -1, dtype=np.int64)
    recent_KT = recent_restarts(n, recent_events)
    best_T = np.where(recent_KT, log_posterior_KT, -np.inf).argmax(axis=0)
    return np.where(recent_KT.any(axis=0), best_T, -1)
