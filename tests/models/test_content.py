"""Content baselines against small examples worked out by hand."""

import numpy as np
import pytest

from driftline.catalog.items import Catalog
from driftline.models.content import ContentModel, ContentRidge, features, genres, knn, ridge, tfidf_knn, years

HALF = 1 / np.sqrt(2)


@pytest.fixture
def catalog() -> Catalog:
    texts = ["Dusty Ranch", "Dusty Orbit", "Silent Orbit"]
    return Catalog(list("abc"), texts, ["1994", "", "1995"], [("Western",), ("Western", "Sci-Fi"), ("Sci-Fi",)], texts)


def histories(*items: list[int]) -> list[np.ndarray]:
    return [np.array(history, dtype=np.int64) for history in items]


def test_features_are_indicators(catalog: Catalog) -> None:
    assert genres(catalog).tolist() == [[0, 1], [1, 1], [1, 0]]  # Sci-Fi, Western
    assert years(catalog).tolist() == [[1, 0], [0, 0], [0, 1]]


def test_knn_sums_cosines_with_recent_items_first(catalog: Catalog) -> None:
    scores = knn(genres(catalog)).score(histories([0], [0, 2], []))
    assert scores[0] == pytest.approx([1, HALF, 0])
    assert scores[1] == pytest.approx([0.9, 0.9 * HALF + HALF, 1])
    assert scores[2].tolist() == [0, 0, 0]


def test_tfidf_weighs_words_that_few_items_have(catalog: Catalog) -> None:
    """idf = ln(4 / (df + 1)) + 1: ranch and silent ln 2 + 1, dusty and orbit ln(4/3) + 1."""
    rare, common = np.log(2) + 1, np.log(4 / 3) + 1
    scores = tfidf_knn(catalog.texts).score(histories([0]))[0]
    assert scores == pytest.approx([1, common / np.hypot(rare, common) * HALF, 0], rel=1e-5)


def test_ridge_predicts_the_factor_of_an_unknown_item() -> None:
    """Features 0 and 2 are -1 and 1 standardised; factors 0 and 4 are -2 and 2 centred: w = 4 / (2 + l2) = 1."""
    features = np.array([[0.0, 7.0], [2.0, 7.0], [4.0, 9.0]])  # the second one is constant among the known
    factors = np.array([[0.0], [4.0], [99.0]])
    model = ridge(features, factors, np.array([True, True, False]), l2=2.0)
    assert model.table_ND.tolist() == [[0], [4], [5]]  # 2 + 3 * 1
    assert (model.weights_FD.tolist(), model.offset_D.tolist()) == ([[1], [0]], [1])
    new = np.array([[4.0, 7.0], [-1.0, 7.0]], dtype=np.float32)
    expected = np.array([[0, 16, 20, 20, 0], [0, 14.4, 18, 18, 0], [0] * 5])
    assert model.score(histories([1], [1, 0], []), new) == pytest.approx(expected, abs=1e-5)


def test_content_is_regressed_on_the_factors_of_raw_interactions() -> None:
    """Singular vectors (1, 1, 0, 0) / sqrt 2 and (0, 0, 1, 0). Features 0, 0, 2 are -1, -1, 2 over sqrt 2 standardised;
    on the second vector, centred -1/3, -1/3, 2/3, their weight is sqrt 2 / (3 + 1000)."""
    model = ContentRidge.fit(histories([0, 1], [1, 0], [2]), np.array([[0.0], [0], [2], [2]]))
    assert model.table_ND.shape == (4, 2)
    assert model.score(histories([2], [0]))[0] == pytest.approx([0, 0, 1, 1 / 3 + 2 / 1003], abs=1e-6)
    assert model.score(histories([0]))[0, :3] == pytest.approx([0.5, 0.5, 0], abs=1e-6)


def test_what_texts_say_is_attributes_and_text_vector() -> None:
    texts, vectors = ["A (1990). Genres: War.", "B (1990)."], np.array([[3.0], [4.0]], dtype=np.float32)
    assert features(texts, vectors).tolist() == [[2, 2, 3], [0, 2, 4]]  # War, 1990, both of weight 2


def test_scores_are_products_with_the_history() -> None:
    model = ContentModel(np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], dtype=np.float32))
    assert model.score(histories([0, 1]))[0] == pytest.approx([0.9, 4.0, 2.9])
