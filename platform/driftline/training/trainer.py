"""The driver of a training job: Ray, the trainer, what is seen meanwhile, and the bundle at the end."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from rich.console import Console

from driftline.config import Config, find_conflicts
from driftline.errors import ConfigError, TrainingError
from driftline.events.readers import write_rejections
from driftline.models.build import base_model
from driftline.registry.bundle import open_bundle
from driftline.sequences.dataset import Dataset, ingest_dataset, load_dataset
from driftline.terminal import working
from driftline.training.assemble import assemble
from driftline.training.checkpoints import check, read
from driftline.training.failures import explained
from driftline.training.listeners import Listeners, listeners
from driftline.training.loop import train_worker
from driftline.training.progress import ProgressBoard, watching
from driftline.training.storage import Runs
from driftline.training.tracking import Registry

LOGICAL_CPUS = 8
"""Declared on a laptop-sized machine: Ray's own actors need slots beside the workers."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training job leaves behind."""

    run_name: str
    bundle: Path
    metrics: dict[str, float]
    alias: str
    reason: str


def connect(log_to_driver: bool = False) -> None:
    """Join the cluster of this job (or ``RAY_ADDRESS``), or start a local one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    # How often Ray Train's controller looks: a checkpoint waits that long for it, 2 s by default.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    if ray.is_initialized():
        return
    options: dict[str, Any] = {"log_to_driver": log_to_driver, "logging_level": logging.ERROR}
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        options |= {"num_cpus": max(LOGICAL_CPUS, os.cpu_count() or 1), "address": "local"}
    ray.init(**options)


def prepared_dataset(config: Config, console: Console) -> Dataset:
    """The data of a run; a log that fits in no memory is ingested first if it has not been."""
    if config.data.ingest == "ray-data":
        connect()
        ingest_dataset(config, console)
    return load_dataset(config)


def train(
    config: Config,
    console: Console,
    resume: str | None = None,
    target: Path | None = None,
    as_challenger: bool = False,
) -> TrainingResult:
    """Run a training job from data to registered bundle.

    Parameters
    ----------
    resume
        Name of an earlier run to go on with from its newest checkpoint; None starts a new run.
    target
        Where to put the bundle instead of under ``storage/bundles``; such a bundle is not registered.
    as_challenger
        Register the bundle as challenger, whatever its figures.

    Raises
    ------
    TrainingError
        If the workers failed more often than ``training.max_failures`` allows. Carries the first failing rank's
        traceback; the run can be resumed by name.
    """
    faults = find_conflicts(config)
    if faults:
        raise ConfigError(faults)
    base_model(config)
    dataset = prepared_dataset(config, console)
    run_name = resume or f"{config.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    runs = Runs.of(config)
    if resume:
        runs.require(resume)
        runs.mend(resume)
    connect()
    heard_by = listeners(config, run_name, lambda line: console.print(line, markup=False, highlight=False))
    console.print(f"run [bold]{run_name}[/bold]  seed {config.seed}  {runs.of_run(run_name)}", highlight=False)
    if dataset.rejected:
        listed = config.storage / "runs" / f"{run_name}-rejected.jsonl"
        listed.parent.mkdir(parents=True, exist_ok=True)
        write_rejections(dataset, listed)
        left_out = dataset.report["rejected"] + dataset.report["rejected items"]
        shown = "they are" if left_out == len(dataset.rejected) else f"{len(dataset.rejected)} of them are"
        console.print(f"{left_out} malformed rows are left out; {shown} listed in {listed}", highlight=False)
    try:
        checkpoint = _fit(config, run_name, heard_by, console)
        with checkpoint.as_directory() as folder:
            check(Path(folder))
            snapshot = read(Path(folder))
        with working(console, "assembling the bundle") as tell:
            place = target or _free(config.storage / "bundles" / run_name)
            bundle, metrics = assemble(config, dataset, snapshot, place, tell)
    except BaseException:
        heard_by.fail()
        raise
    heard_by.finish(metrics)
    if target is not None:
        return TrainingResult(run_name, bundle, metrics, "none", "not registered")
    alias, reason = Registry(config).register(bundle, open_bundle(bundle)[1], heard_by.run_id, as_challenger)
    return TrainingResult(run_name, bundle, metrics, alias, reason)


def _free(path: Path) -> Path:
    """``path``, or the first ``path-2``, ``path-3`` … that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def torch_trainer(
    config: Config, run_name: str, settings: dict[str, Any], callbacks: Sequence[Any] = ()
) -> TorchTrainer:
    """Ray Train's trainer for a configuration.

    Parameters
    ----------
    settings
        What :func:`~driftline.training.loop.train_worker` takes.
    callbacks
        Ray Train callbacks, for example Tune's reporter.
    """
    training = config.training
    return TorchTrainer(
        train_worker,
        train_loop_config=settings,
        torch_config=TorchConfig(backend="nccl" if training.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=training.num_workers,  # type: ignore[arg-type]  # Ray's annotation is older than its elasticity
            use_gpu=training.use_gpu,
            # GPUs of one node talk faster to each other; CPU workers would share its memory bandwidth
            placement_strategy="PACK" if training.use_gpu else "SPREAD",
        ),
        run_config=ray.train.RunConfig(
            name=run_name,
            storage_path=Runs.of(config).place,
            failure_config=ray.train.FailureConfig(max_failures=training.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=training.checkpoints.keep, checkpoint_score_attribute="score"
            ),
            callbacks=list(callbacks),
        ),
    )


def _fit(config: Config, run_name: str, heard_by: Listeners, console: Console) -> ray.train.Checkpoint:
    """Run the workers; returns the last checkpoint."""
    board = ProgressBoard.remote()  # type: ignore[attr-defined]
    trainer = torch_trainer(config, run_name, {"config": config.model_dump(mode="json"), "board": board})
    notes = config.storage / "runs"
    try:
        with watching(board, console, heard_by.hear):
            result = trainer.fit()
    except (KeyboardInterrupt, SystemExit) as stop:  # Ray Train answers Ctrl-C with SystemExit(0)
        console.print(f"\nstopped; go on with: python jobs/train.py --config … --resume {run_name}", markup=False)
        raise KeyboardInterrupt from stop
    except ray.train.TrainingFailedError as error:
        raise explained(error, board, run_name, notes) from error
    if ray.get(board.final_failures.remote()):
        raise explained(None, board, run_name, notes)
    if result.checkpoint is None:
        raise TrainingError(f"run {run_name} ended without a checkpoint")
    checkpoint: ray.train.Checkpoint = result.checkpoint
    return checkpoint
