"""The restart likelihood ratio and its two sequential statistics.

Shape legend: K = T = n events (restart k, event t).
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def log_sum_exp(values: FloatArray) -> FloatArray:
    """Over the first axis; ``-inf`` of nothing but ``-inf``. scipy's spends most of its time on checks of the input."""
    top = values.max(axis=0, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(top + np.log(np.exp(values - top).sum(axis=0)))


def restart_ratio(log_p_KT: FloatArray) -> FloatArray:
    """How much better a user who began at event ``k`` explains the events up to ``t`` than the user as a whole.

    ``ratio[k, t] = sum_{s=k..t} log p(x_s | x_k .. x_{s-1}) - log p(x_s | x_0 .. x_{s-1})``, events counted from 0.

    Parameters
    ----------
    log_p_KT
        From :func:`driftline.drift.surprise.restart_log_probabilities`.

    Returns
    -------
    ndarray ``ratio_KT``, nats
        Row 0 ('no restart') is 0; ``-inf`` where ``k > t``, a restart that has not happened yet.
    """
    begun_KT = np.triu(np.ones(log_p_KT.shape, dtype=bool))
    gain_KT = np.where(begun_KT, log_p_KT - log_p_KT[:1], 0.0)
    return np.where(begun_KT, np.cumsum(gain_KT, axis=1), -np.inf)


def advance(ratio_K: FloatArray, log_p_K: FloatArray) -> FloatArray:
    """One more event: the next column of :func:`restart_ratio`.

    Parameters
    ----------
    ratio_K
        The column of the event before.
    log_p_K
        Log probability of the event by restart. Of a window that is full, the oldest restart has gone: the window's
        first event is then 'no restart'.
    """
    ratio_K = np.append(ratio_K, 0.0)[-len(log_p_K) :] + (log_p_K - log_p_K[0])
    ratio_K[0] = 0.0
    return ratio_K


def shiryaev_roberts(ratio_KT: FloatArray) -> FloatArray:
    """``log(1 + sum_{k>=1} exp ratio[k, t])`` per event, in nats (Shiryaev 1963, Roberts 1966).

    The 1 (row 0 of the ratio) keeps a history without evidence at 0 instead of minus infinity; where an alarm is
    near it adds nothing.
    """
    if not ratio_KT.size:
        return np.zeros(0)
    return log_sum_exp(ratio_KT)


def cusum(ratio_KT: FloatArray) -> FloatArray:
    """``max(0, max_{k>=1} ratio[k, t])`` per event, in nats (Page 1954)."""
    statistic_T: FloatArray = ratio_KT.max(axis=0, initial=0.0)
    return statistic_T


def best_restart(ratio_K: FloatArray) -> int | None:
    """The restart ``k >= 1`` of the largest ratio, the first among equals; ``None`` before there is one."""
    return int(ratio_K[1:].argmax()) + 1 if len(ratio_K) > 1 else None
