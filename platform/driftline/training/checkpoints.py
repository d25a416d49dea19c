"""What a checkpoint holds, and how it is written, read, and known to be whole.

    state.json               where training is: stage, epoch, position in the epoch, best figure, world size
    done/<stage>.safetensors best weights of finished stages; done/text_vectors.safetensors
    current/best.safetensors, current/average.safetensors, current/weights.safetensors, current/moments.safetensors
                             portable: whole tensors, for any world size; moments are Adam's
    current/random-<rank>.safetensors   random state of a rank, for going on inside an epoch
    current/deepspeed/       sharded engine state: same world size only, exact to the bit
    files-<rank>.json        what a rank wrote: name, bytes and CRC-32 of every file

Every rank writes into a directory of its own and Ray merges them. A checkpoint counts only if every rank's list is
there and every file on it has its size and checksum.
"""

import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from driftline.errors import TrainingError

Weights = dict[str, torch.Tensor]
STAGES = ("domain", "text", "ranker", "refit", "drift", "judge", "finished")
PORTABLE = ("best", "average", "weights", "moments")
CHUNK_BYTES = 1 << 20


@dataclass
class Progress:
    """Where training is. Everything else in a checkpoint is tensors."""

    stage: str = ""
    epoch: int = 0
    """Epochs of the stage that are done."""
    position: int = 0
    """Batches of the epoch after them that every rank has done."""
    best_metric: float = float("-inf")
    rounds_without_gain: int = 0
    world_size: int = 1
    finished: dict[str, dict[str, float]] = field(default_factory=dict)
    """Finished stage -> its best validation figures."""

    def score(self) -> float:
        """What checkpoints are kept by: a later stage beats an earlier one, then the best validation figure."""
        figure = self.best_metric / (1 + abs(self.best_metric)) if abs(self.best_metric) != float("inf") else -1.0
        return 2.0 * STAGES.index(self.stage) + figure if self.stage else -2.0


@dataclass
class Snapshot:
    """A checkpoint in memory."""

    progress: Progress
    done: dict[str, Weights] = field(default_factory=dict)
    best: Weights = field(default_factory=dict)
    average: Weights = field(default_factory=dict)
    """Of the weights at the ends of the stage's epochs; empty where none is kept."""
    weights: Weights = field(default_factory=dict)
    moments: Weights = field(default_factory=dict)
    random: Weights = field(default_factory=dict)
    """This rank's."""


def write(folder: Path, snapshot: Snapshot, engine: Any, rank: int) -> None:
    """Write one rank's share of a checkpoint. Collective: every rank must call it."""
    current = folder / "current"
    current.mkdir(parents=True, exist_ok=True)
    if engine is not None:
        engine.save_checkpoint(str(current / "deepspeed"), tag="engine", exclude_frozen_parameters=True)
    save_file(snapshot.random, current / f"random-{rank}.safetensors")
    if rank == 0:
        (folder / "done").mkdir(exist_ok=True)
        for name, weights in snapshot.done.items():
            save_file(weights, folder / "done" / f"{name}.safetensors")
        for name in PORTABLE:
            save_file(getattr(snapshot, name), current / f"{name}.safetensors")
        (folder / "state.json").write_text(json.dumps(asdict(snapshot.progress)))
    listed = {str(path.relative_to(folder)): _signature(path) for path in _files(folder)}
    (folder / f"files-{rank}.json").write_text(json.dumps(listed))


def read(folder: Path, rank: int = 0) -> Snapshot:
    """Read the portable part, and the random state of a rank if that rank was there.

    Raises
    ------
    TrainingError
        If a file cannot be read; :func:`check` finds every other fault.
    """
    current, random = folder / "current", folder / "current" / f"random-{rank}.safetensors"
    try:
        return Snapshot(
            progress=Progress(**json.loads((folder / "state.json").read_text())),
            done={path.stem: load_file(path) for path in sorted((folder / "done").glob("*.safetensors"))},
            **{name: _portable(current / f"{name}.safetensors") for name in PORTABLE},
            random=load_file(random) if random.is_file() else {},
        )
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise TrainingError(f"checkpoint {folder} is incomplete or unreadable ({error})") from error


def _portable(path: Path) -> Weights:
    """A part; older checkpoints hold no average."""
    return {} if path.stem == "average" and not path.is_file() else load_file(path)


def check(folder: Path, rank: int = 0, world_size: int = 1) -> None:
    """Compare files with the lists of the ranks that wrote them.

    Parameters
    ----------
    rank, world_size
        Every rank of a reading world checks its share of the lists; together they check all.

    Raises
    ------
    TrainingError
        If a list or a file is missing, or a file is not what was written.
    """
    try:
        writers = int(json.loads((folder / "state.json").read_text())["world_size"])
        for writer in range(rank, writers, world_size):
            listed = json.loads((folder / f"files-{writer}.json").read_text())
            corrupt = [name for name, written in listed.items() if _signature(folder / name) != written]
            if corrupt:
                raise TrainingError(f"checkpoint {folder} is corrupt: {corrupt[0]} is not what rank {writer} wrote")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"checkpoint {folder} is incomplete or unreadable ({error})") from error


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _signature(path: Path) -> list[int]:
    """Bytes and CRC-32 of a file."""
    checksum, size = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
    return [size, checksum]
