"""Peaks, arithmetic and instruments of a training step."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from driftline.training import gauges


@pytest.mark.parametrize(
    ("name", "half", "single"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5, 67.0),
        ("NVIDIA H100 PCIe", 756.5, 51.0),
        ("NVIDIA H200", 989.5, 67.0),
        ("NVIDIA A100-SXM4-80GB", 312.0, 19.5),
        ("NVIDIA A10", 125.0, 31.2),
        ("NVIDIA A10G", 70.0, 35.0),
        ("NVIDIA L4", 121.0, 30.3),
        ("NVIDIA L40S", 362.0, 91.6),
        ("Tesla T4", 65.0, 8.1),
        ("Tesla V100-SXM2-16GB", 125.0, 15.7),
        ("NVIDIA GeForce RTX 4090", 165.2, 82.6),
    ],
)
def test_peaks_by_the_name_that_cuda_gives(name: str, half: float, single: float) -> None:
    assert gauges.peak_flops(name, is_16_bit=True) == pytest.approx(half * 1e12)
    assert gauges.peak_flops(name, is_16_bit=False) == pytest.approx(single * 1e12)


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "AMD Instinct MI300X", ""]
)
def test_a_chip_that_is_not_known_has_no_peak(name: str) -> None:
    assert gauges.peak_flops(name, is_16_bit=True) is None


def test_arithmetic_of_a_token_by_hand() -> None:
    """6 for each of 2 x 3 trained weights and 4 for each of 3 x 5 frozen ones; biases, norms and look-ups are free."""
    module = nn.Sequential(nn.Embedding(100, 2), nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 5))
    module[3].requires_grad_(False)
    assert gauges.flops_per_token(module, length=10) == 6 * 6 + 4 * 15
    module.config = SimpleNamespace(num_hidden_layers=2, num_attention_heads=3, hidden_size=12, head_dim=None)
    assert gauges.flops_per_token(module, length=10) == 6 * 6 + 4 * 15 + 12 * 2 * 12 * 10


def test_a_head_that_shares_its_weight_with_the_embedding_counts_once() -> None:
    embedding, head = nn.Embedding(7, 2), nn.Linear(2, 7, bias=False)
    head.weight = embedding.weight
    assert gauges.flops_per_token(nn.ModuleList([embedding, head, head]), length=1) == 6 * 14


@pytest.mark.slow
def test_the_formula_agrees_with_the_operations_that_torch_counts(tiny_folder: Path) -> None:
    """A two-layer Llama with LoRA: what torch dispatches in forward and backward, over the tokens."""
    from torch.utils.flop_counter import FlopCounterMode

    from driftline.config import AdapterConfig
    from driftline.models.adapters import add_adapter
    from driftline.models.text_tower import load_backbone
    from tests.tiny import tiny_config

    config = tiny_config(tiny_folder)
    model = add_adapter(load_backbone(config.text.base, 2), AdapterConfig(rank=4, targets="all-linear"))
    texts, length = 4, 24
    embeddings = torch.randn(texts, length, 32, requires_grad=True)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(inputs_embeds=embeddings, use_cache=False).last_hidden_state.sum().backward()
    counted = counter.get_total_flops() / (texts * length)
    assert gauges.flops_per_token(model, length) == pytest.approx(counted, rel=0.05)


def test_memory_is_this_process_s_peak() -> None:
    """A peak never falls, and 300 MB more are seen."""
    import numpy as np

    before = gauges.peak_memory_gib(torch.device("cpu"))
    assert 0.05 < before < 100
    block = np.ones(int(before * 2**30 / 8) + 300_000_000 // 8)
    grown = gauges.peak_memory_gib(torch.device("cpu"))
    assert grown >= block.nbytes / 2**30
    del block
    assert gauges.peak_memory_gib(torch.device("cpu")) >= grown


def gauges_after_a_step(zero_stage: int, store: Path) -> dict[str, float]:
    """In a world of one, a process of its own: loss w . x with x = (3, 4)."""
    from driftline.config import DeepSpeedConfig, TrainingConfig
    from driftline.training.deepspeed_config import deepspeed_dict, initialize

    os.environ["LOCAL_RANK"] = "0"
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    options = DeepSpeedConfig(zero_stage=zero_stage, gradient_clipping=1.0)
    training = TrainingConfig(deepspeed=options, schedule="constant", warmup_steps=10, learning_rate=0.1)
    engine = initialize(nn.Linear(2, 1, bias=False), deepspeed_dict(training, 0.1, 100, 1, 1))
    for _ in range(2):
        engine.backward(engine(torch.tensor([[3.0, 4.0]])).sum())
        engine.step()
    return gauges.read(engine, {"tokens/s": 100.0, "texts/s": 10.0})


@pytest.mark.slow
def test_an_engine_s_gauges(tmp_path: Path) -> None:
    """The gradient is x, its norm 5 before it is clipped at 1; no MFU, because no peak of a CPU is known."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        for zero_stage in (0, 1, 2, 3):
            shown = process.submit(gauges_after_a_step, zero_stage, tmp_path / "store").result(timeout=120)
            assert list(shown) == ["learning_rate", "gradient_norm", "memory_GiB"]
            assert shown["gradient_norm"] == pytest.approx(5.0), zero_stage
            assert 0 < shown["learning_rate"] < 0.1
            assert shown["memory_GiB"] > 0.05


def test_mfu_is_the_needed_over_the_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 tokens/s of 6 x 10^9 operations on two T4 that could do 65 x 10^12 each."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    module = nn.Linear(1000, 1_000_000, bias=False, device="meta")
    engine = SimpleNamespace(
        module=module,
        world_size=2,
        device=SimpleNamespace(type="cuda"),
        bfloat16_enabled=lambda: False,
        fp16_enabled=lambda: True,
    )
    assert gauges.mfu(engine, {"tokens/s": 100.0}) == pytest.approx(6e11 / 130e12)
    assert gauges.mfu(engine, {"events/s": 100.0}) is None
