"""Rate limits of API keys: one token bucket per key, in the memory of a Router replica."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from driftline.serving import telemetry
from driftline.serving.calls import Principal, RateLimit
from driftline.serving.http.problems import Problem

MAX_BUCKETS: Final = 10_000
"""Beyond this many, the bucket that was not used for longest is forgotten: by then it is full, or soon would be."""


@dataclass
class _Bucket:
    tokens: float
    at: float
    """Moment of the monotonic clock that ``tokens`` was right at."""


class RateLimiter:
    """Token buckets: a request takes a token, and tokens come back at the key's rate, up to its burst.

    Every one of ``replicas`` Routers grants its share of a limit, so together they grant the limit when requests are
    spread evenly, and never more. A share is at least one request at once.

    Parameters
    ----------
    default
        Limit of keys that have none of their own; ``None``: they may do as many as they like.
    replicas
        Number of Router replicas.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self, default: RateLimit | None, replicas: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._default = default
        self._replicas = replicas
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, principal: Principal) -> None:
        """Count one request.

        Raises
        ------
        Problem
            429 with ``Retry-After``, in whole seconds, if the key has used up its limit.
        """
        limit = principal.limit or self._default
        if limit is None:
            return
        per_second = limit.per_second / self._replicas
        burst = max(1.0, limit.burst / self._replicas)
        now = self._clock()
        bucket = self._buckets.get(principal.key_id)
        if bucket is None:
            bucket = self._add(principal.key_id, _Bucket(burst, now))
        bucket.tokens = min(burst, bucket.tokens + (now - bucket.at) * per_second)
        bucket.at = now
        if bucket.tokens < 1.0:
            telemetry.count_rate_limited(principal.tenant)
            seconds = math.ceil((1.0 - bucket.tokens) / per_second)
            detail = f"this key may make {limit.per_second:g} requests per second, {limit.burst} at once: slow down"
            raise Problem(429, detail, headers={"Retry-After": str(max(1, seconds))})
        bucket.tokens -= 1.0

    def _add(self, key_id: str, bucket: _Bucket) -> _Bucket:
        if len(self._buckets) >= MAX_BUCKETS:
            oldest = min(self._buckets, key=lambda known: self._buckets[known].at)
            del self._buckets[oldest]
        self._buckets[key_id] = bucket
        return bucket
