"""Intervals whose answer is known: targets of one user stand or fall together."""

import numpy as np
import pytest

from driftline.evaluation.bootstrap import user_bootstrap


def users(count: int, targets_each: int = 1) -> np.ndarray:
    return np.repeat([f"u{user}" for user in range(count)], targets_each).astype(object)


def test_a_constant_has_no_spread() -> None:
    interval = user_bootstrap(np.full(12, 0.25), users(4, 3))
    assert (interval.mean, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_one_target_per_user_gives_the_normal_interval() -> None:
    values = np.repeat([0.0, 1.0], 200)  # 400 users, mean 1/2: standard error sqrt(1/4 / 400) = 0.025
    interval = user_bootstrap(values, users(400), resamples=4000)
    assert interval.mean == 0.5
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)


def test_targets_of_one_user_are_resampled_together() -> None:
    """25 equal targets of each of 16 users say no more than one: standard error sqrt(1/4 / 16) = 1/8, not 1/40."""
    values = np.repeat(np.repeat([0.0, 1.0], 8), 25)
    interval = user_bootstrap(values, users(16, 25), resamples=4000)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / 8, abs=0.04)
    alone = user_bootstrap(values, users(400), resamples=4000)
    assert alone.high - alone.low == pytest.approx(2 * 1.96 / 40, abs=0.01)


def test_two_users_can_only_be_drawn_in_three_ways() -> None:
    """User a has one target worth 1, user b three worth 0: the means are 1 (aa), 1/4 (ab) and 0 (bb)."""
    values, who = np.array([1.0, 0, 0, 0]), np.array(["a", "b", "b", "b"], dtype=object)
    narrow, wide = user_bootstrap(values, who, level=0.2), user_bootstrap(values, who, level=0.99)
    assert (narrow.low, narrow.high) == (0.25, 0.25)
    assert (wide.low, wide.mean, wide.high) == (0, 0.25, 1)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random(50)
    assert user_bootstrap(values, users(50), seed=1) == user_bootstrap(values, users(50), seed=1)
    assert user_bootstrap(values, users(50), seed=1) != user_bootstrap(values, users(50), seed=2)


def test_an_interval_prints_with_four_digits() -> None:
    assert str(user_bootstrap(np.full(3, 0.5), users(3))) == "0.5000 [0.5000, 0.5000]"
