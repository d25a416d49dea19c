"""What a cosine, shared words and a taste are worth, by hand."""

import numpy as np
import pytest

from driftline.ranking.similar import Relevance, WordIndex, personal_score, standing, text_match, words


def test_relevance_rises_with_the_cosine_and_is_1_for_the_same_text() -> None:
    relevance = Relevance(centre=0.5, temperature=0.25)
    at_one = 1 / (1 + np.exp(-2.0))  # (1 - .5) / .25 = 2
    assert relevance(np.array([0.5, 1.0, 1.0000001])) == pytest.approx([0.5 / at_one, 1.0, 1.0])
    fine = relevance(np.linspace(-1, 1, 401))
    assert (np.diff(fine) > 0).all()
    assert 0 < fine.min() < fine.max() <= 1


def test_the_centre_is_what_the_most_alike_tenth_of_the_pairs_exceeds() -> None:
    angles = np.array([0.0, 0.1, np.pi / 2])  # cosines of the three pairs: .995, .100 and 0
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    pairs = [np.cos(np.pi / 2), np.cos(np.pi / 2 - 0.1), np.cos(0.1)]
    assert Relevance.fit(vectors, 0.07).centre == pytest.approx(np.quantile(pairs, 0.9), abs=1e-6)


def test_words_are_told_apart_in_any_script() -> None:
    assert words("Fargo (1996). FARGO!") == ["fargo", "1996"]
    assert words("霸王别姬 Café") == ["霸", "王", "别", "姬", "café"]


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    index = WordIndex(["the red fox", "the red hen", "the owl"])
    fox, red = np.log1p(3 / 2), np.log1p(3 / 3)
    expected = [1.0, red / (fox + red), 0.0, fox / (fox + red)]
    assert index.shares("red fox", ["fox"]) == pytest.approx(expected)
    assert index.shares("?!").tolist() == [0, 0, 0]


def test_a_match_is_half_meaning_and_half_words() -> None:
    assert text_match(np.array([0.4]), np.array([1.0])) == pytest.approx([0.7])


def test_taste_is_bounded() -> None:
    log_p = np.array([-1.0, -np.inf, -3.0, -3.0, -np.inf], dtype=np.float32)
    assert standing(log_p).tolist() == [1.0, 0.125, 0.625, 0.625, 0.125]  # ranks 5, 1.5, 3.5, 3.5, 1.5
    match, taste = np.array([0.6, 0.34]), np.array([0.0, 1.0])
    assert personal_score(match, taste, 0.2) == pytest.approx([0.48, 0.472])  # .26 apart: more than .2 / .8
    assert standing(log_p[:1]).tolist() == [0.0]
