import numpy as np
import torch

from driftline.models.heads import DriftHead, splice
from driftline.sequences.batches import History, collate


def batch_of(*lengths: int):  # type: ignore[no-untyped-def]
    return collate([History(100 * row + np.arange(n)) for row, n in enumerate(lengths)])


def test_every_other_sequence_goes_on_as_the_next_from_the_same_position() -> None:
    torch.manual_seed(0)
    before = batch_of(20, 30, 16, 12)
    after, spliced = splice(before)
    for row in (0, 2):
        cut = int(spliced[row].int().argmax())
        length, following = (16, 12) if row == 2 else (20, 30)
        assert length // 4 <= cut <= 3 * length // 4
        expected = [*(100 * row + np.arange(cut)), *(100 * (row + 1) + np.arange(cut, following))]
        assert after.items_BL[row][after.mask_BL[row]].tolist() == expected
        assert spliced[row].tolist() == [cut <= t < following for t in range(30)]
    for row in (1, 3):
        assert torch.equal(after.items_BL[row], before.items_BL[row])
        assert not spliced[row].any()


def test_evidence_is_linear_in_the_state_after_the_event() -> None:
    head = DriftHead(2)
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[1.0, -2.0]]))
        head.linear.bias.fill_(0.5)
    states = torch.tensor([[[9.0, 9.0], [3.0, 1.0], [9.0, 9.0]]])  # before, after event 0, padding
    assert head(states)[0, 1].item() == 1.5
    loss = head.loss(states, torch.tensor([[True, False]]), torch.tensor([[True, False]]))
    torch.testing.assert_close(loss, torch.nn.functional.softplus(torch.tensor(-1.5)))
