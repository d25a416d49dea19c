"""From the typed configuration to a DeepSpeed engine."""

import logging
from typing import Any

from torch import nn

from driftline.config import DeepSpeedConfig, TrainingConfig
from driftline.training.gauges import remember_gradient_norm

REDUCE_BUCKET_ELEMENTS = 500_000_000
"""DeepSpeed's default. It allocates the whole bucket, 1 GB in bf16, be there ever so few gradients to send."""


def deepspeed_dict(
    training: TrainingConfig, learning_rate: float, steps: int, sequences_per_step: int, world_size: int
) -> dict[str, Any]:
    """The configuration dictionary that ``deepspeed.initialize`` validates.

    Parameters
    ----------
    learning_rate
        Peak, after warm-up.
    steps
        Optimiser steps of the whole stage; the cosine ends there.
    sequences_per_step
        Micro-batch of one worker.
    world_size
        Workers.
    """
    options = training.deepspeed
    accumulation = options.gradient_accumulation_steps
    return {
        "train_micro_batch_size_per_gpu": sequences_per_step,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": sequences_per_step * accumulation * world_size,
        "gradient_clipping": options.gradient_clipping,
        "zero_optimization": _zero(options),
        "bf16": {"enabled": options.precision == "bf16"},
        "fp16": {"enabled": options.precision == "fp16"},
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": learning_rate,
                "weight_decay": training.weight_decay,
                # Without this DeepSpeed compiles an Adam of its own: a silent minute, and on a GPU it needs nvcc.
                "torch_adam": True,
                "fused": True,  # one pass over each tensor; docs/log.md has what it saves
            },
        },
        "scheduler": _schedule(training, learning_rate, steps),
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }


def _zero(options: DeepSpeedConfig) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": options.zero_stage}
    if options.offload_optimizer != "none":
        zero["offload_optimizer"] = _offload(options.offload_optimizer, options)
    if options.zero_stage != 3:
        return zero
    zero["stage3_gather_16bit_weights_on_model_save"] = options.precision != "fp32"
    if options.offload_parameters != "none":
        zero["offload_param"] = _offload(options.offload_parameters, options)
    if options.persistence_threshold is not None:
        zero["stage3_param_persistence_threshold"] = options.persistence_threshold
    return zero


def _offload(device: str, options: DeepSpeedConfig) -> dict[str, Any]:
    place = {"nvme_path": str(options.nvme_path)} if device == "nvme" else {}
    return {"device": device, "pin_memory": device == "cpu", **place}


def _schedule(training: TrainingConfig, learning_rate: float, steps: int) -> dict[str, Any]:
    """Linear warm-up, then one of DeepSpeed's schedules; ``steps`` are optimiser steps."""
    warmup = min(training.warmup_steps, max(1, steps // 10))
    total = max(steps, warmup + 1)
    if training.schedule == "cosine":
        params = {"total_num_steps": total, "warmup_num_steps": warmup, "cos_min_ratio": 0.02}
        return {"type": "WarmupCosineLR", "params": params}
    rise = {"warmup_min_lr": 0.0, "warmup_max_lr": learning_rate, "warmup_num_steps": warmup}
    if training.schedule == "linear":
        return {"type": "WarmupDecayLR", "params": {**rise, "total_num_steps": total}}
    return {"type": "WarmupLR", "params": rise}


def initialize(module: nn.Module, config: dict[str, Any]) -> Any:
    """``deepspeed.initialize`` without its silent compilations on CPU.

    The first call on a CPU would compile a shared-memory communication kernel with g++ for one to three minutes;
    it is switched off and gloo is used.
    """
    import deepspeed
    import torch

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if not torch.cuda.is_available():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    trainable = sum(parameter.numel() for parameter in parameters)
    zero = {"reduce_bucket_size": min(REDUCE_BUCKET_ELEMENTS, trainable), **config["zero_optimization"]}
    config = {**config, "zero_optimization": zero}
    engine, *_ = deepspeed.initialize(
        model=module, model_parameters=parameters, config=config, dist_init_required=False
    )
    if engine.dp_world_size == 1 and config["zero_optimization"]["stage"] == 0:
        engine.enable_backward_allreduce = False  # there is nobody to add gradients to
    remember_gradient_norm(engine)
    return engine


def release(engine: Any) -> None:
    """Destroy an engine and leave an ordinary module behind: under ZeRO-3 every rank gets whole parameters back."""
    import deepspeed

    partitioned = [parameter for parameter in engine.module.parameters() if hasattr(parameter, "ds_id")]
    with deepspeed.zero.GatheredParameters(partitioned, modifier_rank=None, enabled=bool(partitioned)):
        whole = [parameter.detach().clone() for parameter in partitioned]
    engine.destroy()
    for parameter, tensor in zip(partitioned, whole, strict=True):
        for name in [name for name in vars(parameter) if name.startswith("ds_")]:
            delattr(parameter, name)
        parameter.data = tensor
