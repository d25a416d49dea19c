"""Lists of a challenger that nobody sees, made behind the answers and recorded beside what was served.

One batch at a time, in one thread, so that they take what time the answers leave. Bounded: beyond ``MAX_WAITING`` lists
are dropped, counted and logged. Whatever goes wrong here is logged and touches no answer.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from driftline.serving.batching import MAX_BATCH_SIZE

logger = logging.getLogger("ray.serve")
MAX_WAITING: Final = 1_000
W = TypeVar("W")
R = TypeVar("R")


class ShadowLists(Generic[W, R]):
    """The queue.

    Parameters
    ----------
    make
        Works out waiting lists; runs in a thread.
    record
        Takes finished lists, each with what it was made from; may raise.
    """

    def __init__(
        self, make: Callable[[list[W]], list[R]], record: Callable[[list[tuple[W, R]]], Awaitable[None]]
    ) -> None:
        self._make = make
        self._record = record
        self._waiting: deque[W] = deque()
        self._working: asyncio.Future[None] | None = None
        self.num_dropped = 0

    def add(self, work: W) -> None:
        """Queue one list."""
        if len(self._waiting) >= MAX_WAITING:
            self.num_dropped += 1
            if self.num_dropped % 1000 == 1:
                logger.warning("shadow lists are dropped: they take too long", extra={"dropped": self.num_dropped})
            return
        self._waiting.append(work)
        if self._working is None or self._working.done():
            self._working = asyncio.ensure_future(self._work())

    async def _work(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH_SIZE, len(self._waiting)))]
            try:
                made = await asyncio.to_thread(self._make, batch)
                await self._record(list(zip(batch, made, strict=True)))
            except Exception:
                logger.exception("shadow lists could not be made or recorded", extra={"lost": len(batch)})
