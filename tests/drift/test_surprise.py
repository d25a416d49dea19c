"""Log-probabilities of all restarts against one forward pass per restart, event and mask."""

import numpy as np
import pytest
import torch

from driftline.config import EncoderKind
from driftline.drift.surprise import restart_log_probabilities
from driftline.models.recommender import Recommender
from driftline.sequences.batches import History, collate
from tests.drift.tastes import ITEMS, fresh_model

HISTORY = np.array([3, 200, 17, 4, 99, 131, 8])


@torch.no_grad()
def one_by_one(model: Recommender, history: np.ndarray, newest: int, window: int) -> list[np.ndarray]:
    table, bias = model.items()
    out = []
    for t in range(len(history) - newest, len(history)):
        log_p = []
        for k in range(max(0, t + 1 - window), t + 1):
            logits = table @ model.last_interests(collate([History(history[k:t])]), table)[0] + bias
            if model.mask_seen:
                logits[[i for i in history[:t].tolist() if i != history[t]]] = -torch.inf
            log_p.append(float(torch.log_softmax(logits, 0)[history[t]]))
        out.append(np.array(log_p))
    return out


@torch.no_grad()
def at_once(model: Recommender, histories: list[np.ndarray], newest: list[int], window: int) -> list[list[np.ndarray]]:
    return restart_log_probabilities(model, *model.items(), histories, newest, window)


@pytest.mark.parametrize("kind", ["mean", "gru", "transformer"])
@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize("window", [120, 4])
def test_matches_one_pass_per_restart(mask_seen: bool, window: int, kind: EncoderKind) -> None:
    model = fresh_model(mask_seen=mask_seen, kind=kind)
    with torch.no_grad():
        model.items.residual_ND.mul_(40)  # so that the context matters
    histories, newest = [HISTORY, HISTORY[:2], HISTORY[::-1].copy(), HISTORY[:0]], [7, 2, 1, 0]
    for history, count, got in zip(histories, newest, at_once(model, histories, newest, window), strict=True):
        expected = one_by_one(model, history, count, window)
        assert [len(log_p) for log_p in got] == [len(log_p) for log_p in expected]
        for log_p, exact in zip(got, expected, strict=True):
            np.testing.assert_allclose(log_p, exact, atol=1e-5)


def test_old_restarts_are_interpolated_closely() -> None:
    model = fresh_model()
    history = np.random.default_rng(0).permutation(ITEMS)[:60]
    with torch.no_grad():
        model.items.residual_ND.mul_(5)
    (got,) = at_once(model, [history], [60], 120)
    exact = one_by_one(model, history, 60, 120)
    for log_p, expected in zip(got, exact, strict=True):
        np.testing.assert_allclose(log_p[-9:], expected[-9:], atol=1e-4)
        assert log_p[0] == pytest.approx(expected[0], abs=1e-4)
    assert np.abs(np.concatenate(got) - np.concatenate(exact)).mean() < 0.06


def test_a_repeated_item_stays_possible() -> None:
    (got,) = at_once(fresh_model(), [np.array([5, 5, 5])], [3], 120)
    assert np.isfinite(np.concatenate(got)).all()


def test_an_untrained_uniform_model_sees_only_the_mask() -> None:
    model = fresh_model()
    table, bias = torch.zeros(ITEMS, 16), torch.zeros(ITEMS)
    (got,) = restart_log_probabilities(model, table, bias, [HISTORY], [3], 120)
    # of 7 events 4, 5 and 6 are read: ITEMS - t items are left before event t, whatever the restart
    for t, log_p in zip((4, 5, 6), got, strict=True):
        np.testing.assert_allclose(log_p, np.full(t + 1, -np.log(ITEMS - t)), atol=1e-6)
