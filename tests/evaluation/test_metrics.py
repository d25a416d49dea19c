"""Ranks and metrics against fractions worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.evaluation.metrics import coverage, gini, hit_rate, mid_ranks, ndcg, novelty, reciprocal_rank


def rank_of(scores: list[float], target: int, excluded: list[int] | None = None) -> float:
    excluded_BN = np.zeros((1, len(scores)), dtype=bool)
    excluded_BN[0, excluded or []] = True
    return float(mid_ranks(np.array([scores], dtype=np.float32), np.array([target]), excluded_BN)[0])


@pytest.mark.parametrize(
    ("scores", "target", "excluded", "rank"),
    [
        ([3, 2, 1], 1, [], 2),  # one is better
        ([3, 2, 1], 1, [0], 1),  # and that one is no candidate
        ([3, 2, 2, 2, 1], 2, [], 3),  # places 2, 3, 4: the middle
        ([3, 2, 2, 1], 1, [], 2.5),  # places 2 and 3
        ([3, 2, 2, 1], 1, [2], 2),  # a tie with an excluded item is none
        ([0, 0, 0, 0], 3, [], 2.5),  # a constant model guesses
        ([3, 2, 1], 2, [2], 3),  # a target is a candidate even if it was seen
        ([-math.inf, 1, -math.inf], 0, [], 2.5),  # impossible items tie at the end
        ([math.nan, 2, 1], 2, [0], 2),  # what is no candidate may hold anything
    ],
)
def test_rank_by_hand(scores: list[float], target: int, excluded: list[int], rank: float) -> None:
    assert rank_of(scores, target, excluded) == rank


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN.*diverged"):
        rank_of([math.nan, math.nan, math.nan], 1)


def test_ranking_leaves_the_exclusions_as_they_were() -> None:
    excluded_BN = np.array([[True, True, False]])
    mid_ranks(np.zeros((1, 3), dtype=np.float32), np.array([0]), excluded_BN)
    assert excluded_BN.tolist() == [[True, True, False]]


@settings(deadline=None)  # other processes may share the cores
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_ranks_of_all_items_add_up_as_if_there_were_no_ties(scores: list[int]) -> None:
    n = len(scores)
    tiled = np.tile(np.array(scores, dtype=np.float32), (n, 1))
    ranks = mid_ranks(tiled, np.arange(n), np.zeros((n, n), dtype=bool))
    assert ranks.sum() == n * (n + 1) / 2


def test_metrics_of_one_target() -> None:
    ranks = np.array([1.0, 2.0, 3.5, 10.0, 10.5, 200.0])
    assert hit_rate(ranks).tolist() == [1, 1, 1, 1, 0, 0]
    assert ndcg(ranks) == pytest.approx([1, 1 / math.log2(3), 1 / math.log2(4.5), 1 / math.log2(11), 0, 0])
    assert reciprocal_rank(ranks) == pytest.approx([1, 1 / 2, 1 / 3.5, 1 / 10, 0, 0])
    assert hit_rate(ranks, k=3).tolist() == [1, 1, 0, 0, 0, 0]


def test_means_over_three_targets() -> None:
    ranks = np.array([1.0, 3.0, 11.0])
    assert hit_rate(ranks).mean() == pytest.approx(2 / 3)
    assert ndcg(ranks).mean() == pytest.approx(1 / 3 * (1 + 1 / 2 + 0))  # 1 / log2(4) = 1/2
    assert reciprocal_rank(ranks).mean() == pytest.approx(1 / 3 * (1 + 1 / 3 + 0))


def test_coverage_counts_distinct_items() -> None:
    assert coverage(np.array([[0, 1], [1, 2], [0, 2]]), num_items=5) == 3 / 5


def test_novelty_is_the_self_information_of_what_is_shown() -> None:
    popularity = np.array([5, 1, 0, 1], dtype=np.float32)  # with one more each: 6, 2, 1, 2 of 11
    bits = [-math.log2(6 / 11), -math.log2(2 / 11)]
    assert novelty(np.array([[0, 1]]), popularity) == pytest.approx(sum(bits) / 2, rel=1e-6)
    assert novelty(np.array([[2, 3]]), popularity) > novelty(np.array([[0, 1]]), popularity)


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ([[0, 1], [2, 3]], 0.0),  # every item once
        ([[0], [0], [0], [0]], 3 / 4),  # one item only: (N - 1) / N
        # counts 0, 1, 1, 2: sum (2i - 5) x_i = -3*0 - 1*1 + 1*1 + 3*2 = 6, over 4 * 4
        ([[0, 1], [0, 2]], 6 / 16),
    ],
)
def test_gini_of_exposure(top: list[list[int]], expected: float) -> None:
    assert gini(np.array(top), num_items=4) == pytest.approx(expected)
