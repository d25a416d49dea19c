"""What a run will do and take, from its configuration and data alone: no weights are loaded, no Ray is started."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from driftline.catalog.attributes import Attributes
from driftline.config import Config, DeepSpeedConfig, EncoderConfig, HeadsConfig
from driftline.config.conflicts import find_conflicts
from driftline.drift.recipe import drift_sampler
from driftline.models.adapters import describe_adapter
from driftline.models.backbone import base_config
from driftline.models.build import TEXT_VECTOR_DIM, base_model
from driftline.models.text_tower import Tokenizer
from driftline.sequences.batches import History
from driftline.sequences.dataset import Dataset, load_dataset, ranking_split
from driftline.sequences.stream import ranking_sampler
from driftline.training.activations import Activations
from driftline.training.domain import domain_items
from driftline.training.gauges import flops_per_token, peak_flops
from driftline.training.memory import (
    PERSISTENCE_THRESHOLD,
    Device,
    Elements,
    Memory,
    advice,
    describe,
    memory,
    zero_variants,
)
from driftline.training.outlines import (
    EVENTS_ALONE,
    Inputs,
    domain_outline,
    follow_domain,
    follow_judge,
    follow_recommender,
    follow_text,
    judge_outline,
    recommender_outline,
    softmax_items,
    text_outline,
)
from driftline.training.stages import alignment_items, factor_sequences

CARDS_GB = (80, 24)
REFERENCE_GPUS = ("NVIDIA H100", "NVIDIA L4")
"""Of 80 and 24 GB, for times where no GPU is here to ask."""
MFU = 0.4
"""Model FLOPs utilisation that times assume: what well-tuned training of dense transformers reaches."""
LONGEST_TEXTS, SAMPLED_TEXTS = 1000, 2000
QUESTION_TOKENS = 20
"""Of the judge's prompt beside the items."""


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run.

    Attributes
    ----------
    adapter
        What of the language model trains and where; None for a stage without one.
    batch, length
        Of one worker and step; the longest sequence, in ``unit``.
    steps_per_epoch
        Of each worker.
    units_per_epoch
        Tokens or events of all workers, padding left out.
    flops
        Of the whole stage and all workers; recomputation by gradient checkpointing is not counted.
    memory
        Of one worker by variant: the chosen one first, then every ZeRO stage.
    activations
        Bytes without and with gradient checkpointing.
    inside
        Well-known parts of the figures in ``memory``, in bytes.
    cards
        By size in GB: whether a worker fits, and if not, what to change.
    hours
        By name of the GPU, at ``MFU``; empty for stages that are not bound by arithmetic.
    """

    name: str
    adapter: str | None
    parameters: int
    trainable: int
    batch: int
    length: int
    unit: str
    steps_per_epoch: int
    epochs: int
    units_per_epoch: int
    flops: float
    memory: dict[str, Memory]
    activations: dict[bool, Activations]
    inside: dict[str, int]
    cards: dict[int, str]
    hours: dict[str, float]

    @property
    def chosen(self) -> Memory:
        """Of the configured variant."""
        return next(iter(self.memory.values()))


@dataclass(frozen=True)
class DryRun:
    """A whole run."""

    config: Config
    data: dict[str, int]
    workers: int
    stages: list[StagePlan]
    notes: list[str]


def dry_run(config: Config, tell: Callable[[str], None] = lambda text: None) -> DryRun:
    """Plan a run. Memory is that of the smallest world it may have, where every worker holds most.

    Parameters
    ----------
    tell
        Hears what is being done.

    Raises
    ------
    ConfigError, DataError
        As a run would, at its start.
    """
    tell("reading the data")
    dataset = load_dataset(config)
    number = config.training.num_workers
    workers = number if isinstance(number, int) else number[0]
    plans, notes = [], list[str]()
    for outline in _outlines(config, dataset, workers, notes):
        tell(f"following one step of the {outline.name} stage on tensors without memory")
        plans.append(_plan(_judging(config) if outline.name == "judge" else config, outline, workers))
    return DryRun(config, dataset.report, workers, plans, notes)


@dataclass(frozen=True)
class _Outline:
    """What is known of a stage before it is followed."""

    name: str
    module: Callable[[], nn.Module]
    follow: Callable[[bool], Activations]
    has_adapter: bool
    unit: str
    batch: int
    length: int
    mean_length: float
    steps_per_epoch: int
    epochs: int
    logits: int
    """Numbers in one copy of the scores over items or vocabulary."""


def _outlines(config: Config, dataset: Dataset, workers: int, notes: list[str]) -> list[_Outline]:
    longest, mean = _text_lengths(config, dataset.catalog.texts, notes)
    stages = [_text(config, dataset, workers, longest, mean), _ranker(config, dataset, workers)]
    if config.training.refit_epochs and dataset.before_test is not dataset:
        again = _ranker(config, dataset.before_test, workers)
        stages.append(replace(again, name="refit", epochs=config.training.refit_epochs))
    if config.text.domain.epochs:
        stages.insert(0, _domain(config, dataset, workers, longest, mean))
    if config.drift.enabled:
        stages.append(_drift(config, dataset, workers))
    if config.drift.judge.enabled:
        stages.append(_judge(_judging(config), workers))
    return stages


def _judging(config: Config) -> Config:
    """With the judge's depth and adapter in the text tower's place."""
    judge = config.drift.judge
    text = config.text.model_copy(update={"layers": judge.layers, "adapter": judge.adapter})
    return config.model_copy(update={"text": text})


def _judge(config: Config, workers: int) -> _Outline:
    """Prompts are taken as long as ``item_tokens`` lets them become."""
    options = config.drift.judge
    length = 2 * options.window_items * (options.item_tokens + 1) + QUESTION_TOKENS
    return _Outline(
        "judge",
        lambda: judge_outline(config, length, config.training.deepspeed.gradient_checkpointing)[0],
        partial(follow_judge, config, length),
        True, "tokens", options.batch_examples, length, float(length),
        2 * options.pairs // (options.batch_examples * workers), options.epochs,
        2 * options.batch_examples,
    )  # fmt: skip


def _domain(config: Config, dataset: Dataset, workers: int, longest: int, mean: float) -> _Outline:
    options, texts = config.text.domain, len(domain_items(_items(dataset), config.seed)[1])
    vocabulary = _vocabulary(config)
    return _Outline(
        "domain",
        lambda: domain_outline(config, longest, config.training.deepspeed.gradient_checkpointing)[0],
        partial(follow_domain, config, longest),
        True, "tokens", options.batch_texts, longest, mean,
        max(1, texts // (options.batch_texts * workers)), options.epochs,
        options.batch_texts * (longest - 1) * vocabulary,
    )  # fmt: skip


def _text(config: Config, dataset: Dataset, workers: int, longest: int, mean: float) -> _Outline:
    batch, items = config.text.batch_items, _items(dataset)
    texts = len(alignment_items(factor_sequences(dataset, config), items, config.seed)[1])
    return _Outline(
        "text",
        lambda: text_outline(config, items, longest, config.training.deepspeed.gradient_checkpointing)[0],
        partial(follow_text, config, items, longest),
        True, "tokens", batch, longest, mean,
        max(1, texts // (batch * workers)), config.text.epochs,
        batch * items,
    )  # fmt: skip


def _ranker(config: Config, dataset: Dataset, workers: int) -> _Outline:
    steps = ranking_sampler(dataset, config).batches_per_epoch(workers)
    histories = dataset.histories(ranking_split(dataset, config).fit).values()
    lengths = _lengths(histories, config.encoder.window_events)
    batch, epochs = config.training.batch_users, config.training.epochs
    share = 0.5 if config.training.crops == "anywhere" else 1.0
    vectors = dataset.item_vectors_NV
    inputs = Inputs(
        TEXT_VECTOR_DIM + (0 if vectors is None else vectors.shape[1]),
        Attributes.of(dataset.catalog.texts).width if config.heads.text else 0,
        dataset.user_attributes.size,
    )
    return _recommender(
        "ranker", config, config.encoder, config.heads, _items(dataset), batch, lengths, share, steps, epochs, inputs
    )


def _drift(config: Config, dataset: Dataset, workers: int) -> _Outline:
    histories = list(dataset.histories(dataset.split.fit, dataset.users_of("train")).values())
    sampler = drift_sampler(histories, config.drift, config.seed)
    lengths, steps = _lengths(histories, sampler.window_events), sampler.batches_per_epoch(workers)
    heads = HeadsConfig(rating=0.0, drift=config.heads.drift)
    batch, epochs, encoder = config.drift.batch_users, config.drift.epochs, config.drift.encoder
    share = 0.5 if sampler.random_start else 1.0  # crops that start anywhere are half as long
    return _recommender("drift", config, encoder, heads, _items(dataset), batch, lengths, share, steps, epochs)


def _lengths(histories: Iterable[History], window_events: int) -> NDArray[np.int64]:
    """Events of each crop."""
    return np.array([min(len(history), window_events) for history in histories if len(history) >= 2] or [1])


def _recommender(
    name: str,
    config: Config,
    encoder: EncoderConfig,
    heads: HeadsConfig,
    items: int,
    batch: int,
    lengths: NDArray[np.int64],
    share: float,
    steps: int,
    epochs: int,
    inputs: Inputs = EVENTS_ALONE,
) -> _Outline:
    longest = int(lengths.max())
    is_checkpointing = config.training.deepspeed.gradient_checkpointing
    shape = config, encoder, heads, items, batch, longest
    return _Outline(
        name,
        lambda: recommender_outline(*shape, is_checkpointing, inputs=inputs)[0],
        partial(follow_recommender, *shape, inputs=inputs),
        encoder.kind == "llm", "events", batch, longest, float(lengths.mean()) * share, steps, epochs,
        batch * longest * softmax_items(config, encoder, items, batch, longest),
    )  # fmt: skip


def _plan(config: Config, outline: _Outline, workers: int) -> StagePlan:
    options = config.training.deepspeed
    with torch.device("meta"):
        module = outline.module()
    can_checkpoint = outline.has_adapter and config.text.adapter.kind != "prefix"
    activations = {False: outline.follow(False)}
    activations[True] = outline.follow(True) if can_checkpoint else activations[False]
    used = activations[options.gradient_checkpointing]
    device = Device(workers, config.training.use_gpu)
    chosen = {f"as configured ({describe(options)})": memory(count(module, config), used, options, device)}
    others = {
        name: memory(count(module, config, variant), used, variant, device)
        for name, variant in zero_variants(options, device.is_gpu)
        if _is_possible(config, device.is_gpu, variant)
    }
    units = round(outline.steps_per_epoch * outline.batch * outline.mean_length * workers)
    flops = flops_per_token(module, outline.mean_length) * units * outline.epochs
    elements = count(module, config)
    return StagePlan(
        name=outline.name,
        adapter=describe_adapter(module, config.text.adapter) if outline.has_adapter else None,
        parameters=elements.parameters,
        trainable=elements.trainable,
        batch=outline.batch,
        length=outline.length,
        unit=outline.unit,
        steps_per_epoch=outline.steps_per_epoch,
        epochs=outline.epochs,
        units_per_epoch=units,
        flops=flops,
        memory=chosen | others,
        activations=activations,
        inside=_inside(module, outline, used),
        cards={
            gb: advice(elements, activations, options, workers, outline.batch, gb, partial(_is_possible, config, True))
            for gb in CARDS_GB
        },
        hours=_hours(config, flops, workers) if outline.unit == "tokens" else {},
    )


def _is_possible(config: Config, use_gpu: bool, options: DeepSpeedConfig) -> bool:
    """Whether a run may have these options, beside its adapter for example."""
    training = config.training.model_copy(update={"deepspeed": options, "use_gpu": use_gpu})
    return not find_conflicts(config.model_copy(update={"training": training}))


def _inside(module: nn.Module, outline: _Outline, used: Activations) -> dict[str, int]:
    """Parts that people ask for, contained in weights, tables or activations."""
    weight = next(module.parameters())
    tables = [part.weight for part in module.modules() if isinstance(part, nn.Embedding) and outline.has_adapter]
    parts = {
        "token embedding table (in weights)": sum(t.numel() * t.element_size() for t in tables),
        "one copy of the logits (in activations)": outline.logits * weight.element_size(),
        "held for the backward pass (in activations)": used.saved,
    }
    return {name: size for name, size in parts.items() if size}


def _hours(config: Config, flops: float, workers: int) -> dict[str, float]:
    """By GPU, at ``MFU``: the one that is here, or else a card of each size."""
    if not config.training.use_gpu:
        return {}
    here = [torch.cuda.get_device_name()] if torch.cuda.is_available() else list(REFERENCE_GPUS)
    is_16_bit = config.training.deepspeed.precision != "fp32"
    peaks = {name: peak for name in here if (peak := peak_flops(name, is_16_bit))}
    return {name: flops / (MFU * peak * workers) / 3600 for name, peak in peaks.items()}


def count(module: nn.Module, config: Config, options: DeepSpeedConfig | None = None) -> Elements:
    """Numbers in a module on the meta device."""
    options = options or config.training.deepspeed
    threshold = PERSISTENCE_THRESHOLD if options.persistence_threshold is None else options.persistence_threshold
    parameters = list(module.parameters())
    trainable = [p.numel() for p in parameters if p.requires_grad]
    return Elements(
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(trainable),
        largest=max(trainable),
        small=sum(p.numel() for p in parameters if p.numel() < threshold),
        quantised=_quantised(module) if config.text.adapter.kind == "qlora" else 0,
        table_bytes=sum(buffer.numel() * buffer.element_size() for buffer in module.buffers()),
    )


def _quantised(module: nn.Module) -> int:
    """Weights that bitsandbytes would hold in 4 bits: frozen linear maps of the backbone."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return sum(part.weight.numel() for part in linear if not part.weight.requires_grad)


def _items(dataset: Dataset) -> int:
    return len(dataset.catalog.ids)


def _vocabulary(config: Config) -> int:
    size: int = base_config(base_model(config), None).vocab_size
    return size


def _text_lengths(config: Config, texts: Sequence[str], notes: list[str]) -> tuple[int, float]:
    """Tokens of the longest text and of a mean one; a base without a tokenizer leaves ``text.max_tokens`` for both."""
    base, limit = base_model(config), config.text.max_tokens
    if not any(base.glob("*token*")):
        notes.append(f"{base} has no tokenizer: every text is counted with text.max_tokens={limit} tokens")
        return limit, float(limit)
    tokenizer = Tokenizer(base, limit)
    longest = sorted(texts, key=len, reverse=True)[:LONGEST_TEXTS]
    sample = np.random.default_rng(0).permutation(len(texts))[:SAMPLED_TEXTS]
    most = int(tokenizer(longest).mask_MT.sum(dim=1).max())
    if len(texts) > LONGEST_TEXTS:
        notes.append(
            f"token counts: longest of the {LONGEST_TEXTS:,} longest texts, mean of {len(sample):,} drawn ones"
        )
    return most, float(tokenizer([texts[i] for i in sample]).mask_MT.sum(dim=1).float().mean())
