"""User-level bootstrap: targets of one user are resampled together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def user_bootstrap(
    values_T: NDArray[np.float64],
    users_T: NDArray[np.object_],
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean over targets with a percentile interval over users (Efron 1979, clustered).

    Parameters
    ----------
    values_T
        One figure per target; for a paired comparison, the difference of two models' figures.
    users_T
        The user each target belongs to.
    """
    _, user_index_T = np.unique(np.asarray(users_T, dtype=str), return_inverse=True)
    sums_U = np.bincount(user_index_T, weights=values_T)
    counts_U = np.bincount(user_index_T)
    rng = np.random.default_rng(seed)
    weights_RU = rng.multinomial(len(counts_U), np.full(len(counts_U), 1 / len(counts_U)), size=resamples)
    means_R = (weights_RU @ sums_U) / (weights_RU @ counts_U)
    tail = (1 - level) / 2
    low, high = np.quantile(means_R, [tail, 1 - tail])
    return Interval(float(values_T.mean()), float(low), float(high))
