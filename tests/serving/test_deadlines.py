"""Work that nobody waits for any more is dropped where it waits for its turn."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ray import serve

from driftline.serving.deadlines import takes_deadlines
from driftline.serving.http.problems import as_problem
from tests.serving.conftest import Service

BUSY_SECONDS = 0.5
SOON = 0.2


@takes_deadlines
class Deployment:
    """Works as UserState does, in a thread, and as Ranker does, in batches; each piece takes a while."""

    def __init__(self) -> None:
        self._begun: list[str] = []
        self._thread = ThreadPoolExecutor(1)

    def _work(self, name: str) -> str:
        self._begun.append(name)
        time.sleep(BUSY_SECONDS)
        return name

    async def begun(self) -> list[str]:
        return self._begun

    async def write(self, name: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, name)

    async def rank(self, name: str) -> str:
        return await self._batch(name)

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0)
    async def _batch(self, names: list[str]) -> list[str]:
        return [await asyncio.to_thread(self._work, name) for name in names]


def test_what_waits_for_a_thread_is_dropped_when_it_is_overdue() -> None:
    handle: Any = serve.run(serve.deployment(Deployment).bind(), _local_testing_mode=True)  # a replica without Ray
    only_what_is_awaited_is_begun(handle, handle.write)


@pytest.fixture
def replica(service: Service) -> Iterator[Any]:
    """A handle of a replica on the suite's cluster: batches need one."""
    options = {"ray_actor_options": {"num_cpus": 0.1}}
    yield serve.run(serve.deployment(Deployment, **options).bind(), name="deadlines", route_prefix=None)
    serve.delete("deadlines")


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first test of the service also trains a bundle and starts it
def test_what_waits_for_a_batch_is_dropped_when_it_is_overdue(replica: Any) -> None:
    replica.begun.remote().result()
    only_what_is_awaited_is_begun(replica, replica.rank)


def only_what_is_awaited_is_begun(handle: Any, call: Any) -> None:
    now = time.time()
    first = call.remote("first")  # without a deadline
    time.sleep(SOON / 4)
    late = call.remote("late", deadline=now)
    impatient = call.remote("impatient", deadline=now + SOON)
    patient = call.remote("patient", deadline=now + 60)
    for overdue in (late, impatient):
        with pytest.raises(TimeoutError) as caught:
            overdue.result()
        problem = as_problem(caught.value)
        assert problem is not None
        assert problem.status == 504
    assert time.time() - now < BUSY_SECONDS  # told when it was overdue, not when its turn came
    assert [first.result(), patient.result()] == ["first", "patient"]
    assert handle.begun.remote().result() == ["first", "patient"]
