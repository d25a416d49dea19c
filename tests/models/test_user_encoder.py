"""Every kind of encoder is causal, blind to padding, and has a state for the user nobody has seen yet."""

import pytest
import torch
from torch import Tensor, nn

from driftline.config import EncoderConfig, EncoderKind
from driftline.models.user_encoder import UserEncoder
from driftline.sequences.gaps import GAP_BUCKETS

DIM, LENGTH = 8, 6
KINDS: list[EncoderKind] = ["gru", "lstm", "transformer", "mean", "llm"]


def decoder() -> nn.Module:
    from transformers import LlamaConfig, LlamaModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaModel(LlamaConfig(vocab_size=20, num_hidden_layers=2, **sizes))


@pytest.fixture(params=KINDS)
def encoder(request: pytest.FixtureRequest) -> UserEncoder:
    torch.manual_seed(1)
    config = EncoderConfig(kind=request.param, dim=DIM, layers=2, window_events=LENGTH)
    made = UserEncoder(config, decoder() if request.param == "llm" else None)
    nn.init.normal_(made.gap.weight)  # zero at first
    return made.eval()


def inputs(rows: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    events = torch.randn(rows, LENGTH, DIM, generator=generator)
    gaps = torch.randint(0, GAP_BUCKETS, (rows, LENGTH), generator=generator)
    return events, torch.ones(rows, LENGTH, dtype=torch.bool), gaps


@torch.no_grad()
def test_event_types_are_read_where_configured() -> None:
    torch.manual_seed(1)
    made = UserEncoder(EncoderConfig(kind="gru", dim=DIM, layers=1, event_types=True)).eval()
    assert made.event_type is not None
    events, mask, gaps = inputs()
    unknown, types = torch.zeros_like(gaps), torch.zeros_like(gaps)
    types[:, 2] = 4
    torch.testing.assert_close(made(events, mask, gaps, types), made(events, mask, gaps))  # they start at zero
    nn.init.normal_(made.event_type.weight)
    before, after = made(events, mask, gaps, unknown), made(events, mask, gaps, types)
    torch.testing.assert_close(before, made(events, mask, gaps))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:], after[:, 3:]).all(dim=-1).any()
    assert UserEncoder(EncoderConfig(kind="gru", dim=DIM)).event_type is None


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_attributes_are_added_to_the_state_of_the_user_nobody_has_seen_yet(kind: EncoderKind) -> None:
    torch.manual_seed(1)
    config = EncoderConfig(kind=kind, dim=DIM, layers=1, window_events=LENGTH)
    made = UserEncoder(config, decoder() if kind == "llm" else None, attribute_values=3).eval()
    assert made.attribute is not None
    events, mask, gaps = inputs()
    values = torch.tensor([[1, 3], [0, 0]])
    plain = made(events, mask, gaps)
    torch.testing.assert_close(made(events, mask, gaps, attributes_BA=values), plain)  # they start at zero
    nn.init.normal_(made.attribute.weight[1:])
    read = made(events, mask, gaps, attributes_BA=values)
    assert not torch.isclose(read[0], plain[0]).all(dim=-1).any()
    torch.testing.assert_close(read[1], plain[1])  # unknown values say nothing
    made.start_D += made.attribute.weight[1] + made.attribute.weight[3]
    torch.testing.assert_close(made(events, mask, gaps)[0], read[0])


def test_without_attributes_there_is_nothing_to_learn_or_to_read() -> None:
    torch.manual_seed(1)
    made = UserEncoder(EncoderConfig(kind="gru", dim=DIM)).eval()
    assert not [name for name, _ in made.named_parameters() if "attribute" in name]
    events, mask, gaps = inputs()
    assert torch.equal(made(events, mask, gaps, attributes_BA=torch.tensor([[1], [2]])), made(events, mask, gaps))


def test_there_is_one_state_more_than_events(encoder: UserEncoder) -> None:
    assert encoder(*inputs()).shape == (2, LENGTH + 1, DIM)


@torch.no_grad()
@pytest.mark.parametrize("changed", range(LENGTH))
def test_a_later_event_changes_no_earlier_interest(encoder: UserEncoder, changed: int) -> None:
    events, mask, gaps = inputs()
    before = encoder(events, mask, gaps)
    events[:, changed:] = torch.randn(2, LENGTH - changed, DIM)
    gaps[:, changed:] = (gaps[:, changed:] + 1) % GAP_BUCKETS
    after = encoder(events, mask, gaps)
    torch.testing.assert_close(after[:, : changed + 1], before[:, : changed + 1])
    assert (after[:, changed + 1] - before[:, changed + 1]).abs().max() > 1e-3


@torch.no_grad()
def test_padding_does_not_matter(encoder: UserEncoder) -> None:
    events, mask, gaps = inputs(1)
    alone = encoder(events[:, :3], mask[:, :3], gaps[:, :3])
    padded = encoder(events, torch.arange(LENGTH).unsqueeze(0) < 3, gaps)
    torch.testing.assert_close(padded[:, :4], alone)


@torch.no_grad()
def test_a_batch_equals_its_histories_one_by_one(encoder: UserEncoder) -> None:
    events, _, gaps = inputs(4)
    lengths = torch.tensor([6, 1, 0, 4])
    batch = encoder(events, torch.arange(LENGTH) < lengths.unsqueeze(1), gaps)
    for row, length in enumerate(lengths.tolist()):
        width = max(length, 1)
        mask = torch.arange(width).unsqueeze(0) < length
        alone = encoder(events[row : row + 1, :width], mask, gaps[row : row + 1, :width])
        torch.testing.assert_close(batch[row, : length + 1], alone[0, : length + 1])


@torch.no_grad()
@torch.no_grad()
def test_the_last_interest_alone_is_that_of_all(encoder: UserEncoder) -> None:
    events, mask, gaps = inputs(3)
    mask[0, 2:], mask[1] = False, False
    lengths = mask.sum(dim=1)
    every = encoder(events, mask, gaps)[torch.arange(3), lengths]
    torch.testing.assert_close(encoder(events, mask, gaps, last_only=True), every)


def test_everybody_starts_alike(encoder: UserEncoder) -> None:
    events, mask, gaps = inputs(3)
    mask[2] = False  # an empty history
    start = encoder(events, mask, gaps)[:, 0]
    assert torch.isfinite(start).all()
    torch.testing.assert_close(start[0], start[1])
    torch.testing.assert_close(start[0], start[2])


@torch.no_grad()
def test_no_gaps_are_unknown_gaps(encoder: UserEncoder) -> None:
    events, mask, gaps = inputs()
    torch.testing.assert_close(encoder(events, mask, None), encoder(events, mask, torch.zeros_like(gaps)))


def test_every_parameter_has_a_gradient_even_without_gaps(encoder: UserEncoder) -> None:
    """Under ZeRO every rank must reduce the same parameters, whatever its batch holds."""
    events, mask, _ = inputs()
    encoder.train()(events, mask, None).square().sum().backward()
    without = [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
    assert [name for name in without if "embed_tokens" not in name] == []  # of the decoder, which reads no tokens


@torch.no_grad()
def test_order_matters_except_to_the_mean(encoder: UserEncoder) -> None:
    events, mask, _ = inputs()
    last, reversed_last = encoder(events, mask)[:, -1], encoder(events.flip(1), mask)[:, -1]
    moved = float((last - reversed_last).abs().max())
    if encoder.config.kind == "mean":
        assert moved < 1e-5
    else:
        assert moved > 1e-3


def test_the_mean_body_averages_start_and_events() -> None:
    encoder = UserEncoder(EncoderConfig(kind="mean", dim=4, dropout=0)).eval()
    feed_out = encoder.body.feed[-1]  # type: ignore[index, union-attr]
    nn.init.zeros_(feed_out.weight)
    nn.init.zeros_(feed_out.bias)
    with torch.no_grad():
        encoder.start_D.copy_(torch.tensor([3.0, 0, 0, 0]))
        events = torch.tensor([[[0.0, 3, 0, 0], [0, 0, 6, 0]]])
        found = encoder(events, torch.ones(1, 2, dtype=torch.bool))[0]
        means = torch.tensor([[3.0, 0, 0, 0], [1.5, 1.5, 0, 0], [1, 1, 2, 0]])
        torch.testing.assert_close(found, encoder.norm(means))


def test_dropout_is_off_in_evaluation(encoder: UserEncoder) -> None:
    torch.testing.assert_close(encoder(*inputs()), encoder(*inputs()))
    assert not torch.equal(encoder.train()(*inputs()), encoder(*inputs()))


def test_an_llm_encoder_needs_a_decoder() -> None:
    with pytest.raises(ValueError, match="encoder.kind=llm"):
        UserEncoder(EncoderConfig(kind="llm"))
