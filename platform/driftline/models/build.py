"""From a configuration to the three modules of a run: text tower, ranking model, drift model."""

from pathlib import Path

import torch
from torch import Tensor

from driftline.config import Config, EncoderConfig, HeadsConfig
from driftline.models.adapters import add_adapter
from driftline.models.item_table import ItemTable
from driftline.models.recommender import Recommender
from driftline.models.text_tower import TextTower, load_backbone
from driftline.models.user_encoder import UserEncoder
from driftline.samples import fetch_smollm2

TEXT_VECTOR_DIM = 64
"""Width of a text vector, whatever the language model's hidden width."""


def base_model(config: Config) -> Path:
    """Directory of the base language model; a sample model is fetched if it is not there yet."""
    if config.text.base == "smollm2-135m":
        return fetch_smollm2(config.storage)
    return Path(config.text.base).expanduser()


def build_text_tower(config: Config) -> TextTower:
    """The tower with a fresh adapter."""
    checkpointing = config.training.deepspeed.gradient_checkpointing
    return TextTower.build(base_model(config), config.text, TEXT_VECTOR_DIM, checkpointing)


def build_ranker(config: Config, text_vectors_NT: Tensor, known_N: Tensor) -> Recommender:
    """The ranking model with fresh weights."""
    return _recommender(config, config.encoder, config.heads, text_vectors_NT, known_N)


def build_drift_model(config: Config, text_vectors_NT: Tensor, known_N: Tensor) -> Recommender:
    """The drift model with fresh weights: an item table and an encoder of its own."""
    heads = HeadsConfig(rating=0.0, drift=config.heads.drift)
    return _recommender(config, config.drift.encoder, heads, text_vectors_NT, known_N)


def _recommender(
    config: Config, encoder: EncoderConfig, heads: HeadsConfig, text_vectors_NT: Tensor, known_N: Tensor
) -> Recommender:
    decoder: torch.nn.Module | None = None
    if encoder.kind == "llm":
        checkpointing = config.training.deepspeed.gradient_checkpointing
        decoder = add_adapter(load_backbone(base_model(config), encoder.layers, checkpointing), config.text.adapter)
    items = ItemTable(text_vectors_NT, known_N, encoder.dim, encoder.id_dropout)
    return Recommender(items, UserEncoder(encoder, decoder), heads, mask_seen=encoder.mask_seen)
