"""The stages of a run, built from its configuration and data: domain, text, ranking, drift, judge."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from driftline.config import Config
from driftline.drift.judge.prompt import Prompt
from driftline.drift.recipe import drift_sampler, drift_validation
from driftline.events.splits import Targets
from driftline.models.adapters import describe_adapter, load_adapter_state
from driftline.models.build import TEXT_VECTOR_DIM, base_model, build_drift_model, build_ranker, build_text_tower
from driftline.models.collaborative import popularity
from driftline.models.item_factors import item_factors
from driftline.models.language_model import backbone_weights
from driftline.models.recommender import Recommender
from driftline.models.text_sampler import TextSampler
from driftline.models.text_tower import TextAligner, TextEncoder, Tokenizer
from driftline.sequences.batches import History
from driftline.sequences.dataset import Dataset, ranking_split
from driftline.sequences.stream import ranking_counts, ranking_sampler
from driftline.training.checkpoints import Snapshot
from driftline.training.domain import domain_stage
from driftline.training.judge import judge_stage
from driftline.training.progress import Update
from driftline.training.stage import Stage, Worker, fit_stage
from driftline.training.validation import (
    RankingTargets,
    validate_alignment,
    validate_likelihood,
    validate_ranking,
)

FACTOR_DIM = 64
REFIT_RATE = 0.3
"""Learning rate of the refit over that of the ranking stage, which ended lower still."""
MIN_FACTOR_EVENTS = 5
"""Events an item needs before its collaborative factor is worth aligning to."""


class Stages:
    """The stages of one run over one dataset.

    Parameters
    ----------
    snapshot
        Where the run stands; finished stages are in it, and each stage leaves its weights there.
    checkpoint
        The folder that ``snapshot`` was read from; None for a fresh start.
    """

    def __init__(
        self, config: Config, dataset: Dataset, worker: Worker, snapshot: Snapshot, checkpoint: Path | None
    ) -> None:
        self.config, self.dataset, self.worker = config, dataset, worker
        self.snapshot, self.checkpoint = snapshot, checkpoint
        self.num_items = len(dataset.catalog.ids)

    def domain(self) -> None:
        """Read the catalogue's texts as a language model does; alignment goes on with what that has learnt."""
        if self.snapshot.done.keys().isdisjoint(("domain", "text_vectors")):
            torch.manual_seed(self.config.seed)
            self._fit(domain_stage(self.config, self.dataset.catalog, self.worker))

    def text(self) -> None:
        """Align the language model's item vectors with collaborative factors, then encode the catalogue once.

        Only users of the drift protocol's training part are behind the factors, because the drift model shares the
        vectors and must not have seen the others.
        """
        if "text_vectors" in self.snapshot.done:
            return
        config, catalog = self.config, self.dataset.catalog
        sequences = factor_sequences(self.dataset, config)
        held_out, fit = alignment_items(sequences, self.num_items, config.seed)
        factors = item_factors(sequences, self.num_items, FACTOR_DIM, config.ranking.dense_tables_up_to)
        tokenizer = Tokenizer(base_model(config), config.text.max_tokens)
        torch.manual_seed(config.seed)
        trained = np.isin(np.arange(self.num_items), fit)
        tower = build_text_tower(config, for_training=True)
        if "domain" in self.snapshot.done:
            load_adapter_state(tower.backbone, backbone_weights(self.snapshot.done["domain"]))
        aligner = TextAligner(tower, torch.from_numpy(factors), torch.from_numpy(trained))
        validate = partial(
            validate_alignment, aligner, tokenizer, catalog.texts, held_out,
            self.worker.rank, self.worker.world_size, self.worker.device,
        )  # fmt: skip
        stage = Stage(
            name="text",
            module=aligner,
            sampler=TextSampler(
                tokenizer, catalog.texts, fit, config.text.batch_items, config.seed, config.text.word_dropout
            ),
            loss=lambda engine, batch: engine(batch[0].to(self.worker.device), batch[1].to(self.worker.device)),
            counts=lambda batch: {"items": len(batch[1]), "tokens": int(batch[0].mask_MT.sum())},
            validate=validate,
            epochs=config.text.epochs,
            learning_rate=config.text.learning_rate,
            ids=lambda batch: [catalog.ids[item] for item in batch[1].tolist()],
            batch_size=config.text.batch_items,
            validate_every_epochs=1,
            adapter=describe_adapter(tower, config.text.adapter),
        )
        self._fit(stage)
        self.snapshot.done["text_vectors"] = {"vectors": self._encode_catalogue(aligner, tokenizer)}
        self.snapshot.done.pop("domain", None)  # the aligned weights started from it

    def ranker(self) -> None:
        """Train the ranking model on the protocol's training events."""
        config, dataset = self.config, self.dataset
        model = self._new_ranker(dataset)
        if model.text_head is not None:  # the gate is to see what it makes of items that it has not learnt from
            held_out, _ = alignment_items(factor_sequences(dataset, config), self.num_items, config.seed)
            model.text_head.held_out_N[torch.from_numpy(held_out)] = True
        targets = ranking_targets(dataset, ranking_split(dataset, config).validation)
        mask_seen = not dataset.catalog.repeat_consumption
        self._fit(
            self._ranking_stage(
                "ranker",
                model,
                dataset,
                lambda: validate_ranking(
                    model, targets, self.worker.rank, self.worker.world_size, self.worker.device, mask_seen
                ),
                config.training.epochs,
                config.training.learning_rate,
            )
        )

    def refit(self) -> None:
        """Go on with the ranking model on everything before the test, validation events included.

        They are the newest there are. Nothing is left to validate with: the last weights, or their average, are kept.
        """
        config, dataset = self.config, self.dataset.before_test
        if dataset is self.dataset or not config.training.refit_epochs:
            return
        model = self._new_ranker(dataset)
        known_before_N = torch.from_numpy(ranking_counts(self.dataset, config) > 0)
        by_popularity_N = model.items.bias_N.detach().clone()
        load_adapter_state(model, self.snapshot.done["ranker"])
        model.items.begin_anew(known_before_N, by_popularity_N)
        self._fit(
            self._ranking_stage(
                "refit",
                model,
                dataset,
                lambda: {"epochs": float(self.snapshot.progress.epoch)},
                config.training.refit_epochs,
                config.training.learning_rate * REFIT_RATE,
            )
        )

    def _new_ranker(self, dataset: Dataset) -> Recommender:
        counts_N = torch.from_numpy(ranking_counts(dataset, self.config))
        torch.manual_seed(self.config.seed)
        vectors_NV = None if dataset.item_vectors_NV is None else torch.from_numpy(dataset.item_vectors_NV)
        texts, values = dataset.catalog.texts, dataset.user_attributes.size
        model = build_ranker(self.config, self._text_vectors(), counts_N > 0, vectors_NV, texts, values)
        model.items.start_from_popularity(counts_N)
        return model

    def _ranking_stage(
        self,
        name: str,
        model: Recommender,
        dataset: Dataset,
        validate: Callable[[], dict[str, float]],
        epochs: int,
        learning_rate: float,
    ) -> Stage:
        return Stage(
            name=name,
            module=model,
            sampler=ranking_sampler(dataset, self.config),
            loss=self._loss,
            counts=lambda batch: {"events": batch.events},
            ids=lambda batch: batch.users,
            validate=validate,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=self.config.training.batch_users,
            average=self.config.training.average,
        )

    def drift(self) -> None:
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
            ids=lambda batch: batch.users,
            validate=lambda: validate_likelihood(
                model, batches, self.worker.rank, self.worker.world_size, self.worker.device
            ),
            epochs=config.drift.epochs,
            learning_rate=config.drift.learning_rate,
            batch_size=config.drift.batch_users,
        )
        self._fit(stage)

    def judge(self) -> None:
        """Fine-tune the judge of alarms on spliced streams of the drift part's training users."""
        torch.manual_seed(self.config.seed)
        self._fit(judge_stage(self.config, self.dataset, Prompt.of(self.config, self.dataset.catalog), self.worker))

    def _fit(self, stage: Stage) -> None:
        """Train a stage unless a checkpoint already holds it."""
        if stage.name in self.snapshot.done:
            load_adapter_state(stage.module, self.snapshot.done[stage.name])
            return
        is_resumed = self.snapshot.progress.stage == stage.name
        if is_resumed:
            saved = self.snapshot.progress
            inside = f", {saved.position} batches into the next" if saved.position else ""
            self.worker.tell(Update(stage.name, 0, 1, note=f"resuming after epoch {saved.epoch}{inside}"))
        checkpoint = self.checkpoint if is_resumed else None
        fit_stage(stage, self.config.training, self.worker, self.snapshot, self.config.seed, checkpoint)

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


def factor_sequences(dataset: Dataset, config: Config) -> list[NDArray[np.int64]]:
    """Item indices of the histories behind the collaborative factors: training events of the drift part's users."""
    events = ranking_split(dataset, config).fit
    return [history.items for history in dataset.histories(events, dataset.users_of("train")).values()]


def alignment_items(
    sequences: Sequence[NDArray[np.int64]], num_items: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items with enough events to be aligned to their factor: a seeded tenth that measures it, and those it is fitted
    on; item indices in ascending order."""
    counts = np.bincount(np.concatenate(sequences), minlength=num_items)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(counts >= MIN_FACTOR_EVENTS))
    held_out, fit = np.split(order, [len(order) // 10])
    return np.sort(held_out), np.sort(fit)


def ranking_targets(dataset: Dataset, targets: Targets, with_moment: bool = False) -> RankingTargets:
    """Targets of a split as item indices."""
    histories = [dataset.target_history(targets, number, with_moment) for number in range(len(targets))]
    return RankingTargets(histories, dataset.indices(targets.item_ids))
