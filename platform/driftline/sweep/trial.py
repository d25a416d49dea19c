"""What one trial runs: the stages of training that the metric needs, in its own process or on workers of its own."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.tune
import torch
import torch.distributed as dist
from ray.tune.integration.ray_train import TuneReportCallback

from driftline.config import Config
from driftline.sequences.dataset import load_dataset
from driftline.sweep.journal import JOURNAL, trials_of
from driftline.sweep.journal import read as read_journal
from driftline.sweep.space import configured, decode
from driftline.sweep.spec import Sweep
from driftline.training.checkpoints import Progress, Snapshot, check, read, write
from driftline.training.failures import explained
from driftline.training.progress import ProgressBoard
from driftline.training.stage import Worker
from driftline.training.stages import Stages
from driftline.training.trainer import torch_trainer

NOT_BEHIND_TEXT = (
    "learning_rate",
    "epochs",
    "batch_users",
    "validate_every_epochs",
    "max_failures",
    "threads_per_worker",
    "checkpoints",
    "average",
    "refit_epochs",
    "crops",
)
"""Keys of ``training`` that the text stage does not look at."""


def run_trial(point: Mapping[str, Any], sweep: dict[str, Any], folder: str) -> None:
    """Train one point; what Ray Tune calls.

    Parameters
    ----------
    point
        As Tune knows it; see :func:`~driftline.sweep.space.decode`.
    sweep, folder
        A dumped :class:`~driftline.sweep.spec.Sweep`, and where it lies.

    Raises
    ------
    ConfigError
        If the values are impossible together.
    """
    plan = Sweep.model_validate(sweep)
    known = trials_of(read_journal(Path(folder) / JOURNAL)).get(ray.tune.get_context().get_trial_id())
    if known is not None and known.has_ended:  # a driver that is killed may forget the last end that it wrote down
        epoch, figure = known.curve[-1]
        ray.tune.report(told(plan, known.values, epoch, {plan.metric: figure}))
        return
    values = decode(plan.space, point)
    config = trial_config(plan, values, Path(folder))
    if plan.trial_workers == 0:
        _in_this_process(config, plan, values, Path(folder))
    else:
        _on_workers(config, plan, values, Path(folder))


def trial_config(sweep: Sweep, values: Mapping[str, Any], folder: Path) -> Config:
    """The whole configuration of a trial.

    Raises
    ------
    ConfigError
        If the values are impossible together.
    """
    place = sweep.base.training.checkpoints.storage
    of_trials = {
        "drift.enabled": False,
        "training.num_workers": max(sweep.trial_workers, 1),
        "training.checkpoints.storage": f"{place}/{folder.name}" if place else str(folder / "runs"),
    }
    return configured(sweep.base, {**of_trials, **values})


def _in_this_process(config: Config, sweep: Sweep, values: dict[str, Any], folder: Path) -> None:
    """One rank, no workers: reports and checkpoints go to Tune, and a trial goes on from Tune's checkpoint of it.

    Under PBT that checkpoint may be another trial's. Then only what is portable is taken from it: weights and moments
    of the optimiser, not its learning rate and penalties, which are this trial's own.
    """
    torch.set_num_threads(config.training.threads_per_worker)
    worker = Worker(device=_device(config), save=partial(_report, sweep, values))
    _join_world_of_one(config.training.use_gpu)
    with ExitStack() as stack:
        checkpoint = ray.tune.get_checkpoint()
        at = Path(stack.enter_context(checkpoint.as_directory())) if checkpoint is not None else None
        if at is not None:
            check(at)
            snapshot = read(at)
            if sweep.search.scheduler == "pbt":
                snapshot.progress.world_size = 0  # no world is like this one: only the portable part counts
        elif sweep.stage == "text":
            snapshot = Snapshot(Progress())
        else:
            snapshot = with_text_stage(config, folder / "text" / text_key(config))
        stages = Stages(config, load_dataset(config), worker, snapshot, at)
        _text(stages)
        if sweep.stage == "ranker":
            stages.ranker()


def _join_world_of_one(use_gpu: bool) -> None:
    """The process group that DeepSpeed wants, without a port. It stays: Tune uses a process for one trial after
    another, and DeepSpeed never lets go of the first group that it saw."""
    os.environ["LOCAL_RANK"] = "0"  # DeepSpeed reads it
    if not dist.is_initialized():
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group("nccl" if use_gpu else "gloo", store=store, rank=0, world_size=1)


def _text(stages: Stages) -> None:
    """Everything before the ranking stage."""
    if stages.config.text.domain.epochs:
        stages.domain()
    stages.text()


def _device(config: Config) -> torch.device:
    return torch.device("cuda" if config.training.use_gpu else "cpu")


def _report(sweep: Sweep, values: dict[str, Any], snapshot: Snapshot, engine: Any, metrics: dict[str, float]) -> None:
    """Hand figures and a checkpoint to Tune, where the figures hold the sweep's metric."""
    if sweep.metric not in metrics:
        return
    folder = Path(tempfile.mkdtemp(prefix="driftline-trial-"))
    try:
        write(folder, snapshot, engine, rank=0)
        checkpoint = ray.tune.Checkpoint.from_directory(folder)
        ray.tune.report(told(sweep, values, snapshot.progress.epoch, metrics), checkpoint=checkpoint)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def told(sweep: Sweep, values: dict[str, Any], epoch: float, metrics: Mapping[str, float]) -> dict[str, Any]:
    """A report as schedulers, searchers and the journal read it."""
    return {
        "figure": metrics[sweep.metric],
        "epoch": int(epoch),
        "figures": json.dumps({name: value for name, value in metrics.items() if name.startswith(sweep.stage)}),
        "values": json.dumps(values),
    }


def with_text_stage(config: Config, place: Path) -> Snapshot:
    """A snapshot whose text stage is done: from ``place``, or trained now and left there for the trials to come.

    Trials whose text stage would be the same share one: the first trains, the others wait for it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            snapshot = Snapshot(Progress())
            _text(Stages(config, load_dataset(config), Worker(device=_device(config)), snapshot, None))
            publish(snapshot, place)
        return read(place)


def publish(snapshot: Snapshot, place: Path) -> None:
    """Leave the finished text stage of a run as the folder ``place``: whole, or not at all."""
    figures = {name: found for name, found in snapshot.progress.finished.items() if name in snapshot.done}
    scratch = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=place.parent))
    write(scratch, Snapshot(Progress(finished=figures), done=snapshot.done), None, rank=0)
    scratch.rename(place)


def text_key(config: Config) -> str:
    """Equal for configurations whose text stage is the same."""
    tree = config.model_dump(mode="json")
    training = {name: value for name, value in tree["training"].items() if name not in NOT_BEHIND_TEXT}
    behind = [tree["data"], tree["protocol"], tree["seed"], tree["text"], tree["ranking"], training]
    return hashlib.sha256(json.dumps(behind, sort_keys=True).encode()).hexdigest()[:16]


class WorkersReport(TuneReportCallback):
    """Passes on what rank 0 reports to Ray Train, where it holds the sweep's metric.

    The first such report of a ranking stage comes with a checkpoint that holds the finished text stage: it is left for
    the trials to come.
    """

    def __init__(self, sweep: Sweep, values: dict[str, Any], text: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sweep, self._values, self._text = sweep, values, text

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Called by Ray Train's controller, outside the trial's process."""
        epoch = metrics[0].get("epoch")
        if epoch is None or self._sweep.metric not in metrics[0]:
            return
        if self._sweep.stage == "ranker" and not self._text.is_dir() and checkpoint is not None:
            with checkpoint.as_directory() as folder:
                self._publish(read(Path(folder)))
        self._training_actor_item_queue.put(told(self._sweep, self._values, epoch, metrics[0]))

    def _publish(self, snapshot: Snapshot) -> None:
        self._text.parent.mkdir(parents=True, exist_ok=True)
        try:
            publish(snapshot, self._text)
        except OSError as error:  # another trial was first
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise


def _on_workers(config: Config, sweep: Sweep, values: dict[str, Any], folder: Path) -> None:
    """A run of Ray Train inside the trial. It bears the trial's name: a trial that is started again goes on with it.

    Raises
    ------
    TrainingError
        If its workers failed more often than ``training.max_failures`` allows.
    """
    name, text = ray.tune.get_context().get_trial_id(), folder / "text" / text_key(config)
    board = ProgressBoard.remote()  # type: ignore[attr-defined]
    settings = {
        "config": config.model_dump(mode="json"),
        "board": board,
        "stages": ("text",) if sweep.stage == "text" else ("text", "ranker"),
        "start": str(text) if sweep.stage == "ranker" and text.is_dir() else None,
    }
    try:
        torch_trainer(config, name, settings, callbacks=[WorkersReport(sweep, values, text)]).fit()
    except ray.train.TrainingFailedError as error:
        raise explained(error, board, name, folder / "runs") from error
    if ray.get(board.final_failures.remote()):
        raise explained(None, board, name, folder / "runs")
