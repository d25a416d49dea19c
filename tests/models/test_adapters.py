"""Adapters of every kind on a decoder and an encoder, and what training changes as a dictionary."""

import pytest
import torch
from torch import nn

from driftline.config import AdapterConfig
from driftline.errors import ConfigError
from driftline.models.adapters import (
    adapter_state,
    add_adapter,
    describe_adapter,
    load_adapter_state,
    resolved_targets,
)


def decoder() -> nn.Module:
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaModel(LlamaConfig(vocab_size=20, num_hidden_layers=2, **sizes))


def encoder() -> nn.Module:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    return BertModel(BertConfig(vocab_size=20, num_hidden_layers=2, **sizes), add_pooling_layer=False)


def trained(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def test_only_the_adapter_is_trainable() -> None:
    adapted = add_adapter(decoder(), AdapterConfig(rank=4))
    trainable = {name: p.shape for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * 2 * 2  # layers, targets, A and B
    assert all("lora_" in name and ("q_proj" in name or "v_proj" in name) for name in trainable)
    assert sum(shape.numel() for shape in trainable.values()) == 8 * 4 * 16


def test_an_unknown_target_is_a_configuration_error_that_names_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"text.adapter.targets.*\['query'\]; valid: .*k_proj.*q_proj"):
        add_adapter(decoder(), AdapterConfig(targets=("query", "v_proj")))
    with pytest.raises(ConfigError, match=r"`drift.judge.adapter.targets`: no module"):
        add_adapter(decoder(), AdapterConfig(targets=("query",)), "drift.judge.adapter")


# By hand, with hidden width 16 (key and value 16 too), feed-forward width 32, two layers, rank 4: LoRA on a projection
# from a to b has 4 * (a + b) numbers, DoRA b more, AdaLoRA starts at rank 6 and has 6 singular values, IA3 has one for
# each output (each input of a feed-forward's last map), a prefix of 3 tokens a key and a value for each and layer.
@pytest.mark.parametrize(
    ("kind", "targets", "expected", "parameters"),
    [
        ("lora", "auto", {"q_proj": 2, "v_proj": 2}, 4 * 4 * 32),
        ("rslora", "auto", {"q_proj": 2, "v_proj": 2}, 4 * 4 * 32),
        ("dora", "auto", {"q_proj": 2, "v_proj": 2}, 4 * (4 * 32 + 16)),
        ("adalora", "auto", {"q_proj": 2, "v_proj": 2}, 4 * (6 * 32 + 6)),
        ("ia3", "auto", {"k_proj": 2, "v_proj": 2, "down_proj": 2}, 2 * (16 + 16 + 32)),
        ("ia3", ("v_proj",), {"v_proj": 2}, 2 * 16),
        ("lora", ("self_attn.k_proj",), {"k_proj": 2}, 2 * 4 * 32),
        (
            "lora",
            "all-linear",
            dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), 2),
            2 * 4 * (4 * 32 + 3 * 48),
        ),
        ("prefix", "auto", {}, 3 * 2 * 2 * 16),
    ],
)
def test_what_is_trained_by_hand(
    kind: str, targets: str | tuple[str, ...], expected: dict[str, int], parameters: int
) -> None:
    config = AdapterConfig(kind=kind, rank=4, targets=targets, prefix_tokens=3)
    adapted = add_adapter(decoder(), config)
    assert resolved_targets(adapted) == expected
    assert trained(adapted) == parameters
    with torch.device("meta"):
        planned = add_adapter(decoder(), config)
    assert trained(planned) == parameters
    assert {parameter.device.type for parameter in planned.parameters()} == {"meta"}


def test_targets_of_an_encoder() -> None:
    assert resolved_targets(add_adapter(encoder(), AdapterConfig())) == {"query": 2, "value": 2}
    assert resolved_targets(add_adapter(encoder(), AdapterConfig(kind="ia3"))) == {"key": 2, "value": 2, "dense": 4}


def test_an_architecture_without_published_targets_wants_names() -> None:
    backbone = decoder()
    backbone.config.model_type = "novel"  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"has published none for novel; say all-linear, or name modules: down_proj"):
        add_adapter(backbone, AdapterConfig())


def test_full_fine_tuning_trains_everything() -> None:
    backbone = decoder()
    adapted = add_adapter(backbone.requires_grad_(False), AdapterConfig(kind="full"))
    assert adapted is backbone
    assert trained(adapted) == sum(parameter.numel() for parameter in backbone.parameters())


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (AdapterConfig(rank=4), "LoRA rank 4 on q_proj x2, v_proj x2"),
        (AdapterConfig(kind="ia3"), "IA3 on k_proj x2, v_proj x2, down_proj x2"),
        (AdapterConfig(kind="prefix", prefix_tokens=3), "prefix tuning with 3 virtual tokens"),
        (AdapterConfig(kind="full"), "full fine-tuning"),
    ],
    ids=lambda value: value.kind if isinstance(value, AdapterConfig) else "",
)
def test_the_description_names_rank_and_targets(config: AdapterConfig, expected: str) -> None:
    assert describe_adapter(add_adapter(decoder(), config), config) == expected


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora", "adalora", "ia3"])
def test_a_fresh_adapter_changes_nothing(kind: str) -> None:
    inputs = torch.randint(0, 20, (1, 5))
    adapted = add_adapter(decoder(), AdapterConfig(kind=kind)).eval()
    torch.testing.assert_close(adapted(inputs).last_hidden_state, decoder().eval()(inputs).last_hidden_state)


@torch.no_grad()
def test_a_prefix_is_read_before_the_text_and_padding_is_not() -> None:
    """Over embeddings, as the tower reads: the prefix moves every state; what the mask hides moves none."""
    adapted = add_adapter(decoder(), AdapterConfig(kind="prefix", prefix_tokens=3)).eval()
    embeddings, mask = torch.randn(1, 5, 16), torch.tensor([[1, 1, 1, 0, 0]])

    def read(embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = adapted(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).last_hidden_state
        return states

    states = read(embeddings, mask)
    assert states.shape == (1, 5, 16)
    torch.testing.assert_close(states[:, :3], read(embeddings[:, :3], mask[:, :3]))
    prefix = next(parameter for parameter in adapted.parameters() if parameter.requires_grad)
    prefix[0] += 1  # one of the three tokens
    assert (read(embeddings, mask)[:, :3] - states[:, :3]).abs().amin(dim=-1).max() > 0


def test_an_encoder_cannot_carry_a_prefix() -> None:
    with pytest.raises(ConfigError, match=r"prefix: the prefix is a key-value cache, which a bert encoder has not"):
        add_adapter(encoder(), AdapterConfig(kind="prefix"))


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3", "full"])
def test_gradient_checkpointing_leaves_gradients_as_they_are(kind: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = decoder()
        if checkpointing:
            backbone.activation_checkpointing_enable()  # type: ignore[operator]
        torch.manual_seed(1)
        adapted = add_adapter(backbone, AdapterConfig(kind=kind)).train()
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn_like(parameter)
        adapted(torch.randint(0, 20, (2, 5)), use_cache=False).last_hidden_state.square().sum().backward()
        gradients.append({name: p.grad for name, p in adapted.named_parameters() if p.requires_grad})
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0])


def test_state_round_trip_makes_two_adapters_equal() -> None:
    one, other = add_adapter(decoder(), AdapterConfig()), add_adapter(decoder(), AdapterConfig())
    with torch.no_grad():
        for parameter in one.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    state = adapter_state(one)
    load_adapter_state(other, state)
    inputs = torch.randint(0, 20, (1, 5))
    assert torch.equal(one(inputs).last_hidden_state, other(inputs).last_hidden_state)
    assert not torch.equal(decoder()(inputs).last_hidden_state, other(inputs).last_hidden_state)


def test_state_is_a_copy() -> None:
    layer = nn.Linear(2, 1)
    state = adapter_state(layer)
    before = state["weight"].clone()
    with torch.no_grad():
        layer.weight.add_(1)
    assert torch.equal(state["weight"], before)


def test_frozen_parameters_are_neither_saved_nor_wanted() -> None:
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    assert adapter_state(layer).keys() == {"weight"}
    load_adapter_state(layer, {"weight": torch.tensor([[3.0, 4.0]])})
    assert layer.weight.tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(1, 2)}, r"missing \['bias'\], unexpected \[\]"),
        ({"weight": torch.zeros(1, 2), "bias": torch.zeros(1), "gain": torch.zeros(1)}, r"unexpected \['gain'\]"),
        ({"weight": torch.zeros(0), "bias": torch.zeros(1)}, r"`weight` has shape \(0,\), the model wants \(1, 2\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(state: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_adapter_state(nn.Linear(2, 1), state)
