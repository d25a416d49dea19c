"""What two settings cannot be together: each sentence names the keys, the values and the way out."""

import re
from collections.abc import Iterator
from pathlib import Path

from driftline.config.model import PROTECTED
from driftline.config.run import Config


def find_conflicts(config: Config) -> list[str]:
    """Every impossible combination of a configuration whose single values are valid."""
    return [
        *_storage(config),
        *_data(config),
        *_deepspeed(config),
        *_adapters(config),
        *_judge(config),
        *_encoders(config),
    ]


def missing_paths(config: Config) -> list[str]:
    """Every input that a run would read and that is not there."""
    named = {
        "data.interactions": config.data.interactions,
        "data.items": config.data.items,
        "data.graph": config.data.graph,
        "data.links": config.data.links,
        "data.item_vectors": config.data.item_vectors,
        "data.users": config.data.users,
    }
    folders = {"data.interactions"} if config.data.ingest == "ray-data" else set()
    found = {key: path and (path.is_file() or (key in folders and path.is_dir())) for key, path in named.items()}
    faults = [f"`{key}` = {path}: no such file" for key, path in named.items() if path and not found[key]]
    if config.text.base != "smollm2-135m" and not Path(config.text.base).expanduser().is_dir():
        faults.append(
            f"`text.base` = {config.text.base}: no such model directory; give one, or smollm2-135m (fetched if need be)"
        )
    return faults


def _storage(config: Config) -> Iterator[str]:
    if not config.storage.is_absolute():
        yield f"storage={config.storage} must be an absolute path: a submitted job runs in a temporary copy"
    place = config.training.checkpoints.storage
    if place and "://" not in place and not Path(place).expanduser().is_absolute():
        yield f"training.checkpoints.storage={place} must be an absolute path or a URI such as s3://bucket/runs"


def _data(config: Config) -> Iterator[str]:
    if config.data.repeat_consumption and (config.encoder.mask_seen or config.drift.encoder.mask_seen):
        yield "data.repeat_consumption=true: set encoder.mask_seen and drift.encoder.mask_seen to false"
    if config.data.ingest == "ray-data" and config.protocol != "leave-one-out":
        yield (
            f"data.ingest=ray-data splits by user and so needs protocol=leave-one-out (it is {config.protocol}); "
            "or choose data.ingest=memory"
        )
    yield from _user_attributes(config)
    source = config.data.interactions
    if config.data.ingest == "ray-data" and source and source.suffix.lower() in (".jsonl", ".ndjson"):
        yield (
            f"data.ingest=ray-data cannot read data.interactions={source} piece by piece: give Parquet, CSV or .inter, "
            "or choose data.ingest=memory"
        )


def _user_attributes(config: Config) -> Iterator[str]:
    names = config.data.user_attributes
    protected = [name for name in names if {w.lower() for w in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)} & PROTECTED]
    if protected and not config.data.allow_protected_attributes:
        yield (
            f"data.user_attributes={list(names)}: {', '.join(protected)} is protected; leave it out, or set "
            "data.allow_protected_attributes=true where you may use it"
        )
    if names and config.data.sample is None and config.data.users is None:
        yield f"data.user_attributes={list(names)} needs data.users, a table with these columns"
    if names and config.data.ingest == "ray-data":
        yield f"data.user_attributes={list(names)} needs data.ingest=memory: ingested histories do not hold them"


def _deepspeed(config: Config) -> Iterator[str]:
    options, use_gpu = config.training.deepspeed, config.training.use_gpu
    stage = options.zero_stage
    if options.precision == "fp16" and not use_gpu:
        yield "training.deepspeed.precision=fp16 needs training.use_gpu=true; on CPU choose fp32 or bf16"
    if options.offload_optimizer != "none" and stage == 0:
        yield (
            f"training.deepspeed.offload_optimizer={options.offload_optimizer} needs sharded optimiser states: "
            "set training.deepspeed.zero_stage to 1, 2 or 3"
        )
    if options.offload_optimizer == "nvme" and stage in (1, 2):
        yield (
            f"training.deepspeed.offload_optimizer=nvme needs training.deepspeed.zero_stage=3 (it is {stage}); "
            "or choose cpu"
        )
    if options.offload_parameters != "none" and stage != 3:
        yield (
            f"training.deepspeed.offload_parameters={options.offload_parameters} needs "
            f"training.deepspeed.zero_stage=3 (it is {stage}): only there are weights sharded"
        )
    if "nvme" in (options.offload_optimizer, options.offload_parameters) and options.nvme_path is None:
        yield "training.deepspeed.nvme_path is missing: offloading to nvme needs a folder on a fast local disk"
    if config.training.average and stage == 3:
        yield (
            f"training.average={config.training.average} needs whole weights on every worker: set "
            "training.deepspeed.zero_stage to 0, 1 or 2 (it is 3), or leave training.average at 0"
        )
    if not use_gpu and {options.offload_optimizer, options.offload_parameters} != {"none"}:
        yield (
            "training.deepspeed.offload_optimizer and offload_parameters: without a GPU there is nothing to offload "
            "from; set training.use_gpu=true, or leave them out"
        )
    if options.persistence_threshold is not None and stage != 3:
        yield (
            "training.deepspeed.persistence_threshold only means something with training.deepspeed.zero_stage=3 "
            f"(it is {stage}): leave it out"
        )


def _adapters(config: Config) -> Iterator[str]:
    yield from _adapter(config, "text.adapter", config.text.adapter.kind)
    if config.drift.judge.enabled:
        yield from _adapter(config, "drift.judge.adapter", config.drift.judge.adapter.kind)
    if config.text.adapter.kind == "adalora" and config.text.domain.epochs:
        yield (
            f"text.adapter.kind=adalora prunes its ranks in one stage: set text.domain.epochs=0 (it is "
            f"{config.text.domain.epochs}), or choose lora"
        )


def _adapter(config: Config, key: str, kind: str) -> Iterator[str]:
    options = config.training.deepspeed
    if kind == "qlora" and not config.training.use_gpu:
        yield f"{key}.kind=qlora needs training.use_gpu=true: its 4-bit kernels are CUDA only; choose lora on CPU"
    if kind == "qlora" and options.zero_stage == 3:
        yield f"{key}.kind=qlora: 4-bit weights cannot be sharded; set training.deepspeed.zero_stage to 0, 1 or 2"
    if kind == "adalora" and options.zero_stage != 0:
        yield (
            f"{key}.kind=adalora needs training.deepspeed.zero_stage=0 (it is {options.zero_stage}): it reads "
            "whole gradients between backward and step, which ZeRO 1-3 do not leave; or choose lora"
        )
    if kind == "adalora" and options.precision != "fp32":
        yield (
            f"{key}.kind=adalora needs training.deepspeed.precision=fp32 (it is {options.precision}): "
            "a master copy of the weights would bring pruned ranks back; or choose lora"
        )
    if kind == "prefix" and options.gradient_checkpointing:
        yield (
            f"{key}.kind=prefix cannot be trained with training.deepspeed.gradient_checkpointing=true: "
            "the prefix is a key-value cache; switch one of them off"
        )


def _encoders(config: Config) -> Iterator[str]:
    options = config.training.deepspeed
    if not config.drift.encoder.tied_output:
        yield "drift.encoder.tied_output=false: the drift statistic reads one item table; set it to true"
    if config.drift.encoder.event_types:
        yield "drift.encoder.event_types=true: the drift statistic reads items alone; set it to false"
    if config.drift.encoder.target_gap:
        yield "drift.encoder.target_gap=true: the drift statistic reads items alone; set it to false"
    if config.encoder.event_types and config.data.ingest == "ray-data":
        yield "encoder.event_types=true needs data.ingest=memory: ingested histories do not hold the types"
    for key, encoder in (("encoder", config.encoder), ("drift.encoder", config.drift.encoder)):
        if encoder.adversarial and options.zero_stage == 3:
            yield (
                f"{key}.adversarial={encoder.adversarial} needs whole weights: "
                "set training.deepspeed.zero_stage to 0, 1 or 2"
            )
        if encoder.adversarial and options.gradient_checkpointing and encoder.kind == "llm":
            yield (
                f"{key}.adversarial={encoder.adversarial} needs the activations twice: "
                "set training.deepspeed.gradient_checkpointing=false"
            )


def _judge(config: Config) -> Iterator[str]:
    if config.drift.judge.enabled and not config.drift.enabled:
        yield "drift.judge.enabled=true needs drift.enabled=true: it adjudicates the alarms; or switch it off"
