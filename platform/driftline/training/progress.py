"""What a person sees while workers train: a live bar on a terminal, plain lines in a job log.

Workers send updates to one small actor; the driver polls it, draws, and is the only writer to the tracker. An update
that is lost with a killed worker costs a line on the screen and nothing else.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from driftline.terminal import POLL_S, LogLines

GAUGES = {
    "learning_rate": "lr {:.2g}",
    "gradient_norm": "norm {:.2g}",
    "memory_GiB": "{:.1f} GiB",
    "MFU": "MFU {:.0%}",
}
"""How a gauge reads in a line."""


@dataclass(frozen=True)
class Update:
    """One message of rank 0."""

    stage: str
    step: int
    steps: int
    """Upper bound: early stopping may end before."""
    epoch: int = 0
    loss: float | None = None
    throughput: dict[str, float] = field(default_factory=dict)
    """For example events/s and tokens/s, over all workers."""
    validation: dict[str, float] = field(default_factory=dict)
    note: str = ""
    gauges: dict[str, float] = field(default_factory=dict)
    """What :func:`driftline.training.gauges.read` shows."""

    def metrics(self) -> dict[str, float]:
        """Flat figures for a tracker, prefixed by the stage."""
        flat = {**self.throughput, **self.gauges, **self.validation}
        if self.loss is not None:
            flat["loss"] = self.loss
        return {f"{self.stage}/{name.replace('@', '_at_')}": value for name, value in flat.items()}

    def line(self) -> str:
        """The figures as one short text."""
        parts = [f"epoch {self.epoch}"] if self.epoch else []
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        parts += [f"{value:,.0f} {name}" for name, value in self.throughput.items()]
        parts += [GAUGES[name].format(value) for name, value in self.gauges.items()]
        parts += [f"{name} {value:.4f}" for name, value in self.validation.items()]
        parts += [self.note] if self.note else []
        return " · ".join(parts)


@dataclass(frozen=True)
class Failure:
    """How a rank ended. ``is_final``: it would end like that again, so it is not tried again."""

    rank: int
    trace: str
    message: str = ""
    is_final: bool = False
    details: dict[str, Any] = field(default_factory=dict)


@ray.remote(num_cpus=0)
class ProgressBoard:
    """Mailbox between rank 0 and the driver."""

    def __init__(self) -> None:
        self._updates: list[dict[str, Any]] = []
        self._failures: list[Failure] = []

    def post(self, update: dict[str, Any]) -> None:
        """Leave an update."""
        self._updates.append(update)

    def take(self) -> list[dict[str, Any]]:
        """Take all updates that nobody took yet."""
        taken, self._updates = self._updates, []
        return taken

    def final_failures(self) -> list[Failure]:
        """Those that would only repeat themselves; a worker asks for them before it starts."""
        return [failure for failure in self._failures if failure.is_final]

    def fail(self, failure: Failure) -> None:
        """Leave a failure of a rank."""
        self._failures.append(failure)

    def failures(self) -> list[Failure]:
        """All failures of the run, in the order in which they happened."""
        return self._failures


def post(board: Any, update: Update) -> None:
    """Send without waiting; ``board`` is None in a plain process."""
    if board is not None:
        board.post.remote(asdict(update))


@contextmanager
def watching(board: Any, console: Console, listener: Callable[[Update], None]) -> Iterator[None]:
    """Draw what arrives on the board until the block ends; ``listener`` hears every update."""
    display = _Bar(console) if console.is_terminal else _Lines(console)
    stop = threading.Event()

    def poll() -> None:
        while True:
            last_round = stop.wait(POLL_S)
            for raw in ray.get(board.take.remote()):
                update = Update(**raw)
                display.show(update)
                listener(update)
            display.tick()
            if last_round:
                return

    thread = threading.Thread(target=poll, name="driftline-progress", daemon=True)
    with display:
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=10)
            sys.stdout.flush()


class _Bar:
    """A live bar per stage."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description:<8}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[line]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=console,
            expand=True,  # a line that does not fit loses its end, not the bar
        )
        self._tasks: dict[str, Any] = {}
        self._waiting = self._progress.add_task(
            "start", total=None, line="workers start and import (about 30 s on two cores)"
        )

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tick(self) -> None:
        """Rich animates by itself."""

    def show(self, update: Update) -> None:
        self._progress.update(self._waiting, visible=False)
        if update.stage not in self._tasks:
            self._tasks[update.stage] = self._progress.add_task(update.stage, total=update.steps, line="")
        if update.validation or update.note:
            self._progress.console.print(f"  {update.stage}: {update.line()}", highlight=False)
        self._progress.update(self._tasks[update.stage], completed=update.step, total=update.steps, line=update.line())


class _Lines(LogLines):
    """Plain lines, at most one every few seconds except for validations and notes."""

    def __enter__(self) -> "_Lines":
        self.say("workers start and import (about 30 s on two cores)")
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, update: Update) -> None:
        if update.validation or update.note or self.is_due:
            self.say(f"{update.stage} {update.step}/{update.steps} {update.line()}")
