"""One stage of training: a module under DeepSpeed, epochs, validation, early stopping, checkpoints.

The stages of a run are values of :class:`Stage`; they share this one loop. A run resumed from
any checkpoint, at the end of an epoch or inside one, goes on exactly as an uninterrupted one where as many workers go
on; with another number of workers it goes on from the same weights, moments and place in the data.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn

from driftline.config import TrainingConfig
from driftline.errors import TrainingError
from driftline.models.adalora import rank_allocation
from driftline.models.adapters import adapter_state, load_adapter_state
from driftline.training import gauges, optimiser_state
from driftline.training.checkpoints import Snapshot, Weights
from driftline.training.deepspeed_config import deepspeed_dict, initialize, release
from driftline.training.progress import Update, post

POST_EVERY_S = 0.5
ASK_FOR_PREEMPTION_EVERY_S = 2.0
NAMED_IDS = 5
"""Ids of a bad batch that an error message names; the rest is in a file."""


class Sampler(Protocol):
    """Batches of an epoch, the same number on every rank."""

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1, start: int = 0) -> Iterator[Any]:
        """Batches of one epoch for one rank, from its batch number ``start`` on."""
        ...

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """Batches of each rank in one epoch."""
        ...


@dataclass(frozen=True)
class Stage:
    """What is trained, on what, and when it is good.

    Attributes
    ----------
    name
        One of :data:`~driftline.training.checkpoints.STAGES`.
    module
        Its trainable parameters are optimised.
    sampler
        Batches.
    loss
        ``loss(engine, batch)`` is the scalar to minimise.
    counts
        ``counts(batch)``: units read, for throughput (events, tokens).
    ids
        ``ids(batch)``: whose data it is (users or items), for the report of a batch that breaks training.
    validate
        Figures on validation data, the first one decides (higher is better). Called on every rank; must be
        collective if it is sharded.
    batch_size
        Of one worker and step.
    validate_every_epochs
        Where it differs from the configuration.
    average
        Validate and keep a running average of the weights at the ends of epochs, which keeps this share of itself; 0 =
        the weights as they are.
    adapter
        What is trained of a language model, for people to read.
    """

    name: str
    module: nn.Module
    sampler: Sampler
    loss: Callable[[Any, Any], torch.Tensor]
    counts: Callable[[Any], dict[str, int]]
    ids: Callable[[Any], Sequence[str]]
    validate: Callable[[], dict[str, float]]
    epochs: int
    learning_rate: float
    batch_size: int
    validate_every_epochs: int | None = None
    average: float = 0.0
    adapter: str = ""


@dataclass
class Worker:
    """This process's place in the world and how it speaks to the rest of it."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    board: Any = None
    save: Callable[[Snapshot, Any, dict[str, float]], None] = lambda snapshot, engine, metrics: None
    """Writes and reports a checkpoint; collective."""
    preempted: Callable[[], frozenset[str]] = frozenset
    """Nodes of the run that are about to be taken away; collective."""

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
    checkpoint: Path | None = None,
) -> dict[str, float]:
    """Train one stage to its end and leave the best weights in its module and in ``snapshot.done``.

    Parameters
    ----------
    checkpoint
        Folder of the checkpoint that ``snapshot`` was read from, if it lies in this stage.

    Returns
    -------
    dict
        Validation figures of the best weights.

    Raises
    ------
    TrainingError
        If there are fewer batches than workers, or the loss is no longer finite.
    """
    fit = _Fit(stage, training, worker, snapshot, seed)
    fit.begin(checkpoint)
    while not fit.is_over:
        fit.epoch()
        if fit.is_due:
            fit.validate()
    fit.end()
    return snapshot.progress.finished.get(stage.name, {})


class _Fit:
    """A stage under way."""

    def __init__(self, stage: Stage, training: TrainingConfig, worker: Worker, snapshot: Snapshot, seed: int) -> None:
        self.stage, self.training, self.worker, self.snapshot, self.seed = stage, training, worker, snapshot, seed
        self.progress = snapshot.progress
        self.accumulation = training.deepspeed.gradient_accumulation_steps
        batches = stage.sampler.batches_per_epoch(worker.world_size)
        # No optimiser step spans two epochs: what a checkpoint between them holds is all there is.
        self.batches = batches - batches % self.accumulation if batches >= self.accumulation else batches
        self.saved_for: frozenset[str] = frozenset()
        self.began_at, self.steps, self.ask_at = time.monotonic(), 0, 1
        if batches == 0:
            raise TrainingError(
                f"stage {stage.name}: fewer batches than workers; lower training.num_workers={worker.world_size} "
                f"or the batch size {stage.batch_size}"
            )

    @property
    def is_over(self) -> bool:
        """Whether the epochs are done, or validation has not gained for long enough."""
        progress = self.progress
        return progress.epoch >= self.stage.epochs or progress.rounds_without_gain >= self.training.patience

    @property
    def is_due(self) -> bool:
        """Whether the epoch that has just ended is one to validate after."""
        every = self.stage.validate_every_epochs or self.training.validate_every_epochs
        return self.progress.epoch % every == 0 or self.progress.epoch == self.stage.epochs

    def begin(self, checkpoint: Path | None) -> None:
        """Start the engine, fresh or from a checkpoint."""
        module, progress, worker = self.stage.module, self.progress, self.worker
        changed = progress.world_size != worker.world_size
        if checkpoint is None:
            progress.stage, progress.epoch, progress.position = self.stage.name, 0, 0
            progress.best_metric, progress.rounds_without_gain = float("-inf"), 0
            self.snapshot.best, self.snapshot.average, self.snapshot.random = {}, {}, {}
        elif changed:  # before the engine: it copies its master weights from the module when it starts
            load_adapter_state(module, self.snapshot.weights)
            position = progress.position * progress.world_size // worker.world_size
            progress.position = min(position - position % self.accumulation, self.batches)
            self.snapshot.random = {}
        if not self.stage.average:  # a run may go on without
            self.snapshot.average = {}
        progress.world_size = worker.world_size
        self._introduce()
        steps = self.stage.epochs * self.batches // self.accumulation
        options = deepspeed_dict(
            self.training, self.stage.learning_rate, steps, self.stage.batch_size, worker.world_size
        )
        self.engine = initialize(module.to(worker.device), options)
        self.allocation = rank_allocation(module, steps)
        if checkpoint is None:
            return
        if not changed:
            folder = str(checkpoint / "current" / "deepspeed")
            self.engine.load_checkpoint(folder, tag="engine", load_module_strict=False)
        elif self.snapshot.moments:
            done = (progress.epoch * self.batches + progress.position) // self.accumulation
            optimiser_state.restore(self.engine, self.snapshot.moments, done)

    def epoch(self) -> None:
        """Train one epoch, or what is left of it."""
        stage, worker, progress = self.stage, self.worker, self.progress
        if self.snapshot.random:
            _set_random_state(self.snapshot.random)
        else:
            torch.manual_seed(hash_seed(self.seed, stage.name, progress.epoch, worker.rank, progress.position))
        stage.module.train()
        meter = _Meter(self)
        batches = stage.sampler.epoch(progress.epoch, worker.rank, worker.world_size, progress.position)
        for batch in islice(batches, self.batches - progress.position):
            meter.count(batch, self._step(batch))
            progress.position += 1
            self.steps += 1
            if progress.position % self.accumulation == 0 and progress.position < self.batches:
                self._save_inside_the_epoch(progress.position // self.accumulation)
        if stage.average:
            self._average(min(stage.average, progress.epoch / (progress.epoch + 1)))
        progress.epoch, progress.position, self.snapshot.random = progress.epoch + 1, 0, {}

    def validate(self) -> None:
        """Measure, remember the best, save."""
        progress = self.progress
        self.stage.module.eval()
        with self._averaged():
            figures = self.stage.validate()
            metric = next(iter(figures.values()))
            if metric > progress.best_metric:
                progress.best_metric, progress.rounds_without_gain = metric, 0
                progress.finished[self.stage.name] = figures
                self.snapshot.best = adapter_state(self.stage.module)
            else:
                progress.rounds_without_gain += 1
        rounds = progress.rounds_without_gain
        note = f"no gain for {rounds} validations" if rounds else ""
        done, steps = progress.epoch * self.batches, self.stage.epochs * self.batches
        self.worker.tell(Update(self.stage.name, done, steps, progress.epoch, validation=figures, note=note))
        self._save(figures)

    def end(self) -> None:
        """Leave the best weights in the module, on every rank, and let go of the engine's hooks."""
        best: Weights = self.snapshot.best or adapter_state(self.stage.module)
        release(self.engine)
        load_adapter_state(self.stage.module, best)
        self.stage.module.eval()
        self.snapshot.done[self.stage.name] = best

    def _average(self, keep: float) -> None:
        """Take the weights into the average, in float32 whatever they are trained in."""
        average = self.snapshot.average
        for name, weight in adapter_state(self.stage.module).items():
            average[name] = average[name].lerp_(weight.float(), 1 - keep) if name in average else weight.float()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The module holds the average; the optimiser's own weights are left alone, and the module's come back."""
        if not self.snapshot.average:
            yield
            return
        own = adapter_state(self.stage.module)
        load_adapter_state(self.stage.module, self.snapshot.average)
        try:
            yield
        finally:
            load_adapter_state(self.stage.module, own)

    def _introduce(self) -> None:
        parameters = list(self.stage.module.parameters())
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        note = f"{trained:,} of {sum(parameter.numel() for parameter in parameters):,} parameters are trained"
        note = f"{self.stage.adapter}: {note}" if self.stage.adapter else note
        steps = self.stage.epochs * self.batches
        self.worker.tell(Update(self.stage.name, 0, steps, note=note))

    def _step(self, batch: Any) -> float:
        """Forward, backward, and where gradients are complete an optimiser step."""
        loss = self.stage.loss(self.engine, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._not_finite(value, batch)
        if self.allocation is not None:
            self.allocation.optimise(self.engine, loss)
        else:
            self.engine.backward(loss)
            self.engine.step()
        return value

    def _not_finite(self, value: float, batch: Any) -> TrainingError:
        epoch, step, ids = self.progress.epoch + 1, self.progress.position + 1, list(self.stage.ids(batch))
        rates = [float(rate) for rate in self.engine.get_lr()]
        named = ", ".join(ids[:NAMED_IDS]) + (f" and {len(ids) - NAMED_IDS} more" if len(ids) > NAMED_IDS else "")
        details = {"stage": self.stage.name, "epoch": epoch, "step": step, "rank": self.worker.rank}
        return TrainingError(
            f"stage {self.stage.name}: loss is {value} at epoch {epoch}, step {step} on rank {self.worker.rank}; lower "
            f"the learning rate (it is {rates[0]:.2g}) or look at the batch: {named}",
            details | {"loss": str(value), "learning_rate": rates[0], "ids": ids},
        )

    def _save_inside_the_epoch(self, step: int) -> None:
        """Every so many optimiser steps, and once for every node that is about to be taken away."""
        every = self.training.checkpoints.every_steps
        due = every is not None and step % every == 0
        if self.steps >= self.ask_at:
            self.ask_at = self.steps + self._agreed_steps(ASK_FOR_PREEMPTION_EVERY_S)
            nodes = self.worker.preempted()
            if nodes - self.saved_for:
                self.saved_for, due = nodes, True
                note = "a node is about to be taken away: checkpoint"
                self.worker.tell(Update(self.stage.name, 0, 1, self.progress.epoch + 1, note=note))
        if due:
            self.snapshot.random = _random_state()
            self._save({})
            self.snapshot.random = {}

    def _save(self, figures: dict[str, float]) -> None:
        self.snapshot.weights = adapter_state(self.stage.module)
        self.snapshot.moments = optimiser_state.gather(self.engine, keep=self.worker.rank == 0)
        metrics = {f"{self.stage.name}/{name}": value for name, value in figures.items()}
        self.worker.save(self.snapshot, self.engine, metrics | {"epoch": float(self.progress.epoch)})

    def _agreed_steps(self, seconds: float) -> int:
        """How many batches so much time has come to so far, on rank 0, validation and checkpoints included."""
        pace_s = (time.monotonic() - self.began_at) / self.steps
        number = torch.tensor(max(1, round(seconds / pace_s)), device=self.worker.device)
        if dist.is_initialized() and self.worker.world_size > 1:
            dist.broadcast(number, src=0)
        return int(number)


class _Meter:
    """Throughput and gauges of an epoch, posted now and then."""

    def __init__(self, fit: _Fit) -> None:
        self._fit = fit
        self._posted_at = time.monotonic()
        self._units: dict[str, int] = {}

    def count(self, batch: Any, loss: float) -> None:
        """Count a batch that has been trained on."""
        fit = self._fit
        for unit, count in fit.stage.counts(batch).items():
            self._units[unit] = self._units.get(unit, 0) + count
        elapsed = time.monotonic() - self._posted_at
        if elapsed < POST_EVERY_S:
            return
        rates = {f"{unit}/s": count * fit.worker.world_size / elapsed for unit, count in self._units.items()}
        progress, stage = fit.progress, fit.stage
        done = progress.epoch * fit.batches + progress.position + 1
        shown = gauges.read(fit.engine, rates)
        steps = stage.epochs * fit.batches
        fit.worker.tell(Update(stage.name, done, steps, progress.epoch + 1, loss, rates, gauges=shown))
        self._posted_at, self._units = time.monotonic(), {}


def _random_state() -> Weights:
    """Of torch's generators on this rank."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: Weights) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def hash_seed(seed: int, stage: str, epoch: int, rank: int, position: int = 0) -> int:
    """A 63-bit seed that differs between stages, epochs, ranks, and places in an epoch."""
    text = f"{seed}/{stage}/{epoch}/{rank}" + (f"/{position}" if position else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
