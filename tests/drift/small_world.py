"""A benchmark's world in miniature: sixty training users of two tastes, and a dozen of each other part."""

import numpy as np
import torch

from driftline.config import Config, DataConfig
from driftline.drift.benchmark.world import World
from driftline.drift.streams import TasteDistance
from driftline.sequences.batches import History
from tests.drift.tastes import CONFIG, ITEMS, ITEMS_PER_TASTE, users


def small_world() -> World:
    """Text vectors are zeros: item vectors are learnt."""
    config = Config(data=DataConfig(sample="ml-100k"), drift=CONFIG.model_copy(update={"epochs": 2}))
    parts = {"train": (60, 1), "calibration": (12, 2), "test": (12, 3)}
    histories = {
        part: {user: History(items, np.arange(len(items), dtype=float)) for user, items in users(count, seed).items()}
        for part, (count, seed) in parts.items()
    }
    counts = np.bincount(np.concatenate([h.items for h in histories["train"].values()]), minlength=ITEMS)
    genres = np.eye(2)[np.arange(ITEMS) // ITEMS_PER_TASTE]
    return World(config, torch.zeros(ITEMS, 4), histories, TasteDistance(genres, counts), counts)
