"""Agreement of two lists."""

import math

import pytest

from driftline.evaluation.list_agreement import overlap, rank_correlation


def test_overlap_is_the_share_of_common_items() -> None:
    assert overlap(["a", "b", "c"], ["c", "a", "x"]) == pytest.approx(2 / 3)
    assert overlap(["a", "b"], ["a"]) == 0.5
    assert overlap([], []) == 0.0


def test_rank_correlation_of_the_same_and_of_reversed_lists() -> None:
    assert rank_correlation(["a", "b", "c"], ["a", "b", "c"]) == pytest.approx(1.0)
    assert rank_correlation(["a", "b", "c"], ["c", "b", "a"]) == pytest.approx(-1.0)


def test_an_item_that_a_list_lacks_is_behind_its_last_place() -> None:
    """a b | a c: places (0,0), (1,2), (2,1): two pairs agree, one does not: (2 - 1) / 3."""
    assert rank_correlation(["a", "b"], ["a", "c"]) == pytest.approx(1 / 3)


def test_one_item_has_no_order() -> None:
    assert math.isnan(rank_correlation(["a"], ["a"]))
