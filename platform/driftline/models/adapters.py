"""What of a language model is trained: an adapter on frozen weights, or all of it.

Kinds: LoRA (Hu et al. 2022), DoRA (Liu et al. 2024), rsLoRA (Kalajdzievski 2023), QLoRA (Dettmers et al. 2023), AdaLoRA
(Zhang et al. 2023), IA3 (Liu et al. 2022), prefix tuning (Li & Liang 2021), all as PEFT implements them, and full
fine-tuning.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from driftline.config import AdapterConfig
from driftline.errors import ConfigError

TITLES = {
    "lora": "LoRA",
    "dora": "DoRA",
    "rslora": "rsLoRA",
    "qlora": "QLoRA",
    "adalora": "AdaLoRA",
    "ia3": "IA3",
    "prefix": "prefix tuning",
    "full": "full fine-tuning",
}


def add_adapter(backbone: nn.Module, config: AdapterConfig, setting: str = "text.adapter") -> nn.Module:
    """Freeze the backbone and add the adapter that is asked for; ``full`` trains the backbone itself.

    A backbone on the meta device gets an adapter on the meta device.

    Parameters
    ----------
    setting
        Which setting ``config`` is, for messages.

    Raises
    ------
    ConfigError
        If a target names no module of this architecture (the message lists the valid ones), if nothing has been
        published for ``auto``, or if the architecture cannot carry the kind.
    """
    import peft

    if config.kind == "full":
        return backbone.requires_grad_(True)
    if config.kind == "prefix":
        return _add_prefix(backbone, config, setting)
    adapted: nn.Module = peft.get_peft_model(
        backbone, _peft_config(backbone, config, _targets(backbone, config, setting))
    )
    return adapted


def _peft_config(backbone: nn.Module, config: AdapterConfig, targets: list[str] | str) -> Any:
    import peft
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as FEEDFORWARD

    if config.kind == "ia3":
        feedforward = FEEDFORWARD.get(_model_type(backbone), [])  # their input is scaled, the output of the others
        if isinstance(targets, list):
            feedforward = [name for name in feedforward if name in targets]
        return peft.IA3Config(target_modules=targets, feedforward_modules=feedforward)
    low_rank: dict[str, Any] = {
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": targets,
    }
    if config.kind == "adalora":  # starts above the wanted rank and prunes down to it; total_step is set by the stage
        return peft.AdaLoraConfig(target_r=config.rank, init_r=_start_rank(config.rank), total_step=1, **low_rank)
    return peft.LoraConfig(
        r=config.rank, use_dora=config.kind == "dora", use_rslora=config.kind == "rslora", **low_rank
    )


def _start_rank(rank: int) -> int:
    """Half as much again, as in AdaLoRA's experiments (Zhang et al. 2023, §4.1)."""
    return max(rank + 1, rank * 3 // 2)


def _add_prefix(backbone: nn.Module, config: AdapterConfig, setting: str) -> nn.Module:
    """Keys and values of virtual tokens in front of every layer's own; reads embeddings as well as token ids."""
    import peft

    if is_encoder(backbone.config):
        raise ConfigError(
            [
                f"`{setting}.kind` = prefix: the prefix is a key-value cache, which a {_model_type(backbone)} "
                "encoder has not; choose lora, or a causal language model as text.base"
            ]
        )
    prefix = peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=config.prefix_tokens)
    adapted: nn.Module = peft.get_peft_model(backbone, prefix)
    return adapted


def is_encoder(model_config: Any) -> bool:
    """Whether the architecture reads in both directions (BERT and its kin) rather than from left to right."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return model_config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        model_config, "is_decoder", False
    )


def _targets(backbone: nn.Module, config: AdapterConfig, setting: str) -> list[str] | str:
    """Names of the modules to adapt, as PEFT takes them."""
    from transformers.pytorch_utils import Conv1D

    linear = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    valid = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
    if config.targets == "all-linear":
        return "all-linear"
    if config.targets == "auto":
        published = _published_targets(config.kind).get(_model_type(backbone))
        if published is None:
            raise ConfigError(
                [
                    f"`{setting}.targets` = auto: PEFT has published none for {_model_type(backbone)}; "
                    f"say all-linear, or name modules: {valid}"
                ]
            )
        return list(published)
    unknown = sorted(target for target in config.targets if not any(_matches(name, target) for name in linear))
    if unknown:
        raise ConfigError([f"`{setting}.targets`: no module is called {unknown}; valid: {valid}"])
    return list(config.targets)


def _published_targets(kind: str) -> Mapping[str, Sequence[str]]:
    from peft.utils import constants

    mappings: dict[str, Any] = {
        "ia3": constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
        "adalora": constants.TRANSFORMERS_MODELS_TO_ADALORA_TARGET_MODULES_MAPPING,
    }
    published: Mapping[str, Sequence[str]] = mappings.get(
        kind, constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    )
    return published


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _model_type(backbone: nn.Module) -> str:
    model_type: str = backbone.config.model_type  # type: ignore[union-attr, assignment]
    return model_type


def resolved_targets(module: nn.Module) -> dict[str, int]:
    """Which modules carry an adapter: last part of the name -> how many; empty for prefix and full."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [name for name, part in module.named_modules() if isinstance(part, BaseTunerLayer)]
    return dict(Counter(name.rsplit(".", 1)[-1] for name in adapted))


def describe_adapter(module: nn.Module, config: AdapterConfig) -> str:
    """What is trained of the language model in ``module``: ``LoRA rank 8 on q_proj x4, v_proj x4``."""
    title = TITLES[config.kind]
    if config.kind == "prefix":
        return f"{title} with {config.prefix_tokens} virtual tokens"
    if config.kind == "full":
        return title
    rank = "" if config.kind == "ia3" else f" rank {config.rank}"
    return f"{title}{rank} on " + ", ".join(f"{name} x{count}" for name, count in resolved_targets(module).items())


def adapter_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Everything in ``module`` that training changes, by name, on CPU: adapters, heads, projections.

    Under ZeRO-3 the shards are gathered first, on every rank: every rank must call it, and every rank gets the whole.
    """
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if any(hasattr(parameter, "ds_id") for parameter in trainable.values()):
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(trainable.values()), modifier_rank=None):
            return _copies(trainable)
    return _copies(trainable)


def _copies(parameters: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().to("cpu", copy=True).contiguous() for name, parameter in parameters.items()}


def load_adapter_state(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put back what :func:`adapter_state` took out.

    Raises
    ------
    ValueError
        If a trainable parameter is missing, unexpected, or of another shape.
    """
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    missing, unexpected = sorted(trainable.keys() - state.keys()), sorted(state.keys() - trainable.keys())
    if missing or unexpected:
        raise ValueError(f"weights do not fit the model: missing {missing[:5]}, unexpected {unexpected[:5]}")
    with torch.no_grad():
        for name, parameter in trainable.items():
            if parameter.shape != state[name].shape:
                raise ValueError(
                    f"`{name}` has shape {tuple(state[name].shape)}, the model wants {tuple(parameter.shape)}"
                )
            parameter.copy_(state[name])
