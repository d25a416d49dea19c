"""Until when somebody waits for a call between deployments.

The Router sends that moment along with every call. Work that still waits for its turn by then (for a place in a batch,
for a thread of UserState) is dropped by the replica itself. The Router's own cancellation drops it as well, but that
takes a Router that lives and a message that arrives in time; after a Router was killed, nobody cancels what it asked.

Deadlines are seconds since the epoch: where nodes have clocks of their own, those must agree within a fraction of
``timeout_seconds`` (NTP).
"""

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

D = TypeVar("D")


def takes_deadlines(deployment: type[D]) -> type[D]:
    """Class decorator: every public coroutine method takes a keyword ``deadline`` more, and fails with
    :class:`TimeoutError` once that has passed, at the first point where it waits. Without one it may take its time.

    What waits in an executor or in a ``@serve.batch`` queue is never begun then, as both skip what was cancelled; what
    a thread has begun goes on to its end.
    """
    for name, method in list(vars(deployment).items()):
        if not name.startswith("_") and inspect.iscoroutinefunction(method):
            setattr(deployment, name, _within_deadline(method))
    return deployment


def _within_deadline(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def call(self: object, *args: Any, deadline: float | None = None, **kwargs: Any) -> Any:
        if deadline is None:
            return await method(self, *args, **kwargs)
        seconds = deadline - time.time()
        if seconds <= 0:
            raise TimeoutError("nobody waits for this call any more")
        async with asyncio.timeout(seconds):
            return await method(self, *args, **kwargs)

    return call
