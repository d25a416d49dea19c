"""One stage of training: a module under DeepSpeed, epochs, validation, early stopping, checkpoints.

The text, ranking and drift stages are three values of :class:`Stage`; they share this one loop.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from driftline.config import TrainingConfig
from driftline.errors import TrainingError
from driftline.models.adapters import adapter_state, load_adapter_state
from driftline.training.checkpoints import Snapshot, Weights
from driftline.training.deepspeed_config import deepspeed_dict, initialize, release
from driftline.training.progress import Update, post

POST_EVERY_S = 0.5


class Sampler(Protocol):
    """Batches of an epoch, the same number on every rank."""

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Batches of one epoch for one rank."""
        ...

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """Steps of each rank in one epoch."""
        ...


@dataclass(frozen=True)
class Stage:
    """What is trained, on what, and when it is good.

    Attributes
    ----------
    name
        text, ranker or drift.
    module
        Its trainable parameters are optimised.
    sampler
        Batches.
    loss
        ``loss(engine, batch)`` is the scalar to minimise.
    counts
        ``counts(batch)``: units read, for throughput (events, tokens).
    validate
        Figures on validation data, the first one decides (higher is better). Called on every rank; must be
        collective if it is sharded.
    batch_size
        Of one worker and step.
    """

    name: str
    module: nn.Module
    sampler: Sampler
    loss: Callable[[Any, Any], torch.Tensor]
    counts: Callable[[Any], dict[str, int]]
    validate: Callable[[], dict[str, float]]
    epochs: int
    learning_rate: float
    batch_size: int


@dataclass
class Worker:
    """This process's place in the world and how it speaks to the rest of it."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    board: Any = None
    save: Callable[[Snapshot, Any, dict[str, float]], None] = lambda snapshot, engine, metrics: None
    """Writes and reports a checkpoint; collective."""

    def tell(self, update: Update) -> None:
        """Rank 0 posts to the progress board."""
        if self.rank == 0:
            post(self.board, update)


def fit_stage(
    stage: Stage,
    training: TrainingConfig,
    worker: Worker,
    snapshot: Snapshot,
    seed: int,
    restore: Callable[[Any], None] | None,
) -> dict[str, float]:
    """Train one stage to its end and leave the best weights in its module and in ``snapshot.done``.

    Random state is set from (seed, stage, epoch, rank) at every epoch, so a run resumed at an epoch boundary goes on
    exactly as an uninterrupted one.

    Parameters
    ----------
    restore
        Loads the engine's state when the stage is resumed; None starts it.

    Returns
    -------
    dict
        Validation figures of the best weights.

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    steps_per_epoch = stage.sampler.batches_per_epoch(worker.world_size)
    if steps_per_epoch == 0:
        raise TrainingError(
            f"stage {stage.name}: fewer batches than workers; lower training.num_workers={worker.world_size} "
            f"or the batch size {stage.batch_size}"
        )
    accumulation = training.deepspeed.gradient_accumulation_steps
    options = deepspeed_dict(
        training,
        stage.learning_rate,
        stage.epochs * steps_per_epoch // accumulation,
        stage.batch_size,
        worker.world_size,
    )
    trainable = sum(p.numel() for p in stage.module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in stage.module.parameters())
    engine = initialize(stage.module.to(worker.device), options)
    progress = snapshot.progress
    if restore is None:
        progress.stage, progress.epoch = stage.name, 0
        progress.best_metric, progress.rounds_without_gain = -math.inf, 0
        snapshot.best = {}
        best_figures: dict[str, float] = {}
    else:
        restore(engine)
        best_figures = progress.finished.get(stage.name, {})
    worker.tell(
        Update(
            stage.name,
            progress.epoch * steps_per_epoch,
            stage.epochs * steps_per_epoch,
            note=f"{trainable:,} of {total:,} parameters train; ZeRO-{training.deepspeed.zero_stage}, "
            f"{worker.world_size} workers, {worker.device.type}",
        )
    )
    for epoch in range(progress.epoch, stage.epochs):
        if progress.rounds_without_gain >= training.patience:
            break
        _train_epoch(stage, engine, worker, epoch, steps_per_epoch, seed)
        progress.epoch = epoch + 1
        if (epoch + 1) % training.validate_every_epochs and epoch + 1 != stage.epochs:
            continue
        stage.module.eval()
        figures = stage.validate()
        metric = next(iter(figures.values()))
        if metric > progress.best_metric:
            progress.best_metric, progress.rounds_without_gain = metric, 0
            best_figures = figures
            snapshot.best = adapter_state(stage.module)
        else:
            progress.rounds_without_gain += 1
        progress.finished[stage.name] = best_figures
        snapshot.weights = adapter_state(stage.module)
        worker.tell(
            Update(
                stage.name,
                (epoch + 1) * steps_per_epoch,
                stage.epochs * steps_per_epoch,
                epoch + 1,
                validation=figures,
                note=""
                if progress.rounds_without_gain == 0
                else f"no gain for {progress.rounds_without_gain} validations",
            )
        )
        worker.save(snapshot, engine, {f"{stage.name}/{name}": value for name, value in figures.items()})
    _finish(stage, snapshot, engine)
    return best_figures


def _train_epoch(stage: Stage, engine: Any, worker: Worker, epoch: int, steps_per_epoch: int, seed: int) -> None:
    torch.manual_seed(hash_seed(seed, stage.name, epoch, worker.rank))
    stage.module.train()
    posted_at = time.monotonic()
    units: dict[str, int] = {}
    for step, batch in enumerate(stage.sampler.epoch(epoch, worker.rank, worker.world_size), start=1):
        loss = stage.loss(engine, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"stage {stage.name}: loss is {value} at epoch {epoch + 1}, step {step}; lower the learning rate"
            )
        engine.backward(loss)
        engine.step()
        for unit, count in stage.counts(batch).items():
            units[unit] = units.get(unit, 0) + count
        elapsed = time.monotonic() - posted_at
        if elapsed >= POST_EVERY_S:
            rates = {f"{unit}/s": count * worker.world_size / elapsed for unit, count in units.items()}
            done = epoch * steps_per_epoch + step
            worker.tell(Update(stage.name, done, stage.epochs * steps_per_epoch, epoch + 1, value, rates))
            posted_at, units = time.monotonic(), {}


def _finish(stage: Stage, snapshot: Snapshot, engine: Any) -> None:
    """Leave the best weights in the module, on every rank, and let go of the engine's hooks."""
    best: Weights = snapshot.best or adapter_state(stage.module)
    release(engine)
    load_adapter_state(stage.module, best)
    stage.module.eval()
    snapshot.done[stage.name] = best


def hash_seed(seed: int, stage: str, epoch: int, rank: int) -> int:
    """A 63-bit seed that differs between stages, epochs and ranks."""
    import hashlib

    text = f"{seed}/{stage}/{epoch}/{rank}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1
