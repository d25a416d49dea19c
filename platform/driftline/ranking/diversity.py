"""Maximal marginal relevance (Carbonell & Goldstein 1998)."""

import numpy as np
from numpy.typing import NDArray

from driftline.ranking.caps import CategoryCaps, capped


def mmr(
    relevance_N: NDArray[np.float64],
    vectors_ND: NDArray[np.float32],
    k: int,
    diversity: float,
    caps: CategoryCaps | None = None,
) -> list[int]:
    """Positions of ``k`` items, greedily: ``(1 - diversity) relevance - diversity max-similarity``.

    Parameters
    ----------
    relevance_N
        Any scale; it is brought to 0..1 first. Items in any order.
    vectors_ND
        Item vectors; similarity is their cosine.
    diversity
        0 orders by relevance alone.
    caps
        Limits by category; fewer than ``k`` positions come back when they leave no more. It may know of further
        candidates behind these.
    """
    k = min(k, len(relevance_N))
    if diversity == 0 or k <= 1:
        order = [int(i) for i in np.argsort(-relevance_N, kind="stable")]
        return order[:k] if caps is None else capped(order, k, caps)
    span = float(relevance_N.max() - relevance_N.min()) or 1.0
    relevance = (relevance_N - relevance_N.min()) / span
    unit = vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-9)
    chosen: list[int] = []
    nearest = np.zeros(len(relevance))
    free = np.ones(len(relevance), dtype=bool)
    if caps is not None:
        free[[place for place in caps.closed() if place < len(free)]] = False
    while len(chosen) < k and free.any():
        value = np.where(free, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        best = int(value.argmax())
        chosen.append(best)
        free[best] = False
        if caps is not None:
            free[[place for place in caps.take(best) if place < len(free)]] = False
        nearest = np.maximum(nearest, unit @ unit[best])
    return chosen
