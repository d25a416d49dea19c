"""What happened in a sweep, one JSON line per event, and the trials that the lines add up to.

The journal is the sweep's memory: the screen, the report and, after a restart, the scheduler read it. It is written by
the driver alone, a line at a time, so that a killed driver leaves whole lines and at most one torn one.

    {"trial": "ab_1", "event": "start",  "time": …, "values": {"training.learning_rate": 0.003}}
    {"trial": "ab_1", "event": "report", "time": …, "epoch": 2, "figure": 0.08, "values": {…}, "figures": {…}}
    {"trial": "ab_1", "event": "end",    "time": …, "state": "finished"}         or stopped, or failed with a "reason"
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

JOURNAL = "journal.jsonl"
"""Its name in the folder of a sweep."""

State = Literal["running", "finished", "stopped", "failed"]
STATES: dict[str, str] = {
    "running": "runs, or was interrupted",
    "finished": "trained to its end (early stopping included)",
    "stopped": "ended by the scheduler",
    "failed": "raised, or its process died (traceback: error.txt in the trial's folder under trials/)",
}


@dataclass
class Trial:
    """One trial as its lines tell."""

    id: str
    values: dict[str, Any] = field(default_factory=dict)
    """Its newest values: PBT changes them."""
    state: State = "running"
    reason: str = ""
    """Of a failure."""
    curve: list[tuple[int, float]] = field(default_factory=list)
    """(epochs, figure) of every report."""
    best: float = -math.inf
    best_epoch: int = 0
    best_values: dict[str, Any] = field(default_factory=dict)
    """Values at the best report."""
    best_figures: dict[str, float] = field(default_factory=dict)
    """Every validation figure of the best report."""
    started: float = math.nan
    seconds: float = 0.0
    """From its first start to its newest line, pauses included."""

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max((epoch for epoch, _ in self.curve), default=0)

    @property
    def has_ended(self) -> bool:
        """Whether it ended in good order."""
        return self.state in ("finished", "stopped")

    def hear(self, line: dict[str, Any]) -> None:
        """Take in one line."""
        if math.isnan(self.started):
            self.started = line["time"]
        self.seconds = line["time"] - self.started
        self.values = line.get("values", self.values)
        if line["event"] == "end":
            self.state, self.reason = line["state"], line.get("reason", "")
            return
        self.state, self.reason = "running", ""
        if line["event"] == "report":
            self.curve.append((line["epoch"], line["figure"]))
            if line["figure"] > self.best:
                self.best, self.best_epoch, self.best_values = line["figure"], line["epoch"], self.values
                self.best_figures = line.get("figures", {})


def trials_of(lines: Iterable[dict[str, Any]]) -> dict[str, Trial]:
    """Trials by id, in the order in which they began."""
    trials: dict[str, Trial] = {}
    for line in lines:
        trials.setdefault(line["trial"], Trial(line["trial"])).hear(line)
    return trials


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of a journal; none if there is no file. A line that a killed driver tore is the last of its run."""
    if not path.is_file():
        return
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        yield line


def write(path: Path, line: dict[str, Any]) -> None:
    """Append a line; a torn one before it is closed first."""
    torn = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + json.dumps(line) + "\n")


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the highest figure of all reports, failed ones left out."""
    known = [trial for trial in trials if trial.state != "failed" and trial.best > -math.inf]
    return max(known, key=lambda trial: trial.best, default=None)
