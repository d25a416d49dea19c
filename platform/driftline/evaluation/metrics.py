"""Ranking metrics from mid-ranks. Sampled negatives are not offered (Krichene & Rendle 2022).

Shape legend: T targets, B a slice of targets, N items.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mid_ranks(scores_BN: NDArray[np.float32], targets_B: NDArray[np.int64], excluded_BN: NDArray[np.bool_]) -> Floats:
    """Rank of each target among the candidates; ties get the middle of their ranks: ``ranks_B``.

    ``rank = 1 + #better + (#equal - 1) / 2`` where ``#equal`` counts the target itself.

    Parameters
    ----------
    scores_BN
        Higher is better.
    targets_B
        Index of the item that was really next.
    excluded_BN
        True for items that are no candidates. A target is always a candidate.

    Raises
    ------
    ValueError
        If a candidate's score is NaN: it compares with nothing, and a target without a rival would come first.
    """
    rows = np.arange(len(targets_B))
    target_score_B1 = scores_BN[rows, targets_B][:, None]
    candidate_BN = ~excluded_BN
    candidate_BN[rows, targets_B] = True
    if np.isnan(scores_BN[candidate_BN]).any():
        raise ValueError("scores hold NaN: the model that made them has diverged")
    better_B = ((scores_BN > target_score_B1) & candidate_BN).sum(axis=1)
    equal_B = ((scores_BN == target_score_B1) & candidate_BN).sum(axis=1)
    ranks_B: Floats = 1.0 + better_B + (equal_B - 1) / 2.0
    return ranks_B


def hit_rate(ranks_T: Floats, k: int = 10) -> Floats:
    """Per target: 1 if its rank is at most ``k``."""
    return (ranks_T <= k).astype(np.float64)


def ndcg(ranks_T: Floats, k: int = 10) -> Floats:
    """Per target: ``1 / log2(rank + 1)`` within ``k``, else 0 (one relevant item, so the ideal is 1)."""
    return np.where(ranks_T <= k, 1.0 / np.log2(ranks_T + 1.0), 0.0)


def reciprocal_rank(ranks_T: Floats, k: int = 10) -> Floats:
    """Per target: ``1 / rank`` within ``k``, else 0."""
    return np.where(ranks_T <= k, 1.0 / ranks_T, 0.0)


METRICS = {"HR@10": hit_rate, "NDCG@10": ndcg, "MRR@10": reciprocal_rank}


def coverage(top_TK: NDArray[np.int64], num_items: int) -> float:
    """Share of the catalogue that appears in somebody's top k."""
    return len(np.unique(top_TK)) / num_items


def novelty(top_TK: NDArray[np.int64], popularity_N: NDArray[np.float32]) -> float:
    """Mean self-information of recommended items in bits (Vargas & Castells 2011), add-one smoothed."""
    share_N = (popularity_N + 1.0) / (popularity_N.sum() + len(popularity_N))
    return float(-np.log2(share_N[top_TK]).mean())


def gini(top_TK: NDArray[np.int64], num_items: int) -> float:
    """Gini coefficient of how often each item is recommended: 0 = evenly, 1 = one item only."""
    counts_N = np.sort(np.bincount(top_TK.ravel(), minlength=num_items)).astype(np.float64)
    index_N = np.arange(1, num_items + 1)
    return float((2 * index_N - num_items - 1) @ counts_N / (num_items * counts_N.sum()))
