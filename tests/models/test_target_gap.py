"""Interests given the time to the next event: nothing of the event itself is seen."""

import numpy as np
import pytest
import torch
from torch import Tensor

from driftline.config import EncoderConfig, HeadsConfig
from driftline.models.item_table import ItemTable
from driftline.models.recommender import Recommender, _told
from driftline.models.user_encoder import UserEncoder
from driftline.sequences.batches import Batch, History, collate


def recommender(kind: str, target_gap: bool = True) -> Recommender:
    torch.manual_seed(0)
    items = ItemTable(torch.randn(9, 5), torch.ones(9, dtype=torch.bool), 8, 0.0)
    config = EncoderConfig.model_validate({"kind": kind, "dim": 8, "layers": 2, "dropout": 0, "target_gap": target_gap})
    model = Recommender(items, UserEncoder(config), HeadsConfig(rating=0)).eval()
    for name, parameter in model.named_parameters():
        if "next_gap" not in name:
            torch.nn.init.normal_(parameter, std=0.5)
    if model.encoder.next_gap is not None:
        torch.nn.init.normal_(model.encoder.next_gap.weight[1:], std=0.5)
    return model


def batch(items: list[int], times_s: list[float], now_s: float | None = 40.0) -> Batch:
    return collate([History(np.array(items), np.array(times_s), now_s=now_s)])


def predictions(model: Recommender, given: Batch) -> Tensor:
    return model.interests(given, model.items()[0])[0]


def test_the_gap_after_a_state_is_the_one_before_its_next_event() -> None:
    """Gaps 10, 0, 40 to the next events of the first row; nobody asked what comes after the second and the third."""
    timed = History(np.array([1, 2, 3]), np.array([0.0, 10, 10]), now_s=50.0)
    together = collate([timed, History(np.array([4]), np.array([0.0])), History(np.array([5, 6]), np.array([3.0, 9]))])
    assert together.gaps_BL is not None
    assert together.gaps_BL.tolist() == [[0, 3, 1], [0, 0, 0], [0, 3, 0]]
    assert together.next_gaps_BS is not None
    assert together.next_gaps_BS.tolist() == [[0, 3, 1, 4], [0] * 4, [0] * 4]
    assert collate([History(np.array([4]), np.array([0.0]))]).next_gaps_BS is None
    one = History(np.array([1]), np.array([0.0]), now_s=0.0)
    alone, short = collate([one]), collate([one, timed])
    assert alone.next_gaps_BS is not None
    assert alone.next_gaps_BS.tolist() == [[0, 1]]
    assert short.next_gaps_BS is not None
    assert short.next_gaps_BS.tolist() == [[0, 1, 0, 0], [0, 3, 1, 4]]


@pytest.mark.parametrize("kind", ["transformer", "gru", "mean"])
@torch.no_grad()
def test_a_prediction_sees_the_time_of_its_event_but_not_the_event(kind: str) -> None:
    model = recommender(kind)
    before = predictions(model, batch([1, 2, 3, 4], [0, 10, 20, 30]))
    other_item = predictions(model, batch([1, 2, 5, 4], [0, 10, 20, 30]))
    torch.testing.assert_close(other_item[:3], before[:3])
    assert not torch.allclose(other_item[3], before[3])
    other_time = predictions(model, batch([1, 2, 3, 4], [0, 10, 9000, 9010], now_s=9020.0))
    torch.testing.assert_close(other_time[:2], before[:2])
    assert not torch.allclose(other_time[2], before[2])
    asked_later = predictions(model, batch([1, 2, 3, 4], [0, 10, 20, 30], now_s=9000.0))
    torch.testing.assert_close(asked_later[:4], before[:4])
    assert not torch.allclose(asked_later[4], before[4])


@torch.no_grad()
def test_without_the_moment_or_the_option_it_does_not_matter() -> None:
    for model in (recommender("gru"), recommender("gru", target_gap=False)):
        unasked = predictions(model, batch([1, 2], [0, 10], now_s=None))
        given = predictions(model, batch([1, 2], [0, 10]))
        assert torch.allclose(given, unasked) == (not model.encoder.config.target_gap)


def test_training_tells_half_of_the_sequences_and_never_learns_the_unknown_gap() -> None:
    torch.manual_seed(0)
    many = collate([History(np.array([1, 2]), np.array([0.0, 10]))] * 1000)
    told = _told(many).next_gaps_BS
    assert told is not None
    assert {tuple(row) for row in told.tolist()} == {(0, 3, 1), (0, 0, 0)}
    assert float((told[:, 1] == 3).float().mean()) == pytest.approx(0.5, abs=0.05)
    model = recommender("transformer").train()
    model(many).total.backward()
    assert model.encoder.next_gap is not None
    gradient = model.encoder.next_gap.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(dim=1).nonzero().flatten().tolist() == [3]  # what follows the last event is no target
    bare = collate([History(np.array([1, 2]))])
    model(bare).total.backward()  # every rank needs a gradient
