"""What `make demo` runs and shows around its visits."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from driftline.errors import DriftlineError
from driftline.registry.model import Model
from driftline.sequences.dataset import Dataset
from driftline.serving.visit import Visit, Visitor, held_out_streams

STOP_TIMEOUT_S = 30.0


class StepError(DriftlineError, RuntimeError):
    """A step of the demo failed."""


class Steps:
    """Commands run one after another, each as a user would type it, with the time they took."""

    def __init__(self, console: Console, root: Path) -> None:
        self._console, self._root, self._number = console, root, 0
        self._started, self._times = time.monotonic(), list[tuple[str, float]]()

    def title(self, name: str) -> None:
        """Announce a step."""
        self._number += 1
        self._times.append((name, time.monotonic()))
        self._console.rule(f"[bold]{self._number}. {name}")

    def run(self, name: str, *command: str) -> None:
        """Run ``python`` with these arguments; Ctrl-C reaches it first and then ends the demo.

        Raises
        ------
        StepError
            If the command fails.
        """
        self.title(name)
        self._console.print(f"$ python {shlex.join(command)}", style="dim", highlight=False, soft_wrap=True)
        paths = [str(self._root / "platform"), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        process = subprocess.Popen([sys.executable, *command], cwd=self._root, env=environment)
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
        if code:
            raise StepError(
                f"step '{name}' ended with exit code {code}; run it by itself: python {shlex.join(command)}"
            )

    def finish(self, bundle: Path) -> None:
        """Say how long everything took and what to try next."""
        now = time.monotonic()
        ends = [began for _, began in self._times[1:]] + [now]
        spent = ", ".join(f"{name} {end - began:.0f} s" for (name, began), end in zip(self._times, ends, strict=True))
        self._console.rule("[bold]Done")
        self._console.print(f"{now - self._started:.0f} s in all: {spent}", highlight=False)
        self._console.print(f"\nThe bundle: {bundle}\nServe it:   driftline serve --bundle {bundle}",
                            highlight=False, soft_wrap=True)  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a step end cleanly, then kill it by its process id."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def visit_all(
    client: httpx.Client, model: Model, dataset: Dataset, pairs: int, tell: Callable[[str], None]
) -> list[Visit]:
    """Play ``pairs`` changing visits, each followed by its control visit. Users are drawn by the bundle's seed."""
    visitor = Visitor(client, model.item_ids)
    streams = held_out_streams(model, dataset, pairs, model.config.seed)
    return [
        visitor.play(
            stream,
            f"visitor-{number}",
            lambda events, p, n=number: tell(f"visitor {n + 1} of {len(streams)}: {events} events, P(drift) {p:.2f}"),  # type: ignore[misc]
        )
        for number, stream in enumerate(streams)
    ]


def show_pair(console: Console, visits: Sequence[Visit], model: Model) -> None:
    """The first changing visit whose policy changed (the first of all, if none did), and its control visit."""
    changing = [number for number, visit in enumerate(visits) if visit.stream.drifted]
    noticed = [number for number in changing if visits[number].after.policy != visits[number].before.policy]
    first = (noticed or changing)[0]
    console.print(f"\n{len(noticed)} of {len(changing)} changing users got another policy; here is the first of them.")
    _show_visit(console, visits[first], "A user who changes", model)
    _show_visit(console, visits[first + 1], "The same user, not changing", model)


def _show_visit(console: Console, visit: Visit, name: str, model: Model) -> None:
    """The course of P(drift), the policy, and the lists before and after."""
    stream, k = visit.stream, visit.stream.change_point
    then = f", from event {k + 1} on the events of user {stream.other}" if stream.other else ""
    titles = [model.titles[model.item_ids[item]] for item in stream.items]
    estimated = "none" if visit.after.change_point is None else str(visit.after.change_point + 1)
    lines = {
        "watched before": "; ".join(titles[max(0, k - 5) : k]),
        "watched after": "; ".join(titles[-5:]),
        "P(drift) after": "  ".join(f"{events}: {p:.2f}" for events, p in visit.course),
        "change at event": f"{k + 1 if stream.drifted else 'none'}, estimated {estimated}",
        "policy": f"{visit.before.policy} -> {visit.after.policy}: {visit.after.reason}",
    }
    console.print(f"\n[bold]{name}[/bold] (user {stream.user}{then})", highlight=False)
    for label, text in lines.items():
        console.print(f"  {label:<16} {text}", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 3))
    table.add_column(f"  top 10 after {visit.before.events} events")
    table.add_column(f"top 10 after {visit.after.events} events")
    for before, after in zip(visit.before.titles, visit.after.titles, strict=True):
        table.add_row(f"  {before}", after)
    console.print(table)


def show_visits(console: Console, visits: Sequence[Visit]) -> None:
    """All visits in one table."""
    table = Table(title="All visits: P(drift) before and after, and where the change was put")
    for column in ("user", "then", "P before", "P after", "true change", "estimated", "policy after", "new in top 10"):
        table.add_column(column, justify="left" if column in ("user", "then", "policy after") else "right")
    for visit in visits:
        stream, after = visit.stream, visit.after
        table.add_row(
            stream.user,
            stream.other or "the same user",
            f"{visit.before.p_drift:.2f}",
            f"{after.p_drift:.2f}",
            str(stream.change_point + 1) if stream.drifted else "none",
            "none" if after.change_point is None else str(after.change_point + 1),
            after.policy,
            str(len(set(after.titles) - set(visit.before.titles))),
        )
    console.print(table)
    console.print(
        "Users are held out: neither the ranker nor the drift part has seen an event of theirs. They are drawn by the "
        "seed, not picked. Each history is played in the order of drift.event_order; change points are event numbers.",
        highlight=False,
    )


def plot_visits(visits: Sequence[Visit], path: Path) -> None:
    """Draw P(drift) by events since the change point, changing and control visits side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.5), sharey=True)
    for axis, drifted, title in zip(axes, (True, False), ("users who change", "users who do not"), strict=True):
        for visit in visits:
            if visit.stream.drifted == drifted:
                events = [count - visit.stream.change_point for count, _ in visit.course]
                axis.plot(events, [p for _, p in visit.course], marker=".", label=f"user {visit.stream.user}")
        axis.axvline(0, color="grey", linewidth=1, linestyle=":")
        axis.set(title=title, xlabel="events since the change point", ylim=(-0.02, 1.02))
        axis.legend(fontsize="small")
    axes[0].set_ylabel("P(drift)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
