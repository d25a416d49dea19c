"""When a request is sent again, and after how long."""

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

NEVER_AGAIN: Final = frozenset({501, 505})
"""Of the 5xx, what the same request would get again: the bundle lacks a part, the protocol is not spoken."""


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter, within a deadline.

    Sent again: what got no answer (refused or broken connections, timeouts), 429, and 5xx whatever their body, as an
    error born in a proxy may be plain text. Never: any other 4xx, and 501. The same bytes are sent each time, event ids
    included, and every route of the API may be repeated, so a retry never counts twice.

    Parameters
    ----------
    deadline_seconds
        For the whole call, pauses included.
    attempt_seconds
        For each wait of an attempt: to connect, to send, for the next bytes of the answer.
    first_pause_seconds, longest_pause_seconds
        The pause after attempt n is drawn from 0 to ``first * 2**(n - 1)``, at most ``longest``; where the answer has
        ``Retry-After``, on top of that.
    max_attempts
        1 = no retries.
    """

    deadline_seconds: float = 30.0
    attempt_seconds: float = 20.0
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0
    max_attempts: int = 10

    def may_repeat(self, response: httpx.Response) -> bool:
        """Whether an answer is worth another attempt."""
        status = response.status_code
        return status == 429 or (status >= 500 and status not in NEVER_AGAIN)

    def pause(self, attempts: int, response: httpx.Response | None = None) -> float:
        """Seconds before the next attempt, after so many."""
        bound = min(self.longest_pause_seconds, self.first_pause_seconds * 2 ** min(attempts - 1, 32))
        return retry_after(response) + random.uniform(0, bound)


def retry_after(response: httpx.Response | None) -> float:
    """Seconds that an answer asks to wait, from a number or a date (RFC 9110, 10.2.3); 0 without a sound header."""
    given = "" if response is None else response.headers.get("retry-after", "").strip()
    if given.isdecimal():
        return float(given[:9])
    try:
        moment = parsedate_to_datetime(given)
    except ValueError:
        return 0.0
    return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment.tzinfo else 0.0


class Attempts:
    """Bookkeeping of one call: how often it was sent, and whether there is time for another attempt.

    Parameters
    ----------
    policy
        The rules.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._end = time.monotonic() + policy.deadline_seconds
        self.made = 0

    def begin(self) -> float:
        """Count an attempt; returns the seconds that it may take."""
        self.made += 1
        return max(0.001, min(self._policy.attempt_seconds, self._end - time.monotonic()))

    def pause(self, response: httpx.Response | None = None) -> float | None:
        """Seconds before the next attempt; ``None`` if there is to be none."""
        if self.made >= self._policy.max_attempts or (response is not None and not self._policy.may_repeat(response)):
            return None
        seconds = self._policy.pause(self.made, response)
        return seconds if time.monotonic() + seconds < self._end else None
