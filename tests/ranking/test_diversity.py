"""Maximal marginal relevance on three items."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.ranking.diversity import mmr

RELEVANCE = np.array([3.0, 2.9, 2.0])  # 1, 0.9, 0 when brought to 0..1
TWINS_AND_ANOTHER = np.array([[1, 0], [2, 0], [0, 1]], dtype=np.float32)


@pytest.mark.parametrize(
    ("diversity", "order"),
    [
        (0.0, [0, 1, 2]),
        # after item 0, its twin is worth (1 - d) 0.9 - d and the other item 0: even at d = 0.9 / 1.9
        (0.47, [0, 1, 2]),
        (0.48, [0, 2, 1]),
        (0.9, [0, 2, 1]),
    ],
)
def test_the_twin_gives_way_by_hand(diversity: float, order: list[int]) -> None:
    assert mmr(RELEVANCE, TWINS_AND_ANOTHER, k=3, diversity=diversity) == order


def test_the_nearest_chosen_item_counts() -> None:
    """Items at 0, 90 and 45 degrees: the third is 0.71 near to either, not nearer to both."""
    vectors = np.array([[1, 0], [0, 1], [1, 1], [-1, 0]], dtype=np.float32)
    # after 0 and 1 are chosen: item 2 is worth 0.5 * 0.5 - 0.5 * 0.71 = -0.10, item 3 0.5 * 0 - 0.5 * 0 = 0
    assert mmr(np.array([1.0, 1.0, 0.5, 0.0]), vectors, k=3, diversity=0.5) == [0, 1, 3]


def test_position_decides_between_equals() -> None:
    assert mmr(np.zeros(3), np.zeros((3, 2), dtype=np.float32), k=3, diversity=0.5) == [0, 1, 2]


@pytest.mark.parametrize("k", [0, 1, 2, 5])
def test_no_more_items_than_there_are(k: int) -> None:
    assert mmr(RELEVANCE, TWINS_AND_ANOTHER, k, 0.5) == [0, 2, 1][:k]
    assert mmr(np.empty(0), np.empty((0, 2), dtype=np.float32), k, 0.5) == []


@settings(deadline=None)  # other processes may share the cores
@given(st.lists(st.integers(-50, 0), min_size=1, max_size=10), st.floats(0, 0.99), st.integers(0, 12))
def test_every_item_at_most_once(relevance: list[int], diversity: float, k: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(relevance), 3)).astype(np.float32)
    chosen = mmr(np.array(relevance, dtype=np.float64), vectors, k, diversity)
    assert len(chosen) == len(set(chosen)) == min(k, len(relevance))
    if chosen:
        assert relevance[chosen[0]] == max(relevance)
