"""The best items of a large catalogue for interest vectors: exactly, chunk by chunk, or by an approximate index.

    interests_BD = model.scorer.interests(histories)
    exact_top_k(interests_BD, model.scorer.table_ND, model.scorer.bias_N, k=100)
    FaissIndex(model.scorer.table_ND, model.scorer.bias_N).top_k(interests_BD, k=100)

Both rank by ``H . e_n + b_n``, the ranking model alone, and are for pipelines that want candidates: what a bundle
recommends is ranked exactly, by all components, over the whole catalogue.

Shape legend: B histories, N items, D width, K places.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftline.errors import ConfigError

SCORES_AT_ONCE: Final = 2**22
"""Scores of a chunk: 16 MB, whatever the catalogue."""
READ_PER_CELL: Final = 64
"""Vectors that k-means reads, for each cell."""
ROUNDS: Final = 10
"""Of k-means."""

Items = Sequence[NDArray[np.int64]]
"""Item indices of each history."""


class Found(NamedTuple):
    """Best first; where there are fewer than K items, -1 at a score of ``-inf``."""

    items_BK: NDArray[np.int64]
    scores_BK: NDArray[np.float32]


@torch.no_grad()
def exact_top_k(interests_BD: Tensor, table_ND: Tensor, bias_N: Tensor, k: int, seen: Items | None = None) -> Found:
    """The ``k`` best items; memory for B times K scores and one chunk. Which of several equals is kept is not said.

    Parameters
    ----------
    seen
        Items of each history that are no candidates.
    """
    B, N = len(interests_BD), len(table_ND)
    best_BK, items_BK = torch.full((B, k), -torch.inf), torch.full((B, k), -1)
    chunk = max(1, SCORES_AT_ONCE // max(B, 1))
    for first in range(0, N, chunk):
        scores_BC = torch.addmm(bias_N[first : first + chunk], interests_BD, table_ND[first : first + chunk].T)
        for row, items in enumerate(seen or ()):
            inside = items[(items >= first) & (items < first + chunk)] - first
            scores_BC[row, torch.from_numpy(inside)] = -torch.inf
        places_BC = torch.arange(first, first + scores_BC.shape[1]).expand(B, -1)
        best_BK, chosen_BK = torch.cat([best_BK, scores_BC], dim=1).topk(k, dim=1)
        items_BK = torch.cat([items_BK, places_BC], dim=1).gather(1, chosen_BK)
    items_BK[best_BK == -torch.inf] = -1
    return Found(items_BK.numpy(), best_BK.numpy())


class FaissIndex:
    """An inverted file over the item vectors (IVF-Flat, Johnson et al. 2019): a search reads the nearest cells alone.

    The bias is one more coordinate, which every interest vector meets with 1. The vectors are held a second time.

    Parameters
    ----------
    table_ND, bias_N
        Item vectors and biases, as :class:`~driftline.ranking.scoring.Scorer` has them.
    cells
        Groups of like vectors; None = the square root of N.
    probes
        Cells that a search reads: more find more of the true best, in more time.

    Raises
    ------
    ConfigError
        If faiss is not installed.
    """

    def __init__(self, table_ND: Tensor, bias_N: Tensor, cells: int | None = None, probes: int = 32) -> None:
        try:
            import faiss
        except ImportError:
            raise ConfigError(["an approximate index needs faiss: pip install 'driftline[faiss]'"]) from None
        vectors_NE = torch.cat([table_ND, bias_N.unsqueeze(1)], dim=1).detach().contiguous().numpy()
        cells = cells or max(1, round(len(vectors_NE) ** 0.5))
        self._index: Any = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(vectors_NE.shape[1]), vectors_NE.shape[1], cells, faiss.METRIC_INNER_PRODUCT
        )
        self._index.cp.max_points_per_centroid = READ_PER_CELL
        self._index.cp.niter = ROUNDS
        self._index.train(vectors_NE)
        self._index.add(vectors_NE)
        self.probes = probes

    def top_k(self, interests_BD: Tensor, k: int, seen: Items | None = None) -> Found:
        """As :func:`exact_top_k`, of the items in the cells that were read."""
        import faiss

        queries_BE = torch.cat([interests_BD, torch.ones(len(interests_BD), 1)], dim=1).numpy()
        more = max((len(items) for items in seen or ()), default=0)
        parameters = faiss.SearchParametersIVF(nprobe=self.probes)
        scores, items = self._index.search(queries_BE, k + more, params=parameters)
        closed = items < 0
        for row, own in enumerate(seen or ()):
            closed[row] |= np.isin(items[row], own)
        order = np.argsort(closed, axis=1, kind="stable")[:, :k]  # what is open keeps its order and comes first
        closed, items, scores = (np.take_along_axis(given, order, axis=1) for given in (closed, items, scores))
        return Found(np.where(closed, -1, items), np.where(closed, np.float32(-np.inf), scores))
