"""The deployments behind the Router, each call with a time limit."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from ray.serve.handle import DeploymentHandle

from driftline.serving import telemetry
from driftline.serving.http.problems import as_problem

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Backends:
    """Handles of the other deployments.

    Parameters
    ----------
    timeout_seconds
        Limit of one call; beyond it the caller gets 504.
    rank_seconds
        Limit of a call for which there is a fallback.
    """

    user_state: DeploymentHandle[Any]
    ranker: DeploymentHandle[Any]
    drift_detector: DeploymentHandle[Any]
    timeout_seconds: float
    rank_seconds: float
    _methods: dict[tuple[str, str], DeploymentHandle[Any]] = field(default_factory=dict)

    async def ask(
        self, handle: DeploymentHandle[Any], method: str, *arguments: Any, seconds: float | None = None
    ) -> Any:
        """Call ``method`` of a deployment and wait, by default for ``timeout_seconds``; it gets that as its deadline.

        Raises
        ------
        Problem
            504 if the answer does not come in time (the call is cancelled), 503 if the deployment is overloaded or
            restarting, and what else a caller can do something about.
        """
        seconds = seconds or self.timeout_seconds
        try:
            with telemetry.stage(f"{handle.deployment_name}.{method}"):
                async with asyncio.timeout(seconds):
                    return await self._method(handle, method).remote(*arguments, deadline=time.time() + seconds)
        except Exception as error:  # here and not in the application, where Ray puts handlers of its own in front
            problem = as_problem(error)
            if problem is None:
                raise
            raise problem from error

    def _method(self, handle: DeploymentHandle[Any], method: str) -> DeploymentHandle[Any]:
        """The handle of one method, which Ray would make anew for every call.

        Messages are plain classes, which ``pickle`` writes ten times faster than Ray's default, which knows functions.
        """
        key = handle.deployment_name, method
        if key not in self._methods:
            self._methods[key] = handle.options(
                method_name=method, request_serialization="pickle", response_serialization="pickle"
            )
        return self._methods[key]

    async def ask_all(self, handle: DeploymentHandle[Any], method: str) -> list[Any]:
        """Call ``method`` of every replica of a deployment and wait; for operators only, as there is no backpressure.

        Raises
        ------
        Problem
            As :meth:`ask` does.
        """
        try:
            return await handle.broadcast(method).results_async(timeout_s=self.timeout_seconds)
        except Exception as error:
            problem = as_problem(error)
            if problem is None:
                raise
            raise problem from error

    def follow(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let something run behind the answer; a failure is logged."""
        task = asyncio.ensure_future(work)
        _under_way.add(task)
        task.add_done_callback(_finish)


_under_way: set[asyncio.Future[Any]] = set()


def _finish(task: asyncio.Future[Any]) -> None:
    _under_way.discard(task)
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logger.warning("a call that nobody waits for failed: %s", type(error).__name__)
