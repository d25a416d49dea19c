"""LoRA on named projections, and what training changes as a dictionary."""

import pytest
import torch
from torch import nn

from driftline.config import AdapterConfig
from driftline.errors import ConfigError
from driftline.models.adapters import adapter_state, add_adapter, load_adapter_state


def decoder() -> nn.Module:
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaModel(LlamaConfig(vocab_size=20, num_hidden_layers=2, **sizes))


def test_only_the_adapter_is_trainable() -> None:
    adapted = add_adapter(decoder(), AdapterConfig(rank=4))
    trainable = {name: p.shape for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * 2 * 2  # layers, targets, A and B
    assert all("lora_" in name and ("q_proj" in name or "v_proj" in name) for name in trainable)
    assert sum(shape.numel() for shape in trainable.values()) == 8 * 4 * 16


def test_an_unknown_target_is_a_configuration_error_that_names_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"text.adapter.targets.*\['query'\]; valid: .*k_proj.*q_proj"):
        add_adapter(decoder(), AdapterConfig(targets=("query", "v_proj")))


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
