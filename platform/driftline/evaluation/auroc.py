"""Area under the ROC curve, with an interval that resamples users.

Shape legend: P positives, Q negatives, R resamples, U users.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from driftline.evaluation.bootstrap import Interval

Floats = NDArray[np.float64]


def auroc(positive_P: Floats, negative_Q: Floats) -> float:
    """Probability that a positive scores above a negative; a tie counts half (Mann & Whitney 1947)."""
    return float(_wins(positive_P, negative_Q).mean())


def clustered_auroc(
    positive_P: Floats,
    negative_Q: Floats,
    users_P: Sequence[Sequence[str]],
    users_Q: Sequence[Sequence[str]],
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """AUROC with a percentile interval over users.

    Parameters
    ----------
    positive_P, negative_Q
        Scores.
    users_P, users_Q
        The users behind each score: a splice of A and B has two. In a resample, a score counts as often as all its
        users were drawn, multiplied (Owen 2007: the product-weight bootstrap for crossed clusters).
    """
    names = sorted({user for users in (*users_P, *users_Q) for user in users})
    index = {name: number for number, name in enumerate(names)}
    rng = np.random.default_rng(seed)
    draws_RU = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    weight_RP = np.stack([draws_RU[:, [index[u] for u in users]].prod(axis=1) for users in users_P], axis=1)
    weight_RQ = np.stack([draws_RU[:, [index[u] for u in users]].prod(axis=1) for users in users_Q], axis=1)
    total_R = weight_RP.sum(axis=1) * weight_RQ.sum(axis=1)
    usable = total_R > 0
    wins_R = ((weight_RP @ _wins(positive_P, negative_Q)) * weight_RQ).sum(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(wins_R[usable] / total_R[usable], [tail, 1 - tail])
    return Interval(auroc(positive_P, negative_Q), float(low), float(high))


def _wins(positive_P: Floats, negative_Q: Floats) -> Floats:
    """1, 1/2 or 0 for every pair: ``wins_PQ``."""
    difference_PQ = positive_P[:, None] - negative_Q[None]
    wins_PQ: Floats = (difference_PQ > 0) + 0.5 * (difference_PQ == 0)
    return wins_PQ
