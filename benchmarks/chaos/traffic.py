"""What a tenant does while things break, and what each answer is worth.

Of every tenant three threads: one writes events and one asks for lists, both with ``driftline.client``, which comes
again where that makes sense, so every call of theirs must succeed in the end. The third asks without ever repeating, so
that every single answer is seen; it may fail, but only clearly.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import httpx

from driftline.client import Client, ClientError, Event, EventsOutcome, RankedList, RetryPolicy

USERS: Final = [f"user-{number}" for number in range(20)]
ROWS: Final = 10
WRITE_PAUSE_S, READ_PAUSE_S, PROBE_PAUSE_S, STOP_S = 0.25, 0.1, 0.05, 60.0
PATIENT: Final = RetryPolicy(deadline_seconds=240, attempt_seconds=30, max_attempts=500)
CLEAR: Final = frozenset({408, 429, 503, 504, 507})
"""Statuses of problems that say: not now. A 500 says that there is a bug, and counts as wrong here."""


def own_item(tenant: str) -> str:
    """An item that only this tenant has."""
    return f"item of {tenant}"


@dataclass
class Course:
    """When what was seen, in seconds from the beginning; appended to by all threads."""

    began: float = field(default_factory=time.monotonic)
    answers: list[tuple[float, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def now(self) -> float:
        """Seconds from the beginning."""
        return time.monotonic() - self.began

    def saw(self, verdict: str) -> None:
        """Note an answer that was asked for once."""
        self.answers.append((self.now, verdict))

    def between(self, start: float, end: float) -> Counter[str]:
        """How many answers of each kind there were."""
        return Counter(verdict for at, verdict in list(self.answers) if start <= at < end)


class Traffic:
    """One tenant's threads.

    Parameters
    ----------
    items
        Of the bundle.
    others
        The other tenants.
    """

    def __init__(self, tenant: str, others: list[str], url: str, key: str, items: list[str], course: Course) -> None:
        self.tenant = tenant
        self._foreign = {own_item(other) for other in others}
        self._url, self._key, self._items, self._course = url, key, items, course
        self._numbers = count()
        self._stopped = threading.Event()
        self._version = 0
        self.acknowledged: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read, self._probe)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every call come to its end."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(STOP_S)
            if thread.is_alive():
                self._course.wrong.append(f"{self.tenant}: a call has not ended {STOP_S:.0f} s after the last fault")

    def _rows(self) -> list[Event]:
        rows = []
        for number in (next(self._numbers) for _ in range(ROWS)):
            user, item = USERS[number % len(USERS)], self._items[random.randrange(len(self._items))]
            event_id = f"{self.tenant}-{number}"
            rows.append(Event(event_id=event_id, user_id=user, item_id=item, type="view", timestamp=1e9 + number))
        return rows

    def _write(self) -> None:
        with Client(self._url, self._key, retries=PATIENT) as client:
            while not self._stopped.wait(WRITE_PAUSE_S):
                rows = self._rows()
                self._in_the_end("events", lambda rows=rows: self._keep(client.events.add(rows)))

    def _keep(self, outcome: EventsOutcome) -> None:
        self.acknowledged |= {row.event_id for row in outcome.events if row.status != "rejected"}
        self._version = max(self._version, outcome.version)
        if outcome.rejected:
            self._course.wrong.append(f"{self.tenant}: {outcome.rejected} events rejected: {outcome.events[0].reason}")

    def _read(self) -> None:
        with Client(self._url, self._key, retries=PATIENT) as client:
            while not self._stopped.wait(READ_PAUSE_S):
                self._in_the_end("lists", lambda: self._look(self._version, client.recommend(self._someone(), k=20)))

    def _someone(self) -> str:
        return random.choice(USERS)

    def _look(self, acknowledged: int, made: RankedList) -> None:
        self._judge(acknowledged, [item.item_id for item in made.items], made.version)
        if made.degraded:
            self.calls["lists, popular items"] += 1

    def _in_the_end(self, what: str, work: Callable[[], None]) -> None:
        started = time.monotonic()
        try:
            work()
            self.calls[what] += 1
        except ClientError as error:
            self._course.wrong.append(f"{self.tenant}: {what} failed in spite of all attempts: {error}")
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    def _probe(self) -> None:
        with httpx.Client(base_url=self._url, headers={"Authorization": f"Bearer {self._key}"}, timeout=30) as http:
            while not self._stopped.wait(PROBE_PAUSE_S):
                self._course.saw(self._once(lambda: self._probe_list(http)))
                self._course.saw(self._once(lambda: self._probe_events(http)))

    def _once(self, ask: Callable[[], str]) -> str:
        try:
            return ask()
        except httpx.TransportError as error:  # refused, broken off, or nothing in time: clear enough
            return f"no answer: {type(error).__name__}"

    def _probe_list(self, http: httpx.Client) -> str:
        acknowledged = self._version
        response = http.post("/v1/recommend", json={"user_id": self._someone(), "k": 20})
        if response.status_code != 200:
            return self._error("list", response)
        made = response.json()
        self._judge(acknowledged, [item["item_id"] for item in made["items"]], made["version"])
        return "list, popular items" if made["degraded"] else "list"

    def _probe_events(self, http: httpx.Client) -> str:
        response = http.post("/v1/events", json=[row.model_dump(exclude_none=True) for row in self._rows()])
        if response.status_code != 200:
            return self._error("events", response)
        outcome = response.json()
        self.acknowledged |= {row["event_id"] for row in outcome["events"] if row["status"] != "rejected"}
        self._version = max(self._version, outcome["version"])
        if outcome["rejected"]:
            self._course.wrong.append(f"{self.tenant}: events rejected: {outcome['events'][0]['reason']}")
        return "events"

    def _judge(self, acknowledged: int, items: list[str], version: int) -> None:
        if not items or self._foreign & set(items):
            self._course.wrong.append(f"{self.tenant}: a list of {items[:5]}")
        if version < acknowledged:
            self._course.wrong.append(f"{self.tenant}: a list of version {version}, older than {acknowledged}")

    def _error(self, what: str, response: httpx.Response) -> str:
        """Name of an error; one that is not clear counts as wrong as well."""
        kind = response.headers.get("content-type", "").partition(";")[0]
        status = response.status_code
        if kind == "application/problem+json" and response.json()["status"] == status and status in CLEAR:
            return f"{what}: {status} {response.json()['title']}"
        if kind in ("text/plain", "text/html") and status >= 500:
            return f"{what}: {status} of the proxy"
        self._course.wrong.append(f"{self.tenant}: {what}: {status} {kind}: {response.text[:300]}")
        return f"{what}: {status} wrong"
