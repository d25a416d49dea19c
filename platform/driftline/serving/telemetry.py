"""What the service measures, for Prometheus, which scrapes every Ray node's metrics endpoint.

The only place where metrics are defined. Ray puts ``ray_`` in front of the names and adds the labels ``deployment``,
``replica`` and ``application``. Labels hold routes, stages and statuses, never ids of users, items, keys or requests:
each has a handful of values, known in advance (tenants and bundles: as many as the operator has made).

==============================  ============================  =====================================================
name                            labels                        what
==============================  ============================  =====================================================
driftline_requests_total        method, route_pattern, status  requests answered
driftline_request_seconds       route_pattern                 from the first byte of a request to the end of its answer
driftline_stage_seconds         stage                         one call between deployments, or one step within one
driftline_lists_total           policy, drift                 lists handed out, by how the history was read
driftline_assessments_total     outcome                       drift states worked out: alarm, quiet, superseded, failed
driftline_backlog               queue                         what waits in memory: assessments, served lists
driftline_dropped_total         queue                         what a full queue has refused
driftline_cache_total           cache, outcome                hits and misses
driftline_bundle_info           arm, bundle                   1 for a bundle in force, 0 for those before
driftline_event_lag_seconds                                   age of a request's newest event when it is acknowledged
driftline_rate_limited_total    tenant                        requests refused because a key was over its rate
driftline_auth_failures_total   reason                        requests without a valid key: missing, malformed, rejected
driftline_webhooks_total        outcome                       attempts to send a message: delivered, failed, dropped
driftline_drifting_share        tenant                        share of the newest assessed users who have a drift alarm
==============================  ============================  =====================================================
"""

import logging
import time
from collections import Counter as Numbers
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from threading import Lock, Thread
from typing import Final, Literal

from ray.serve.metrics import Counter, Gauge, Histogram

Refusal = Literal["missing", "malformed", "rejected"]
Queue = Literal["assessments", "served"]
Kind = Literal["counter", "gauge", "histogram"]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_SECONDS: Final = (0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0, 604800.0)
HAND_OVER_SECONDS: Final = 1.0
METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})

METRICS: Final[dict[str, tuple[Kind, str, tuple[str, ...]]]] = {
    "driftline_requests_total": ("counter", "Requests answered.", ("method", "route_pattern", "status")),
    "driftline_request_seconds": ("histogram", "Time of a request.", ("route_pattern",)),
    "driftline_stage_seconds": ("histogram", "Time of one stage of a request.", ("stage",)),
    "driftline_lists_total": ("counter", "Lists handed out.", ("policy", "drift")),
    "driftline_assessments_total": ("counter", "Drift states worked out.", ("outcome",)),
    "driftline_backlog": ("gauge", "What waits in memory.", ("queue",)),
    "driftline_dropped_total": ("counter", "What a full queue has refused.", ("queue",)),
    "driftline_cache_total": ("counter", "Hits and misses of a cache.", ("cache", "outcome")),
    "driftline_bundle_info": ("gauge", "1 for a bundle in force, 0 for those before.", ("arm", "bundle")),
    "driftline_event_lag_seconds": ("histogram", "Age of a request's newest event at its acknowledgement.", ()),
    "driftline_rate_limited_total": ("counter", "Requests over a key's rate.", ("tenant",)),
    "driftline_webhooks_total": ("counter", "Attempts to send a webhook message.", ("outcome",)),
    "driftline_drifting_share": ("gauge", "Share of the newest assessed users with a drift alarm.", ("tenant",)),
    "driftline_auth_failures_total": ("counter", "Requests without a valid key.", ("reason",)),
}
"""Kind, description and labels by name."""


def count_request(method: str, route_pattern: str, status: int, seconds: float) -> None:
    """Count an answered request. A path that no route knows must come as a constant, or hostile callers make labels."""
    method = method if method in METHODS else "other"
    labels = {"method": method, "route_pattern": route_pattern, "status": str(status)}
    _tally.add("driftline_requests_total", labels)
    _tally.observe("driftline_request_seconds", seconds, {"route_pattern": route_pattern})


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time the block, failures included. ``name`` is a constant such as ``UserState.read_user``."""
    started = time.perf_counter()
    try:
        yield
    finally:
        _tally.observe("driftline_stage_seconds", time.perf_counter() - started, {"stage": name})


def count_list(policy: str, drift: str) -> None:
    """Count a list that is handed out, by policy and drift status."""
    _tally.add("driftline_lists_total", {"policy": policy, "drift": drift})


def count_assessment(outcome: Literal["alarm", "quiet", "superseded", "failed"]) -> None:
    """Count a drift state that was worked out; ``superseded``: an erasure or a later state came first."""
    _tally.add("driftline_assessments_total", {"outcome": outcome})


def show_backlog(queue: Queue, length: int) -> None:
    """Show how much waits in memory."""
    _gauge("driftline_backlog").set(length, {"queue": queue})


def count_dropped(queue: Queue) -> None:
    """Count what a full queue refused."""
    _tally.add("driftline_dropped_total", {"queue": queue})


def count_cache(name: str, hit: bool) -> None:
    """Count a look into a cache; ``name`` is a constant."""
    _tally.add("driftline_cache_total", {"cache": name, "outcome": "hit" if hit else "miss"})


def show_bundles(in_force: Mapping[str, str]) -> None:
    """Show which bundles this replica has in force, by arm, and that those shown before no longer are.

    To be called every few seconds: Ray forgets a gauge that is not set again.
    """
    shown_now = set(in_force.items())
    for arm, bundle in _shown_bundles - shown_now:
        _gauge("driftline_bundle_info").set(0, {"arm": arm, "bundle": bundle})
    for arm, bundle in shown_now:
        _gauge("driftline_bundle_info").set(1, {"arm": arm, "bundle": bundle})
    _shown_bundles.clear()
    _shown_bundles.update(shown_now)


_shown_bundles: set[tuple[str, str]] = set()


def observe_event_lag(newest_timestamp: float) -> None:
    """Show how old a request's newest event is (seconds since the epoch) at the moment of its acknowledgement."""
    _tally.observe("driftline_event_lag_seconds", max(0.0, time.time() - newest_timestamp), {})


def count_webhook(outcome: Literal["delivered", "failed", "dropped"]) -> None:
    """Count an attempt to send a message; ``dropped``: it was the last."""
    _tally.add("driftline_webhooks_total", {"outcome": outcome})


def show_drifting_share(tenant: str, share: float) -> None:
    """Show which share of the tenant's newest assessed users has an alarm."""
    _gauge("driftline_drifting_share").set(share, {"tenant": tenant})


def count_rate_limited(tenant: str) -> None:
    """Count a request that was over its key's rate."""
    _tally.add("driftline_rate_limited_total", {"tenant": tenant})


def count_refusal(reason: Refusal) -> None:
    """Count a request without a valid key."""
    _tally.add("driftline_auth_failures_total", {"reason": reason})


class _Tally:
    """What was counted and timed since Ray was last told, which takes it a tenth of a millisecond each time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers: Numbers[tuple[str, tuple[tuple[str, str], ...]]] = Numbers()
        self._observed: list[tuple[str, float, Mapping[str, str]]] = []
        self._told_at = 0.0

    def add(self, name: str, labels: Mapping[str, str]) -> None:
        with self._lock:
            self._numbers[name, tuple(labels.items())] += 1
        self._tell_if_due()

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        with self._lock:
            self._observed.append((name, value, labels))
        self._tell_if_due()

    def _tell_if_due(self) -> None:
        with self._lock:
            due = time.monotonic() - self._told_at >= HAND_OVER_SECONDS
            self._told_at = time.monotonic() if due else self._told_at
        if due:  # not in the request that happens to be the one
            Thread(target=self.tell, name="telemetry", daemon=True).start()

    def tell(self) -> None:
        with self._lock:
            counted, self._numbers = self._numbers, Numbers()
            observed, self._observed = self._observed, []
            self._told_at = time.monotonic()
        for (name, labels), number in counted.items():
            _counter(name).inc(number, dict(labels))
        for name, value, observed_labels in observed:
            _histogram(name).observe(value, dict(observed_labels))


_tally = _Tally()


def hand_over() -> None:
    """Give Ray what was counted since the last time, and write the log lines that it keeps back (behind HAProxy 1,000).

    It happens by itself once a second while something is counted; who counts has to call this now and then as well, or
    the last second before a silence stays untold.
    """
    _tally.tell()
    for handler in logging.getLogger("ray.serve").handlers:
        handler.flush()


@cache  # made in the replica, which gives them its labels, and once per process
def _counter(name: str) -> Counter:
    _, description, labels = METRICS[name]
    return Counter(name, description, labels)  # type: ignore[arg-type]  # Ray means any number of labels


@cache
def _gauge(name: str) -> Gauge:
    _, description, labels = METRICS[name]
    return Gauge(name, description, labels)  # type: ignore[arg-type]


@cache
def _histogram(name: str) -> Histogram:
    _, description, labels = METRICS[name]
    boundaries = LAG_SECONDS if name == "driftline_event_lag_seconds" else SECONDS
    return Histogram(name, description, list(boundaries), labels)  # type: ignore[arg-type]
