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

from driftline.catalog.items import Catalog
from driftline.models.collaborative import ITEM_ITEM_DECAY
from driftline.models.interactions import Items
from driftline.models.recency import Scores, recency_weights, weighted_rows

Floats = NDArray[np.float64]

L2 = 1000.0
"""Ridge on standardised features, which are many beside a thousand items."""


@dataclass(frozen=True)
class ContentModel:
    """Items as vectors, dense or in compressed sparse rows."""

    table_ND: Any

    def score(self, histories: Sequence[Items]) -> Scores:
        """Scores of all items for each history: ``scores_BN``; 0 for an empty history."""
        sums_BD = weighted_rows(recency_weights(histories, ITEM_ITEM_DECAY), self.table_ND)
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


def ridge(features_NF: Floats, factors_ND: Floats, known_N: NDArray[np.bool_], l2: float = L2) -> ContentModel:
    """The factors of known items, and for the others those predicted from content.

    ``W = (X'X + l2 I)^-1 X'Y`` over the known items; features are standardised and factors centred on them.

    Parameters
    ----------
    known_N
        bool, true for items with training events.
    """
    mean_F, deviation_F = features_NF[known_N].mean(axis=0), features_NF[known_N].std(axis=0)
    x_NF = (features_NF - mean_F) / np.where(deviation_F > 0, deviation_F, np.inf)  # a constant feature says nothing
    mean_D = factors_ND[known_N].mean(axis=0)
    x_KF, y_KD = x_NF[known_N], factors_ND[known_N] - mean_D
    weights_FD = np.linalg.solve(x_KF.T @ x_KF + l2 * np.eye(x_KF.shape[1]), x_KF.T @ y_KD)
    return ContentModel(np.where(known_N[:, None], factors_ND, x_NF @ weights_FD + mean_D).astype(np.float32))


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
