"""What a checkpoint holds, and how it is written and read.

    state.json               where training is: stage, epoch, best figure, world size
    done/<stage>.safetensors best weights of finished stages; done/text_vectors.safetensors
    current/best.safetensors, current/weights.safetensors      portable: whole tensors, any world size
    current/deepspeed/       sharded engine state: the optimiser too, same world size only

Every rank writes into a directory of its own and Ray merges them.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from driftline.errors import TrainingError

Weights = dict[str, torch.Tensor]


@dataclass
class Progress:
    """Where training is. Everything else in a checkpoint is tensors."""

    stage: str = ""
    epoch: int = 0
    """Epochs of the stage that are done."""
    best_metric: float = float("-inf")
    rounds_without_gain: int = 0
    world_size: int = 1
    finished: dict[str, dict[str, float]] = field(default_factory=dict)
    """Finished stage -> its best validation figures."""


@dataclass
class Snapshot:
    """A checkpoint in memory."""

    progress: Progress
    done: dict[str, Weights]
    best: Weights
    weights: Weights


def write(folder: Path, snapshot: Snapshot, engine: Any, rank: int) -> None:
    """Write one rank's share of a checkpoint. Collective: every rank must call it."""
    if engine is not None:
        engine.save_checkpoint(str(folder / "current" / "deepspeed"), tag="engine", exclude_frozen_parameters=True)
    if rank != 0:
        return
    (folder / "done").mkdir(parents=True, exist_ok=True)
    (folder / "current").mkdir(parents=True, exist_ok=True)
    for name, weights in snapshot.done.items():
        save_file(weights, folder / "done" / f"{name}.safetensors")
    save_file(snapshot.best, folder / "current" / "best.safetensors")
    save_file(snapshot.weights, folder / "current" / "weights.safetensors")
    (folder / "state.json").write_text(json.dumps(asdict(snapshot.progress)))


def read(folder: Path) -> Snapshot:
    """Read the portable part.

    Raises
    ------
    TrainingError
        If the checkpoint is incomplete or unreadable.
    """
    try:
        progress = Progress(**json.loads((folder / "state.json").read_text()))
        done = {path.stem: load_file(path) for path in sorted((folder / "done").glob("*.safetensors"))}
        best = load_file(folder / "current" / "best.safetensors")
        weights = load_file(folder / "current" / "weights.safetensors")
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(
            f"checkpoint {folder} is incomplete or unreadable ({error}); delete it and resume"
        ) from error
    return Snapshot(progress, done, best, weights)
