"""The best of many scores, without sorting them all."""

import numpy as np
from numpy.typing import NDArray


def best_first(scores_N: NDArray[np.float32] | NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Positions of the ``count`` highest scores, best first, among equals by position; those at ``-inf`` never.

    Fewer come back where fewer are above ``-inf``.
    """
    count = min(count, len(scores_N))
    if count == 0:
        return np.empty(0, dtype=np.int64)
    least = np.partition(scores_N, len(scores_N) - count)[len(scores_N) - count]
    reached = np.flatnonzero((scores_N >= least) & (scores_N > -np.inf))
    best: NDArray[np.int64] = reached[np.argsort(-scores_N[reached], kind="stable")[:count]]
    return best
