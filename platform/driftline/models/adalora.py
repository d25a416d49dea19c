"""AdaLoRA's part in the training loop: ranks are pruned where they matter least (Zhang et al. 2023).

PEFT's allocator reads gradients after ``optimizer.step()`` and before they are cleared. A DeepSpeed engine clears them
inside ``step``, so they are kept aside in between. This needs whole gradients and weights that no master copy
overwrites: ZeRO 0 in fp32 (:mod:`driftline.config.conflicts`).

The averages by which ranks are judged are in no checkpoint: a resumed run prunes on, to the same budget, by what it has
seen since, and so may keep other ranks than an uninterrupted one.
"""

from typing import Any

import torch
from torch import Tensor, nn

from driftline.errors import ConfigError

MIN_STEPS = 10
WARMUP, SETTLED = 0.1, 0.3
"""Shares of the steps before pruning starts, and after the last rank is pruned."""


class RankAllocation:
    """The allocator of one module over the optimiser steps of one stage.

    Parameters
    ----------
    module
        Holds exactly one AdaLoRA adapter.
    steps
        Optimiser steps of the stage. Pruning is over after 70 % of them.

    Raises
    ------
    ConfigError
        If the stage is too short to tell important ranks from others.
    """

    def __init__(self, module: nn.Module, steps: int) -> None:
        if steps < MIN_STEPS:
            raise ConfigError(
                [f"`text.adapter.kind` = adalora: a stage of {steps} steps is too short (needs {MIN_STEPS})"]
            )
        models: list[Any] = [part for part in module.modules() if _is_adalora(part)]
        (self._model,) = models
        config: Any = self._model.peft_config[self._model.trainable_adapter_name]
        config.total_step, config.tinit, config.tfinal = steps, int(steps * WARMUP), int(steps * SETTLED)
        config.deltaT = max(1, steps // 100)
        self._config = config

    def optimise(self, engine: Any, loss: Tensor) -> None:
        """``engine.backward`` and ``engine.step``, and after every optimiser step the pruning that is due then."""
        engine.backward(loss + self._penalty())
        steps = engine.is_gradient_accumulation_boundary()
        gradients = self._gradients() if steps else {}
        engine.step()
        if steps:
            self._prune(engine.global_steps, gradients)

    def _penalty(self) -> Tensor:
        """Added to the loss: how far the singular vectors are from orthogonal (eq. 4 of the paper)."""
        distances = [
            torch.linalg.norm(gram - torch.eye(len(gram), device=gram.device))
            for name, vectors in self._model.named_parameters()
            if "lora_A" in name or "lora_B" in name
            for gram in [vectors @ vectors.T if "lora_A" in name else vectors.T @ vectors]
        ]
        penalty: Tensor = self._config.orth_reg_weight * torch.stack(distances).mean()
        return penalty

    def _gradients(self) -> dict[nn.Parameter, Tensor]:
        """Copies of the adapter's accumulated gradients."""
        return {
            parameter: parameter.grad.clone()
            for name, parameter in self._model.named_parameters()
            if "lora_" in name and parameter.grad is not None
        }

    def _prune(self, step: int, gradients: dict[nn.Parameter, Tensor]) -> None:
        """Prune to the budget of a step; steps are counted from 1."""
        config = self._config
        if config.rank_pattern is None and step > config.total_step - config.tfinal:
            config.rank_pattern = self._pattern()  # resumed after the last rank was pruned
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        self._model.update_and_allocate(step)
        for parameter in gradients:
            parameter.grad = None

    def _pattern(self) -> dict[str, list[bool]]:
        """Which ranks are left, from the weights."""
        return {
            name: (values.detach() != 0).view(-1).tolist()
            for name, values in self._model.model.named_parameters()
            if "lora_E" in name
        }


def rank_allocation(module: nn.Module, steps: int) -> RankAllocation | None:
    """The allocator of a module with an AdaLoRA adapter; None for any other, and where nothing is trained."""
    return RankAllocation(module, steps) if steps and any(_is_adalora(part) for part in module.modules()) else None


def _is_adalora(module: nn.Module) -> bool:
    from peft import AdaLoraModel

    return isinstance(module, AdaLoraModel)
