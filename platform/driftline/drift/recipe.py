"""How the drift model is trained: shuffled orders and random starts, so that a new browsing order is not a new taste."""

from collections.abc import Sequence

from driftline.config import DriftConfig
from driftline.sequences.batches import Batch, CropSampler, History


def drift_sampler(histories: Sequence[History], config: DriftConfig, seed: int) -> CropSampler:
    """Training batches of the drift model."""
    return CropSampler(
        histories, config.encoder.window_events, config.batch_users, seed, shuffle_order=True, random_start=True
    )


def drift_validation(histories: Sequence[History], config: DriftConfig, seed: int) -> list[Batch]:
    """Fixed shuffled batches of users the drift model does not train on."""
    return list(drift_sampler(histories, config, seed + 1).epoch(0))
