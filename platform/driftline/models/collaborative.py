"""Collaborative models in closed form: popularity, EASE and a windowed Markov chain.

They are baselines of every evaluation and components of the fused score. Nothing is trained by gradient; each is a
table fitted once on the training sequences. Dense: reasonable up to about 20,000 items.

Shape legend: U users, N items, B histories.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Items = NDArray[np.int64]
Scores = NDArray[np.float32]


def popularity(sequences: Sequence[Items], num_items: int) -> Scores:
    """Training counts per item: ``scores_N``."""
    return np.bincount(np.concatenate([*sequences, np.empty(0, np.int64)]), minlength=num_items).astype(np.float32)


def ease(sequences: Sequence[Items], num_items: int, l2: float = 500.0) -> Scores:
    """Item-item weights of EASE (Steck 2019, eq. 8): ``weights_NN`` with a zero diagonal.

    Parameters
    ----------
    sequences
        Item indices of each user; the interaction matrix is binary.
    l2
        The ridge λ added to the Gram matrix's diagonal.
    """
    interactions_UN = np.zeros((len(sequences), num_items), dtype=np.float32)
    for user, items in enumerate(sequences):
        interactions_UN[user, items] = 1.0
    gram_NN = (interactions_UN.T @ interactions_UN).astype(np.float64)
    gram_NN[np.diag_indices(num_items)] += l2
    inverse_NN = np.linalg.inv(gram_NN)
    weights_NN = inverse_NN / -np.diag(inverse_NN)
    np.fill_diagonal(weights_NN, 0.0)
    return weights_NN.astype(np.float32)


def item_knn(sequences: Sequence[Items], num_items: int, shrinkage: float = 10.0, neighbours: int = 100) -> Scores:
    """Item-item cosine of the binary matrix, shrunk (Sarwar et al. 2001; Bell & Koren 2007): ``weights_NN``.

    Each row keeps the similarities that are at least its ``neighbours``-th largest; an item is not its own neighbour.
    """
    interactions_UN = binary_weights(sequences, num_items)
    gram_NN = interactions_UN.T @ interactions_UN
    norms_N = np.sqrt(np.diag(gram_NN))
    cosine_NN = gram_NN / (np.outer(norms_N, norms_N) + shrinkage)
    np.fill_diagonal(cosine_NN, 0.0)
    place = max(num_items - neighbours, 0)
    least_N1 = np.partition(cosine_NN, place, axis=1)[:, place : place + 1]
    return np.where(cosine_NN >= least_N1, cosine_NN, 0.0).astype(np.float32)


def markov(sequences: Sequence[Items], num_items: int, steps: int = 5) -> Scores:
    """Directed weights: pairs within ``steps`` count 1/distance, rows are over sqrt(row sum): ``weights_NN``."""
    weights_NN = np.zeros((num_items, num_items), dtype=np.float64)
    for items in sequences:
        for distance in range(1, steps + 1):
            np.add.at(weights_NN, (items[:-distance], items[distance:]), 1.0 / distance)
    row_sum_N = weights_NN.sum(axis=1)
    normalised_NN: Scores = (weights_NN / np.sqrt(np.maximum(row_sum_N, 1.0))[:, None]).astype(np.float32)
    return normalised_NN


def recency_weights(histories: Sequence[Items], num_items: int, decay: float, last: int = 20) -> Scores:
    """Histories as sparse-in-spirit weight vectors ``decay**i`` over the newest ``last`` events: ``weights_BN``."""
    weights_BN = np.zeros((len(histories), num_items), dtype=np.float32)
    for row, items in enumerate(histories):
        newest_first = items[::-1][:last]
        np.maximum.at(weights_BN[row], newest_first, decay ** np.arange(len(newest_first), dtype=np.float32))
    return weights_BN


def binary_weights(histories: Sequence[Items], num_items: int) -> Scores:
    """Histories as 0/1 vectors: ``weights_BN``."""
    weights_BN = np.zeros((len(histories), num_items), dtype=np.float32)
    for row, items in enumerate(histories):
        weights_BN[row, items] = 1.0
    return weights_BN


@dataclass(frozen=True)
class CollaborativeTables:
    """The three fitted tables; scores any history of item indices.

    Attributes
    ----------
    popularity_N, ease_NN, markov_NN
        As returned by the functions of this module.
    """

    popularity_N: Scores
    ease_NN: Scores
    markov_NN: Scores

    @classmethod
    def fit(cls, sequences: Sequence[Items], num_items: int) -> "CollaborativeTables":
        """Fit all three on the training sequences (item indices, oldest first)."""
        return cls(popularity(sequences, num_items), ease(sequences, num_items), markov(sequences, num_items))

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.popularity_N)

    def score(self, name: str, histories: Sequence[Items]) -> Scores:
        """Scores of all items for each history: ``scores_BN``.

        Parameters
        ----------
        name
            ``popularity``, ``ease``, ``ease-recency`` or ``markov``.
        """
        if name == "popularity":
            return np.broadcast_to(self.popularity_N, (len(histories), self.num_items))
        if name == "ease":
            return binary_weights(histories, self.num_items) @ self.ease_NN
        if name == "ease-recency":
            return recency_weights(histories, self.num_items, decay=0.9) @ self.ease_NN
        if name == "markov":
            return recency_weights(histories, self.num_items, decay=0.6) @ self.markov_NN
        raise ValueError(f"unknown collaborative model {name!r}; valid: popularity, ease, ease-recency, markov")


def item_factors(sequences: Sequence[Items], num_items: int, dim: int) -> Scores:
    """Collaborative item factors that text is aligned to: truncated SVD of the normalised interactions: ``factors_ND``.

    Rows and columns of the binary matrix are divided by the square root of their sums first (the bipartite
    normalisation of spectral methods), which keeps blockbusters from owning every direction.
    """
    from scipy.linalg import eigh

    interactions_UN = binary_weights(sequences, num_items).astype(np.float64)
    users_U = np.sqrt(np.maximum(interactions_UN.sum(axis=1, keepdims=True), 1.0))
    items_N = np.sqrt(np.maximum(interactions_UN.sum(axis=0, keepdims=True), 1.0))
    normalised_UN = interactions_UN / users_U / items_N
    rank = min(dim, num_items)
    # Of the Gram matrix, not by ARPACK: where singular values coincide, that restarts at random, each worker elsewhere.
    gram_NN = normalised_UN.T @ normalised_UN
    eigenvalues, right_ND = eigh(gram_NN, subset_by_index=[num_items - rank, num_items - 1])
    factors_ND = right_ND * np.sqrt(np.where(eigenvalues > 1e-10, eigenvalues, 0.0))  # the largest is 1
    factors_ND /= np.maximum(np.linalg.norm(factors_ND, axis=1, keepdims=True), 1e-8)
    return np.pad(factors_ND, ((0, 0), (0, dim - rank))).astype(np.float32)
