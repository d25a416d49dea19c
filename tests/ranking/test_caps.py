"""Limits by category. Letters stand for categories, places are in order of relevance."""

import numpy as np
import pytest

from driftline.ranking.caps import Caps, CategoryCaps, capped
from driftline.ranking.diversity import mmr

ONE_EACH = [("A",), ("A",), ("A",), ("B",), ("A",), ("B",), ()]


@pytest.mark.parametrize(
    ("caps", "k", "chosen"),
    [
        (2, 4, [0, 1, 3, 5]),
        (1, 3, [0, 3, 6]),  # what has no category is never capped
        (1, 5, [0, 3, 6]),  # no more can be had
        ({"A": 1}, 4, [0, 3, 5, 6]),
        ({"a": 0}, 9, [3, 5, 6]),
        ({}, 2, [0, 1]),
    ],
)
def test_a_list_respects_its_caps_and_is_filled_from_further_down(caps: Caps, k: int, chosen: list[int]) -> None:
    assert capped(range(7), k, CategoryCaps(ONE_EACH, caps)) == chosen


def test_an_item_counts_in_each_of_its_categories() -> None:
    categories = [("A", "B"), ("B", "C"), ("A",), ("C",)]
    assert capped(range(4), 4, CategoryCaps(categories, 1)) == [0, 3]


def test_diversity_chooses_among_what_the_caps_leave_open() -> None:
    relevance = np.array([1.0, 0.9, 0.8, 0.0])
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    # without caps: 0 first; then 1 has .5*.9 - .5*1 = -.05, 2 has .5*.8 = .4
    assert mmr(relevance, vectors, 2, 0.5) == [0, 2]
    # 2 shares the category of 0: 1 (-.05) against 3 (0)
    assert mmr(relevance, vectors, 2, 0.5, CategoryCaps([("A",), ("B",), ("A",), ("C",)], 1)) == [0, 3]
    assert mmr(relevance, vectors, 3, 0.5, CategoryCaps([("A",)] * 4, 1)) == [0]
    behind = CategoryCaps([*[("A",)] * 4, ("A",), ("B",)], 1)  # two more candidates that diversity does not look at
    assert mmr(relevance, vectors, 3, 0.5, behind) + capped([4, 5], 2, behind) == [0, 5]
