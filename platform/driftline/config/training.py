"""Sections that say how it is trained and what is recorded: workers, DeepSpeed, checkpoints, tracking."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from driftline.config.base import Section

ZeroStage = Literal[0, 1, 2, 3]
Precision = Literal["fp32", "bf16", "fp16"]
Offload = Literal["none", "cpu", "nvme"]


class DeepSpeedConfig(Section):
    """What is passed on to ``deepspeed.initialize``."""

    zero_stage: ZeroStage = 2
    """What is sharded over the workers: 0 nothing, 1 optimiser states, 2 and gradients, 3 and weights."""
    precision: Precision = "fp32"
    gradient_accumulation_steps: int = Field(1, ge=1)
    gradient_clipping: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    offload_optimizer: Offload = "none"
    """Where optimiser states live (ZeRO 1-3; nvme: ZeRO 3)."""
    offload_parameters: Offload = "none"
    """Where sharded weights live (ZeRO 3)."""
    nvme_path: Path | None = None
    """A folder on a fast local disk, for nvme."""
    persistence_threshold: int | None = Field(None, ge=0)
    """ZeRO 3: parameters with fewer elements are not sharded; null = DeepSpeed's default (100,000)."""


class CheckpointConfig(Section):
    """Where checkpoints go, how often, and how many stay."""

    storage: str | None = None
    """Folder or URI (s3://, gs://) of the run's checkpoints; null = ``storage``/runs."""
    keep: int = Field(2, ge=1)
    """Checkpoints that stay: the best by validation figure (later stages before earlier ones), and the newest."""
    every_steps: int | None = Field(None, ge=1)
    """Also save inside an epoch, after this many optimiser steps; null = with every validation only."""
    asynchronous: bool = False
    """Upload while training goes on; the newest checkpoint may then be missing after a crash."""


class TrainingConfig(Section):
    """The training job."""

    num_workers: int | tuple[int, int] = 2
    """Ray Train workers; [min, max] lets Ray grow and shrink the run with the cluster."""
    use_gpu: bool = False
    threads_per_worker: int = Field(1, ge=1)
    epochs: int = Field(160, ge=1)
    """Upper bound for the ranking encoder; early stopping may end before."""
    batch_users: int = Field(16, ge=1)
    """Sequences per worker and step."""
    crops: Literal["window", "anywhere"] = "window"
    """What of a history an epoch of the ranking stage reads: ``window_events`` in a row, so that only longer histories
    are cropped; or what follows from a random place on, so that short contexts are trained on as well."""
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(20, ge=1)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """After warm-up: keep the rate, let it fall in a line to 0, or along a cosine to 2 % at the last epoch."""
    refit_epochs: int = Field(10, ge=0)
    """Where validation events come before the test (temporal-successive): epochs of the ranking encoder, and new
    collaborative tables, on all of them, once the best epoch and the gate have been found without. 0 = not."""
    average: float = Field(0.0, ge=0, lt=1)
    """Ranking encoder: validate and keep a running average of the weights at the ends of epochs, which keeps this share
    of itself (about the last 1 / (1 - average) epochs; after Polyak & Juditsky 1992). 0 = the weights as they are."""
    validate_every_epochs: int = Field(5, ge=1)
    patience: int = Field(6, ge=1)
    """Validations without a better log-likelihood before training stops."""
    max_failures: int = Field(2, ge=0)
    """Crashed workers that a run survives; preempted nodes are not counted."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()

    @field_validator("num_workers", mode="before")
    @classmethod
    def _one_or_range(cls, value: Any) -> Any:
        ends = value if isinstance(value, list | tuple) else [value, value]
        whole = len(ends) == 2 and all(isinstance(end, int) and not isinstance(end, bool) for end in ends)
        if not whole or not 1 <= ends[0] <= ends[1]:
            raise ValueError(f"{value!r} is neither a whole number of at least 1 nor [min, max] of such numbers")
        return value

    @property
    def most_workers(self) -> int:
        """Workers of the largest world the run may have."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]


class TrackingConfig(Section):
    """MLflow tracking and registry, and further listeners."""

    uri: str | None = None
    """MLflow tracking URI; null = an SQLite file under ``storage``."""
    experiment: str = "driftline"
    model_name: str = "driftline"
    tensorboard: bool = False
    """Also write TensorBoard event files, under ``storage``/tensorboard."""
    wandb: Literal["off", "offline", "online"] = "off"
    """Also write a Weights & Biases run, under ``storage``/wandb (needs the package wandb)."""
