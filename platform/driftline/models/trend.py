"""What is popular at a moment: training counts that fade with age. Nothing later than the moment counts.

Shape legend: P moments, N items, B histories.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftline.sequences.batches import History

FADE_S = 7 * 86_400.0
"""Age at which an event counts 1/e."""
MAX_CELLS = 2**24
"""Moments times items: bounds the table to 64 MB. Moments are half a fade apart, or as close as there is room for."""


@dataclass(frozen=True)
class Trend:
    """Faded counts as of a few moments; between two of them those of the earlier one hold.

    Attributes
    ----------
    moments_P
        Seconds, ascending.
    counts_PN
        float32, ``sum exp(-(moment - time) / FADE_S)`` over the item's events up to the moment.
    """

    moments_P: NDArray[np.float64]
    counts_PN: NDArray[np.float32]

    @classmethod
    def fit(cls, histories: Iterable[History], num_items: int) -> "Trend":
        """Count the training events whose time is known."""
        timed = [(h.items, h.times_s) for h in histories if h.times_s is not None]
        items = np.concatenate([np.empty(0, np.int64), *(i for i, _ in timed)])
        times_s = np.concatenate([np.empty(0), *(t for _, t in timed)])
        known = np.isfinite(times_s)
        items, times_s = items[known], times_s[known]
        if not len(items):
            return cls(np.empty(0), np.empty((0, num_items), dtype=np.float32))
        first, last = float(times_s.min()), float(times_s.max())
        moments = min(max(1, MAX_CELLS // num_items), 1 + int((last - first) / (FADE_S / 2)))
        moments_P = np.ascontiguousarray(np.linspace(last, first, moments, endpoint=False)[::-1])  # the newest is exact
        return cls(moments_P, _faded(items, times_s, moments_P, num_items))

    def score(self, histories: Iterable[History]) -> NDArray[np.float32]:
        """Log of one plus the counts as of the moment that each history is asked about, else as of its last event, and
        of the newest where neither is known: ``scores_BN``."""
        asked_B = np.nan_to_num(np.array([_moment(history) for history in histories], dtype=np.float64), nan=np.inf)
        scores_BN = np.zeros((len(asked_B), self.counts_PN.shape[1]), dtype=np.float32)
        place_B = np.searchsorted(self.moments_P, asked_B, side="right") - 1
        counted_B = place_B >= 0
        scores_BN[counted_B] = np.log1p(self.counts_PN[place_B[counted_B]])
        return scores_BN


def _moment(history: History) -> float:
    if history.now_s is not None:
        return history.now_s
    return np.inf if history.times_s is None or not len(history) else float(history.times_s[-1])


def _faded(
    items_E: NDArray[np.int64], times_E: NDArray[np.float64], moments_P: NDArray[np.float64], num_items: int
) -> NDArray[np.float32]:
    """``counts_PN``: each moment's from those of the one before."""
    counts_PN = np.zeros((len(moments_P), num_items), dtype=np.float32)
    since = -np.inf
    for place, moment in enumerate(moments_P.tolist()):
        new_E = (times_E > since) & (times_E <= moment)
        weights = np.exp(-(moment - times_E[new_E]) / FADE_S)
        counts_PN[place] = np.bincount(items_E[new_E], weights, num_items)
        if place:
            counts_PN[place] += counts_PN[place - 1] * np.exp(-(moment - since) / FADE_S)
        since = moment
    return counts_PN
