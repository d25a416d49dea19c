"""Predicting explicit values: damped means and biased matrix factorisation, the baselines of the rating head.

Shape legend: E training events, T pairs to predict, U users, N items, D factors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

USER_DAMPING, ITEM_DAMPING = 10.0, 25.0
"""Events that pull a mean to the one before it (Koren 2010, section 2.1)."""
SWEEPS = 15
GRID = [(factors, l2) for factors in (4, 8, 16) for l2 in (4.0, 6.0, 8.0, 11.0, 16.0, 32.0)]
"""Numbers of factors and ridges that validation chooses from."""


@dataclass(frozen=True)
class Values:
    """Explicit values: user and item index of each, and the value in the data's own scale."""

    users_E: Ints
    items_E: Ints
    values_E: Floats

    def __len__(self) -> int:
        return len(self.values_E)


@dataclass(frozen=True)
class BiasedFactors:
    """``value = mean + b_u + b_i + p_u . q_i``; a user or item without training events has no part in it.

    The last row of every table is zero and stands for whoever is unknown (index -1).
    """

    mean: float
    user_bias_U: Floats
    item_bias_N: Floats
    user_factors_UD: Floats
    item_factors_ND: Floats

    def predict(self, users_T: Ints, items_T: Ints) -> Floats:
        """Values of pairs; -1 = unknown user or item."""
        products_T = (self.user_factors_UD[users_T] * self.item_factors_ND[items_T]).sum(axis=1)
        values_T: Floats = self.mean + self.user_bias_U[users_T] + self.item_bias_N[items_T] + products_T
        return values_T


def damped_means(known: Values, num_users: int, num_items: int) -> BiasedFactors:
    """Mean, item deviation, then user deviation from both, each damped (Koren 2010, eq. 2 to 4); no factors."""
    mean = float(known.values_E.mean())
    item_N = _damped(known.items_E, known.values_E - mean, num_items, ITEM_DAMPING)
    user_U = _damped(known.users_E, known.values_E - mean - item_N[known.items_E], num_users, USER_DAMPING)
    return BiasedFactors(mean, user_U, item_N, np.zeros((num_users + 1, 1)), np.zeros((num_items + 1, 1)))


def _damped(groups_E: Ints, values_E: Floats, count: int, damping: float) -> Floats:
    sums = np.bincount(groups_E, weights=values_E, minlength=count + 1)
    damped: Floats = sums / (np.bincount(groups_E, minlength=count + 1) + damping)
    return damped


def biased_mf(
    known: Values,
    num_users: int,
    num_items: int,
    factors: int,
    l2: float,
    sweeps: int = SWEEPS,
    seed: int = 0,
) -> BiasedFactors:
    """Matrix factorisation with biases (Koren et al. 2009) by alternating least squares.

    Starts from :func:`damped_means` and small random item factors; each sweep solves all users, then all items, a bias
    and a factor vector at once, under the same ridge ``l2``.
    """
    start = damped_means(known, num_users, num_items)
    residual_E = known.values_E - start.mean
    item_ND = 0.1 * np.random.default_rng(seed).standard_normal((num_items + 1, factors))
    item_ND = np.column_stack([item_ND, start.item_bias_N])
    by_user, by_item = _groups(known.users_E, num_users), _groups(known.items_E, num_items)
    for _ in range(sweeps):
        user_UD = _solve(by_user, known.items_E, item_ND, residual_E, l2, num_users)
        item_ND = _solve(by_item, known.users_E, user_UD, residual_E, l2, num_items)
    return BiasedFactors(start.mean, user_UD[:, -1], item_ND[:, -1], user_UD[:, :-1], item_ND[:, :-1])


def tuned_biased_mf(
    known: Values, validation: Values, num_users: int, num_items: int, tell: Callable[[int, int], None]
) -> BiasedFactors:
    """:func:`biased_mf` with the settings of :data:`GRID` that have the lowest validation MSE.

    Parameters
    ----------
    tell
        Called with (settings tried, settings in all).
    """
    best, least = None, np.inf
    for done, (factors, l2) in enumerate(GRID, start=1):
        model = biased_mf(known, num_users, num_items, factors, l2)
        error = float(((model.predict(validation.users_E, validation.items_E) - validation.values_E) ** 2).mean())
        if best is None or error < least:
            best, least = model, error
        tell(done, len(GRID))
    assert best is not None
    return best


def _groups(groups_E: Ints, count: int) -> list[Ints]:
    """Events of each group."""
    order = np.argsort(groups_E, kind="stable")
    return np.split(order, np.cumsum(np.bincount(groups_E, minlength=count))[:-1])


def _solve(groups: list[Ints], others_E: Ints, other_XD: Floats, residual_E: Floats, l2: float, count: int) -> Floats:
    """Factors and bias (the last column) of every group, given those of the other side: ``own_(count+1)D``."""
    width = other_XD.shape[1]
    own, ridge = np.zeros((count + 1, width)), l2 * np.eye(width)
    for group, events in enumerate(groups):
        if not len(events):
            continue
        rows = other_XD[others_E[events]].copy()
        target = residual_E[events] - rows[:, -1]
        rows[:, -1] = 1.0
        own[group] = np.linalg.solve(rows.T @ rows + ridge, rows.T @ target)
    return own
