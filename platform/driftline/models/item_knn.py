"""Item-kNN for catalogues in which a table of all pairs has no place.

Shape legend: U users, N items, R items of a block. A name that ends in ``_csr`` is a sparse matrix of compressed rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from driftline.models.interactions import Items, interactions

BLOCK_ENTRIES = 2**26
"""Pairs of items that are counted at once, at most: 0.5 GB."""


def item_knn(sequences: Sequence[Items], num_items: int, shrinkage: float = 10.0, neighbours: int = 100) -> csr_array:
    """Item-item cosine of the binary matrix, shrunk (Sarwar et al. 2001; Bell & Koren 2007): ``weights_csr``, N by N.

    ``users(i, j) / (sqrt(users(i) users(j)) + shrinkage)``. Each row keeps its ``neighbours`` largest similarities,
    among equals the items that come first; an item is not its own neighbour. Rows are counted block by block, so memory
    is bounded whatever the catalogue.
    """
    binary_csr = interactions(sequences, num_items)
    users_N = np.bincount(binary_csr.indices, minlength=num_items)
    by_item_csr = binary_csr.T.tocsr()
    rows = max(1, BLOCK_ENTRIES // max(num_items, 1))
    blocks = [
        _nearest(by_item_csr[first : first + rows] @ binary_csr, first, users_N, shrinkage, neighbours)
        for first in range(0, num_items, rows)
    ]
    return vstack(blocks, format="csr")


def _nearest(
    shared_csr: csr_array, first: int, users_N: NDArray[np.int64], shrinkage: float, neighbours: int
) -> csr_array:
    """Neighbours of the items ``first`` to ``first + R``, from the users they share with each item."""
    shared_csr.sort_indices()
    row = np.repeat(np.arange(first, first + shared_csr.shape[0]), np.diff(shared_csr.indptr))
    other = shared_csr.indices
    cosine = shared_csr.data / (np.sqrt(users_N[row] * users_N[other]) + shrinkage)
    cosine[row == other] = 0.0
    kept = cosine > 0
    for start, stop in zip(shared_csr.indptr[:-1], shared_csr.indptr[1:], strict=True):
        if stop - start > neighbours:
            kept[start:stop] &= _largest(cosine[start:stop], neighbours)
    indptr = np.concatenate([[0], np.cumsum(kept)])[shared_csr.indptr]
    return csr_array((cosine[kept].astype(np.float32), other[kept], indptr), shape=shared_csr.shape)


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Which are the ``count`` largest, among equals the first."""
    least = np.partition(values, len(values) - count)[len(values) - count]
    chosen: NDArray[np.bool_] = values > least
    ties = np.flatnonzero(values == least)
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen
