"""The sampled softmax: exact where all items are in the sample, unbiased elsewhere, shared between ranks."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from driftline.config import EncoderConfig, HeadsConfig, TrainingConfig
from driftline.models.adapters import adapter_state
from driftline.models.item_sample import sample_items
from driftline.models.item_table import ItemTable
from driftline.models.losses import next_item_loss
from driftline.models.recommender import Recommender
from driftline.models.user_encoder import UserEncoder
from driftline.sequences.batches import Batch, History, collate
from driftline.training.deepspeed_config import deepspeed_dict, initialize
from tests.training.ranks import run_ranks


def batch_of(*histories: list[int]) -> Batch:
    return collate([History(np.array(items, dtype=np.int64)) for items in histories])


def recommender(**options: float | str) -> Recommender:
    torch.manual_seed(0)
    config = EncoderConfig.model_validate(
        {"kind": "gru", "dim": 8, "layers": 1, "dropout": 0.0, "id_dropout": 0.0, "full_softmax_up_to": 1, **options}
    )
    items = ItemTable(torch.randn(9, 5), torch.ones(9, dtype=torch.bool), 8, 0.0)
    items.start_from_popularity(torch.arange(1, 10))
    return Recommender(items, UserEncoder(config), HeadsConfig(rating=0.0), mask_seen=True).train()


def test_a_sample_of_everything_is_the_full_softmax_to_its_gradients() -> None:
    given, model = batch_of([1, 2, 3, 4], [5, 6]), recommender(sampled_items=9)
    sampled, full = model(given).total, model.losses(given).total
    torch.testing.assert_close(sampled, full)
    grads = [torch.autograd.grad(loss, model.parameters(), allow_unused=True) for loss in (sampled, full)]
    for by_sample, by_all in zip(*grads, strict=True):
        assert (by_sample is None) == (by_all is None)
        if by_sample is not None:
            torch.testing.assert_close(by_sample, by_all)


def test_validation_is_over_all_items() -> None:
    model, given = recommender(sampled_items=1).eval(), batch_of([1, 2, 3])
    assert torch.equal(model(given).total, model.losses(given).total)


def test_what_an_item_stands_for_by_hand() -> None:
    """Two events, one of four drawn: an item of share 1/2 is missed with 3/4 (1/2)^2, of share 1/4 with 3/4 (3/4)^2."""
    sample = sample_items(batch_of([3, 1]), torch.tensor([0.25, 0.25, 0.0, 0.5]), uniform=1)
    assert {1, 3} <= set(sample.items_M.tolist())
    expected = {0: 37 / 64, 1: 37 / 64, 2: 1 / 4, 3: 13 / 16}
    for item, log_stands_for in zip(sample.items_M.tolist(), sample.log_stands_for_M.tolist(), strict=True):
        assert log_stands_for == pytest.approx(-math.log(expected[item]))
    assert sample.items_M[sample.batch.items_BL].tolist() == [[3, 1]]


def test_the_samples_normaliser_is_unbiased() -> None:
    """Batches of three independent events, two of six drawn: the mean of sums of exponentials is that of all items."""
    torch.manual_seed(0)
    share, logits = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.05, 0.05]), torch.tensor([2.0, 0, -1, 1, 0.5, 3])
    sums = []
    for events in torch.multinomial(share, 3 * 4000, replacement=True).view(-1, 3).tolist():
        sample = sample_items(batch_of(events), share, uniform=2)
        sums.append(float((logits[sample.items_M] + sample.log_stands_for_M).exp().sum()))
    assert abs(np.mean(sums) - float(logits.exp().sum())) < 3 * np.std(sums) / math.sqrt(len(sums))


def test_an_events_own_item_stands_for_itself() -> None:
    """Uniform logits, the event's item and one that stands for three: p = 1 / (1 + 3)."""
    stands_for = torch.tensor([math.log(5), math.log(3)])
    loss = next_item_loss(torch.zeros(1, 2, 2), torch.eye(2), torch.zeros(2), batch_of([0]), False, stands_for)
    assert float(loss) == pytest.approx(math.log(4))


def _shared(rank: int, world_size: int, folder: Path) -> None:
    own = [[0, 1, 2], [7]][rank]
    sample = sample_items(batch_of(own), torch.full((10,), 0.1), uniform=1)
    torch.save((sample.items_M, sample.log_stands_for_M), folder / f"{rank}.pt")
    assert sample.items_M[sample.batch.items_BL].tolist() == [own]


CASES = [(0, "fp32"), (2, "fp32"), (2, "bf16"), (3, "fp32")]


def _trained(rank: int, folder: Path, zero_stage: int, precision: str) -> None:
    """Every option of the ranking stage in a DeepSpeed engine."""
    options = {
        "kind": "transformer",
        "sampled_items": 3,
        "tied_output": False,
        "event_types": True,
        "item_dropout": 0.1,
        "target_gap": True,
    }
    model = recommender(**options, adversarial=0.0 if zero_stage == 3 else 0.1)
    config = TrainingConfig.model_validate(
        {"warmup_steps": 1, "deepspeed": {"zero_stage": zero_stage, "precision": precision}}
    )
    engine = initialize(model, deepspeed_dict(config, 1e-2, 100, 2, world_size=2))
    torch.manual_seed(rank)
    losses = []
    for _ in range(30):
        loss = engine([batch_of([1, 2, 3, 4], [1, 2, 3]), batch_of([2, 3, 4])][rank]).total
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5]), (zero_stage, precision, losses)
    torch.save(adapter_state(engine.module), folder / f"{zero_stage}-{precision}-{rank}.pt")


def _on_two_ranks(rank: int, world_size: int, folder: Path) -> None:
    _shared(rank, world_size, folder)
    for zero_stage, precision in CASES:
        _trained(rank, folder, zero_stage, precision)


@pytest.mark.slow
def test_ranks_share_their_batches_items_and_keep_the_same_weights(tmp_path: Path) -> None:
    """Three events and one: each of the four is in both samples, and is missed with 9/10 (9/10)^4."""
    run_ranks(2, _on_two_ranks, tmp_path)
    for zero_stage, precision in CASES:
        one, other = (torch.load(tmp_path / f"{zero_stage}-{precision}-{rank}.pt") for rank in range(2))
        assert one.keys() == other.keys() >= {"as_input.weight", "encoder.event_type.weight", "items.residual_ND"}
        assert all(torch.equal(one[name], other[name]) for name in one)
    for rank in range(2):
        saved: tuple[Tensor, Tensor] = torch.load(tmp_path / f"{rank}.pt")
        assert {0, 1, 2, 7} <= set(saved[0].tolist())
        assert saved[1].tolist() == pytest.approx([-math.log(1 - 0.9**5)] * len(saved[0]))
