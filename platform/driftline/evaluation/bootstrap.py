"""User-level bootstrap: targets of one user are resampled together.

Shape legend: T targets, U users, M figures of each target, R resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES_AT_ONCE = 2**22
"""Resamples times users whose weights are in memory at a time."""


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
    return user_bootstraps(values_T[:, None], users_T, resamples=resamples, level=level, seed=seed)[0]


def user_bootstraps(
    values_TM: NDArray[np.float64],
    users_T: NDArray[np.object_],
    among_TM: NDArray[np.bool_] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """:func:`user_bootstrap` of many figures over the same resamples of users.

    Parameters
    ----------
    values_TM, users_T
        As there, M figures of each target.
    among_TM
        Which targets each figure is a mean over; None = all. A resample without such a target does not count.
    """
    _, user_index_T = np.unique(np.asarray(users_T, dtype=str), return_inverse=True)
    among_TM = np.ones(values_TM.shape, dtype=bool) if among_TM is None else among_TM
    sums_UM, counts_UM = (
        np.column_stack([np.bincount(user_index_T, weights=column) for column in table.T])
        for table in (np.where(among_TM, values_TM, 0.0), among_TM.astype(np.float64))
    )
    num_users = len(sums_UM)
    rng, share_U = np.random.default_rng(seed), np.full(num_users, 1 / num_users)
    step = max(1, RESAMPLES_AT_ONCE // num_users)
    means_RM = np.empty((resamples, values_TM.shape[1]))
    for first in range(0, resamples, step):
        weights_RU = rng.multinomial(num_users, share_U, size=min(step, resamples - first)).astype(np.float64)
        counts_RM = weights_RU @ counts_UM
        means_RM[first : first + step] = weights_RU @ sums_UM / np.where(counts_RM > 0, counts_RM, np.nan)
    tail = (1 - level) / 2
    low_M, high_M = np.nanquantile(means_RM, [tail, 1 - tail], axis=0)
    mean_M = [float(values_T[among_T].mean()) for values_T, among_T in zip(values_TM.T, among_TM.T, strict=True)]
    return [Interval(mean, float(low), float(high)) for mean, low, high in zip(mean_M, low_M, high_M, strict=True)]
