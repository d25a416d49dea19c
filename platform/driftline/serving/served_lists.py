"""Recording what was served, behind the answers.

A bounded write-behind queue: a list that was handed out is on the disk within ``FLUSH_SECONDS``. A crash loses at most
what that takes in, and never more than ``MAX_WAITING`` lists; beyond that lists are dropped, counted and logged.
Events have no such window.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from driftline.errors import DatabaseError
from driftline.serving import telemetry
from driftline.state.store import ServedList, ShadowList

logger = logging.getLogger("ray.serve")

FLUSH_SECONDS: Final = 0.5
MAX_WAITING: Final = 10_000


class ServedLists:
    """The queue.

    Parameters
    ----------
    write
        Puts lists into the store, which leaves out those that an erasure has overtaken.
    write_shadows
        The same for what a shadow bundle would have shown, of lists that are written already.
    """

    def __init__(
        self,
        write: Callable[[list[ServedList]], Awaitable[None]],
        write_shadows: Callable[[list[ShadowList]], Awaitable[None]],
    ) -> None:
        self._write = write
        self._write_shadows = write_shadows
        self._shadows: list[ShadowList] = []
        self._due_shadows: list[ShadowList] = []
        self._waiting: deque[ServedList] = deque()
        self.num_dropped = 0

    @property
    def num_waiting(self) -> int:
        """Lists that are not on the disk yet."""
        return len(self._waiting)

    def add(self, row: ServedList) -> None:
        """Queue a list."""
        if len(self._waiting) >= MAX_WAITING:
            self.num_dropped += 1
            telemetry.count_dropped("served")
            if self.num_dropped % 1000 == 1:
                logger.warning("served lists are dropped: the writer is behind", extra={"dropped": self.num_dropped})
            return
        self._waiting.append(row)

    def add_shadows(self, rows: list[ShadowList]) -> None:
        """Queue what a shadow bundle would have shown.

        It waits for the flush after the next one: by then the lists themselves are written, whichever replica has them.
        """
        self._shadows += rows[: MAX_WAITING - len(self._shadows)]

    async def flush(self) -> None:
        """Write everything that waits; while the database cannot be used, it goes on waiting."""
        if self._waiting:
            rows = list(self._waiting)
            self._waiting.clear()
            try:
                await self._write(rows)
            except DatabaseError:
                later = list(self._waiting)
                self._waiting.clear()
                for row in [*rows, *later]:
                    self.add(row)
                raise
        due, self._due_shadows, self._shadows = self._due_shadows, self._shadows, []
        if due:
            await self._write_shadows(due)

    async def run(self) -> None:
        """Flush for ever; a failed write is logged."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except Exception:
                logger.exception("served lists could not be written")
