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

from driftline.events.store import ServedList

logger = logging.getLogger("ray.serve")

FLUSH_SECONDS: Final = 0.5
MAX_WAITING: Final = 10_000


class ServedLists:
    """The queue.

    Parameters
    ----------
    write
        Hands lists to the writer thread. It must queue them there before it first gives way, so that an erasure
        that is asked for later also runs later.
    """

    def __init__(self, write: Callable[[list[ServedList]], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: deque[ServedList] = deque()
        self._erased_at: dict[tuple[str, str], float] = {}
        self.num_dropped = 0

    def add(self, row: ServedList) -> None:
        """Queue a list, unless its user was erased after it was made."""
        if row.version < self._erased_at.get((row.tenant, row.user_id), 0):
            return
        if len(self._waiting) >= MAX_WAITING:
            self.num_dropped += 1
            if self.num_dropped % 1000 == 1:
                logger.warning("served lists are dropped: the writer is behind", extra={"dropped": self.num_dropped})
            return
        self._waiting.append(row)

    def forget(self, tenant: str, user_id: str, version: float) -> None:
        """Drop what waits for a user, and what may still come from answers made before ``version``."""
        self._waiting = deque(row for row in self._waiting if (row.tenant, row.user_id) != (tenant, user_id))
        self._erased_at[tenant, user_id] = version

    def expire(self, tenant: str, user_id: str) -> None:
        """Forget an erasure that no answer under way can be older than."""
        self._erased_at.pop((tenant, user_id), None)

    async def flush(self) -> None:
        """Write everything that waits."""
        if self._waiting:
            rows = list(self._waiting)
            self._waiting.clear()
            await self._write(rows)

    async def run(self) -> None:
        """Flush for ever; a failed write is logged and its lists are lost."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except Exception:
                logger.exception("served lists could not be written")
