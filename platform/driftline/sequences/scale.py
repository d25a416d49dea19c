"""Explicit values as 0..1 over the range of the whole log."""

import numpy as np
from numpy.typing import NDArray


def scaled(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float32]:
    """Values on the scale on which ``low`` is 0 and ``high`` is 1; NaN where there is none.

    A log without values, or in which all are equal, has no range: then only ``low`` is taken away.
    """
    return ((values - low) / _span(low, high)).astype(np.float32)


def unscaled(shares: NDArray[np.float32], low: float, high: float) -> NDArray[np.float64]:
    """What :func:`scaled` made of values, back on their own scale."""
    return low + shares.astype(np.float64) * _span(low, high)


def _span(low: float, high: float) -> float:
    return (high - low) if np.isfinite(high - low) and high > low else 1.0
