"""The typed configuration of a run: frozen pydantic models, a YAML file, and ``--set a.b=c`` overrides.

Every fault is reported at once by :class:`~driftline.errors.ConfigError`, with the field, the value and the
valid choices. The whole tree round-trips through ``Config.to_yaml`` and is stored in every bundle.
"""

from driftline.config.base import Section
from driftline.config.conflicts import find_conflicts
from driftline.config.model import (
    AdapterConfig,
    DataConfig,
    DomainConfig,
    DriftConfig,
    EncoderConfig,
    EncoderKind,
    FusionConfig,
    HeadsConfig,
    JudgeConfig,
    PolicyConfig,
    RankingConfig,
    TextConfig,
)
from driftline.config.parsing import load_config, parse_config
from driftline.config.run import Config, Protocol, default_storage
from driftline.config.training import CheckpointConfig, DeepSpeedConfig, TrackingConfig, TrainingConfig

__all__ = [
    "AdapterConfig",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "DeepSpeedConfig",
    "DomainConfig",
    "DriftConfig",
    "EncoderConfig",
    "EncoderKind",
    "FusionConfig",
    "HeadsConfig",
    "JudgeConfig",
    "PolicyConfig",
    "Protocol",
    "RankingConfig",
    "Section",
    "TextConfig",
    "TrackingConfig",
    "TrainingConfig",
    "default_storage",
    "find_conflicts",
    "load_config",
    "parse_config",
]
