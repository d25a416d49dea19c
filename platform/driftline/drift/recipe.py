"""How the drift model is trained: shuffled orders, because a new browsing order is not a new taste; random starts."""

from collections.abc import Sequence

from driftline.config import DriftConfig
from driftline.sequences.batches import Batch, CropSampler, History

CROP_EVENTS = 80
"""Longest training crop: a third cheaper than the whole window of 120, and no worse at detection."""


def drift_sampler(histories: Sequence[History], config: DriftConfig, seed: int) -> CropSampler:
    """Training batches of the drift model."""
    crop_events = min(config.encoder.window_events, CROP_EVENTS)
    return CropSampler(histories, crop_events, config.batch_users, seed, shuffle_order=True, random_start=True)


def drift_validation(histories: Sequence[History], config: DriftConfig, seed: int) -> list[Batch]:
    """Fixed shuffled batches of users the drift model does not train on."""
    return list(drift_sampler(histories, config, seed + 1).epoch(0))
