"""Bucketing by length changes what is computed, not the result: the loss per event and its gradients stay."""

import numpy as np
import pytest
import torch

from driftline.config import EncoderConfig, HeadsConfig
from driftline.models.item_table import ItemTable
from driftline.models.recommender import Recommender
from driftline.models.user_encoder import UserEncoder
from driftline.sequences.batches import History, collate, length_groups

ITEMS = 40
LENGTHS = [2, 30, 3, 2, 17, 29, 5, 4, 30, 16, 3, 9]


@pytest.fixture(scope="module")
def histories() -> list[History]:
    rng = np.random.default_rng(0)
    return [
        History(rng.integers(0, ITEMS, n), np.cumsum(rng.integers(0, 9_999, n)).astype(np.float64)) for n in LENGTHS
    ]


def model_of(kind: str) -> Recommender:
    torch.manual_seed(0)
    config = EncoderConfig(kind=kind, dim=16, layers=2, heads=2, dropout=0.0, window_events=30, id_dropout=0.0)  # type: ignore[arg-type]
    items = ItemTable(torch.randn(ITEMS, 8), torch.ones(ITEMS, dtype=torch.bool), 16, 0.0)
    return Recommender(items, UserEncoder(config), HeadsConfig(rating=0.0)).double()


def loss_and_gradients(
    model: Recommender, histories: list[History], groups: list[list[int]]
) -> tuple[float, torch.Tensor]:
    """Mean loss per event over all batches, and its gradient."""
    model.zero_grad()
    batches = [collate([histories[number] for number in group]) for group in groups]
    total = sum(batch.events for batch in batches)
    loss = sum((model(batch).total * batch.events / total for batch in batches), torch.tensor(0.0))
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return float(loss.detach()), torch.cat(gradients)


@pytest.mark.parametrize("kind", ["transformer", "gru"])
def test_bucketed_batches_have_the_loss_of_single_sequences(kind: str, histories: list[History]) -> None:
    model = model_of(kind)
    rng = np.random.default_rng(1)
    bucketed = [group.tolist() for group in length_groups(LENGTHS, 4, rng)]
    mixed = rng.permutation(len(LENGTHS)).reshape(3, 4).tolist()
    padding = [sum(collate([histories[n] for n in group]).mask_BL.numel() for group in groups) for groups in
               (bucketed, mixed)]  # fmt: skip
    assert padding[0] < padding[1]
    alone = loss_and_gradients(model, histories, [[number] for number in range(len(LENGTHS))])
    for groups in (bucketed, mixed):
        loss, gradients = loss_and_gradients(model, histories, groups)
        assert loss == pytest.approx(alone[0], abs=1e-6)
        torch.testing.assert_close(gradients, alone[1], rtol=1e-6, atol=1e-9)
