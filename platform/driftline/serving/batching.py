"""How replicas gather requests: whoever comes while a batch is worked on is part of the next one."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

from ray import serve

Replica = TypeVar("Replica")
Question = TypeVar("Question")
Answer = TypeVar("Answer")

MAX_BATCH_SIZE: Final = 16
"""Requests that a replica answers in one pass through the model."""
WAIT_SECONDS: Final = 0.0
"""How long the first request of a batch waits for others: not at all, so batches grow with the load by themselves."""


def batched(
    method: Callable[[Replica, list[Question]], Awaitable[list[Answer]]],
) -> Callable[[Replica, Question], Awaitable[Answer]]:
    """Method decorator: ``@serve.batch`` in sizes that all deployments share.

    The method takes a list and returns one as long; it is called with one element. Ray works the signature of the
    method out anew for every call, unless it is written down.
    """
    method.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    decorate: Any = serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=WAIT_SECONDS)
    return cast(Callable[[Replica, Question], Awaitable[Answer]], decorate(method))
