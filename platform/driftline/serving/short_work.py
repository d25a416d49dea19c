"""Where a replica does work that is usually over at once.

A thread that runs Python keeps the interpreter for ``sys.getswitchinterval()`` (5 ms) before the replica's loop gets a
turn. Work that is shorter therefore holds the loop up as long in a thread as on the loop itself, and the way there and
back costs half a millisecond more, on processor caches that the other replicas share.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

R = TypeVar("R")

FORGOTTEN: Final = 0.2
"""What a short call takes away of the memory of long ones before it: one 30 ms call sends eight or so into a thread."""


class ShortWork:
    """Runs calls of one kind on the loop while they are short, and in a thread when lately they were not.

    Only for work that cannot wait for anything, and takes about as long each time: what waits for a network or a lock,
    or may take a hundred times as long as the call before, belongs into a thread.

    Parameters
    ----------
    threads
        Where long calls run; None = where :func:`asyncio.to_thread` would.
    """

    def __init__(self, threads: Executor | None = None) -> None:
        self._threads = threads
        self._expected_s = 1.0  # nothing is known: the first calls run in a thread

    async def run(self, work: Callable[..., R], *args: Any) -> R:
        """Result of ``work(*args)``."""
        if self._expected_s < sys.getswitchinterval():
            return self._timed(time.perf_counter, work, *args)
        # in a thread, without the time that it waits for the interpreter: the loop would not
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._timed, time.thread_time, work, *args
        )

    def _timed(self, clock: Callable[[], float], work: Callable[..., R], *args: Any) -> R:
        started = clock()
        try:
            return work(*args)
        finally:
            took_s = clock() - started
            self._expected_s = max(took_s, self._expected_s + FORGOTTEN * (took_s - self._expected_s))
