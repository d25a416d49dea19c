"""The driver of a training job: Ray, the trainer, what is seen meanwhile, and the bundle at the end."""

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from rich.console import Console

from driftline.config import Config
from driftline.errors import TrainingError
from driftline.events.readers import write_rejections
from driftline.models.build import base_model
from driftline.registry.bundle import open_bundle
from driftline.sequences.dataset import load_dataset
from driftline.terminal import working
from driftline.training.assemble import assemble
from driftline.training.checkpoints import read
from driftline.training.loop import train_worker
from driftline.training.progress import ProgressBoard, watching
from driftline.training.tracking import Tracker

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
    if ray.is_initialized():
        return
    options: dict[str, Any] = {"log_to_driver": log_to_driver, "logging_level": logging.ERROR}
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        options |= {"num_cpus": max(LOGICAL_CPUS, os.cpu_count() or 1), "address": "local"}
    ray.init(**options)


def train(config: Config, console: Console, resume: str | None = None, target: Path | None = None) -> TrainingResult:
    """Run a training job from data to registered bundle.

    Parameters
    ----------
    resume
        Name of an earlier run to go on with from its newest checkpoint; None starts a new run.
    target
        Where to put the bundle instead of under ``storage/bundles``; such a bundle is not registered.

    Raises
    ------
    TrainingError
        If the workers failed more often than ``training.max_failures`` allows. Carries the first failing rank's
        traceback; the run can be resumed by name.
    """
    base_model(config)
    dataset = load_dataset(config)
    run_name = resume or f"{config.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    runs = config.storage / "runs"
    if resume and not (runs / resume).is_dir():
        known = ", ".join(sorted(p.name for p in runs.glob("*"))) or "none"
        raise TrainingError(f"no run {resume!r} under {runs}; there are: {known}")
    connect()
    tracker = Tracker(config, run_name)
    console.print(f"run [bold]{run_name}[/bold]  seed {config.seed}  {runs / run_name}", highlight=False)
    if dataset.rejected:
        listed = runs / f"{run_name}-rejected.jsonl"
        listed.parent.mkdir(parents=True, exist_ok=True)
        write_rejections(dataset, listed)
        console.print(
            f"{len(dataset.rejected)} malformed rows are left out; they are listed in {listed}", highlight=False
        )
    try:
        checkpoint = _fit(config, run_name, tracker, console)
        with checkpoint.as_directory() as folder:
            snapshot = read(Path(folder))
        with working(console, "assembling the bundle") as tell:
            place = target or _free(config.storage / "bundles" / run_name)
            bundle, metrics = assemble(config, dataset, snapshot, place, tell)
    except BaseException:
        tracker.fail()
        raise
    tracker.finish(metrics)
    if target is not None:
        return TrainingResult(run_name, bundle, metrics, "none", "not registered")
    alias, reason = tracker.register(bundle, open_bundle(bundle)[1])
    return TrainingResult(run_name, bundle, metrics, alias, reason)


def _free(path: Path) -> Path:
    """``path``, or the first ``path-2``, ``path-3`` … that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _fit(config: Config, run_name: str, tracker: Tracker, console: Console) -> Any:
    """Run the workers; returns the last checkpoint."""
    training = config.training
    board = ProgressBoard.remote()  # type: ignore[attr-defined]
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config.model_dump(mode="json"), "board": board},
        torch_config=TorchConfig(backend="nccl" if training.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=training.num_workers, use_gpu=training.use_gpu),
        run_config=ray.train.RunConfig(
            name=run_name,
            storage_path=str(config.storage / "runs"),
            failure_config=ray.train.FailureConfig(max_failures=training.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        with watching(board, console, tracker.hear):
            result = trainer.fit()
    except (KeyboardInterrupt, SystemExit) as stop:  # Ray Train answers Ctrl-C with SystemExit(0)
        console.print(f"\nstopped; go on with: python jobs/train.py --config … --resume {run_name}", markup=False)
        raise KeyboardInterrupt from stop
    except ray.train.TrainingFailedError as error:
        raise TrainingError(_first_failure(error) + f"\nGo on with: --resume {run_name}") from error
    if result.checkpoint is None:
        raise TrainingError(f"run {run_name} ended without a checkpoint")
    return result.checkpoint


def _first_failure(error: Exception) -> str:
    """The first failing rank's own traceback rather than the controller's."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", {}) or {}
    if not failures:
        return str(error)
    rank = min(failures)
    return f"training worker {rank} failed:\n{failures[rank]}"
