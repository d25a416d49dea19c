"""Explicit values as 0..1 over the range of the whole log."""

import numpy as np
from numpy.typing import NDArray


def scaled(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float32]:
    """Values on the scale on which ``low`` is 0 and ``high`` is 1; NaN where there is none.

    A log without values, or in which all are equal, has no range: then only ``low`` is taken away.
    """
    span = (high - low) if np.isfinite(high - low) and high > low else 1.0
    return ((values - low) / span).astype(np.float32)
