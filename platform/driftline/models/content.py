"""Recommending items that nobody has had, from what is said of them: content kNN and ridge regression.

Every item is a vector; a history is the recency-weighted sum of its items' vectors, and a candidate's score its product
with that. In kNN the vectors are the contents themselves, so the score is a sum of cosines. In the ridge model they are
collaborative factors, and an item without training events has the factor that a linear map, fitted on the others,
predicts from its content (Gantner et al. 2010, "Learning attribute-to-feature mappings for cold-start
recommendations").

Shape legend: N items, F features, D factors, B histories.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.catalog.attributes import Attributes
from driftline.catalog.items import Catalog
from driftline.config import RankingConfig
from driftline.models.interactions import Items
from driftline.models.item_factors import raw_factors
from driftline.models.recency import Scores, recency_weights, weighted_rows

Floats = NDArray[np.float64]

FACTOR_DIM = 64
"""Collaborative factors that content is regressed on."""
DECAY = 0.9
"""Weight of an event of a history against the one after it."""
L2 = 1000.0
"""Ridge on standardised features, which are many beside a thousand items."""


@dataclass(frozen=True)
class ContentModel:
    """Items as vectors, dense or in compressed sparse rows."""

    table_ND: Any

    def score(self, histories: Sequence[Items]) -> Scores:
        """Scores of all items for each history: ``scores_BN``; 0 for an empty history."""
        sums_BD = weighted_rows(recency_weights(histories, DECAY), self.table_ND)
        scores_BN: Scores = np.ascontiguousarray((self.table_ND @ sums_BD.T).T, dtype=np.float32)
        return scores_BN


def knn(features_NF: Floats) -> ContentModel:
    """Cosine of contents."""
    norms_N1 = np.linalg.norm(features_NF, axis=1, keepdims=True)
    return ContentModel((features_NF / np.maximum(norms_N1, 1e-12)).astype(np.float32))


def tfidf_knn(texts: Sequence[str]) -> ContentModel:
    """Cosine of TF-IDF vectors of the items' texts (scikit-learn's defaults: words of two letters or more)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return ContentModel(TfidfVectorizer(dtype=np.float32).fit_transform(texts))


@dataclass(frozen=True)
class ContentRidge:
    """Items as collaborative factors, and the map that predicts these from content.

    Attributes
    ----------
    table_ND
        float32: factors of known items, and for the others those predicted.
    weights_FD, offset_D
        float32: the map.
    """

    table_ND: Scores
    weights_FD: Scores
    offset_D: Scores

    @classmethod
    def fit(
        cls,
        sequences: Sequence[Items],
        features_NF: NDArray[Any],
        dense_up_to: int = RankingConfig().dense_tables_up_to,
    ) -> "ContentRidge":
        """From the training sequences (item indices) to :func:`~driftline.models.item_factors.raw_factors`.

        Parameters
        ----------
        dense_up_to
            As in :meth:`~driftline.models.collaborative.CollaborativeTables.fit`.
        """
        num_items = len(features_NF)
        known_N = np.zeros(num_items, dtype=bool)
        known_N[np.concatenate(sequences)] = True
        return ridge(features_NF, raw_factors(sequences, num_items, FACTOR_DIM, dense_up_to), known_N)

    def score(self, histories: Sequence[Items], new_features_MF: Scores | None = None) -> Scores:
        """Scores of all items for each history, behind them those of new items: ``scores_B(N+M)``.

        Parameters
        ----------
        new_features_MF
            Content of items that are not in the table.
        """
        sums_BD = weighted_rows(recency_weights(histories, DECAY), self.table_ND)
        scores_BN = sums_BD @ self.table_ND.T
        if new_features_MF is None:
            return scores_BN
        return np.hstack([scores_BN, sums_BD @ (new_features_MF @ self.weights_FD + self.offset_D).T])


def ridge(
    features_NF: NDArray[Any], factors_ND: NDArray[Any], known_N: NDArray[np.bool_], l2: float = L2
) -> ContentRidge:
    """``W = (X'X + l2 I)^-1 X'Y`` over the known items; features are standardised and factors centred on them.

    Parameters
    ----------
    known_N
        bool, true for items with training events: only their factors are read.
    """
    x_KF, y_KD = features_NF[known_N], factors_ND[known_N]
    mean_F, deviation_F = x_KF.mean(axis=0, dtype=np.float64), x_KF.std(axis=0, dtype=np.float64)
    mean_D = y_KD.mean(axis=0, dtype=np.float64)
    scale_F = np.divide(1.0, deviation_F, out=np.zeros_like(deviation_F), where=deviation_F > 1e-9)
    x_KF = (x_KF - mean_F.astype(x_KF.dtype)) * scale_F.astype(x_KF.dtype)  # a constant feature says nothing
    gram_FF = (x_KF.T @ x_KF).astype(np.float64) + l2 * np.eye(x_KF.shape[1])
    solved_FD = scale_F[:, None] * np.linalg.solve(gram_FF, x_KF.T @ (y_KD - mean_D.astype(y_KD.dtype)))
    weights_FD, offset_D = solved_FD.astype(np.float32), (mean_D - mean_F @ solved_FD).astype(np.float32)
    table_ND = np.where(known_N[:, None], factors_ND, features_NF @ weights_FD + offset_D).astype(np.float32)
    return ContentRidge(table_ND, weights_FD, offset_D)


def features(texts: Sequence[str], text_vectors_NT: NDArray[np.float32]) -> NDArray[np.float32]:
    """What texts say of their items: attributes and text vector, ``features_NF``."""
    return np.hstack([Attributes.of(texts)(texts), text_vectors_NT])


def genres(catalog: Catalog) -> Floats:
    """One column per category, 1 where an item has it: ``features_NF``."""
    return _indicators(catalog.categories)


def years(catalog: Catalog) -> Floats:
    """One column per release year, 1 where an item is of it; an unknown year is none: ``features_NF``."""
    return _indicators([(year,) if year else () for year in catalog.years])


def _indicators(names_N: Sequence[Sequence[str]]) -> Floats:
    columns = {name: column for column, name in enumerate(sorted({name for names in names_N for name in names}))}
    features_NF = np.zeros((len(names_N), len(columns)))
    for row, names in enumerate(names_N):
        features_NF[row, [columns[name] for name in names]] = 1.0
    return features_NF
