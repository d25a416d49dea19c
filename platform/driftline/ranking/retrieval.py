"""The best items of a large catalogue for interest vectors: exactly, chunk by chunk, or by an approximate index.

    interests_BD = model.scorer.interests(histories)
    exact_top_k(interests_BD, model.scorer.output_ND, model.scorer.bias_N, k=100)
    FaissIndex(model.scorer.output_ND, model.scorer.bias_N).top_k(interests_BD, k=100)

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

    The bias is one more coordinate, which every interest meets with 1. An interest vector leaves a layer norm and so is
    about sqrt(D) long: items are held that much longer and interests shorter, or cells would split items by their bias
    first. A last coordinate makes all items equally long, so that the highest score is the least distance (Bachrach et
    al. 2014), which k-means can make cells for. The vectors are held a second time.

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
        self._table_ND, self._bias_N, self.probes = table_ND.detach(), bias_N.detach(), probes
        self._length = table_ND.shape[1] ** 0.5
        vectors_NE = torch.cat([self._table_ND * self._length, self._bias_N.unsqueeze(1)], dim=1)
        squared_N = vectors_NE.square().sum(dim=1)
        missing_N1 = (squared_N.max() - squared_N).sqrt().unsqueeze(1)
        vectors = torch.cat([vectors_NE, missing_N1], dim=1).contiguous().numpy()
        cells = cells or max(1, round(len(vectors) ** 0.5))
        width = vectors.shape[1]
        self._index: Any = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells, faiss.METRIC_L2)
        self._index.cp.max_points_per_centroid = READ_PER_CELL
        self._index.cp.niter = ROUNDS
        self._index.train(vectors)
        self._index.add(vectors)

    def top_k(self, interests_BD: Tensor, k: int, seen: Items | None = None) -> Found:
        """As :func:`exact_top_k`, of the items in the cells that were read."""
        one_B1 = torch.ones(len(interests_BD), 1)
        queries = torch.cat([interests_BD.detach() / self._length, one_B1, 0 * one_B1], dim=1).numpy()
        more = max((len(items) for items in seen or ()), default=0)
        self._index.nprobe = self.probes
        _, items = self._index.search(queries, k + more)
        closed = items < 0
        for row, own in enumerate(seen or ()):
            closed[row] |= np.isin(items[row], own)
        found = torch.from_numpy(np.where(closed, 0, items))
        scores = torch.einsum("bd,bkd->bk", interests_BD.detach(), self._table_ND[found]) + self._bias_N[found]
        scores.masked_fill_(torch.from_numpy(closed), -torch.inf)
        best_BK, chosen_BK = scores.topk(k, dim=1)
        items_BK = found.gather(1, chosen_BK).masked_fill(best_BK == -torch.inf, -1)
        return Found(items_BK.numpy(), best_BK.numpy())
