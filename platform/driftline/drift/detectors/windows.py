"""The newest events against all before them: what detectors that compare two windows share.

Shape legend: T events of a stream, F columns.
"""

import numpy as np

from driftline.drift.restart import FloatArray

RECENT_EVENTS = 20
"""Events of the newer window."""
MIN_BEFORE_EVENTS = 10
"""Fewer events than this before the newer window say nothing."""


def window_sums(rows_TF: FloatArray, recent_events: int = RECENT_EVENTS) -> tuple[FloatArray, FloatArray]:
    """Column sums of the older and of the newer window after every event that has enough before it.

    Returns
    -------
    before_SF, recent_SF
        S = max(0, T - recent_events - MIN_BEFORE_EVENTS + 1): the last S events of the stream.
    """
    total_TF = np.concatenate([np.zeros((1, rows_TF.shape[1])), np.cumsum(rows_TF, axis=0)])
    ends = np.arange(recent_events + MIN_BEFORE_EVENTS, len(rows_TF) + 1)
    before_SF = total_TF[ends - recent_events]
    return before_SF, total_TF[ends] - before_SF


def from_the_first_window(values_S: FloatArray, events: int) -> FloatArray:
    """One value per event: 0 where there was no older window yet."""
    return np.concatenate([np.zeros(events - len(values_S)), values_S])
