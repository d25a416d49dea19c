"""From a configuration to the modules of a run: text tower, ranking model, drift model, judge."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from driftline.catalog.attributes import Attributes
from driftline.config import Config, EncoderConfig, HeadsConfig
from driftline.errors import ConfigError
from driftline.models.adapters import add_adapter, is_encoder
from driftline.models.backbone import load_backbone
from driftline.models.item_table import ItemTable
from driftline.models.language_model import LanguageModel, load_head
from driftline.models.recommender import Recommender
from driftline.models.text_tower import TextTower
from driftline.models.user_encoder import UserEncoder
from driftline.models.verbaliser import Verbaliser
from driftline.samples import fetch_smollm2

TEXT_VECTOR_DIM = 64
"""Width of a text vector, whatever the language model's hidden width."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""By ``training.deepspeed.precision``."""


def base_model(config: Config) -> Path:
    """Directory of the base language model; a sample model is fetched if it is not there yet."""
    if config.text.base == "smollm2-135m":
        return fetch_smollm2(config.storage)
    return Path(config.text.base).expanduser()


def build_text_tower(config: Config, for_training: bool = False) -> TextTower:
    """The tower with a fresh adapter.

    Parameters
    ----------
    for_training
        Load the weights in the precision that they are trained in, as DeepSpeed would cast them afterwards: half the
        memory with bf16, an eighth with qlora. Serving reads them in fp32 whatever they were trained in; with qlora
        its vectors of new texts therefore differ from training's by the quantisation error of the frozen weights.
    """
    options, base = config.training.deepspeed, base_model(config)
    if not for_training:
        return TextTower.build(base, config.text, TEXT_VECTOR_DIM)
    dtype = DTYPES[options.precision]
    four_bit = config.text.adapter.kind == "qlora"
    tower = TextTower.build(base, config.text, TEXT_VECTOR_DIM, options.gradient_checkpointing, dtype, four_bit)
    for parameter in tower.parameters():  # not the buffers: rotary frequencies need their precision
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    return tower


def build_language_model(config: Config) -> LanguageModel:
    """The tower's backbone with a fresh adapter and the base's head, in the precision that it is trained in."""
    backbone = build_text_tower(config, for_training=True).backbone
    return LanguageModel(backbone, load_head(base_model(config), backbone, DTYPES[config.training.deepspeed.precision]))


def build_judge(config: Config, answers: tuple[int, int], for_training: bool = False) -> Verbaliser:
    """The LLM judge with a fresh adapter.

    Parameters
    ----------
    answers
        Token ids of 'yes' and of 'no'.
    for_training
        As in :func:`build_text_tower`.
    """
    options, judge, base = config.training.deepspeed, config.drift.judge, base_model(config)
    dtype = DTYPES[options.precision] if for_training else torch.float32
    four_bit = for_training and judge.adapter.kind == "qlora"
    checkpointing = for_training and options.gradient_checkpointing
    backbone = load_backbone(base, judge.layers, checkpointing, dtype, four_bit, "drift.judge")
    backbone = add_adapter(backbone, judge.adapter, "drift.judge.adapter")
    head = load_head(base, backbone, dtype, "drift.judge.enabled", "set it to false")
    model = Verbaliser(backbone, head.weight[list(answers)])
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    return model


def build_ranker(
    config: Config,
    text_vectors_NT: Tensor,
    known_N: Tensor,
    item_vectors_NV: Tensor | None = None,
    texts: Sequence[str] | None = None,
    attribute_values: int = 0,
) -> Recommender:
    """The ranking model with fresh weights; vectors of other modalities stand beside those of the texts.

    Its text head, where it has one, also reads attributes from ``texts``; its encoder so many values of users'
    attributes.
    """
    vectors = text_vectors_NT if item_vectors_NV is None else torch.cat([text_vectors_NT, item_vectors_NV], dim=1)
    attributes_NA = None if texts is None or not config.heads.text else torch.from_numpy(Attributes.of(texts)(texts))
    return _recommender(config, config.encoder, config.heads, vectors, known_N, attributes_NA, attribute_values)


def build_drift_model(config: Config, text_vectors_NT: Tensor, known_N: Tensor) -> Recommender:
    """The drift model with fresh weights: an item table and an encoder of its own."""
    heads = HeadsConfig(rating=0.0, drift=config.heads.drift)
    return _recommender(config, config.drift.encoder, heads, text_vectors_NT, known_N)


def _recommender(
    config: Config,
    encoder: EncoderConfig,
    heads: HeadsConfig,
    text_vectors_NT: Tensor,
    known_N: Tensor,
    attributes_NA: Tensor | None = None,
    attribute_values: int = 0,
) -> Recommender:
    decoder = _decoder(config, encoder) if encoder.kind == "llm" else None
    items = ItemTable(text_vectors_NT, known_N, encoder.dim, encoder.id_dropout)
    user = UserEncoder(encoder, decoder, attribute_values)
    return Recommender(items, user, heads, encoder.mask_seen, attributes_NA)


def _decoder(config: Config, encoder: EncoderConfig) -> torch.nn.Module:
    """The language model's own layers, with an adapter of their own, for item vectors in place of tokens."""
    section = "encoder" if encoder is config.encoder else "drift.encoder"
    checkpointing = config.training.deepspeed.gradient_checkpointing
    backbone = load_backbone(base_model(config), encoder.layers, checkpointing, section=section)
    if is_encoder(backbone.config):
        raise ConfigError(
            [f"`{section}.kind` = llm reads histories from left to right; `text.base` = {config.text.base} does not"]
        )
    decoder = add_adapter(backbone, config.text.adapter)
    embedding: torch.nn.Module = decoder.get_input_embeddings()  # type: ignore[operator]
    embedding.requires_grad_(False)  # item vectors come in its place: under full fine-tuning it would have no gradient
    return decoder
