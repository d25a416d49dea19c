"""Collaborative item factors, which item texts are aligned to and content is regressed on.

Shape legend: U users, N items, D width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array

from driftline.config import RankingConfig
from driftline.models.interactions import Items, interactions

OVERSAMPLING, POWER_STEPS = 32, 6


def item_factors(
    sequences: Sequence[Items], num_items: int, dim: int, dense_up_to: int = RankingConfig().dense_tables_up_to
) -> NDArray[np.float32]:
    """Truncated SVD of the normalised interactions, rows of unit length: ``factors_ND``.

    Rows and columns of the binary matrix are divided by the square root of their sums first (the bipartite
    normalisation of spectral methods), which keeps blockbusters from owning every direction.

    Parameters
    ----------
    dense_up_to
        Items up to which it is exact, by the matrix of all pairs; beyond, :func:`_subspace` approximates it.
    """
    binary_csr = interactions(sequences, num_items).astype(np.float64)
    per_user_U = 1 / np.sqrt(np.maximum(binary_csr.sum(axis=1), 1.0))
    per_item_N = 1 / np.sqrt(np.maximum(binary_csr.sum(axis=0), 1.0))
    data = binary_csr.data * np.repeat(per_user_U, np.diff(binary_csr.indptr)) * per_item_N[binary_csr.indices]
    normalised_csr = csr_array((data, binary_csr.indices, binary_csr.indptr), shape=binary_csr.shape)
    eigenvalues, right_ND = _largest(normalised_csr, dim, dense_up_to)
    factors_ND = right_ND * np.sqrt(np.where(eigenvalues > 1e-10, eigenvalues, 0.0))  # the largest is 1
    factors_ND /= np.maximum(np.linalg.norm(factors_ND, axis=1, keepdims=True), 1e-8)
    return np.pad(factors_ND, ((0, 0), (0, dim - factors_ND.shape[1]))).astype(np.float32)


def raw_factors(
    sequences: Sequence[Items], num_items: int, dim: int, dense_up_to: int = RankingConfig().dense_tables_up_to
) -> NDArray[np.float32]:
    """Right singular vectors of the interactions as they are (PureSVD, Cremonesi et al. 2010): ``factors_ND``.

    Columns have unit length, rows are longer the more an item is had; at most ``dim`` columns, no more than the rank.
    """
    binary_csr = interactions(sequences, num_items).astype(np.float64)
    eigenvalues, right_ND = _largest(binary_csr, dim, dense_up_to)
    factors_ND: NDArray[np.float32] = right_ND[:, eigenvalues > 1e-10 * eigenvalues[-1]].astype(np.float32)
    return factors_ND


def _largest(matrix_csr: csr_array, dim: int, dense_up_to: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest eigenvalues of ``A^T A``, ascending, and their vectors, ``dim`` of them where there are so many.

    Not by ARPACK: where singular values coincide, that restarts at random, each worker elsewhere.
    """
    num_items = matrix_csr.shape[1]
    rank = min(dim, num_items)
    if num_items > dense_up_to:
        return _subspace(matrix_csr, rank)
    gram_NN = (matrix_csr.T @ matrix_csr).toarray()
    eigenvalues, right_ND = eigh(gram_NN, subset_by_index=[num_items - rank, num_items - 1])
    return eigenvalues, right_ND


def _subspace(matrix_csr: csr_array, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest eigenvalues of ``A^T A``, ascending, and their vectors: seeded subspace iteration (Halko et al. 2011)."""
    width = min(rank + OVERSAMPLING, matrix_csr.shape[1])
    basis_NW = np.random.default_rng(0).standard_normal((matrix_csr.shape[1], width))
    transposed_csr = matrix_csr.T.tocsr()
    for _ in range(POWER_STEPS):
        basis_NW, _ = np.linalg.qr(transposed_csr @ (matrix_csr @ basis_NW))
    seen_UW = matrix_csr @ basis_NW
    eigenvalues, inside_WW = eigh(seen_UW.T @ seen_UW)
    return eigenvalues[-rank:], (basis_NW @ inside_WW)[:, -rank:]
