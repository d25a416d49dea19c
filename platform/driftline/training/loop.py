"""What every training worker runs: the stages of a run one after another, each resumable."""

import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train import CheckpointUploadMode

from driftline.config import Config
from driftline.errors import DriftlineError, TrainingError
from driftline.sequences.dataset import load_dataset
from driftline.training.checkpoints import STAGES, Progress, Snapshot, check, read, write
from driftline.training.progress import Failure, Update
from driftline.training.stage import Worker
from driftline.training.stages import Stages
from driftline.training.storage import Runs


def train_worker(settings: dict[str, Any]) -> None:
    """Entry point of a Ray Train worker.

    Parameters
    ----------
    settings
        ``config`` (a dumped :class:`~driftline.config.Config`); ``board`` (progress actor or None); optionally
        ``stages`` (names; all that the configuration asks for by default) and ``start`` (folder of a snapshot whose
        stages a fresh run need not train again).
    """
    config = Config.model_validate(settings["config"])
    torch.set_num_threads(config.training.threads_per_worker)
    context = ray.train.get_context()
    save = partial(_save, config, context.get_world_rank())
    worker = Worker(
        context.get_world_rank(),
        context.get_world_size(),
        ray.train.torch.get_device(),
        settings["board"],
        save,
        _preempted_nodes,
    )
    if worker.board is not None and ray.get(worker.board.final_failures.remote()):
        return  # it failed in a way that would only repeat itself; the driver says so
    with _reporting_failures(worker):
        snapshot = _run(config, worker, settings.get("stages") or STAGES, settings.get("start"))
        snapshot.progress.stage, snapshot.random = "finished", {}
        snapshot.progress.world_size = worker.world_size  # no stage may have been left to train by this world
        worker.save(snapshot, None, _final_metrics(snapshot))


def _run(config: Config, worker: Worker, wanted: tuple[str, ...], start: str | None) -> Snapshot:
    """All wanted stages, from the newest readable checkpoint on."""
    with ExitStack() as stack:
        snapshot, checkpoint = _latest(stack, config, worker, start)
        dataset = load_dataset(config)
        counts = ", ".join(f"{value:,} {name}" for name, value in dataset.report.items())
        worker.tell(Update("data", 1, 1, note=counts))
        stages = Stages(config, dataset, worker, snapshot, checkpoint)
        if "text" in wanted:
            if config.text.domain.epochs:
                stages.domain()
            stages.text()
        if "ranker" in wanted:
            stages.ranker()
        if "refit" in wanted:
            stages.refit()
        if "drift" in wanted and config.drift.enabled:
            stages.drift()
        if "judge" in wanted and config.drift.judge.enabled:
            stages.judge()
    return snapshot


def _latest(stack: ExitStack, config: Config, worker: Worker, start: str | None) -> tuple[Snapshot, Path | None]:
    """The newest checkpoint of this run that is whole, or a fresh start. Collective.

    Raises
    ------
    TrainingError
        If Ray Train has a checkpoint of this run and none can be read.
    """
    faults: list[str] = []
    for checkpoint in Runs.of(config).checkpoints(ray.train.get_context().get_experiment_name()):
        folder, fault = _opened(stack, checkpoint, worker)
        is_whole = _all_agree(not fault, worker)
        if folder is not None and is_whole:
            if faults:
                worker.tell(Update("start", 0, 1, note=f"{faults[0]}; going back to {Path(checkpoint.path).name}"))
            return read(folder, worker.rank), folder
        faults.append(fault or f"checkpoint {checkpoint.path} is corrupt on another rank")
    if ray.train.get_checkpoint() is not None:
        raise TrainingError("no checkpoint of this run can be read: " + "; ".join(faults))
    snapshot = Snapshot(Progress()) if start is None else read(Path(start))
    snapshot.progress.world_size = worker.world_size
    return snapshot, None


def _opened(stack: ExitStack, checkpoint: ray.train.Checkpoint, worker: Worker) -> tuple[Path | None, str]:
    """The checkpoint as a folder, and what is wrong with this rank's share of it."""
    try:
        folder = Path(stack.enter_context(checkpoint.as_directory()))
        check(folder, worker.rank, worker.world_size)
    except (TrainingError, OSError) as error:
        return None, str(error)
    return folder, ""


def _all_agree(yes: bool, worker: Worker) -> bool:
    """Whether all ranks say yes. Collective."""
    vote = torch.tensor(int(yes), device=worker.device)
    dist.all_reduce(vote, op=dist.ReduceOp.MIN)
    return bool(vote)


def _save(
    config: Config,
    rank: int,
    snapshot: Snapshot,
    engine: Any,
    metrics: dict[str, float],
) -> None:
    """Write this rank's share and report it. Collective."""
    folder = Path(tempfile.mkdtemp(prefix="driftline-checkpoint-"))
    asynchronous = config.training.checkpoints.asynchronous and snapshot.progress.stage != "finished"
    metrics = metrics | {"score": snapshot.progress.score()}
    try:
        write(folder, snapshot, engine, rank)
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC if asynchronous else CheckpointUploadMode.SYNC,
            delete_local_checkpoint_after_upload=asynchronous,
        )
    finally:
        if not asynchronous:
            shutil.rmtree(folder, ignore_errors=True)


def _preempted_nodes() -> frozenset[str]:
    """Nodes of this run that the cluster is about to take away. Collective."""
    info = ray.train.get_preemption_info()
    return frozenset(info.preempted_node_ids) if info is not None else frozenset()


@contextmanager
def _reporting_failures(worker: Worker) -> Iterator[None]:
    """Tell the board first when this rank fails: what the other ranks then see is only that a peer is gone."""
    try:
        yield
    except Exception as error:
        if worker.board is not None:
            is_final, details = isinstance(error, DriftlineError), getattr(error, "details", {})
            failure = Failure(worker.rank, traceback.format_exc(), str(error), is_final, details)
            ray.get(worker.board.fail.remote(failure))
        raise


def _final_metrics(snapshot: Snapshot) -> dict[str, float]:
    finished = snapshot.progress.finished
    return {f"{stage}/{name}": value for stage, figures in finished.items() for name, value in figures.items()}
