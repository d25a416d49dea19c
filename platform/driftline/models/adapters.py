"""Low-rank adapters on a language-model backbone."""

import torch
from torch import nn

from driftline.config import AdapterConfig
from driftline.errors import ConfigError


def add_adapter(backbone: nn.Module, config: AdapterConfig) -> nn.Module:
    """Freeze the backbone and put LoRA (Hu et al. 2022) on the named projections.

    Raises
    ------
    ConfigError
        If a target names no module of this architecture; the message lists the valid ones.
    """
    import peft

    if isinstance(config.targets, str):  # published defaults of the architecture
        targets: list[str] | str | None = None if config.targets == "auto" else config.targets
        return peft.get_peft_model(
            backbone,
            peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=targets),
        )
    linear = {name.rsplit(".", 1)[-1] for name, module in backbone.named_modules() if isinstance(module, nn.Linear)}
    unknown = sorted(set(config.targets) - linear)
    if unknown:
        raise ConfigError([f"`text.adapter.targets`: no module is called {unknown}; valid: {', '.join(sorted(linear))}"])
    return peft.get_peft_model(
        backbone,
        peft.LoraConfig(
            r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=list(config.targets)
        ),
    )


def adapter_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Everything in ``module`` that training changes, by name, on CPU: adapters, heads, projections.

    Under ZeRO-3 parameters are gathered on rank 0 first; the other ranks get empty tensors and must not save them.
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
