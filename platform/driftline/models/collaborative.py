"""Collaborative models in closed form: popularity, an item-item model, a windowed Markov chain and co-occurrence.

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
from driftline.models.content import ContentRidge
from driftline.models.interactions import Items, interactions
from driftline.models.item_knn import item_knn
from driftline.models.recency import Scores, binary_weights, recency_weights, weighted_rows
from driftline.models.trend import Trend
from driftline.models.user_knn import UserNeighbours

ItemItem = Literal["ease", "item-knn"]
ITEM_ITEM_DECAY, MARKOV_DECAY = 0.9, 0.6
CSR = ("data", "indices", "indptr")
"""Parts of compressed rows, as scipy names them."""
CONTENT = ("table_ND", "weights_FD", "offset_D")
"""Parts of :class:`~driftline.models.content.ContentRidge`."""


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
    return _over_root_of_sum(_pairs(sequences, num_items, steps))


def co_occurrence(sequences: Sequence[Items], num_items: int, steps: int = 10) -> csr_array:
    """The same in both directions: ``weights_csr``. Where events share a moment their order says nothing."""
    pairs_csr = _pairs(sequences, num_items, steps)
    return _over_root_of_sum(pairs_csr + pairs_csr.T.tocsr())


def _pairs(sequences: Sequence[Items], num_items: int, steps: int) -> csr_array:
    """How often one item came up to ``steps`` events after another, each time 1/distance."""
    items = np.concatenate([*sequences, np.empty(0, np.int64)])
    user = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    pairs_csr = csr_array((num_items, num_items), dtype=np.float64)
    for distance in range(1, steps + 1):
        same = user[:-distance] == user[distance:]
        pairs = items[:-distance][same], items[distance:][same]
        counted = coo_array((np.full(len(pairs[0]), 1.0 / distance), pairs), shape=(num_items, num_items))
        pairs_csr = pairs_csr + counted.tocsr()  # adds up pairs that occur again
    return pairs_csr


def _over_root_of_sum(weights_csr: csr_array) -> csr_array:
    row_sum_N = weights_csr.sum(axis=1)
    per_entry = np.repeat(np.sqrt(np.maximum(row_sum_N, 1.0)), np.diff(weights_csr.indptr))
    data = (weights_csr.data / per_entry).astype(np.float32)
    return csr_array((data, weights_csr.indices, weights_csr.indptr), shape=weights_csr.shape)


@dataclass(frozen=True)
class CollaborativeTables:
    """The fitted tables; scores any history of item indices.

    Attributes
    ----------
    popularity_N
        Training counts.
    item_item_NN
        EASE as a dense array, or item-kNN as sparse rows.
    markov_NN
        Of the same form; every evaluation shows it.
    co_occurrence_NN, trend, user_knn, content
        Fitted where the fused score asks for them.
    """

    popularity_N: Scores
    item_item_NN: Any
    markov_NN: Any
    co_occurrence_NN: Any = None
    trend: Trend | None = None
    user_knn: UserNeighbours | None = None
    content: ContentRidge | None = None

    @classmethod
    def fit(
        cls,
        sequences: Sequence[Items],
        num_items: int,
        dense_up_to: int = RankingConfig().dense_tables_up_to,
        with_co_occurrence: bool = True,
    ) -> "CollaborativeTables":
        """Fit all but ``trend``, ``user_knn`` and ``content`` on the training sequences (item indices, oldest first).

        Parameters
        ----------
        dense_up_to
            Items up to which the tables are dense and the item-item model is EASE.
        with_co_occurrence
            Whether anything asks for that table, which no baseline needs.
        """
        counts_N, chain_csr = popularity(sequences, num_items), markov(sequences, num_items)
        pairs_csr = co_occurrence(sequences, num_items) if with_co_occurrence else None
        if num_items > dense_up_to:
            return cls(counts_N, item_knn(sequences, num_items), chain_csr, pairs_csr)
        pairs_NN = None if pairs_csr is None else pairs_csr.toarray()
        return cls(counts_N, ease(sequences, num_items), chain_csr.toarray(), pairs_NN)

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
        pairs = () if self.co_occurrence_NN is None else ("co-occurrence",)
        return "popularity", self.item_item, f"{self.item_item}-recency", "markov", *pairs

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
        if name in ("markov", "co-occurrence"):
            table_NN = self.markov_NN if name == "markov" else self.co_occurrence_NN
            return weighted_rows(recency_weights(histories, MARKOV_DECAY), table_NN)
        weights = binary_weights(histories) if name == self.item_item else recency_weights(histories, ITEM_ITEM_DECAY)
        return weighted_rows(weights, self.item_item_NN)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a file."""
        arrays: dict[str, NDArray[Any]] = {"popularity_N": self.popularity_N}
        for name, table in self._tables().items():
            arrays |= {f"{name}.{part}": getattr(table, part) for part in CSR} if issparse(table) else {name: table}
        if self.trend is not None:
            arrays |= {"trend.moments_P": self.trend.moments_P, "trend.counts_PN": self.trend.counts_PN}
        if self.content is not None:
            arrays |= {f"content.{part}": getattr(self.content, part) for part in CONTENT}
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # safetensors reads plain memory

    def _tables(self) -> dict[str, Any]:
        found = {f"{self.item_item.replace('-', '_')}_NN": self.item_item_NN, "markov_NN": self.markov_NN}
        if self.co_occurrence_NN is not None:
            found["co_occurrence_NN"] = self.co_occurrence_NN
        return found if self.user_knn is None else found | {"user_knn_UN": self.user_knn.users_csr}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "CollaborativeTables":
        """What :meth:`to_arrays` wrote.

        Raises
        ------
        ValueError
            If sparse rows are no valid matrix: scipy would read beyond its memory.
        """
        counts_N = arrays["popularity_N"]
        item_item = "ease_NN" if "ease_NN" in arrays else "item_knn_NN"
        users = _read(arrays, "user_knn_UN", len(counts_N))
        moments_P = arrays.get("trend.moments_P")
        content = [arrays[f"content.{part}"] for part in CONTENT if f"content.{part}" in arrays]
        return cls(
            counts_N,
            _read(arrays, item_item, len(counts_N)),
            _read(arrays, "markov_NN", len(counts_N)),
            _read(arrays, "co_occurrence_NN", len(counts_N)),
            None if moments_P is None else Trend(moments_P, arrays["trend.counts_PN"]),
            None if users is None else UserNeighbours(users),
            ContentRidge(*content) if content else None,
        )


def _read(arrays: Mapping[str, NDArray[Any]], name: str, columns: int) -> Any:
    """One table, dense or sparse; None where there is none."""
    if name in arrays or f"{name}.indptr" not in arrays:
        return arrays.get(name)
    parts = tuple(arrays[f"{name}.{part}"] for part in CSR)
    table = csr_array(parts, shape=(len(parts[-1]) - 1, columns))
    table.check_format(full_check=True)
    return table
