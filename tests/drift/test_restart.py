"""Λ, Shiryaev-Roberts, CUSUM and posterior against numbers worked out by hand and against plain loops."""

import math

import numpy as np
import pytest

from driftline.drift.posterior import map_change_point, recent_log_odds, recent_restarts, restart_posterior
from driftline.drift.restart import cusum, restart_ratio, shiryaev_roberts

LOG2 = math.log(2)
# p(x_t | restart k): rows k = 0, 1, 2. After a restart at 1 the events 1 and 2 are twice and four times as likely.
LOG_P = np.log(np.array([[1 / 8, 1 / 8, 1 / 8], [1, 1 / 4, 1 / 2], [1, 1, 1 / 16]]))


def test_ratio_sums_gains_from_the_restart_on() -> None:
    expected = [[0, 0, 0], [-np.inf, LOG2, 3 * LOG2], [-np.inf, -np.inf, -LOG2]]
    np.testing.assert_allclose(restart_ratio(LOG_P), expected)


def test_shiryaev_roberts_adds_one_to_the_sum_of_ratios() -> None:
    # after event 0: 1; after event 1: 1 + 2; after event 2: 1 + 8 + 1/2
    np.testing.assert_allclose(np.exp(shiryaev_roberts(restart_ratio(LOG_P))), [1, 3, 9.5])


def test_cusum_is_the_best_restart_and_never_negative() -> None:
    np.testing.assert_allclose(cusum(restart_ratio(LOG_P)), [0, LOG2, 3 * LOG2])


def test_posterior_weighs_ratios_by_the_hazard_odds() -> None:
    # hazard 1/5: prior odds 1/4. After event 2: 1 : 8/4 : (1/2)/4 = 8 : 16 : 1
    posterior = np.exp(restart_posterior(restart_ratio(LOG_P), hazard=0.2, temper=1.0))
    np.testing.assert_allclose(posterior[:, 2], [8 / 25, 16 / 25, 1 / 25])
    np.testing.assert_allclose(posterior[:, 0], [1, 0, 0])
    np.testing.assert_allclose(posterior.sum(axis=0), 1)


def test_tempering_takes_the_square_root_of_the_ratio() -> None:
    posterior = np.exp(restart_posterior(restart_ratio(LOG_P), hazard=0.5, temper=0.5))
    np.testing.assert_allclose(posterior[1, 1] / posterior[0, 1], math.sqrt(2))


def test_recent_log_odds_and_change_point() -> None:
    log_posterior = restart_posterior(restart_ratio(LOG_P), hazard=0.2, temper=1.0)
    np.testing.assert_allclose(recent_log_odds(log_posterior, 40)[1:], [math.log(2 / 4), math.log(17 / 8)])
    np.testing.assert_array_equal(map_change_point(log_posterior, 40), [-1, 1, 1])
    # with R = 1 only the event itself can be recent
    np.testing.assert_allclose(recent_log_odds(log_posterior, 1)[2], math.log(1 / 24))
    np.testing.assert_array_equal(map_change_point(log_posterior, 1), [-1, 1, 2])
    assert recent_log_odds(log_posterior, 40)[0] == -np.inf


def test_recent_restarts() -> None:
    np.testing.assert_array_equal(recent_restarts(4, 2)[:, 3], [False, False, True, True])
    np.testing.assert_array_equal(recent_restarts(4, 40)[:, 3], [False, True, True, True])


@pytest.mark.parametrize("n", [1, 2, 17])
def test_against_plain_loops(n: int) -> None:
    rng = np.random.default_rng(n)
    log_p = np.triu(np.log(rng.uniform(0.01, 1, size=(n, n))))
    ratio = restart_ratio(log_p)
    for t in range(n):
        by_restart = [sum(log_p[k, s] - log_p[0, s] for s in range(k, t + 1)) for k in range(1, t + 1)]
        np.testing.assert_allclose(ratio[1 : t + 1, t], by_restart)
        assert shiryaev_roberts(ratio)[t] == pytest.approx(math.log(1 + sum(map(math.exp, by_restart))))
        assert cusum(ratio)[t] == pytest.approx(max([0.0, *by_restart]))


def test_no_events() -> None:
    nothing = restart_ratio(np.zeros((0, 0)))
    assert shiryaev_roberts(nothing).shape == cusum(nothing).shape == recent_log_odds(nothing, 40).shape == (0,)
