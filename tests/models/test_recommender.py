"""Item table, encoder and heads put together."""

import numpy as np
import pytest
import torch
from torch import Tensor

from driftline.config import EncoderConfig, HeadsConfig
from driftline.models.item_sample import ItemSample
from driftline.models.item_table import ItemTable
from driftline.models.losses import next_item_loss
from driftline.models.recommender import Recommender
from driftline.models.text_head import L2
from driftline.models.user_encoder import UserEncoder
from driftline.sequences.batches import Batch, History, collate

ITEMS, DIM = 9, 8


def recommender(rating: float = 0.0, drift: float = 0.0, **options: float) -> Recommender:
    torch.manual_seed(0)
    given = {"kind": "gru", "dim": DIM, "layers": 1, "dropout": 0.0, "id_dropout": 0.0, **options}
    config = EncoderConfig.model_validate(given)
    items = ItemTable(torch.randn(ITEMS, 5), torch.ones(ITEMS, dtype=torch.bool), DIM, 0.0)
    return Recommender(items, UserEncoder(config), HeadsConfig(rating=rating, drift=drift))


def with_text_head() -> Recommender:
    """Items 7 and 8 have no events; two attributes stand beside five text dimensions."""
    torch.manual_seed(0)
    config = EncoderConfig(kind="gru", dim=DIM, layers=1, dropout=0.0, id_dropout=0.0)
    items = ItemTable(torch.randn(ITEMS, 5), torch.arange(ITEMS) < 7, DIM, 0.0)
    return Recommender(items, UserEncoder(config), HeadsConfig(rating=0, text=0.5), attributes_NA=torch.randn(ITEMS, 2))


def batch(*histories: list[int]) -> Batch:
    values = {n: np.linspace(0, 1, n, dtype=np.float32) for n in map(len, histories)}
    return collate([History(np.array(items, dtype=np.int64), values=values[len(items)]) for items in histories])


def test_the_interest_after_a_history_is_its_last_real_state() -> None:
    model = recommender().eval()
    table_ND, _ = model.items()
    together = batch([1, 2, 3, 4], [5], [])
    states = model.interests(together, table_ND)
    last = model.last_interests(together, table_ND)
    torch.testing.assert_close(last, torch.stack([states[0, 4], states[1, 1], states[2, 0]]))
    torch.testing.assert_close(model.last_interests(batch([5]), table_ND)[0], last[1])


@torch.no_grad()
def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    losses = recommender(rating=0.5, drift=0.25)(batch([1, 2, 3, 4], [5, 6, 7]))
    assert losses.parts.keys() == {"next_item", "rating", "drift"}
    expected = losses.parts["next_item"] + 0.5 * losses.parts["rating"] + 0.25 * losses.parts["drift"]
    assert float(losses.total) == pytest.approx(expected, rel=1e-5)


def test_a_head_of_weight_zero_is_left_out() -> None:
    model = recommender()
    losses = model(batch([1, 2, 3]))
    assert losses.parts.keys() == {"next_item"}
    assert torch.equal(losses.total, losses.next_item)
    assert not [name for name, _ in model.named_parameters() if "head" in name]


def test_what_attributes_say_of_a_user_is_learnt_from_their_events() -> None:
    """Of two kinds of users one begins with item 0, the other with item 1; who tells nothing may be either."""
    torch.manual_seed(0)
    config = EncoderConfig(kind="gru", dim=DIM, layers=1, dropout=0.0, id_dropout=0.0)
    items = ItemTable(torch.randn(ITEMS, 5), torch.ones(ITEMS, dtype=torch.bool), DIM, 0.0)
    model = Recommender(items, UserEncoder(config, attribute_values=2), HeadsConfig(rating=0.0))
    kinds = [np.array([1]), np.array([2]), None, None]
    begun = collate([History(np.array([n % 2, 2]), attributes=kind) for n, kind in enumerate(kinds)])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(100):
        optimizer.zero_grad()
        model(begun).total.backward()
        optimizer.step()
    with torch.no_grad():
        table_ND, bias_N = model.items()
        new = collate([History(np.empty(0, np.int64), attributes=kind) for kind in kinds])
        p_BN = torch.softmax(model.last_interests(new, table_ND) @ table_ND.T + bias_N, dim=1)
    assert (p_BN[0, 0] > 0.8, p_BN[1, 1] > 0.8) == (True, True)
    assert p_BN[2, :2].tolist() == pytest.approx([0.5, 0.5], abs=0.15)


@torch.no_grad()
def test_the_training_loss_masks_seen_items_as_configured() -> None:
    model, given = recommender().eval(), batch([1, 2, 3, 4])
    table_ND, bias_N = model.items()
    states = model.interests(given, table_ND)
    masked = next_item_loss(states, table_ND, bias_N, given, mask_seen=True)
    plain = next_item_loss(states, table_ND, bias_N, given, mask_seen=False)
    assert float(masked) < float(plain)
    assert float(model(given).next_item) == pytest.approx(float(masked))
    model.mask_seen = False
    assert float(model(given).next_item) == pytest.approx(float(plain))


def test_a_step_down_the_gradient_lowers_the_loss() -> None:
    model, given = recommender(rating=0.1), batch([1, 2, 3, 4], [2, 3, 4, 5])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    first = float(model(given).total.detach())
    for _ in range(20):
        optimiser.zero_grad()
        model(given).total.backward()
        optimiser.step()
    assert float(model(given).total.detach()) < 0.8 * first


def test_interests_of_a_batch_and_alone_agree() -> None:
    model = recommender().eval()
    table_ND, _ = model.items()
    histories = [[1, 2, 3, 4, 5, 6], [7, 8], [0]]
    together = model.last_interests(batch(*histories), table_ND)
    alone = torch.cat([model.last_interests(batch(history), table_ND) for history in histories])
    torch.testing.assert_close(together, alone)


def test_item_dropout_hides_items_from_the_encoder_in_training_only() -> None:
    """Hidden items leave the encoder with the time gaps alone: all interests after as many events are alike."""
    model, given = recommender(item_dropout=0.999), batch([1, 2], [3, 4])
    table_ND, _ = model.items()
    torch.manual_seed(1)
    hidden = model.train().interests(given, table_ND)
    torch.testing.assert_close(hidden[0], hidden[1])
    assert not torch.allclose(*model.eval().interests(given, table_ND))
    half, (ones, _) = recommender(item_dropout=0.5), (torch.ones(ITEMS, DIM), None)
    many = batch(list(range(1, 9)) * 100)
    seen = half.train()._events(many, ones, many.items_BL)[0, :, 0]
    assert 0.4 < float(seen.mean()) < 0.6


def test_the_adversarial_step_is_up_the_gradient_and_as_long_as_stated() -> None:
    model, given = recommender(adversarial=0.1).train(), batch([1, 2, 3, 4], [5, 6])
    table_ND, bias_N = model.items()
    events = model._events(given, table_ND, given.items_BL)
    states = model.encoder(events, given.mask_BL, given.gaps_BL)
    loss = next_item_loss(states, table_ND, bias_N, given, model.mask_seen)
    step = model._worst_step(loss, events)
    assert not step.requires_grad
    torch.testing.assert_close(step.norm(dim=(1, 2)), 0.1 * events.norm(dim=(1, 2)))
    assert not step[1, 2:].any()  # padding has no gradient

    def moved(by: Tensor) -> float:
        after = model.encoder(events + by, given.mask_BL, given.gaps_BL)
        return float(next_item_loss(after, table_ND, bias_N, given, model.mask_seen))

    assert moved(step) > float(loss) > moved(-step)
    losses = model(given)
    assert losses.parts["adversarial"] == pytest.approx(moved(step), rel=1e-5)
    assert float(losses.total) == pytest.approx(losses.parts["next_item"] + losses.parts["adversarial"])
    assert "adversarial" not in model.eval()(given).parts


@torch.no_grad()
def test_an_untied_item_is_another_as_input_than_as_answer() -> None:
    model, given = recommender(tied_output=False).train(), batch([1, 2, 3])
    assert model.as_input is not None
    tied = recommender().train()
    assert float(model(given).total) == pytest.approx(float(tied(given).total))  # it starts tied
    model.as_input.weight[2] = 1.0
    table_ND, _ = model.items()
    before, after = tied.interests(given, table_ND), model.interests(given, table_ND)
    torch.testing.assert_close(before[0, :2], after[0, :2])
    assert not torch.isclose(before[0, 2:], after[0, 2:]).all(dim=-1).any()  # from item 2 on
    torch.testing.assert_close(model.last_interests(given, table_ND), after[:, -1])
    assert torch.equal(table_ND, tied.items()[0])
    every = ItemSample(torch.arange(ITEMS), torch.zeros(ITEMS), given)
    torch.testing.assert_close(model.losses(given, every).total, model.losses(given).total)


@torch.no_grad()
def test_items_without_events_are_scored_by_their_text() -> None:
    model = with_text_head().eval()
    (table_ND, bias_N), (output_ND, output_bias_N) = model.items(), model.outputs()
    assert torch.equal(output_ND[:7], table_ND[:7])
    assert torch.equal(output_bias_N[:7], bias_N[:7])
    new_MD, new_bias_M = model.outputs_of(model.text_head.features_NF[7:])  # type: ignore[union-attr]
    torch.testing.assert_close(output_ND[7:], new_MD)
    torch.testing.assert_close(output_bias_N[7:], new_bias_M)
    assert not torch.allclose(output_ND[7:], table_ND[7:])


def test_the_text_head_learns_without_moving_anything_else() -> None:
    """Its loss is the softmax over items with events, each known by its text, and a penalty; weight 0.5."""
    model, given = with_text_head(), batch([1, 2, 3, 4], [5, 6])
    assert model.text_head is not None
    losses = model(given)
    assert float(losses.total) == pytest.approx(losses.parts["next_item"] + 0.5 * losses.parts["text"], rel=1e-5)
    states = model.interests(given, model.items()[0])
    table_ND, bias_N = model.text_head()
    expected = next_item_loss(states, table_ND[:7], bias_N[:7], given, mask_seen=True)
    expected = expected + L2 * (model.text_head.project.weight**2).sum()
    assert losses.parts["text"] == pytest.approx(float(expected), rel=1e-5)
    every = ItemSample(torch.arange(ITEMS), torch.zeros(ITEMS), given)
    assert model.losses(given, every).parts["text"] == pytest.approx(losses.parts["text"])
    model.text_head.held_out_N[[2, 6]] = True
    every_loss = model.losses(given, every).parts["text"]
    learnt, rows = [0, 1, 3, 4, 5], states[:, :-1] @ table_ND.T + bias_N
    log_p = [
        torch.log_softmax(rows[0, 0, learnt], 0)[1],  # of item 1 first; item 2 is no target
        torch.log_softmax(rows[0, 2, [0, 3, 4, 5]], 0)[1],  # of 3 after 1 and 2
        torch.log_softmax(rows[0, 3, [0, 4, 5]], 0)[1],
        torch.log_softmax(rows[1, 0, learnt], 0)[4],
    ]
    expected = -torch.stack(log_p).mean() + L2 * (model.text_head.project.weight**2).sum()
    assert every_loss == pytest.approx(float(expected), rel=1e-5)
    model.text_head.loss(states, model.items.known_N, given, mask_seen=True).backward()
    model.text_head.held_out_N[:] = True
    nothing = model.text_head.loss(states, model.items.known_N, given, mask_seen=True)
    assert float(nothing.detach()) == pytest.approx(float(L2 * (model.text_head.project.weight**2).sum()), rel=1e-6)
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == {
        "text_head.project.weight",
        "text_head.project.bias",
    }
