"""What every training worker runs: text stage, ranking stage, drift stage, each resumable."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from driftline.config import Config
from driftline.drift.recipe import drift_sampler, drift_validation
from driftline.events.splits import Targets
from driftline.models.adapters import load_adapter_state
from driftline.models.build import TEXT_VECTOR_DIM, base_model, build_drift_model, build_ranker, build_text_tower
from driftline.models.collaborative import item_factors, popularity
from driftline.models.text_tower import AlignmentSampler, TextAligner, TextEncoder, Tokenizer
from driftline.sequences.batches import CropSampler, History
from driftline.sequences.dataset import Dataset, load_dataset, ranking_split
from driftline.training.checkpoints import Progress, Snapshot, read, write
from driftline.training.progress import Update
from driftline.training.stage import Stage, Worker, fit_stage
from driftline.training.validation import (
    RankingTargets,
    validate_alignment,
    validate_likelihood,
    validate_ranking,
)

FACTOR_DIM = 64
MIN_FACTOR_EVENTS = 5
"""Events an item needs before its collaborative factor is worth aligning to."""


def train_worker(settings: dict[str, Any]) -> None:
    """Entry point of a Ray Train worker.

    Parameters
    ----------
    settings
        ``config`` (a dumped :class:`~driftline.config.Config`) and ``board`` (progress actor or None).
    """
    config = Config.model_validate(settings["config"])
    torch.set_num_threads(config.training.threads_per_worker)
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    worker = Worker(rank, world_size, ray.train.torch.get_device(), settings["board"], partial(_save, rank))
    with ExitStack() as stack:
        snapshot, folder = _latest(stack, worker)
        dataset = load_dataset(config)
        if rank == 0:
            counts = ", ".join(f"{value:,} {name}" for name, value in dataset.report.items())
            worker.tell(Update("data", 1, 1, note=counts))
        run = _Run(config, dataset, worker, snapshot, folder)
        run.text_stage()
        run.ranking_stage()
        if config.drift.enabled:
            run.drift_stage()
    snapshot.progress.stage = "finished"
    _save(rank, snapshot, None, _final_metrics(snapshot))


class _Run:
    """The stages of one run over one dataset."""

    def __init__(
        self, config: Config, dataset: Dataset, worker: Worker, snapshot: Snapshot, folder: Path | None
    ) -> None:
        self.config, self.dataset, self.worker, self.snapshot, self.folder = config, dataset, worker, snapshot, folder
        self.num_items = len(dataset.catalog.ids)

    def text_stage(self) -> None:
        """Align the language model's item vectors with collaborative factors, then encode the catalogue once.

        Only users of the drift protocol's training part are behind the factors, because the drift model shares the
        vectors and must not have seen the others.
        """
        if "text_vectors" in self.snapshot.done:
            return
        config, catalog = self.config, self.dataset.catalog
        events = ranking_split(self.dataset, config).fit
        sequences = [h.items for h in self.dataset.histories(events, self.dataset.users_of("train")).values()]
        counts = np.bincount(np.concatenate(sequences), minlength=self.num_items)
        eligible = np.flatnonzero(counts >= MIN_FACTOR_EVENTS)
        order = np.random.default_rng(config.seed).permutation(eligible)
        held_out, fit = np.sort(order[: len(order) // 10]), np.sort(order[len(order) // 10 :])
        factors = item_factors(sequences, self.num_items, FACTOR_DIM)
        tokenizer = Tokenizer(base_model(config), config.text.max_tokens)
        torch.manual_seed(config.seed)
        trained = np.isin(np.arange(self.num_items), fit)
        aligner = TextAligner(build_text_tower(config), torch.from_numpy(factors), torch.from_numpy(trained))
        validate = partial(
            validate_alignment, aligner, tokenizer, catalog.texts, held_out,
            self.worker.rank, self.worker.world_size, self.worker.device,
        )  # fmt: skip
        stage = Stage(
            name="text",
            module=aligner,
            sampler=AlignmentSampler(tokenizer, catalog.texts, fit, config.text.batch_items, config.seed),
            loss=lambda engine, batch: engine(batch[0].to(self.worker.device), batch[1].to(self.worker.device)),
            counts=lambda batch: {"items": len(batch[1]), "tokens": int(batch[0].mask_MT.sum())},
            validate=validate,
            epochs=config.text.epochs,
            learning_rate=config.text.learning_rate,
            batch_size=config.text.batch_items,
        )
        self._fit(stage, validate_every_epochs=1)
        self.snapshot.done["text_vectors"] = {"vectors": self._encode_catalogue(aligner, tokenizer)}

    def ranking_stage(self) -> None:
        """Train the ranking model on the protocol's training events."""
        config, dataset = self.config, self.dataset
        histories = list(dataset.histories(ranking_split(dataset, config).fit).values())
        counts_N = self._counts(histories)
        torch.manual_seed(config.seed)
        model = build_ranker(config, self._text_vectors(), counts_N > 0)
        model.items.start_from_popularity(counts_N)
        targets = ranking_targets(dataset, ranking_split(dataset, config).validation)
        mask_seen = not dataset.catalog.repeat_consumption
        stage = Stage(
            name="ranker",
            module=model,
            sampler=CropSampler(histories, config.encoder.window_events, config.training.batch_users, config.seed),
            loss=self._loss,
            counts=lambda batch: {"events": batch.events},
            validate=lambda: validate_ranking(
                model, targets, self.worker.rank, self.worker.world_size, self.worker.device, mask_seen
            ),
            epochs=config.training.epochs,
            learning_rate=config.training.learning_rate,
            batch_size=config.training.batch_users,
        )
        self._fit(stage)

    def drift_stage(self) -> None:
        """Train the drift model on its 60 % of the users; its validation likelihood is on the calibration users."""
        config, dataset = self.config, self.dataset
        events = dataset.split.fit
        histories = list(dataset.histories(events, dataset.users_of("train")).values())
        calibration = list(dataset.histories(events, dataset.users_of("calibration")).values())
        counts_N = self._counts(histories)
        torch.manual_seed(config.seed)
        model = build_drift_model(config, self._text_vectors(), counts_N > 0)
        model.items.start_from_popularity(counts_N)
        batches = drift_validation(calibration, config.drift, config.seed)
        stage = Stage(
            name="drift",
            module=model,
            sampler=drift_sampler(histories, config.drift, config.seed),
            loss=self._loss,
            counts=lambda batch: {"events": batch.events},
            validate=lambda: validate_likelihood(
                model, batches, self.worker.rank, self.worker.world_size, self.worker.device
            ),
            epochs=config.drift.epochs,
            learning_rate=config.drift.learning_rate,
            batch_size=config.drift.batch_users,
        )
        self._fit(stage)

    def _fit(self, stage: Stage, validate_every_epochs: int | None = None) -> None:
        """Train a stage unless a checkpoint already holds it."""
        if stage.name in self.snapshot.done:
            load_adapter_state(stage.module, self.snapshot.done[stage.name])
            return
        training = self.config.training
        if validate_every_epochs is not None:
            training = training.model_copy(update={"validate_every_epochs": validate_every_epochs})
        restore = self._resume(stage) if self.snapshot.progress.stage == stage.name else None
        fit_stage(stage, training, self.worker, self.snapshot, self.config.seed, restore)

    def _resume(self, stage: Stage) -> Callable[[Any], None]:
        """What gives an engine its state back: of the same world size, or the portable weights and a fresh optimiser.

        The portable weights are put into the module now: an engine copies its master weights from there when it is
        initialised, and would undo later changes at its first step.
        """
        assert self.folder is not None
        saved, folder = self.snapshot.progress, self.folder / "current" / "deepspeed"
        self.worker.tell(Update(stage.name, 0, 1, note=f"resuming after epoch {saved.epoch}"))
        if saved.world_size == self.worker.world_size:
            return lambda engine: engine.load_checkpoint(str(folder), tag="engine", load_module_strict=False)
        load_adapter_state(stage.module, self.snapshot.weights)
        saved.world_size = self.worker.world_size
        return lambda engine: None

    def _loss(self, engine: Any, batch: Any) -> torch.Tensor:
        total: torch.Tensor = engine(batch.to(self.worker.device)).total
        return total

    def _encode_catalogue(self, aligner: TextAligner, tokenizer: Tokenizer) -> torch.Tensor:
        """Text vectors of all items; every rank reads its share."""
        texts, world_size = self.dataset.catalog.texts, self.worker.world_size
        encoder = TextEncoder(aligner.tower, tokenizer)
        share = encoder.encode(texts[self.worker.rank :: world_size])
        shares: list[Any] = [share]
        if world_size > 1:
            shares = [None] * world_size
            dist.all_gather_object(shares, share)
        vectors = torch.empty(len(texts), TEXT_VECTOR_DIM)
        for rank, part in enumerate(shares):
            vectors[rank::world_size] = part
        return vectors

    def _text_vectors(self) -> torch.Tensor:
        return self.snapshot.done["text_vectors"]["vectors"]

    def _counts(self, histories: Sequence[History]) -> torch.Tensor:
        """Training events per item: ``counts_N``."""
        return torch.from_numpy(popularity([history.items for history in histories], self.num_items))


def ranking_targets(dataset: Dataset, targets: Targets) -> RankingTargets:
    """Targets of a split as item indices."""
    histories = [dataset.target_history(targets, number) for number in range(len(targets))]
    return RankingTargets(histories, dataset.indices(targets.item_ids))


def _latest(stack: ExitStack, worker: Worker) -> tuple[Snapshot, Path | None]:
    """The newest checkpoint of this run, or a fresh start."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return Snapshot(Progress(world_size=worker.world_size), {}, {}, {}), None
    folder = Path(stack.enter_context(checkpoint.as_directory()))
    return read(folder), folder


def _save(rank: int, snapshot: Snapshot, engine: Any, metrics: dict[str, float]) -> None:
    """Write this rank's share and report it. Collective."""
    folder = Path(tempfile.mkdtemp(prefix="driftline-checkpoint-"))
    try:
        write(folder, snapshot, engine, rank)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _final_metrics(snapshot: Snapshot) -> dict[str, float]:
    finished = snapshot.progress.finished
    return {f"{stage}/{name}": value for stage, figures in finished.items() for name, value in figures.items()}
