"""A Hugging Face model as the text tower and the ``llm`` encoder read it: its first layers, without a head."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from driftline.errors import ConfigError


def load_backbone(
    base: str | Path,
    layers: int | None,
    gradient_checkpointing: bool = False,
    dtype: torch.dtype = torch.float32,
    four_bit: bool = False,
    section: str = "text",
) -> nn.Module:
    """The first ``layers`` blocks of a Hugging Face model, without its language-model head.

    Parameters
    ----------
    gradient_checkpointing
        Recompute the activations of every block in the backward pass.
    dtype
        Of the weights.
    four_bit
        Load the frozen weights in 4-bit NormalFloat, doubly quantised (Dettmers et al. 2023); CUDA only.
    section
        Of the configuration, which says ``layers`` and the adapter; for messages.

    Raises
    ------
    ConfigError
        If the base is no model directory or has fewer layers, or if 4-bit weights cannot be had here.
    """
    from transformers import AutoModel

    options: dict[str, Any] = {"config": base_config(base, layers, section), "dtype": dtype}
    if four_bit:
        options |= {"quantization_config": _four_bit(dtype, section), "device_map": {"": torch.cuda.current_device()}}
    with quiet():  # a shortened model reports every layer that it leaves out
        backbone: Any = AutoModel.from_pretrained(base, **options)
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None  # of BERT and its kin: nothing reads it, so under full fine-tuning it has no gradient
    if gradient_checkpointing:
        backbone.activation_checkpointing_enable()
    module: nn.Module = backbone
    return module


def base_config(base: str | Path, layers: int | None, section: str = "text") -> Any:
    """The Hugging Face configuration of a base, cut to its first ``layers`` blocks.

    Raises
    ------
    ConfigError
        If the base is no model directory or has fewer layers.
    """
    from transformers import AutoConfig

    if not Path(base).is_dir():
        raise ConfigError([f"`text.base`: no model directory {base}; run `driftline fetch`, or give a directory"])
    config = AutoConfig.from_pretrained(base)
    if layers is not None:
        if layers > config.num_hidden_layers:
            raise ConfigError([f"`{section}.layers` = {layers}: {base} has {config.num_hidden_layers} layers"])
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    return config


def _four_bit(dtype: torch.dtype, section: str) -> Any:
    from transformers import BitsAndBytesConfig
    from transformers.utils.import_utils import is_bitsandbytes_available

    if not torch.cuda.is_available():
        raise ConfigError([f"`{section}.adapter.kind` = qlora: its 4-bit kernels are CUDA only; choose lora on CPU"])
    if not is_bitsandbytes_available():
        raise ConfigError(
            [f"`{section}.adapter.kind` = qlora needs the package bitsandbytes: pip install bitsandbytes"]
        )
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No load report and no progress bar of transformers while a base is loaded."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
