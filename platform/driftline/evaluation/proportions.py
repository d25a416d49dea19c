"""Rates of clustered yes-no outcomes, and their difference: lists of one user are no independent trials."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from driftline.evaluation.bootstrap import Interval


@dataclass(frozen=True)
class Rate:
    """A share of trials with its Wilson interval.

    Parameters
    ----------
    effective_trials
        Independent trials that would tell as much: trials over the design effect (Kish 1965).
    """

    trials: int
    hits: int
    clusters: int
    effective_trials: float
    interval: Interval


def clustered_rate(trials_by_cluster: Sequence[int], hits_by_cluster: Sequence[int], level: float = 0.95) -> Rate:
    """Share of trials that hit, with a Wilson (1927) interval for the effective number of trials.

    The design effect is the variance of the share over clusters (a ratio estimate, Cochran 1977, eq. 6.9) over the
    binomial one, at least 1; where the share is 0 or 1, or there is one cluster, a cluster counts as one trial.

    Raises
    ------
    ValueError
        If there is no trial.
    """
    trials, hits, clusters = sum(trials_by_cluster), sum(hits_by_cluster), len(trials_by_cluster)
    if not trials:
        raise ValueError("no trials: a rate needs at least one")
    share = hits / trials
    effective: float = clusters
    if clusters > 1 and 0 < hits < trials:
        squares = sum((h - share * t) ** 2 for t, h in zip(trials_by_cluster, hits_by_cluster, strict=True))
        variance = clusters / (clusters - 1) * squares / trials**2
        effective = trials / max(1.0, variance / (share * (1 - share) / trials))
    return Rate(trials, hits, clusters, effective, _wilson(share, effective, level))


def difference(other: Rate, base: Rate) -> Interval:
    """``other - base`` with Newcombe's (1998) hybrid score interval, method 10, from the two Wilson intervals."""
    a, b = other.interval, base.interval
    gap = a.mean - b.mean
    low = gap - math.hypot(a.mean - a.low, b.high - b.mean)
    high = gap + math.hypot(a.high - a.mean, b.mean - b.low)
    return Interval(gap, low, high)


def _wilson(share: float, trials: float, level: float) -> Interval:
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))
