"""Log-probabilities of all restarts against one forward pass per restart, event and mask."""

import numpy as np
import pytest
import torch

from driftline.drift.surprise import restart_log_probabilities
from driftline.models.recommender import Recommender
from driftline.sequences.batches import History, collate
from tests.drift.tastes import ITEMS, fresh_model

HISTORY = np.array([3, 200, 17, 4, 99, 131, 8])


def one_by_one(model: Recommender, history: np.ndarray, window: int, mask_seen: bool) -> np.ndarray:
    table, bias = model.items()
    start = max(0, len(history) - window)
    n = len(history) - start
    out = np.zeros((n, n))
    for k in range(n):
        for t in range(k, n):
            context = History(history[start + k : start + t])
            state = model.last_interests(collate([context]), table)[0]
            logits = table @ state + bias
            if mask_seen:
                logits[[i for i in history[: start + t].tolist() if i != history[start + t]]] = -torch.inf
            out[k, t] = torch.log_softmax(logits, 0)[history[start + t]]
    return out


@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize("window", [120, 4])
def test_matches_one_pass_per_restart(mask_seen: bool, window: int) -> None:
    model = fresh_model(mask_seen=mask_seen)
    with torch.no_grad():
        model.items.residual_ND.mul_(40)  # so that the context matters
        table, bias = model.items()
        got = restart_log_probabilities(model, table, bias, HISTORY, window)
        np.testing.assert_allclose(got, one_by_one(model, HISTORY, window, mask_seen), atol=1e-5)


def test_old_restarts_are_interpolated_closely() -> None:
    model = fresh_model()
    history = np.random.default_rng(0).permutation(ITEMS)[:60]
    with torch.no_grad():
        model.items.residual_ND.mul_(5)
        table, bias = model.items()
        got = restart_log_probabilities(model, table, bias, history, 120)
        exact = one_by_one(model, history, 120, True)
    computed = np.subtract.outer(np.arange(60), np.arange(60)) > -9  # k > t - 9
    np.testing.assert_allclose(np.triu(got * computed), np.triu(exact * computed), atol=1e-4)
    np.testing.assert_allclose(got[0], exact[0], atol=1e-4)
    assert np.abs(got - exact).mean() < 0.03


def test_a_repeated_item_stays_possible() -> None:
    model = fresh_model()
    table, bias = (t.detach() for t in model.items())
    assert np.isfinite(restart_log_probabilities(model, table, bias, np.array([5, 5, 5]), 120)).all()


def test_an_untrained_uniform_model_sees_only_the_mask() -> None:
    model = fresh_model()
    table, bias = torch.zeros(ITEMS, 16), torch.zeros(ITEMS)
    got = restart_log_probabilities(model, table, bias, HISTORY, 120)
    # ITEMS - t items are left before event t, whatever the restart
    expected = np.triu(np.broadcast_to(-np.log(ITEMS - np.arange(len(HISTORY))), (len(HISTORY),) * 2))
    np.testing.assert_allclose(got, expected, atol=1e-6)
