"""Waiting for something that happens soon, with an end."""

import time
from collections.abc import Callable
from typing import Any


def wait_for(happened: Callable[[], Any], seconds: float) -> Any:
    """Ask until the answer is true, and return it.

    Raises
    ------
    AssertionError
        If it is not within ``seconds``.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = happened()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds} s")
