"""Adam's moments as whole tensors by parameter name: what lets another number of workers go on with an optimiser.

DeepSpeed's own checkpoints are cut into as many shards as there were workers and load on no other number. Here every
trainable parameter's moments are put together on rank 0 (:func:`gather`), and cut again for whatever world reads them
(:func:`restore`).
"""

from typing import Any

import torch
from torch import Tensor, nn

from driftline.training.checkpoints import Weights

MOMENTS = ("exp_avg", "exp_avg_sq")
MASTER = "master"
"""fp32 copies of half-precision weights."""
MAX_PARAMETERS = 2_000_000_000
"""Trainable parameters beyond which moments are left to the sharded part: rank 0 would hold 8 bytes for each."""


def gather(engine: Any, keep: bool) -> Weights:
    """Whole moments of every trainable parameter, and the optimiser's step. Collective.

    Parameters
    ----------
    keep
        Whether this rank wants the result; the others take part and get nothing.

    Returns
    -------
    dict
        ``exp_avg/<parameter>``, ``exp_avg_sq/<parameter>``, with half precision ``master/<parameter>`` too, and
        ``step``; empty before the first step and for more than :data:`MAX_PARAMETERS`.
    """
    optimiser = _torch_optimiser(engine)
    states = [state for state in optimiser.state.values() if "step" in state]
    trainable = _trainable(engine.module)
    if not states or sum(_size(parameter) for parameter in trainable.values()) > MAX_PARAMETERS:
        return {}
    masters, gathered = _whole_masters(engine), Weights()
    for name, parameter in trainable.items():
        for key in [*MOMENTS, *([MASTER] if parameter.dtype != torch.float32 else [])]:
            whole = _whole(optimiser, parameter, masters.get(id(parameter)), key)
            if keep:
                gathered[f"{key}/{name}"] = whole.detach().to("cpu", copy=True).contiguous()
    return gathered | {"step": torch.as_tensor(float(states[0]["step"]))} if keep else {}


def restore(engine: Any, moments: Weights, steps_done: int) -> None:
    """Give a fresh engine the moments that :func:`gather` took from another one, of any world size.

    Parameters
    ----------
    steps_done
        Where this world's learning-rate schedule stands, in its own optimiser steps.
    """
    optimiser = _torch_optimiser(engine)
    flat = getattr(engine.optimizer, "fp32_partitioned_groups_flat", None)  # ZeRO 3 fills its groups step by step
    owned = flat if flat is not None else [p for group in optimiser.param_groups for p in group["params"]]
    for parameter in owned:
        zeros = {key: torch.zeros_like(parameter, memory_format=torch.preserve_format) for key in MOMENTS}
        optimiser.state[parameter] = {"step": moments["step"].to(parameter.device, copy=True), **zeros}
    link = getattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state", None)
    if link is not None:  # ZeRO 1 and 2 find a parameter's moments through links that the first step would make
        link()
    masters = _whole_masters(engine)
    for name, parameter in _trainable(engine.module).items():
        for key in (*MOMENTS, MASTER):
            whole = moments.get(f"{key}/{name}")
            if whole is not None:
                _put(optimiser, parameter, masters.get(id(parameter)), key, whole.to(parameter.device))
    engine.global_steps = steps_done
    engine.lr_scheduler.step(steps_done - 1)  # its argument counts from 0; also sets the rate


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _size(parameter: nn.Parameter) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _torch_optimiser(engine: Any) -> Any:
    """The AdamW inside DeepSpeed's wrappers, or itself where there is none."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def _whole_masters(engine: Any) -> dict[int, Tensor]:
    """ZeRO 0: parameter's id -> the whole tensor Adam works on: the parameter itself, or its fp32 copy."""
    if engine.zero_optimization_stage() != 0:
        return {}
    outer = engine.optimizer
    if hasattr(outer, "fp32_groups"):
        pairs = zip(outer.fp16_groups, outer.fp32_groups, strict=True)
        return {id(own): copy for group in pairs for own, copy in zip(*group, strict=True)}
    return {id(parameter): parameter for parameter in _trainable(engine.module).values()}


def _whole(optimiser: Any, parameter: nn.Parameter, master: Tensor | None, key: str) -> Tensor:
    """One state tensor of a parameter in its own shape. Collective where it is sharded."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    if master is not None:
        whole: Tensor = master if key == MASTER else optimiser.state[master][key]
        return whole
    found = safe_get_full_fp32_param(parameter) if key == MASTER else safe_get_full_optimizer_state(parameter, key)
    reshaped: Tensor = found.reshape(getattr(parameter, "ds_shape", parameter.shape))
    return reshaped


def _put(optimiser: Any, parameter: nn.Parameter, master: Tensor | None, key: str, whole: Tensor) -> None:
    """The reverse of :func:`_whole`; every rank copies its own part."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    if master is not None:
        (master.data if key == MASTER else optimiser.state[master][key]).copy_(whole)
    elif hasattr(parameter, "ds_id"):
        _put_shard(parameter, key, whole)
    elif key == MASTER:
        safe_set_full_fp32_param(parameter, whole)
    else:
        safe_set_full_optimizer_state(parameter, whole, key)


def _put_shard(parameter: Any, key: str, whole: Tensor) -> None:
    """ZeRO 3: copy this rank's shard. DeepSpeed's own setter does not know that the last shard is padded."""
    zero = parameter._z3_optimizer
    shard, _ = zero._get_fp32_opt_state_partition(parameter, False, None if key == MASTER else key)
    start = shard.numel() * zero._get_param_partition_rank(parameter)
    values = whole.flatten()[start : start + shard.numel()]
    shard.data[: values.numel()].copy_(values)
