"""Collaborative models in closed form: popularity, an item-item model and a windowed Markov chain.

They are baselines of every evaluation and components of the fused score. Nothing is trained by gradient; each is a
table fitted once on the training sequences. Up to a stated number of items the tables are dense and the item-item model
is EASE; beyond, they are sparse rows and item-kNN (:mod:`driftline.models.item_knn`) stands in its place, under its own
name. A history is scored by the few rows of its items.

Shape legend: U users, N items, B histories. A name that ends in ``_csr`` is a sparse matrix of compressed rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, issparse

from driftline.config import RankingConfig
from driftline.models.interactions import Items, interactions
from driftline.models.item_knn import item_knn

Scores = NDArray[np.float32]
ItemItem = Literal["ease", "item-knn"]
Weights = tuple[Items, Scores]
"""Distinct items of a history, and the weight of each."""

RECENT_EVENTS = 20
"""Newest events that the recency-weighted scores read."""
ITEM_ITEM_DECAY, MARKOV_DECAY = 0.9, 0.6
CSR = ("data", "indices", "indptr")
"""Parts of compressed rows, as scipy names them."""


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
    binary_csr = interactions(sequences, num_items)
    gram_NN = (binary_csr.T @ binary_csr).toarray().astype(np.float64)
    gram_NN[np.diag_indices(num_items)] += l2
    inverse_NN = np.linalg.inv(gram_NN)
    weights_NN = inverse_NN / -np.diag(inverse_NN)
    np.fill_diagonal(weights_NN, 0.0)
    single_NN: Scores = weights_NN.astype(np.float32)
    return single_NN


def markov(sequences: Sequence[Items], num_items: int, steps: int = 5) -> csr_array:
    """Directed weights: pairs within ``steps`` count 1/distance, rows are over sqrt(row sum): ``weights_csr``.

    It has at most ``steps`` entries for each training event.
    """
    items = np.concatenate([*sequences, np.empty(0, np.int64)])
    user = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    weights_csr = csr_array((num_items, num_items), dtype=np.float64)
    for distance in range(1, steps + 1):
        same = user[:-distance] == user[distance:]
        pairs = items[:-distance][same], items[distance:][same]
        counted = coo_array((np.full(len(pairs[0]), 1.0 / distance), pairs), shape=(num_items, num_items))
        weights_csr = weights_csr + counted.tocsr()  # adds up pairs that occur again
    row_sum_N = weights_csr.sum(axis=1)
    per_entry = np.repeat(np.sqrt(np.maximum(row_sum_N, 1.0)), np.diff(weights_csr.indptr))
    data = (weights_csr.data / per_entry).astype(np.float32)
    return csr_array((data, weights_csr.indices, weights_csr.indptr), shape=(num_items, num_items))


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


@dataclass(frozen=True)
class CollaborativeTables:
    """The three fitted tables; scores any history of item indices.

    Attributes
    ----------
    popularity_N
        Training counts.
    item_item_NN
        EASE as a dense array, or item-kNN as sparse rows.
    markov_NN
        Of the same form.
    """

    popularity_N: Scores
    item_item_NN: Any
    markov_NN: Any

    @classmethod
    def fit(
        cls, sequences: Sequence[Items], num_items: int, dense_up_to: int = RankingConfig().dense_tables_up_to
    ) -> "CollaborativeTables":
        """Fit all three on the training sequences (item indices, oldest first).

        Parameters
        ----------
        dense_up_to
            Items up to which the tables are dense and the item-item model is EASE.
        """
        counts_N, chain_csr = popularity(sequences, num_items), markov(sequences, num_items)
        if num_items <= dense_up_to:
            return cls(counts_N, ease(sequences, num_items), chain_csr.toarray())
        return cls(counts_N, item_knn(sequences, num_items), chain_csr)

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.popularity_N)

    @property
    def item_item(self) -> ItemItem:
        """What the item-item model is."""
        return "item-knn" if issparse(self.item_item_NN) else "ease"

    @property
    def names(self) -> tuple[str, ...]:
        """What :meth:`score` can be asked for."""
        return "popularity", self.item_item, f"{self.item_item}-recency", "markov"

    def score(self, name: str, histories: Sequence[Items]) -> Scores:
        """Scores of all items for each history: ``scores_BN``.

        Parameters
        ----------
        name
            One of :attr:`names`.
        """
        if name not in self.names:
            raise ValueError(f"unknown collaborative model {name!r}; valid: {', '.join(self.names)}")
        if name == "popularity":
            return np.broadcast_to(self.popularity_N, (len(histories), self.num_items))
        if name == "markov":
            return weighted_rows(recency_weights(histories, MARKOV_DECAY), self.markov_NN)
        weights = binary_weights(histories) if name == self.item_item else recency_weights(histories, ITEM_ITEM_DECAY)
        return weighted_rows(weights, self.item_item_NN)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a file."""
        tables = {f"{self.item_item.replace('-', '_')}_NN": self.item_item_NN, "markov_NN": self.markov_NN}
        arrays: dict[str, NDArray[Any]] = {"popularity_N": self.popularity_N}
        for name, table in tables.items():
            arrays |= {f"{name}.{part}": getattr(table, part) for part in CSR} if issparse(table) else {name: table}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "CollaborativeTables":
        """What :meth:`to_arrays` wrote.

        Raises
        ------
        ValueError
            If sparse rows are no valid matrix: scipy would read beyond its memory.
        """
        counts_N = arrays["popularity_N"]
        if "ease_NN" in arrays:
            return cls(counts_N, arrays["ease_NN"], arrays["markov_NN"])
        tables = []
        for name in ("item_knn_NN", "markov_NN"):
            parts = tuple(arrays[f"{name}.{part}"] for part in CSR)
            tables.append(csr_array(parts, shape=(len(counts_N), len(counts_N))))
            tables[-1].check_format(full_check=True)
        return cls(counts_N, *tables)
