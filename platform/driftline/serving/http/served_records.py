"""Lists that were handed out, on their way to UserState: together, for a call costs more than what it carries."""

import asyncio
import logging
from typing import Final

from driftline.serving import telemetry
from driftline.serving.http.backends import Backends
from driftline.serving.http.problems import Problem
from driftline.state.records import ServedList

logger = logging.getLogger("ray.serve")

GATHER_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 1.0
MAX_WAITING: Final = 10_000
"""Beyond this many lists the oldest are dropped, and counted."""


class ServedRecords:
    """The lists of one Router replica that UserState does not have yet.

    Parameters
    ----------
    backends
        Where they go.
    """

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._waiting: list[ServedList] = []
        self._sending = False

    def add(self, row: ServedList) -> None:
        """Have a list recorded behind the answer."""
        self._waiting.append(row)
        if not self._sending:
            self._sending = True
            self._backends.follow(self._send())

    async def _send(self) -> None:
        """Send what waits until nothing does; while UserState does not answer it goes on waiting."""
        try:
            await asyncio.sleep(GATHER_SECONDS)
            while self._waiting:
                rows, self._waiting = self._waiting, []
                try:
                    await self._backends.ask(self._backends.user_state, "record_served", rows)
                except Problem as problem:
                    self._put_back(rows)
                    logger.warning("served lists wait for UserState", extra={"lists": len(rows), "why": problem.detail})
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._sending = False

    def _put_back(self, rows: list[ServedList]) -> None:
        every = rows + self._waiting
        self._waiting = every[-MAX_WAITING:]
        for _ in every[:-MAX_WAITING]:
            telemetry.count_dropped("served")
