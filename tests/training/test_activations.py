"""Memory of a step, counted by hand on networks small enough to count."""

import pytest
import torch
from torch import nn

from driftline.config import AdapterConfig, EncoderConfig, HeadsConfig, parse_config
from driftline.models.adapters import add_adapter
from driftline.training.activations import Activations, trace, trace_line
from driftline.training.outlines import Outline, follow_recommender, softmax_items

M, T, H, KV_HEADS, HEADS, WIDTH, FEED, RANK = 2, 5, 16, 2, 4, 4, 24, 3


def test_a_small_network_by_hand() -> None:
    def build() -> Outline:
        net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        return net, lambda: net(torch.zeros(4, 8)).sum()

    found = trace(build)
    # saved: input 4 x 8 and ReLU's output 4 x 16 (what it was computed from is gone), and the loss: floats of 4 bytes
    assert found.saved == 4 * (4 * 8 + 4 * 16 + 1)
    assert found.saved < found.peak < 3 * found.saved
    assert found.gradients <= 4 * (8 * 16 + 16 + 16 * 8 + 8)


def llama(layers: int, kind: str, checkpointing: bool = False) -> Outline:
    from transformers import LlamaConfig, LlamaModel

    backbone = LlamaModel(
        LlamaConfig(
            vocab_size=50, hidden_size=H, intermediate_size=FEED, num_hidden_layers=layers, num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS, head_dim=WIDTH,
        )
    )  # fmt: skip
    if checkpointing:
        backbone.activation_checkpointing_enable()
    adapted = add_adapter(backbone, AdapterConfig(kind=kind, rank=RANK)).train()
    start = nn.Parameter(torch.empty(M, T, H))
    adapted.register_parameter("start", start)

    def loss() -> torch.Tensor:
        embeddings, mask = adapted.start + 0.0, torch.ones(M, T, dtype=torch.long)
        return adapted(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).last_hidden_state.sum()

    return adapted, loss


@pytest.mark.parametrize(
    ("kind", "per_token"),
    [
        # Frozen weights need no input of their own. Residual before attention and before the feed-forward, the input
        # that both adapters read; query, key, value (each as wide as all heads: keys and values are repeated) and
        # result of attention; gate, its activation and the other branch. Two adapters' inner vectors.
        ("lora", 3 * H + 4 * HEADS * WIDTH + 3 * FEED + 2 * RANK),
        # Trained weights need theirs: also the two normalised vectors, the second norm's result, the product of gate
        # and branch.
        ("full", 6 * H + 4 * HEADS * WIDTH + 4 * FEED),
    ],
)
def test_one_block_holds_what_the_backward_pass_needs(kind: str, per_token: int) -> None:
    one, two = trace(lambda: llama(1, kind)).saved, trace(lambda: llama(2, kind)).saved
    per_token += 2 + HEADS  # two norms' scales; attention's normaliser of every head
    assert two - one == 4 * (M * T * per_token + M * T * T)  # and the mask as numbers


def test_with_checkpointing_a_block_holds_its_input_only() -> None:
    one, two = (trace(lambda n=n: llama(n, "lora", checkpointing=True)).saved for n in (1, 2))
    assert two - one == 4 * M * T * H


@pytest.mark.parametrize("checkpointing", [False, True])
def test_depth_is_a_line(checkpointing: bool) -> None:
    whole = trace(lambda: llama(7, "lora", checkpointing))
    line = trace_line(lambda layers: llama(layers, "lora", checkpointing), 7)
    assert line == whole


def test_scaling_leaves_gradients() -> None:
    assert Activations(10, 20, 7, 2).scaled(0.5) == Activations(5, 10, 7, 1)


def test_a_large_catalogue_is_trained_in_the_memory_of_its_sample() -> None:
    """Two workers of 4 sequences of 25 events: 200 items of batches and 300 others."""
    config = parse_config({"name": "large", "data": {"sample": "ml-100k"}})

    def saved(items: int, **options: float) -> int:
        encoder = EncoderConfig.model_validate({"full_softmax_up_to": 1000, "sampled_items": 300, **options})
        assert softmax_items(config, encoder, items, 4, 25) == (500 if items > encoder.full_softmax_up_to else items)
        return follow_recommender(config, encoder, HeadsConfig(rating=0.0), items, 4, 25, False).saved

    bytes_of_logits = 4 * 4 * 25  # of one item
    assert saved(1000) > 1000 * bytes_of_logits
    assert 500 * bytes_of_logits < saved(100_000) < saved(100_000, full_softmax_up_to=100_000) / 10
    assert saved(1000, adversarial=0.1) > 1.8 * saved(1000)
