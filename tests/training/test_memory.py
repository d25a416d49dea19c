"""Arithmetic of ZeRO against the paper's own table, and the advice that follows from it."""

import pytest

from driftline.config import DeepSpeedConfig
from driftline.training.activations import Activations
from driftline.training.memory import FRAMEWORK_GPU, GIB, Device, Elements, advice, memory, zero_variants

NOTHING = Activations(0, 0, 0, 0)
GPU64 = Device(workers=64, is_gpu=True)


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_example_of_the_zero_paper(stage: int, gigabytes: float) -> None:
    """Rajbhandari et al. 2020, figure 1: 7.5 B parameters, Adam in mixed precision, 64 GPUs."""
    elements = Elements(parameters=7_500_000_000, trainable=7_500_000_000, largest=1)
    held = memory(elements, NOTHING, DeepSpeedConfig(zero_stage=stage, precision="bf16"), GPU64)
    assert (held.weights + held.gradients + held.optimiser) / 1e9 == pytest.approx(gigabytes, abs=0.06)


def test_frozen_weights_have_neither_gradient_nor_state() -> None:
    held = memory(Elements(1000, 10, 5), NOTHING, DeepSpeedConfig(zero_stage=0), Device(1, is_gpu=False))
    assert (held.weights, held.gradients, held.optimiser, held.bucket) == (4000, 40, 80, 0)
    # at the optimiser step: gradients, and two temporaries of the largest parameter
    assert held.step == 40 + 2 * 4 * 5


def test_the_peak_is_one_moment_not_the_sum() -> None:
    elements, options = Elements(1000, 1000, 1000), DeepSpeedConfig(zero_stage=0)
    small, large = (Activations(0, peak, 0, 0) for peak in (100, 100_000))
    device = Device(1, is_gpu=False)
    at_step = memory(elements, small, options, device)
    assert at_step.peak == ("optimiser step", at_step.framework + 4000 + 8000 + 4000 + 8000)
    at_start = memory(elements, large, options, device)
    assert at_start.peak == ("backward starts", at_start.framework + 4000 + 8000 + 100_000)


def test_small_parameters_and_4_bit_weights_are_not_sharded() -> None:
    options = DeepSpeedConfig(zero_stage=3, precision="bf16")
    assert memory(Elements(1000, 10, 5, small=200), NOTHING, options, Device(4, True)).weights == 2 * (800 / 4 + 200)
    quantised = memory(Elements(1000, 10, 5, quantised=640), NOTHING, options, Device(4, True)).weights
    assert quantised == pytest.approx(2 * 360 / 4 + 640 * (0.5 + 1 / 64 + 4 / (64 * 256)))


def test_offload_moves_states_to_the_host() -> None:
    options = DeepSpeedConfig(zero_stage=3, precision="bf16", offload_optimizer="cpu", offload_parameters="cpu")
    held = memory(Elements(1000, 400, 5), NOTHING, options, Device(4, is_gpu=True))
    assert (held.weights, held.optimiser, held.gradients) == (0, 0, 0)
    assert held.host == 2 * 1000 / 4 + 12 * 400 / 4 + 4 * 400 / 4


def test_variants_are_the_stages_and_on_a_gpu_offload() -> None:
    options = DeepSpeedConfig(zero_stage=3, persistence_threshold=0)
    assert [name for name, _ in zero_variants(options, is_gpu=False)] == ["ZeRO-0", "ZeRO-1", "ZeRO-2", "ZeRO-3"]
    assert [name for name, _ in zero_variants(options, is_gpu=True)][-1] == "ZeRO-3 + CPU offload"


def say(parameters: int, peak: int, checkpointed: int, card_gb: int = 24, trainable: int = 1) -> str:
    activations = {False: Activations(0, peak, 0, 0), True: Activations(0, checkpointed, 0, 0)}
    options = DeepSpeedConfig(zero_stage=0, precision="bf16")
    elements = Elements(parameters, trainable, 1)
    return advice(elements, activations, options, 8, 16, card_gb)


def test_advice_is_the_least_change_that_helps() -> None:
    one = 1_000_000_000
    assert FRAMEWORK_GPU == GIB
    assert say(one, one, one) == "fits: 4.1 GB"  # 2 bytes a weight, 1 GB of activations, the framework
    assert "a batch of 8 instead of 16 (and gradient_accumulation_steps x2): 18.1 GB" in say(one, 30 * one, 30 * one)
    assert "fits with gradient_checkpointing=true: 4.1 GB" in say(one, 400 * one, one)
    assert "zero_stage=3" in say(4 * one, one, one, trainable=4 * one)
    assert "fewer layers" in say(20 * one, one, one)  # 40 GB before anything is sharded


def test_advice_keeps_to_what_is_possible() -> None:
    one = 1_000_000_000
    activations = {False: Activations(0, 400 * one, 0, 0), True: Activations(0, one, 0, 0)}
    options = DeepSpeedConfig(zero_stage=0, precision="bf16")
    said = advice(Elements(one, 1, 1), activations, options, 8, 16, 24, lambda o: not o.gradient_checkpointing)
    assert "checkpointing=true" not in said
