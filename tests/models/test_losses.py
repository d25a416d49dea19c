"""The next-item loss and its mask on an example of three items."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from driftline.models.losses import next_item_log_p, next_item_loss, seen_before
from driftline.sequences.batches import Batch, History, collate


def batch_of(*histories: list[int]) -> Batch:
    return collate([History(np.array(items, dtype=np.int64)) for items in histories])


def interests(rows: list[list[float]]) -> Tensor:
    """One state vector per event and one more, used as logits: the table is the identity."""
    return torch.tensor([rows], dtype=torch.float32)


TABLE, NO_BIAS = torch.eye(3), torch.zeros(3)


def test_seen_before_by_hand() -> None:
    seen = seen_before(batch_of([2, 0, 1], [1]), num_items=3)
    assert seen[0].tolist() == [[False, False, False], [False, False, True], [True, False, True]]
    assert seen[1, 0].tolist() == [False, False, False]


def test_an_events_own_item_is_never_marked() -> None:
    seen = seen_before(batch_of([0, 1, 0, 0]), num_items=3)
    assert seen[0].tolist() == [
        [False, False, False],
        [True, False, False],
        [False, True, False],  # 0 again
        [False, True, False],
    ]


def test_padding_marks_nothing() -> None:
    """Padded places hold item 0, which the short history never had."""
    seen = seen_before(batch_of([1, 2, 1, 2], [1]), num_items=3)
    assert not seen[1, :, 0].any()


def test_uniform_scores_cost_the_log_of_the_number_of_items() -> None:
    loss = next_item_loss(interests([[0, 0, 0]] * 3), TABLE, NO_BIAS, batch_of([2, 0]), mask_seen=False)
    assert float(loss) == pytest.approx(math.log(3))


def test_seen_items_leave_the_normaliser() -> None:
    """Events 2, 0, 1 under uniform scores: ln 3, then ln 2 without item 2, then ln 1 without items 2 and 0."""
    loss = next_item_loss(interests([[0, 0, 0]] * 4), TABLE, NO_BIAS, batch_of([2, 0, 1]), mask_seen=True)
    assert float(loss) == pytest.approx((math.log(3) + math.log(2) + 0) / 3)


def test_loss_by_hand_with_bias() -> None:
    """First event: logits ln 2, 0, 0 plus bias 0, 0, ln 3: p(0) = 2 / (2 + 1 + 3). Second: p(2) = 3 / (1 + 1 + 3)."""
    bias = torch.tensor([0, 0, math.log(3)])
    states = interests([[math.log(2), 0, 0], [0, 0, 0], [9, 9, 9]])
    loss = next_item_loss(states, TABLE, bias, batch_of([0, 2]), mask_seen=False)
    assert float(loss) == pytest.approx(-(math.log(2 / 6) + math.log(3 / 5)) / 2)
    masked = next_item_loss(states, TABLE, bias, batch_of([0, 2]), mask_seen=True)
    assert float(masked) == pytest.approx(-(math.log(2 / 6) + math.log(3 / 4)) / 2)


@pytest.mark.parametrize("mask_seen", [True, False])
def test_in_chunks_the_catalogue_is_the_same(mask_seen: bool) -> None:
    """Repeats, padding, and chunks of 7, 2 (the last one shorter) and 1 of 7 items."""
    torch.manual_seed(0)
    batch, states = batch_of([2, 0, 6, 2, 3], [0, 5]), torch.randn(2, 6, 4)
    table, bias = torch.randn(7, 4), torch.randn(7)
    parts = [next_item_log_p(states, table, bias, batch, mask_seen, at_once) for at_once in (10**6, 2 * 10, 1)]
    for log_p in parts:
        torch.testing.assert_close(log_p[batch.mask_BL], parts[0][batch.mask_BL])
        assert -float(log_p[batch.mask_BL].mean()) == pytest.approx(
            float(next_item_loss(states, table, bias, batch, mask_seen)), abs=1e-6
        )


def test_every_real_event_weighs_the_same() -> None:
    torch.manual_seed(0)
    states = torch.randn(2, 4, 3)
    both = next_item_loss(states, TABLE, NO_BIAS, batch_of([0, 1, 2], [1]), mask_seen=True)
    first = next_item_loss(states[:1], TABLE, NO_BIAS, batch_of([0, 1, 2]), mask_seen=True)
    second = next_item_loss(states[1:, :2], TABLE, NO_BIAS, batch_of([1]), mask_seen=True)
    assert float(both) == pytest.approx((3 * float(first) + float(second)) / 4)


def test_gradients_are_finite_where_items_are_masked() -> None:
    states = torch.zeros(1, 4, 3, requires_grad=True)
    next_item_loss(states, TABLE, NO_BIAS, batch_of([2, 0, 1]), mask_seen=True).backward()
    assert states.grad is not None
    assert torch.isfinite(states.grad).all()
    assert states.grad[0, 0].tolist() == pytest.approx([1 / 9, 1 / 9, -2 / 9])  # (p - 1{item}) / 3 events
    assert states.grad[0, 2].tolist() == pytest.approx([0, 0, 0])  # only one item was left
