"""Memory of one worker by component, for every ZeRO stage: arithmetic only, nothing is measured or loaded.

With P parameters of b bytes, of which T are trained by Adam, over W workers (Rajbhandari et al. 2020, ZeRO: Memory
Optimizations Toward Training Trillion Parameter Models, section 3 and figure 1; frozen weights have neither gradient
nor optimiser state):

    component                    ZeRO 0      1           2           3
    weights                      P b         P b         P b         P b / W
    gradients                    T b         T b         T b / W     T b / W
    Adam's two moments           8 T         8 T / W     8 T / W     8 T / W
    fp32 master copy             4 T         4 T / W     4 T / W     4 T / W
                                 (0 in fp32)

What DeepSpeed 0.19 adds, read in its source and measured: stages 1 to 3 keep a master copy in fp32 too
(``stage_1_and_2.py``, ``single_partition_of_fp32_groups``; ``stage3.py``, ``fp32_partitioned_groups_flat``), and a
communication bucket (here as large as what is trained), stage 3 for good, the others in the backward pass; stage 3
leaves small parameters whole and gathers up to ``stage3_max_live_parameters`` elements around the layer that computes;
the optimiser step copies its gradients, and makes one (GPU) or two (CPU) temporaries of Adam's denominator.

Activations come from :mod:`driftline.training.activations`. They are largest when the backward pass starts, gradients
when it ends, temporaries of the optimiser in between two steps: the peak is the larger of these moments, not their sum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from driftline.config import DeepSpeedConfig
from driftline.training.activations import Activations
from driftline.training.deepspeed_config import REDUCE_BUCKET_ELEMENTS

GIB = 1024**3
ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
QUANTISED_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per weight of 4-bit NormalFloat (QLoRA, §3): a code, an 8-bit scale for 64 weights, an fp32 scale for 256 scales."""

MAX_LIVE_ELEMENTS = 1_000_000_000
PERSISTENCE_THRESHOLD = 100_000
"""Defaults of DeepSpeed (``runtime/zero/config.py``)."""

FRAMEWORK_GPU = GIB
"""CUDA context with its kernels, cuBLAS workspace, NCCL: an assumption, neither derived nor measured."""
FRAMEWORK_CPU = 0.6 * GIB
"""Python with torch, transformers, DeepSpeed and Ray imported; measured, resident memory."""


@dataclass(frozen=True)
class Elements:
    """How many numbers a module has.

    Attributes
    ----------
    parameters, trainable
        All of them, and those with a gradient.
    largest
        Of the largest trained parameter.
    small
        In parameters below ZeRO-3's persistence threshold, which stay whole.
    quantised
        Frozen weights in 4 bits.
    table_bytes
        Buffers: collaborative factors, cached text vectors, masks.
    """

    parameters: int
    trainable: int
    largest: int
    small: int = 0
    quantised: int = 0
    table_bytes: int = 0


@dataclass(frozen=True)
class Device:
    """Where a worker trains, and with how many others."""

    workers: int
    is_gpu: bool


@dataclass(frozen=True)
class Memory:
    """Bytes of one worker.

    ``host`` is what offloading moves to the machine's memory (or its disk); it is no part of the total.
    """

    weights: float
    gathered: float
    tables: float
    optimiser: float
    gradients: float
    bucket: float
    activations: float
    step: float
    start: float
    framework: float
    host: float
    moments: tuple[tuple[str, float], ...]
    """Name of each critical moment of training and what is held then, framework included."""

    @property
    def peak(self) -> tuple[str, float]:
        """The most critical moment."""
        return max(self.moments, key=lambda moment: moment[1])

    @property
    def total(self) -> float:
        """Bytes at the most critical moment."""
        return self.peak[1]


def memory(elements: Elements, activations: Activations, options: DeepSpeedConfig, device: Device) -> Memory:
    """Memory of one worker in one stage of training."""
    size, stage = ELEMENT_BYTES[options.precision], options.zero_stage
    shards = device.workers if stage else 1
    sharded = shards if stage == 3 else 1
    whole = elements.small if stage == 3 else 0
    trained = elements.trainable / shards

    weights = size * ((elements.parameters - elements.quantised - whole) / sharded + whole)
    weights += elements.quantised * QUANTISED_BYTES
    start = size * (elements.parameters - elements.quantised) + elements.quantised * QUANTISED_BYTES
    gathered = size * min(elements.parameters - whole, MAX_LIVE_ELEMENTS) if stage == 3 and device.workers > 1 else 0.0
    has_master = options.precision != "fp32" or stage > 0
    optimiser = (12 if has_master else 8) * trained
    gradients = size * (trained if stage >= 2 else elements.trainable)
    bucket = size * min(REDUCE_BUCKET_ELEMENTS, elements.trainable) if stage else 0.0
    step = _step_bytes(elements, options, device, trained, gradients)

    host = 0.0
    if options.offload_parameters != "none":
        host, weights = weights, size * whole
    if options.offload_optimizer != "none":  # states and their fp32 gradients leave; so do gradient shards
        host += optimiser + 4 * trained
        gradients = gradients if stage == 1 else 0.0
        optimiser, step = 0.0, gradients

    framework = float(FRAMEWORK_GPU if device.is_gpu else FRAMEWORK_CPU)
    resident = framework + weights + elements.table_bytes + optimiser
    stays = gradients if options.gradient_accumulation_steps > 1 or stage == 3 else 0.0
    early = min(activations.gradients, gradients) if not stays else 0.0
    bucket_early = bucket if device.is_gpu else 0.0  # on a CPU untouched pages of an empty tensor take no memory
    moments = (
        ("before sharding", framework + start + elements.table_bytes),
        ("backward starts", resident + gathered + stays + early + bucket_early + activations.peak),
        ("backward ends", resident + gathered + gradients + bucket + activations.tail),
        ("optimiser step", resident + step + (bucket if stage == 3 else 0.0)),
    )
    return Memory(
        weights, gathered, elements.table_bytes, optimiser, gradients, bucket, activations.peak, step, start,
        framework, host, moments,
    )  # fmt: skip


def _step_bytes(
    elements: Elements, options: DeepSpeedConfig, device: Device, trained: float, gradients: float
) -> float:
    """The most that the optimiser step needs beside weights and states: gradients, copies of them, Adam's denominator.

    torch's AdamW works parameter by parameter on a CPU (root and quotient: two temporaries), on all at once on a GPU
    (one); ZeRO gives it one flat parameter, for which stages 1 and 2 first copy the gradients and then let go of them.
    """
    temporaries = 1 if device.is_gpu else 2
    if options.zero_stage in (1, 2):
        return max(gradients + 4.0 * trained, 4.0 * trained * (1 + temporaries))
    copies = 0 if options.zero_stage == 0 and options.precision == "fp32" else 1
    at_once = elements.largest if options.zero_stage == 0 and not device.is_gpu else trained
    return gradients + 4.0 * (copies * trained + temporaries * at_once)


Variant = tuple[str, DeepSpeedConfig]


def zero_variants(options: DeepSpeedConfig, is_gpu: bool) -> list[Variant]:
    """The same run under every ZeRO stage, and with everything offloaded where there is a GPU to offload from."""
    plain = {
        "offload_optimizer": "none",
        "offload_parameters": "none",
        "nvme_path": None,
        "persistence_threshold": None,
    }
    stages: tuple[Literal[0, 1, 2, 3], ...] = (0, 1, 2, 3)
    variants = [(f"ZeRO-{stage}", options.model_copy(update=plain | {"zero_stage": stage})) for stage in stages]
    if is_gpu:
        variants.append(("ZeRO-3 + CPU offload", offloaded(options)))
    return variants


def offloaded(options: DeepSpeedConfig) -> DeepSpeedConfig:
    """ZeRO-3 with optimiser states and weights in the machine's memory."""
    return options.model_copy(update={"zero_stage": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu"})


def describe(options: DeepSpeedConfig) -> str:
    """Short name of what is chosen: ``ZeRO-3 + offload``."""
    offloads = {options.offload_optimizer, options.offload_parameters} - {"none"}
    return f"ZeRO-{options.zero_stage}" + (f" + {' and '.join(sorted(offloads))} offload" if offloads else "")


def advice(
    elements: Elements,
    activations: dict[bool, Activations],
    options: DeepSpeedConfig,
    workers: int,
    batch: int,
    card_gb: int,
    is_possible: Callable[[DeepSpeedConfig], bool] = lambda options: True,
) -> str:
    """Whether a card holds a worker, and the least change after which it does.

    Parameters
    ----------
    activations
        Of the configured micro-batch, without and with gradient checkpointing.
    batch
        The micro-batch; halving it is tried last but for offloading.
    card_gb
        GB (10^9 bytes) of the card; 95 % of it is counted on, the rest is the allocator's.
    is_possible
        Whether the rest of the configuration allows these options.
    """
    device, room = Device(workers, is_gpu=True), 0.95e9 * card_gb

    def needed(candidate: DeepSpeedConfig, size: int) -> float:
        held = activations[candidate.gradient_checkpointing].scaled(size / batch)
        return memory(elements, held, candidate, device).total

    now = needed(options, batch)
    if now <= room:
        return f"fits: {now / 1e9:.1f} GB"
    checkpointed = options.model_copy(update={"gradient_checkpointing": True})
    if not is_possible(checkpointed):
        checkpointed = options
    further = [checkpointed, checkpointed.model_copy(update={"zero_stage": 3}), offloaded(checkpointed)]
    candidates = [options, *filter(is_possible, further)]
    sizes = [batch >> shift for shift in range(batch.bit_length()) if batch >> shift]
    for candidate, size in ((candidate, size) for candidate in candidates for size in sizes):
        if (used := needed(candidate, size)) <= room:
            return (
                f"needs {now / 1e9:.1f} GB; fits with {_changes(options, candidate, batch, size)}: {used / 1e9:.1f} GB"
            )
    least = needed(candidates[-1], 1)
    return (
        f"needs {now / 1e9:.1f} GB, and {least / 1e9:.1f} GB with everything that helps and a batch of 1: "
        "take fewer layers, a smaller model, or qlora"
    )


def _changes(before: DeepSpeedConfig, after: DeepSpeedConfig, batch: int, size: int) -> str:
    changed = {
        name: getattr(after, name)
        for name in ("gradient_checkpointing", "zero_stage", "offload_optimizer", "offload_parameters")
        if getattr(after, name) != getattr(before, name)
    }
    said = [f"{name}={str(value).lower()}" for name, value in changed.items()]
    if size != batch:
        said.append(f"a batch of {size} instead of {batch} (and gradient_accumulation_steps x{-(-batch // size)})")
    return ", ".join(said)
