"""The content baselines of the cold-item protocol."""

import numpy as np
from numpy.typing import NDArray

from driftline.evaluation.protocols import ScoreFunction
from driftline.models.collaborative import popularity
from driftline.models.content import FACTOR_DIM, ContentModel, ContentRidge, genres, knn, ridge, tfidf_knn, years
from driftline.models.item_factors import raw_factors
from driftline.sequences.dataset import Dataset


def content_baselines(dataset: Dataset, text_vectors_NT: NDArray[np.float32] | None = None) -> dict[str, ScoreFunction]:
    """Ridge regression from content to collaborative factors, and content kNN, from the events of ``split.fit``.

    Parameters
    ----------
    text_vectors_NT
        Vectors of the items' texts, for a ridge regression that reads them beside genre and year.
    """
    catalog, num_items = dataset.catalog, len(dataset.catalog)
    sequences = [history.items for history in dataset.histories(dataset.split.fit).values()]
    factors_ND = raw_factors(sequences, num_items, FACTOR_DIM)
    known_N = popularity(sequences, num_items) > 0
    described_NF = np.hstack([genres(catalog), years(catalog)])
    models: dict[str, ContentModel | ContentRidge] = {
        "genre kNN": knn(genres(catalog)),
        "TF-IDF kNN": tfidf_knn(catalog.texts),
        "ridge genre+year": ridge(described_NF, factors_ND, known_N),
    }
    if text_vectors_NT is not None:
        features_NF = np.hstack([described_NF, text_vectors_NT.astype(np.float64)])
        models["ridge +text"] = ridge(features_NF, factors_ND, known_N)

    def scorer(model: ContentModel | ContentRidge) -> ScoreFunction:
        return lambda histories: model.score([history.items for history in histories])

    return {name: scorer(model) for name, model in models.items()}
