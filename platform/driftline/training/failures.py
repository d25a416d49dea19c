"""From what went wrong somewhere in a run to the one thing that a person needs to read."""

import json
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from driftline.errors import TrainingError
from driftline.training.progress import Failure


def explained(error: Exception | None, board: Any, run_name: str, folder: Path) -> TrainingError:
    """The error of a run that was given up.

    When one rank fails the others fail too, because a peer is gone. What is told is, in this order: what would only
    repeat itself; what stopped Ray Train's own controller (a full disk under the run); a worker whose process died
    without a word; the traceback of the rank that failed first.

    Parameters
    ----------
    error
        What Ray Train raised; None if the workers gave up by themselves.
    board
        The run's :class:`~driftline.training.progress.ProgressBoard`.
    folder
        Where details of a failure are written to, as JSON.
    """
    way_out = f"\nGo on with: --resume {run_name}"
    failures: list[Failure] = ray.get(board.failures.remote())
    final = next((failure for failure in failures if failure.is_final), None)
    if final is not None:
        return TrainingError(final.message + _written(failures, folder, run_name) + way_out)
    stopped = getattr(error, "controller_failure", None)
    if stopped is not None:
        return TrainingError(f"Ray Train's controller failed: {stopped}{way_out}")
    died = _dead_workers(error)
    if died:
        return TrainingError("\n".join(died) + way_out)
    if failures:
        return TrainingError(f"training worker {failures[0].rank} failed first:\n{failures[0].trace}{way_out}")
    return TrainingError(f"{error}{way_out}")


def _dead_workers(error: Exception | None) -> list[str]:
    """Workers whose process is gone, as Ray describes it."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", None) or {}
    died = {rank: getattr(failure, "health_check_failure", failure) for rank, failure in failures.items()}
    return [
        f"training worker {rank} died: {failure}"
        for rank, failure in sorted(died.items())
        if isinstance(failure, RayActorError)
    ]


def _written(failures: list[Failure], folder: Path, run_name: str) -> str:
    """Write the details of final failures, one object a rank; says where."""
    details = [failure.details for failure in failures if failure.details]
    if not details:
        return ""
    path = folder / f"{run_name}-failure.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(details, indent=2), encoding="utf-8")
    return f"\nDetails, with every id of the batch: {path}"
