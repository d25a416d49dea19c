"""Keeping every user's drift state up to date, off the request path.

Work waits in memory only, for it can be found again: a sweep asks the store whose state is missing, lags behind the
history, or comes from another bundle than the one in force. The sweep runs at the start and then regularly, so it
picks up what a crash, a failure of the detector or a bundle swap has left. It takes a limited number of users at a
time, and claims them for this replica; the others get other users.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from driftline.serving import telemetry

logger = logging.getLogger("ray.serve")

UserKey = tuple[str, str]
"""Tenant and user id."""

WORKERS: Final = 8
MAX_WAITING: Final = 100_000
FIRST_RETRY_SECONDS: Final = 1.0


class Assessments:
    """Users whose drift state has to be worked out again, each at most once.

    Parameters
    ----------
    assess
        Brings one user up to date.
    find_lagging
        The sweep: some users, claimed for a while, or none.
    sweep_seconds
        Pause after a sweep that has found nobody.
    """

    def __init__(
        self,
        assess: Callable[[UserKey], Awaitable[None]],
        find_lagging: Callable[[], Awaitable[list[UserKey]]],
        sweep_seconds: float,
    ) -> None:
        self._assess = assess
        self._find_lagging = find_lagging
        self._sweep_seconds = sweep_seconds
        self._queue: asyncio.Queue[UserKey] = asyncio.Queue()
        self._waiting: set[UserKey] = set()

    @property
    def num_waiting(self) -> int:
        """Users whose drift state is still to be worked out."""
        return len(self._waiting)

    def add(self, user: UserKey) -> None:
        """Queue a user; a user who waits already does not wait twice, and one too many is left to the sweep."""
        if user not in self._waiting and len(self._waiting) < MAX_WAITING:
            self._waiting.add(user)
            self._queue.put_nowait(user)

    async def run(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep())
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _sweep(self) -> None:
        retry_seconds = FIRST_RETRY_SECONDS
        while True:
            try:
                found = await self._find_lagging()
            except Exception:
                logger.exception("the sweep for lagging drift states failed")
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(2 * retry_seconds, self._sweep_seconds)
                continue
            retry_seconds = FIRST_RETRY_SECONDS
            if not found:
                await asyncio.sleep(self._sweep_seconds)
                continue
            for user in found:
                self.add(user)
            with suppress(TimeoutError):  # by then the claims have ended, too
                await asyncio.wait_for(self._queue.join(), self._sweep_seconds)

    async def _work(self) -> None:
        while True:
            user = await self._queue.get()
            self._waiting.discard(user)
            try:
                await self._assess(user)
            except Exception:
                telemetry.count_assessment("failed")
                logger.exception("a drift state could not be worked out; the next sweep tries again")
            finally:
                self._queue.task_done()
