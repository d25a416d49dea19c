"""Histories as a few weighted items, and a table's rows summed by such weights: how closed-form models read them.

Shape legend: B histories, N rows of a table, D columns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.models.interactions import Items

Scores = NDArray[np.float32]
Weights = tuple[Items, Scores]
"""Distinct items of a history, and the weight of each."""

RECENT_EVENTS = 20
"""Newest events that the recency-weighted scores read."""


def recency_weights(histories: Sequence[Items], decay: float, last: int = RECENT_EVENTS) -> list[Weights]:
    """Distinct items of the newest ``last`` events with weights ``decay**i``; a repeated one counts at its newest."""
    powers = (decay ** np.arange(last, dtype=np.float32))[::-1].tolist()  # oldest first
    recent = (items[-last:].tolist() for items in histories)
    return [_weights(dict(zip(newest, powers[last - len(newest) :], strict=True))) for newest in recent]


def binary_weights(histories: Sequence[Items]) -> list[Weights]:
    """Distinct items of each history, all of weight 1."""
    return [_weights(dict.fromkeys(items.tolist(), 1.0)) for items in histories]


def _weights(weight_by_item: dict[int, float]) -> Weights:
    items = np.fromiter(weight_by_item.keys(), dtype=np.int64, count=len(weight_by_item))
    return items, np.fromiter(weight_by_item.values(), dtype=np.float32, count=len(weight_by_item))


def weighted_rows(weights: Sequence[Weights], table_ND: Any) -> Scores:
    """Weighted sum of a table's rows for each history: ``sums_BD``.

    The table is an array or has compressed sparse rows; only the rows of the given items are read.
    """
    sums_BD = np.zeros((len(weights), table_ND.shape[1]), dtype=np.float32)
    for sum_D, (items, values) in zip(sums_BD, weights, strict=True):
        if isinstance(table_ND, np.ndarray):
            np.matmul(values, table_ND[items], out=sum_D)
            continue
        for item, value in zip(items.tolist(), values.tolist(), strict=True):
            row = slice(table_ND.indptr[item], table_ND.indptr[item + 1])
            sum_D[table_ND.indices[row]] += value * table_ND.data[row]  # no column occurs twice in a row
    return sums_BD
