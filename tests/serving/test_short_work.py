"""Where work is done: on the loop while it is short."""

import asyncio
import sys
import threading
from collections.abc import Iterator

import pytest

from driftline.serving.short_work import ShortWork


@pytest.fixture
def switch_interval() -> Iterator[None]:
    """Put back what a test changes; the limits of these tests are far from what any machine takes."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


async def threads_of(work: ShortWork, calls: int) -> list[bool]:
    """Whether each of so many calls ran on the loop's own thread."""
    return [await work.run(threading.get_ident) == threading.get_ident() for _ in range(calls)]


@pytest.mark.usefixtures("switch_interval")
def test_work_moves_to_the_loop_once_it_has_proved_short() -> None:
    sys.setswitchinterval(0.5)
    # 1 s is expected at first; by .8 a call: .8, .64, .512, then .41 s
    assert asyncio.run(threads_of(ShortWork(), 6)) == [False, False, False, False, True, True]


@pytest.mark.usefixtures("switch_interval")
def test_long_work_stays_in_threads() -> None:
    sys.setswitchinterval(1e-9)
    assert not any(asyncio.run(threads_of(ShortWork(), 40)))


@pytest.mark.usefixtures("switch_interval")
def test_one_long_call_sends_the_next_ones_away() -> None:
    async def visit() -> list[bool]:
        work = ShortWork()
        sys.setswitchinterval(0.5)
        await threads_of(work, 10)
        sys.setswitchinterval(1e-9)  # as if the call had taken longer
        return await threads_of(work, 1)

    assert asyncio.run(visit()) == [False]


def test_errors_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ShortWork().run(lambda: 1 / 0))
