"""What the benchmark knows of the data: histories by part, genres, popularity, and the text vectors of a bundle.

Shape legend: N items, G genres.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from driftline.config import Config
from driftline.drift.reading import Reader
from driftline.drift.recipe import drift_sampler
from driftline.drift.streams import TasteDistance, Track, taste_distance
from driftline.drift.verifier import verifier_table
from driftline.models.build import build_drift_model
from driftline.models.collaborative import popularity
from driftline.models.recommender import Recommender
from driftline.sequences.batches import History
from driftline.sequences.dataset import Dataset


@dataclass(frozen=True)
class World:
    """Users of the drift protocol's three parts. Of test users nothing is learnt."""

    config: Config
    text_vectors_NT: torch.Tensor
    """Of the bundle's text tower, which was aligned on training users only."""
    histories: dict[str, dict[str, History]]
    """By part (train, calibration, test) and user: all their events."""
    taste: TasteDistance
    popularity_N: NDArray[np.float32]
    """Events of the training users."""

    @classmethod
    def of(cls, dataset: Dataset, config: Config, text_vectors_NT: torch.Tensor) -> "World":
        """Split a data set."""
        parts = ("train", "calibration", "test")
        histories = {part: dataset.histories(dataset.events, dataset.users_of(part)) for part in parts}
        counts_N = popularity([h.items for h in histories["train"].values()], len(dataset.catalog.ids))
        return cls(config, text_vectors_NT, histories, taste_distance(dataset), counts_N)

    def fresh_model(self) -> Recommender:
        """An untrained item table and encoder; biases start from popularity."""
        counts_N = torch.from_numpy(self.popularity_N)
        model = build_drift_model(self.config, self.text_vectors_NT, counts_N > 0)
        model.items.start_from_popularity(counts_N)
        return model

    def train(self, seed: int, tell: Callable[[int, int], None] = lambda done, total: None) -> Recommender:
        """Train an item table and an encoder on the training users, in this process.

        The recipe is that of ``jobs/train.py``'s drift stage (shuffled orders, random history starts, seen items
        masked), without its cluster: AdamW, a linear warm-up and a cosine to 2 %.
        """
        options = self.config.drift
        torch.manual_seed(seed)
        model = self.fresh_model().train()
        sampler = drift_sampler(list(self.histories["train"].values()), options, seed)
        steps = options.epochs * sampler.batches_per_epoch(1)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=options.learning_rate, weight_decay=self.config.training.weight_decay
        )
        warm_up = self.config.training.warmup_steps

        def rate(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            return 0.51 + 0.49 * float(np.cos(np.pi * (step - warm_up) / max(steps - warm_up, 1)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        for epoch in range(options.epochs):
            for batch in sampler.epoch(epoch):
                optimizer.zero_grad()
                model(batch).total.backward()
                optimizer.step()
                schedule.step()
            tell(epoch + 1, options.epochs)
        return model.eval()

    def verifier(self, track: Track, seed: int) -> NDArray[np.float32]:
        """Train the verifier on the training users, in the track's order: its table."""
        trained = list(self.histories["train"].values())
        dim, dense_up_to = self.config.drift.encoder.dim, self.config.ranking.dense_tables_up_to
        return verifier_table(trained, len(self.popularity_N), dim, track, seed, dense_up_to=dense_up_to)

    def reader(self, model: Recommender, verifier_ND: NDArray[np.float32] | None = None) -> Reader:
        """Reads streams with everything that detectors want."""
        window_events = self.config.drift.encoder.window_events
        return Reader(model, window_events, verifier_ND, self.taste.genres_NG, self.popularity_N)
