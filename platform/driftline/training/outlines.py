"""The modules of a run without their weights: on the meta device, with one step each for ``activations`` to follow."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from driftline.config import AdapterConfig, Config, EncoderConfig, HeadsConfig
from driftline.models.adapters import add_adapter
from driftline.models.backbone import base_config, quiet
from driftline.models.build import DTYPES, TEXT_VECTOR_DIM, base_model
from driftline.models.item_sample import ItemSample
from driftline.models.item_table import ItemTable
from driftline.models.language_model import LanguageModel
from driftline.models.recommender import Recommender
from driftline.models.text_tower import TextAligner, TextTower, Tokens
from driftline.models.user_encoder import UserEncoder
from driftline.models.verbaliser import Verbaliser
from driftline.sequences.batches import Batch
from driftline.training.activations import Activations, trace, trace_line
from driftline.training.stages import FACTOR_DIM

Outline = tuple[nn.Module, Callable[[], Tensor]]
"""A module on the meta device, and its loss for a batch of the configured size."""


class Inputs(NamedTuple):
    """What a model of users reads beside events."""

    vector_width: int = TEXT_VECTOR_DIM
    """Of an item's vectors of all modalities."""
    item_attributes: int = 0
    """Columns of :class:`~driftline.catalog.attributes.Attributes`, which the text head reads."""
    user_values: int = 0
    """Values of users' attributes."""


EVENTS_ALONE: Final = Inputs()
"""As the drift model."""
RECURRENT_STEPS = 16
"""Time steps after which a recurrent encoder is extrapolated: they are followed one by one."""


def text_outline(config: Config, items: int, tokens: int, checkpointing: bool, layers: int | None = None) -> Outline:
    """The text stage, over a catalogue of ``items``, with texts of ``tokens`` tokens; ``layers`` to build fewer."""
    M = config.text.batch_items
    tower = TextTower(_backbone(config, layers or text_layers(config), checkpointing), TEXT_VECTOR_DIM, 1.0)
    aligner = TextAligner(tower, torch.empty(items, FACTOR_DIM), torch.empty(items, dtype=torch.bool)).train()
    _cast(aligner, config)
    return aligner, lambda: aligner(_texts(M, tokens), torch.zeros(M, dtype=torch.long))


def domain_outline(config: Config, tokens: int, checkpointing: bool, layers: int | None = None) -> Outline:
    """The stage of domain adaptation."""
    backbone = _backbone(config, layers or text_layers(config), checkpointing)
    embedding: nn.Embedding = backbone.get_input_embeddings()  # type: ignore[operator]
    head = nn.Linear(embedding.embedding_dim, embedding.num_embeddings, bias=False).requires_grad_(False)
    if base_config(base_model(config), None).tie_word_embeddings:
        head.weight = embedding.weight
    model = LanguageModel(backbone, head).train()
    _cast(model, config)
    return model, lambda: model(_texts(config.text.domain.batch_texts, tokens))


def judge_outline(config: Config, tokens: int, checkpointing: bool, layers: int | None = None) -> Outline:
    """The judge's stage; ``config`` has the judge's depth and adapter in the text tower's place."""
    M = config.drift.judge.batch_examples
    backbone = _backbone(config, layers or text_layers(config), checkpointing)
    width: int = backbone.get_input_embeddings().embedding_dim  # type: ignore[operator]
    model = Verbaliser(backbone, torch.empty(2, width)).train()
    _cast(model, config)
    return model, lambda: nn.functional.binary_cross_entropy_with_logits(model(_texts(M, tokens)), torch.zeros(M))


def recommender_outline(
    config: Config,
    encoder: EncoderConfig,
    heads: HeadsConfig,
    items: int,
    sequences: int,
    events: int,
    checkpointing: bool,
    layers: int | None = None,
    inputs: Inputs = EVENTS_ALONE,
) -> Outline:
    """The ranking or the drift stage, over ``items``, with ``sequences`` histories of ``events`` events."""
    decoder = None
    if encoder.kind == "llm":
        decoder = _backbone(config, layers or encoder.layers, checkpointing)
        decoder.get_input_embeddings().requires_grad_(False)  # type: ignore[operator]
    vectors, known = torch.empty(items, inputs.vector_width), torch.empty(items, dtype=torch.bool)
    table = ItemTable(vectors, known, encoder.dim, encoder.id_dropout)
    user = UserEncoder(encoder, decoder, inputs.user_values)
    model = Recommender(table, user, heads, encoder.mask_seen, torch.empty(items, inputs.item_attributes)).train()
    _cast(model, config)
    return model, lambda: model.losses(*_step(config, encoder, items, _histories(sequences, events))).total


def softmax_items(config: Config, encoder: EncoderConfig, items: int, sequences: int, events: int) -> int:
    """Items that the training softmax is over: all, or the most that a sample may hold."""
    sampled = encoder.sampled_items + config.training.most_workers * sequences * events
    return items if items <= encoder.full_softmax_up_to else min(items, sampled)


def follow_text(config: Config, items: int, tokens: int, checkpointing: bool) -> Activations:
    """Activations of the text stage."""
    return trace_line(
        lambda layers: text_outline(config, items, tokens, checkpointing, layers), text_layers(config), _period(config)
    )


def follow_domain(config: Config, tokens: int, checkpointing: bool) -> Activations:
    """Activations of domain adaptation."""
    return trace_line(
        lambda layers: domain_outline(config, tokens, checkpointing, layers), text_layers(config), _period(config)
    )


def follow_judge(config: Config, tokens: int, checkpointing: bool) -> Activations:
    """Activations of the judge's stage."""
    return trace_line(
        lambda layers: judge_outline(config, tokens, checkpointing, layers), text_layers(config), _period(config)
    )


def follow_recommender(
    config: Config,
    encoder: EncoderConfig,
    heads: HeadsConfig,
    items: int,
    sequences: int,
    events: int,
    checkpointing: bool,
    inputs: Inputs = EVENTS_ALONE,
) -> Activations:
    """Activations of the ranking or the drift stage."""

    def outline(length: int, layers: int | None = None) -> Outline:
        return recommender_outline(config, encoder, heads, items, sequences, length, checkpointing, layers, inputs)

    if encoder.kind == "llm":
        return trace_line(lambda layers: outline(events, layers), encoder.layers, _period(config))
    if encoder.kind in ("gru", "lstm"):
        return trace_line(outline, events, RECURRENT_STEPS)
    return trace(lambda: outline(events))


def text_layers(config: Config) -> int:
    """Depth of the text tower."""
    depth: int = base_config(base_model(config), config.text.layers).num_hidden_layers
    return depth


def _period(config: Config) -> int:
    """Layers after which their kinds repeat: 1 where all are alike."""
    kinds = getattr(base_config(base_model(config), None), "layer_types", None)
    if not kinds:
        return 1
    repeats = (n for n in range(1, len(kinds)) if all(kinds[i] == kinds[i % n] for i in range(len(kinds))))
    return next(repeats, len(kinds))


def _backbone(config: Config, layers: int, checkpointing: bool) -> nn.Module:
    """The first layers of the base with their adapter; 4-bit weights are outlined whole."""
    from transformers import AutoModel

    base: Path = base_model(config)
    with quiet():
        backbone: nn.Module = AutoModel.from_config(base_config(base, layers), dtype=_dtype(config))
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None  # type: ignore[assignment]
    if checkpointing:
        backbone.activation_checkpointing_enable()  # type: ignore[operator]
    return add_adapter(backbone, _without_quantisation(config.text.adapter))


def _without_quantisation(adapter: AdapterConfig) -> AdapterConfig:
    return adapter.model_copy(update={"kind": "lora"}) if adapter.kind == "qlora" else adapter


def _dtype(config: Config) -> torch.dtype:
    return DTYPES[config.training.deepspeed.precision]


def _cast(module: nn.Module, config: Config) -> None:
    """Give parameters, not buffers, the precision that they are trained in."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(_dtype(config))


def _texts(count: int, tokens: int) -> Tokens:
    return Tokens(torch.zeros(count, tokens, dtype=torch.long), torch.ones(count, tokens, dtype=torch.long))


def _step(config: Config, encoder: EncoderConfig, items: int, batch: Batch) -> tuple[Batch, ItemSample | None]:
    """A batch, and the sample of a large catalogue that is drawn for it."""
    size = softmax_items(config, encoder, items, *batch.items_BL.shape)
    if items <= encoder.full_softmax_up_to:
        return batch, None
    return batch, ItemSample(torch.zeros(size, dtype=torch.long), torch.zeros(size), batch)


def _histories(count: int, events: int) -> Batch:
    shape = (count, events)
    return Batch(
        torch.zeros(shape, dtype=torch.long),
        torch.ones(shape, dtype=torch.bool),
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape),
    )
