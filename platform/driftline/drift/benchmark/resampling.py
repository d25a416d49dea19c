"""Figures with intervals over users: everything is a weighted figure, and a resample is a set of weights.

Shape legend: R resamples, U users, P rows; row 0 of every weight is the sample itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftline.drift.restart import FloatArray

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds, its standard error, and an interval that resamples the users of all seeds together."""

    mean: float
    standard_error: float
    """Between seeds; nan for one seed."""
    low: float
    high: float
    by_seed: tuple[float, ...]

    def __str__(self) -> str:
        error = "" if np.isnan(self.standard_error) else f"±{self.standard_error:.3f}"
        return f"{self.mean:.3f}{error} [{self.low:.3f}, {self.high:.3f}]"

    def as_json(self) -> dict[str, object]:
        """Plain values; what is not known becomes None, infinity (a missed change) "inf"."""
        values = {name: plain(getattr(self, name)) for name in ("mean", "standard_error", "low", "high")}
        return {**values, "by_seed": [plain(value) for value in self.by_seed]}


class Resamples:
    """Multinomial draws of users, the same for every figure.

    A stream of A and B counts as often as both were drawn, multiplied (Owen 2007: the product-weight bootstrap for
    crossed clusters).
    """

    def __init__(self, users: Sequence[str], resamples: int, seed: int = 0) -> None:
        self._index = {user: number for number, user in enumerate(sorted(set(users)))}
        rng = np.random.default_rng(seed)
        count = len(self._index)
        drawn_RU = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
        self._weights_RU = np.concatenate([np.ones((1, count)), drawn_RU])

    def weights(self, users_P: Sequence[Sequence[str]]) -> FloatArray:
        """Of rows with one or more users each: ``weights_RP``."""
        columns = [self._weights_RU[:, [self._index[user] for user in users]].prod(axis=1) for users in users_P]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self._weights_RU), 0))


def estimate(figures_SR: Sequence[FloatArray]) -> Estimate:
    """Put the resampled figures of each seed together."""
    values_SR = np.stack(figures_SR)
    by_seed = values_SR[:, 0]
    means_R = values_SR.mean(axis=0)
    tail = (1 - LEVEL) / 2
    drawn = means_R[1:][~np.isnan(means_R[1:])]
    # order statistics without interpolation: a run length or a delay may be infinite
    low, high = np.quantile(drawn, [tail, 1 - tail], method="nearest") if len(drawn) else (np.nan, np.nan)
    error = float(by_seed.std(ddof=1) / np.sqrt(len(by_seed))) if len(by_seed) > 1 else float("nan")
    return Estimate(float(means_R[0]), error, float(low), float(high), tuple(map(float, by_seed)))


def weighted_mean(weights_RP: FloatArray, values_P: FloatArray) -> FloatArray:
    """nan where nothing has weight."""
    return _ratio(weights_RP @ values_P, weights_RP.sum(axis=1))


def weighted_auroc(
    weights_RP: FloatArray, weights_RQ: FloatArray, positive_P: FloatArray, negative_Q: FloatArray
) -> FloatArray:
    """Probability that a positive scores above a negative, ties half (Mann & Whitney 1947): one per resample."""
    positive_P1 = positive_P[:, None]
    wins_PQ = (positive_P1 > negative_Q) + 0.5 * (positive_P1 == negative_Q)
    won_R = ((weights_RP @ wins_PQ) * weights_RQ).sum(axis=1)
    return _ratio(won_R, weights_RP.sum(axis=1) * weights_RQ.sum(axis=1))


def weighted_median(weights_RP: FloatArray, values_P: FloatArray) -> FloatArray:
    """The smallest value that at least half of the weight does not exceed; infinite values are values."""
    order = np.argsort(values_P, kind="stable")
    share_RP = np.cumsum(weights_RP[:, order], axis=1)
    total_R1 = share_RP[:, -1:]
    place_R = (share_RP < total_R1 / 2).sum(axis=1).clip(max=len(order) - 1)
    median_R: FloatArray = np.where(total_R1[:, 0] > 0, values_P[order][place_R], np.nan)
    return median_R


def _ratio(above_R: FloatArray, below_R: FloatArray) -> FloatArray:
    ratio_R: FloatArray = np.divide(above_R, below_R, out=np.full(len(above_R), np.nan), where=below_R > 0)
    return ratio_R


def plain(value: float) -> float | str | None:
    """For JSON: infinity (a missed change) as "inf", what is not known as None."""
    return "inf" if np.isposinf(value) else float(value) if np.isfinite(value) else None
