"""Rates of clustered outcomes."""

import pytest

from driftline.evaluation.proportions import clustered_rate, difference


def test_the_intervals_are_those_that_newcombe_published() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table II (a): 56/70 against 48/80, method 10: .0524 to .3339."""
    a = clustered_rate([1] * 70, [1] * 56 + [0] * 14)
    b = clustered_rate([1] * 80, [1] * 48 + [0] * 32)
    gap = difference(a, b)
    # one trial per cluster: the variance over clusters is n/(n-1) times the binomial one
    assert a.effective_trials == pytest.approx(69)
    assert gap.mean == pytest.approx(0.2)
    assert (gap.low, gap.high) == pytest.approx((0.0524, 0.3339), abs=0.001)


def test_lists_of_one_user_that_agree_count_as_one() -> None:
    """Four users, two lists each, both hit or neither: residuals are ±1, so 4/3 * 4 / 64 = 1/12 over 1/32 = 8/3."""
    rate = clustered_rate([2, 2, 2, 2], [2, 2, 0, 0])
    assert (rate.trials, rate.hits, rate.clusters) == (8, 4, 4)
    assert rate.effective_trials == pytest.approx(8 / (8 / 3))
    # Wilson at 3 trials, z² = 3.8415: centre .5, half = 1.96 / (1 + 1.2805) * sqrt(.25/3 + 3.8415/36) = .3745
    assert (rate.interval.low, rate.interval.high) == pytest.approx((0.1255, 0.8745), abs=0.0005)


def test_users_that_spread_their_hits_count_no_more_than_the_lists() -> None:
    assert clustered_rate([2, 2], [1, 1]).effective_trials == 4  # no variance at all over users: the floor holds


@pytest.mark.parametrize(("hits", "low", "high"), [(0, 0.0, 0.4345), (5, 0.5655, 1.0)])
def test_nothing_and_everything_still_have_an_interval(hits: int, low: float, high: float) -> None:
    """Five users of ten lists each count as five: z² / (n + z²) = 3.8415 / 8.8415 = .4345."""
    rate = clustered_rate([10] * 5, [2 * hits] * 5)
    assert (rate.interval.low, rate.interval.high) == pytest.approx((low, high), abs=1e-4)


def test_no_trial_has_no_rate() -> None:
    with pytest.raises(ValueError, match="no trials"):
        clustered_rate([], [])
