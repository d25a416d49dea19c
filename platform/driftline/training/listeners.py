"""Who writes a run's figures down: MLflow always, TensorBoard and Weights & Biases where the configuration says so.

The driver is the only writer. :func:`listeners` opens all of them, or says why one cannot be written; from then on the
run matters more than its record: a listener that fails is reported once and the others go on.
"""

import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from driftline.config import Config
from driftline.errors import ConfigError
from driftline.training.progress import Update
from driftline.training.tracking import mlflow_client

PARAM_CHARS = 500
"""MLflow's stores refuse longer values of a parameter …"""
PARAMS_PER_BATCH = 100
"""… and more parameters in one call."""


class Listener(Protocol):
    """Hears a run from its start to its end and writes it down. Any method may raise."""

    name: str

    def hear(self, update: Update) -> None:
        """Write the figures of an update."""
        ...

    def finish(self, metrics: dict[str, float]) -> None:
        """Write the figures of the finished bundle (those of the stages are there) and close the record."""
        ...

    def fail(self) -> None:
        """Close the record of a run that did not come to its end."""
        ...


class MlflowRun:
    """A run in MLflow's tracking store; its id is what the registry refers to."""

    name = "MLflow"

    def __init__(self, config: Config, run_name: str) -> None:
        self._client = mlflow_client(config)
        from mlflow.entities import Param

        run = self._client.create_run(self._experiment_id(config), run_name=run_name)
        self.run_id: str = run.info.run_id
        settings = flat(config.model_dump(mode="json"))
        params = [Param(key, str(value)[:PARAM_CHARS]) for key, value in settings.items()]
        for start in range(0, len(params), PARAMS_PER_BATCH):
            self._client.log_batch(self.run_id, params=params[start : start + PARAMS_PER_BATCH])

    def hear(self, update: Update) -> None:
        self._log(update.metrics(), update.step)

    def finish(self, metrics: dict[str, float]) -> None:
        self._log(final(metrics), 0)
        self._client.set_terminated(self.run_id)

    def fail(self) -> None:
        self._client.set_terminated(self.run_id, status="FAILED")

    def _log(self, figures: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._client.log_batch(self.run_id, metrics=[Metric(k, v, now_ms, step) for k, v in figures.items()])

    def _experiment_id(self, config: Config) -> str:
        name = config.tracking.experiment
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (config.storage / "mlflow-artifacts").as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))


class TensorBoardRun:
    """Event files under ``storage``/tensorboard/RUN; the configuration is in the text tab.

    Written record by record: ``SummaryWriter`` would hand them to a thread that dies of a full disk unheard.
    """

    name = "TensorBoard"

    def __init__(self, config: Config, run_name: str) -> None:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter

        folder = config.storage / "tensorboard" / run_name
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._write(summary.text("config", f"```yaml\n{config.to_yaml()}```"), 0)

    def hear(self, update: Update) -> None:
        self._scalars(update.metrics(), update.step)

    def finish(self, metrics: dict[str, float]) -> None:
        self._scalars(final(metrics), 0)
        self._writer.close()

    def fail(self) -> None:
        self._writer.close()

    def _scalars(self, figures: dict[str, float], step: int) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        if figures:
            self._write(Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in figures.items()]), step)

    def _write(self, summary: Any, step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()


class WandbRun:
    """A Weights & Biases run under ``storage``/wandb; offline ones are sent later by ``wandb sync FOLDER``."""

    name = "Weights & Biases"

    def __init__(self, config: Config, run_name: str) -> None:
        import wandb

        _must_be_writable(config.storage / "wandb")  # wandb itself would go to a temporary folder
        self._run = wandb.init(
            project=config.tracking.experiment,
            name=run_name,
            dir=str(config.storage),
            mode="online" if config.tracking.wandb == "online" else "offline",
            config=config.model_dump(mode="json"),
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, init_timeout=60),
        )
        self._stages: set[str] = set()

    def hear(self, update: Update) -> None:
        """Every stage counts its own steps, and W&B's own step may not go back: hence an axis for each stage."""
        axis = f"{update.stage}/step"
        if update.stage not in self._stages:
            self._run.define_metric(axis, hidden=True)
            self._run.define_metric(f"{update.stage}/*", step_metric=axis)
            self._stages.add(update.stage)
        figures = update.metrics()
        if figures:
            self._run.log({**figures, axis: update.step})

    def finish(self, metrics: dict[str, float]) -> None:
        self._run.summary.update(final(metrics))
        self._run.finish()

    def fail(self) -> None:
        self._run.finish(exit_code=1)


class Listeners:
    """All listeners of a run as one, which never raises: what fails is told.

    Parameters
    ----------
    record
        The MLflow run, which every run has; the registry refers to its id.
    others
        Further open listeners.
    tell
        Says a line to the person who watches. Each listener's failure is said once while the run lasts, and once more
        if its record cannot be closed.
    """

    def __init__(self, record: MlflowRun, others: Sequence[Listener], tell: Callable[[str], None]) -> None:
        self.run_id = record.run_id
        self._members: list[Listener] = [record, *others]
        self._tell = tell
        self._silent: set[str] = set()

    def hear(self, update: Update) -> None:
        """Pass an update on to everyone who still writes."""
        for member in self._members:
            if member.name not in self._silent:
                self._attempt(member.name, partial(member.hear, update), "takes no more figures of this run")

    def finish(self, metrics: dict[str, float]) -> None:
        """Close all records with the figures of the bundle."""
        for member in self._members:
            self._attempt(member.name, partial(member.finish, metrics), "could not be closed")

    def fail(self) -> None:
        """Close all records of a run that failed."""
        for member in self._members:
            self._attempt(member.name, member.fail, "could not be closed")

    def _attempt(self, name: str, write: Callable[[], None], consequence: str) -> None:
        try:
            write()
        except Exception as error:  # whatever a backend raises: hours of training are worth more than its record
            self._silent.add(name)
            self._tell(f"{name} {consequence}: {type(error).__name__}: {error}")


def listeners(config: Config, run_name: str, tell: Callable[[str], None]) -> Listeners:
    """Open what ``tracking`` asks for; ``tell`` says a line to the person who watches.

    Raises
    ------
    ConfigError
        If one of them cannot be written, or its package is not installed: the run has not begun, so nothing is lost.
    """
    tracking = config.tracking
    if tracking.wandb != "off" and importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            [
                f"`tracking.wandb` = {tracking.wandb}: the package wandb is not installed; "
                "pip install 'driftline[wandb]', or set it to off"
            ]
        )
    with _opening("uri", tracking.uri or config.storage):
        record = MlflowRun(config, run_name)
    others: list[Listener] = []
    try:
        if tracking.tensorboard:
            with _opening("tensorboard", config.storage / "tensorboard"):
                others.append(TensorBoardRun(config, run_name))
        if tracking.wandb != "off":
            with _opening("wandb", config.storage / "wandb"):
                others.append(WandbRun(config, run_name))
    except ConfigError:
        Listeners(record, others, tell).fail()
        raise
    return Listeners(record, others, tell)


@contextmanager
def _opening(key: str, place: Path | str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ConfigError([f"`tracking.{key}`: cannot write to {place}: {type(error).__name__}: {error}"]) from error


def _must_be_writable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".writable"
    probe.touch()
    probe.unlink()


def final(metrics: dict[str, float]) -> dict[str, float]:
    """The figures of a bundle that no stage has told before, under names that every backend takes."""
    return {k.replace("@", "_at_"): v for k, v in metrics.items() if k.startswith("validation/")}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dictionary as ``a.b.c`` keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
