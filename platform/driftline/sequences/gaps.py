"""Time since the event before, as a bucket. Bucket 0 is 'unknown': a bare list of item ids has no times."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GAP_BUCKETS = 16
UNKNOWN_GAP, NO_GAP = 0, 1


def gap_buckets(times_s: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
    """Bucket the gaps of a history, or of each row of padded histories.

    Parameters
    ----------
    times_s
        Moments in seconds, oldest first; NaN where unknown and where padded.

    Returns
    -------
    ndarray of int64, same shape
        0 = unknown (also for the first event); 1 = no gap; then about one bucket per factor of four.
    """
    times = np.asarray(times_s, dtype=np.float64)
    gaps = np.diff(times, prepend=np.nan)
    known = np.isfinite(gaps)
    scaled = np.log2(1 + np.clip(np.where(known, gaps, 0), 0, None)) / 2
    return np.where(known, 1 + np.minimum(np.ceil(scaled), GAP_BUCKETS - 2), UNKNOWN_GAP).astype(np.int64)
