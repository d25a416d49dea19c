"""Long work on a screen: alive on a terminal, a plain line every few seconds in a log."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

LOG_EVERY_S = 5.0
POLL_S = 0.5
FIGURES = re.compile(r"[\d.,]+")


class LogLines:
    """Plain lines; ``tick`` adds one when nothing has been said for a while."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spoke_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether nothing has been said for ``LOG_EVERY_S``."""
        return time.monotonic() - self._spoke_at > LOG_EVERY_S

    def say(self, text: str) -> None:
        """Print a line now."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        self._spoke_at = time.monotonic()

    def tick(self) -> None:
        """Show that work goes on."""
        if self.is_due:
            self.say("… working")


@contextmanager
def working(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Show that something goes on. Yields a function that changes what is said.

    In a log, a text that differs from the one before in its figures only waits until a line is due.
    """
    if console.is_terminal:
        with console.status(what) as status:
            yield status.update
        return
    lines = LogLines(console)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(POLL_S):
            lines.tick()

    thread = threading.Thread(target=beat, name="driftline-working", daemon=True)
    said = [what]

    def tell(text: str) -> None:
        if lines.is_due or FIGURES.sub("", text) != FIGURES.sub("", said[0]):
            lines.say(text)
            said[0] = text

    lines.say(what)
    thread.start()
    try:
        yield tell
    finally:
        stop.set()
        thread.join(timeout=10)


@contextmanager
def counting(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is. Yields a function that takes (done, total)."""
    if console.is_terminal:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
        return
    lines = LogLines(console)
    lines.say(what)

    def tell(done: int, total: int) -> None:
        if lines.is_due:
            lines.say(f"{what}: {done:,} of {total:,}")

    yield tell
