"""What the instruments of a training step show: gradient norm, learning rate, memory, and how busy the device is.

Model FLOPs utilisation (MFU, Chowdhery et al. 2022, PaLM, appendix B) is the arithmetic that the model needs, over what
the devices could do in the same time. It is given for the language-model stages, which count tokens, on devices whose
peak is known.
"""

import resource
import sys
from typing import Any

import torch
from torch import nn

GIB = 1024**3

PEAK_TFLOPS: tuple[tuple[tuple[str, ...], float, float], ...] = (
    # words of the device's name, dense 16-bit tensor cores with fp32 accumulation, fp32 outside tensor cores;
    # the first row whose words all occur counts. Source: NVIDIA's data sheet of each card; sparsity figures halved
    (("H200", "NVL"), 835.5, 60.0),
    (("H200",), 989.5, 67.0),
    (("H100", "PCIe"), 756.5, 51.0),
    (("H100", "NVL"), 835.5, 60.0),
    (("H100",), 989.5, 67.0),
    (("A100",), 312.0, 19.5),
    (("L40S",), 362.0, 91.6),
    (("L40",), 181.0, 90.5),
    (("L4",), 121.0, 30.3),
    (("A10G",), 70.0, 35.0),  # AWS's variant of the A10
    (("A10",), 125.0, 31.2),
    (("T4",), 65.0, 8.1),  # 16-bit means fp16: Turing has no bf16
    (("V100", "PCIE"), 112.0, 14.0),
    (("V100",), 125.0, 15.7),  # SXM2; fp16: Volta has no bf16
    (("RTX", "4090"), 165.2, 82.6),  # Ada architecture white paper, appendix A
    (("RTX", "3090"), 71.0, 35.6),  # GA102 architecture white paper
)
OTHER_CHIPS = frozenset({"Laptop", "MIG", "D", "Ti"})
"""Words that make a name that of a slower chip, or of a slice."""


def peak_flops(device_name: str, is_16_bit: bool) -> float | None:
    """Arithmetic operations per second of a device at its best; None where the table does not know it.

    Parameters
    ----------
    device_name
        As ``torch.cuda.get_device_name`` gives it, for example "NVIDIA A100-SXM4-80GB".
    is_16_bit
        Whether matrices are multiplied in bf16 or fp16 rather than in fp32.
    """
    words = set(device_name.replace("-", " ").split())
    if words & OTHER_CHIPS:
        return None
    for needed, half, single in PEAK_TFLOPS:
        if words.issuperset(needed):
            return (half if is_16_bit else single) * 1e12
    return None


def flops_per_token(module: nn.Module, length: float) -> float:
    """Arithmetic of forward and backward pass for one token of a language model.

    A weight costs a multiplication and an addition in the forward pass, the same for the gradient of its input, and the
    same again for its own gradient if it is trained: 6 per trained weight, 4 per frozen one (Kaplan et al. 2020, and
    Hu et al. 2022 for what adapters save). Attention adds 12 x layers x width x length (queries with keys, weights with
    values; thrice, for forward and backward). Look-ups are free, and what is computed a second time because of gradient
    checkpointing does not count. Weights that act once a text, and the layers below the lowest trained weight, which
    need no backward pass, are counted as if they acted on every token in both.

    Parameters
    ----------
    module
        Any module; the first part of it that has a Hugging Face configuration gives the attention's shape.
    length
        Mean tokens of a text.
    """
    weights = {
        id(weight): weight
        for part in module.modules()
        if not isinstance(part, nn.Embedding)
        for weight in part.parameters(recurse=False)
        if len(_shape(weight)) > 1
    }
    linear = sum((6 if weight.requires_grad else 4) * _shape(weight).numel() for weight in weights.values())
    return linear + 12 * _attention_width(module) * length


def _shape(weight: nn.Parameter) -> torch.Size:
    """Of the whole weight: what ZeRO-3 leaves on a rank is empty."""
    shape: torch.Size = getattr(weight, "ds_shape", weight.shape)
    return shape


def _attention_width(module: nn.Module) -> int:
    """Layers x heads x width of a head."""
    for part in module.modules():
        config: Any = getattr(part, "config", None)
        if hasattr(config, "num_hidden_layers") and hasattr(config, "num_attention_heads"):
            width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            return int(config.num_hidden_layers * config.num_attention_heads * width)
    return 0


def peak_memory_gib(device: torch.device) -> float:
    """The most that this process has held so far: tensors on a GPU, resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / GIB if sys.platform == "darwin" else peak * 1024 / GIB


def mfu(engine: Any, rates: dict[str, float]) -> float | None:
    """Model FLOPs utilisation in 0 … 1, or None where it is not known."""
    if engine.device.type != "cuda" or "tokens/s" not in rates:
        return None
    is_16_bit = engine.bfloat16_enabled() or engine.fp16_enabled()
    peak = peak_flops(torch.cuda.get_device_name(engine.device), is_16_bit)
    if peak is None:
        return None
    texts_per_s = next((rate for unit, rate in rates.items() if unit != "tokens/s"), 0.0)
    length = rates["tokens/s"] / texts_per_s if texts_per_s else 0.0
    workers: int = engine.world_size
    return rates["tokens/s"] * flops_per_token(engine.module, length) / (peak * workers)


def read(engine: Any, rates: dict[str, float]) -> dict[str, float]:
    """What the gauges of a DeepSpeed engine show after a step.

    Parameters
    ----------
    rates
        Units per second of all workers: tokens/s and the texts they belong to for a language model.

    Returns
    -------
    dict
        ``learning_rate``; ``gradient_norm`` of the last optimiser step before clipping, once there was one;
        ``memory_GiB``, this process's peak; ``MFU`` where it is known.
    """
    shown = {"learning_rate": float(engine.get_lr()[0])}
    norm = engine.get_global_grad_norm()
    if norm is not None:
        shown["gradient_norm"] = float(norm)
    shown["memory_GiB"] = peak_memory_gib(engine.device)
    utilisation = mfu(engine, rates)
    if utilisation is not None:
        shown["MFU"] = utilisation
    return shown


def remember_gradient_norm(engine: Any) -> None:
    """Make ``engine.get_global_grad_norm()`` work without ZeRO in fp32, where DeepSpeed clips by it and forgets it."""
    if engine.zero_optimization() or engine.bfloat16_enabled() or engine.fp16_enabled():
        return

    def clip() -> None:
        parameters = engine.module.parameters()
        engine._global_grad_norm = nn.utils.clip_grad_norm_(parameters, engine.gradient_clipping())

    engine.clip_fp32_gradients = clip
