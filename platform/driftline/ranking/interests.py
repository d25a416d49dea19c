"""Interest vectors of histories, the last ones kept: a user asks more often than a history grows.

Shape legend: B histories, D dimensions.
"""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Final

import torch
from torch import Tensor

from driftline.models.recommender import Recommender
from driftline.sequences.batches import History, collate, target_gaps, window

MAX_KEPT: Final = 20_000
"""Vectors in memory, up to 3 kB each with the history that they belong to; what was used longest ago goes first."""


class Interests:
    """The ranking model's reading of histories. Safe to call from many threads.

    Parameters
    ----------
    ranker
        In evaluation mode; it must not change any more.
    table_ND
        Its item vectors.
    """

    def __init__(self, ranker: Recommender, table_ND: Tensor, max_kept: int = MAX_KEPT) -> None:
        self._ranker = ranker
        self._table_ND = table_ND
        self._max_kept = max_kept
        self._kept: OrderedDict[tuple[bytes, ...], Tensor] = OrderedDict()
        self._lock = Lock()

    def __call__(self, histories: Sequence[History]) -> Tensor:
        """``H`` after each history: ``interests_BD``."""
        read = [window(history, self._ranker.encoder.config.window_events) for history in histories]
        keys = [_key(history) for history in read]
        with self._lock:
            vectors = {key: self._kept[key] for key in keys if key in self._kept}
        new = {key: history for key, history in zip(keys, read, strict=True) if key not in vectors}
        if new:
            vectors.update(zip(new, self._encode(list(new.values())), strict=True))
        self._keep(keys, vectors)
        return torch.stack([vectors[key] for key in keys])

    def forget(self) -> None:
        """Compute every history anew: what is kept depends, in the last digits, on what was computed beside it."""
        with self._lock:
            self._kept.clear()

    @torch.inference_mode()
    def _encode(self, histories: Sequence[History]) -> list[Tensor]:
        interests_BD = self._ranker.last_interests(collate(histories), self._table_ND)
        return [interest_D.clone() for interest_D in interests_BD]  # a view would keep the whole batch in memory

    def _keep(self, keys: Sequence[tuple[bytes, ...]], vectors: dict[tuple[bytes, ...], Tensor]) -> None:
        with self._lock:
            for key in keys:
                self._kept[key] = vectors[key]
                self._kept.move_to_end(key)
            while len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)


def _key(history: History) -> tuple[bytes, ...]:
    """What the vector of a history depends on."""
    gap = None if history.now_s is None else target_gaps([history])
    columns = (history.items, history.times_s, history.types, history.attributes, gap)
    return tuple(b"" if column is None else column.tobytes() for column in columns)
