"""What a person sees of a running sweep, and its journal: a live table on a terminal, plain lines in a log."""

import atexit
import json
import time
from pathlib import Path
from typing import Any

import ray.tune
from rich.console import Console
from rich.live import Live
from rich.table import Table

from driftline.errors import ConfigError
from driftline.sweep.journal import Trial, best_of, read, trials_of, write
from driftline.sweep.space import decode, show
from driftline.sweep.spec import Sweep
from driftline.terminal import LogLines

FORGOTTEN = "it began just before the driver was killed; after the restart another trial took its place"
MOST_ROWS = 20
"""Of the live table: the running trials, then the best of the others."""


class Screen(ray.tune.Callback):
    """Hears every event of Tune, writes it into the journal, and shows where the sweep stands.

    Tune stores it with the experiment and takes it out again on a restart: it holds plain values until it is used.
    """

    def __init__(self, sweep: Sweep, journal: Path) -> None:
        self._sweep, self._journal = sweep, journal
        self._show: _Table | _Lines | None = None
        self._trials: dict[str, Trial] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_show": None, "_trials": {}}

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        """Called before the first trial, and before the first one after a restart."""
        console = Console()
        self._trials = trials_of(read(self._journal))
        self._show = _Table(console, self._sweep) if console.is_terminal else _Lines(console, self._sweep)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial begins, or goes on after a restart; not one that had ended before a restart (see ``run_trial``)."""
        known = self._trials.get(trial.trial_id)
        if known is not None and known.has_ended:
            return
        self._hear(trial, {"event": "start", "values": decode(self._sweep.space, trial.config)})

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has validated; one that had ended before a restart only repeats its last report."""
        known = self._trials.get(trial.trial_id)
        if known is not None and known.has_ended:
            return
        told = {"event": "report", "epoch": result["epoch"], "figure": result["figure"]}
        self._hear(trial, {**told, "values": json.loads(result["values"]), "figures": json.loads(result["figures"])})
        if result.get("done"):  # the scheduler has just decided so; a trial that ends by itself is not told here
            self._end(trial, "stopped" if result["epoch"] < self._sweep.epochs else "finished")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended in good order."""
        if self._trials[trial.trial_id].state == "running":
            self._end(trial, "finished")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed for the last time."""
        self._end(trial, "failed", reason(trial))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called every moment."""
        if self._show is not None:
            self._show.tick(self._trials)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Called after the last trial."""
        known = {trial.trial_id for trial in trials}
        for lost in [own for own in self._trials.values() if own.state == "running" and own.id not in known]:
            line = {"trial": lost.id, "time": round(time.time(), 3), "event": "end", "state": "failed"}
            write(self._journal, line | {"reason": FORGOTTEN})
            lost.hear(line | {"reason": FORGOTTEN})
        if self._show is not None:
            self._show.close(self._trials)

    def _end(self, trial: Any, state: str, why: str = "") -> None:
        self._hear(trial, {"event": "end", "state": state, "reason": why})
        if self._show is not None:
            self._show.ended(self._trials[trial.trial_id], self._trials)

    def _hear(self, trial: Any, event: dict[str, Any]) -> None:
        line = {"trial": trial.trial_id, "time": round(time.time(), 3), **event}
        write(self._journal, line)
        self._trials.setdefault(trial.trial_id, Trial(trial.trial_id)).hear(line)


def reason(trial: Any) -> str:
    """Why a trial failed, in a line: the first one of the error that its own code raised."""
    from ray import cloudpickle

    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        return "its process died"
    error = cloudpickle.loads(Path(path).read_bytes())
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ConfigError):
        return cause.faults[0]
    lines = [line for line in str(cause).splitlines() if line.strip()]
    if not lines:
        return type(cause).__name__
    told = lines[0].strip()
    if told.endswith(":"):  # a worker's traceback follows; what it says is below
        told += " " + next(line.strip() for line in reversed(lines) if not line.startswith("Go on with"))
    return f"{type(cause).__name__}: {told}"


def describe(values: dict[str, Any]) -> str:
    """Values in a line; keys by their last part."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]} {show(value)}" for key, value in values.items())


def _summary(trials: dict[str, Trial], metric: str) -> str:
    states = [trial.state for trial in trials.values()]
    counts = [f"{states.count(state)} {state}" for state in ("finished", "stopped", "failed", "running")]
    best = best_of(trials.values())
    figure = f"; best {metric} {best.best:.4f} ({describe(best.best_values)})" if best else ""
    return (", ".join(count for count in counts if not count.startswith("0 ")) or "no trial yet") + figure


class _Lines(LogLines):
    """A line per finished trial, and one now and then in between."""

    def __init__(self, console: Console, sweep: Sweep) -> None:
        super().__init__(console)
        self._metric = sweep.metric
        self.say("trials start and import (about 15 s on two cores)")

    def tick(self, trials: dict[str, Trial] | None = None) -> None:
        if self.is_due:
            self.say(f"… {_summary(trials or {}, self._metric)}")

    def ended(self, trial: Trial, trials: dict[str, Trial]) -> None:
        figure = f" {self._metric} {trial.best:.4f} at epoch {trial.best_epoch}," if trial.curve else ""
        why = f": {trial.reason}" if trial.reason else ""
        self.say(
            f"trial {trial.id} {trial.state} after {trial.epochs} epochs,{figure} {trial.seconds:.0f} s "
            f"({describe(trial.values)}){why}"
        )

    def close(self, trials: dict[str, Trial]) -> None:
        self.say(_summary(trials, self._metric))


class _Table:
    """A live table, redrawn in place; a line above it for every finished trial."""

    def __init__(self, console: Console, sweep: Sweep) -> None:
        self._sweep, self._lines = sweep, _Lines(console, sweep)
        self._live = Live(console=console, auto_refresh=True, refresh_per_second=2, transient=True)
        self._live.start()
        atexit.register(self._live.stop)  # Ctrl-C ends a sweep without its last callback, and the cursor is hidden

    def tick(self, trials: dict[str, Trial]) -> None:
        self._live.update(self._draw(trials))

    def ended(self, trial: Trial, trials: dict[str, Trial]) -> None:
        self._lines.ended(trial, trials)

    def close(self, trials: dict[str, Trial]) -> None:
        self._live.stop()
        self._lines.close(trials)

    def _draw(self, trials: dict[str, Trial]) -> Table:
        table = Table(title=_summary(trials, self._sweep.metric), title_justify="left")
        keys = [key.rsplit(".", 1)[-1] for key in self._sweep.space]
        for name in ("trial", "state", "epoch", self._sweep.metric, *keys):
            table.add_column(name)
        order = sorted(trials.values(), key=lambda trial: (trial.state != "running", -trial.best))
        for trial in order[:MOST_ROWS]:
            figure = f"{trial.best:.4f}" if trial.curve else "–"
            values = [show(trial.values[key]) if key in trial.values else "" for key in self._sweep.space]
            table.add_row(trial.id, trial.state, f"{trial.epochs}/{self._sweep.epochs}", figure, *values)
        if len(trials) > MOST_ROWS:
            table.caption = f"and {len(trials) - MOST_ROWS} more"
        return table
