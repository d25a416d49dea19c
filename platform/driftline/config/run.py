"""The whole configuration of a run."""

import os
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from driftline.config.base import Section
from driftline.config.model import (
    DataConfig,
    DriftConfig,
    EncoderConfig,
    FusionConfig,
    HeadsConfig,
    RankingConfig,
    TextConfig,
)
from driftline.config.training import TrackingConfig, TrainingConfig

Protocol = Literal["leave-one-out", "temporal-successive", "cold-item", "rating"]


def default_storage() -> Path:
    """``$DRIFTLINE_HOME`` or ``~/.driftline``."""
    return Path(os.environ.get("DRIFTLINE_HOME") or Path.home() / ".driftline")


class Config(Section):
    """The whole run. What two settings cannot be together is checked by :mod:`driftline.config.conflicts`."""

    name: str = Field("ml100k", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 0
    storage: Path = Field(default_factory=default_storage)
    """Absolute root of everything written: runs, bundles, tracking."""
    data: DataConfig
    protocol: Protocol = "leave-one-out"
    """What the training data must not contain: the validation and test targets of this protocol."""
    text: TextConfig = TextConfig()
    encoder: EncoderConfig = EncoderConfig()
    heads: HeadsConfig = HeadsConfig()
    training: TrainingConfig = TrainingConfig()
    fusion: FusionConfig = FusionConfig()
    drift: DriftConfig = DriftConfig()
    ranking: RankingConfig = RankingConfig()
    tracking: TrackingConfig = TrackingConfig()

    def to_yaml(self) -> str:
        """Serialise so that :func:`~driftline.config.parse_config` gives back an equal configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
