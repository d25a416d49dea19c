"""What is broken under load, and how long it takes until everything works again."""

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
from benchmarks.chaos.places import Kind, Place
from benchmarks.chaos.traffic import Course, own_item

from driftline.client import Event
from driftline.errors import DriftlineError

OUTAGE_S: Final = 8.0
"""How long the database stays away, or the disk full once that is noticed."""
TIMEOUT_S: Final = 180.0
ALL_WELL_S: Final = 2.0
"""Everything must have worked for this long to count as whole again; the time itself is not counted."""


@dataclass(frozen=True)
class Outcome:
    """A fault, in seconds from the beginning of the course.

    Parameters
    ----------
    mended_at
        When its cause was gone, which for a killed process is at once: it is the service's to start another.
    whole_at
        From when on every probe succeeded.
    """

    name: str
    began_at: float
    mended_at: float
    whole_at: float
    answers: dict[str, int]

    @property
    def recovery_s(self) -> float:
        """Seconds from the end of the cause to the end of its consequences."""
        return self.whole_at - self.mended_at

    def described(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "recovery_s": round(self.recovery_s, 1)}


Break = Callable[[Place, Course], None]
"""Breaks something, and returns when the cause is gone."""


def killing(deployment: str) -> Break:
    """SIGKILL to every replica of a deployment."""

    def kill(place: Place, course: Course) -> None:
        pids = place.replicas(deployment)
        if not pids:
            raise DriftlineError(f"no process of a {deployment} was found")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    return kill


def swap(place: Place, course: Course) -> None:
    """Promote another bundle, wait until every replica answers with it, and take it back."""
    other = renamed(place.service.bundle)
    try:
        _promote(place, {"mode": "champion", "bundle": other.name})
        time.sleep(OUTAGE_S)
        _promote(place, {"mode": "rollback"})
    finally:
        shutil.rmtree(other)


def restart_postgres(place: Place, course: Course) -> None:
    """Stop the server without waiting for its clients, and start it again."""
    assert place.postgres is not None
    place.postgres.stop()
    time.sleep(OUTAGE_S)
    place.postgres.start()


def fill_disk(place: Place, course: Course) -> None:
    """Leave no room on the database's file system until events are refused, and for a while more; then make room."""
    assert place.disk is not None
    filler, began = place.disk / "something else", course.now
    try:
        while not course.between(began, course.now)["events: 503 Overloaded or not ready"]:
            _fill(filler)  # again and again: the database gives room back now and then
            _in_time(began, course, "no event was refused although the disk is full")
            time.sleep(0.1)
        end = course.now + OUTAGE_S
        while course.now < end:
            _fill(filler)
            time.sleep(0.1)
    finally:
        filler.unlink()


FAULTS: Final[dict[str, tuple[Kind, Break]]] = {
    "ranker": ("sqlite", killing("Ranker")),
    "drift-detector": ("sqlite", killing("DriftDetector")),
    "router": ("sqlite", killing("Router")),
    "user-state": ("sqlite", killing("UserState")),
    "swap": ("sqlite", swap),
    "disk-full": ("small disk", fill_disk),
    "postgres": ("postgresql", restart_postgres),
}


def inflicted(name: str, place: Place, course: Course) -> Outcome:
    """Break one thing, and wait until everything works.

    Raises
    ------
    DriftlineError
        If it does not within ``TIMEOUT_S``.
    """
    began = course.now
    FAULTS[name][1](place, course)
    mended = course.now
    whole = _whole_again(place, course)
    answers = course.between(began, course.now)
    return Outcome(name, round(began, 2), round(mended, 2), round(whole, 2), dict(answers.most_common()))


def renamed(bundle: Path) -> Path:
    """A copy of a bundle beside it, under another id."""
    copy = bundle.parent / f"{bundle.name}-again"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"id": copy.name}))
    return copy


def _whole_again(place: Place, course: Course) -> float:
    began, whole = course.now, None
    with _as_first_tenant(place) as (tenant, http):
        while whole is None or course.now - whole < ALL_WELL_S:
            worked = _works(tenant, http)
            whole = (whole or course.now) if worked else None
            _in_time(began, course, "the service is not whole again")
            time.sleep(0.1)
    return whole


@contextmanager
def _as_first_tenant(place: Place) -> Iterator[tuple[str, httpx.Client]]:
    tenant, key = next(iter(place.keys.items()))
    with httpx.Client(base_url=place.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as http:
        yield tenant, http


def _works(tenant: str, http: httpx.Client) -> bool:
    row = Event(event_id=f"{tenant}-{uuid4()}", user_id="user-0", item_id=own_item(tenant), type="view")
    try:
        made = http.post("/v1/recommend", json={"user_id": "user-0", "k": 5})
        written = http.post("/v1/events", json=[row.model_dump(exclude_none=True)])
        ready = http.get("/readyz")
    except httpx.TransportError:
        return False
    return {made.status_code, written.status_code, ready.status_code} == {200} and made.json()["degraded"] is None


def _promote(place: Place, body: dict[str, str]) -> None:
    with _as_first_tenant(place) as (_, http):
        answer = http.post("/v1/bundles:promote", json=body)
        if answer.status_code != 200:
            raise DriftlineError(f"the bundle could not be promoted: {answer.text}")
        number, end = answer.json()["promotion"]["number"], time.monotonic() + TIMEOUT_S
        while {replica["promotion"] for replica in http.get("/v1/bundles").json()["replicas"]} != {number}:
            if time.monotonic() > end:
                raise DriftlineError(f"the replicas do not follow promotion {number} within {TIMEOUT_S:.0f} s")
            time.sleep(0.5)


def _fill(file: Path) -> None:
    """Write until nothing fits any more, in ever smaller pieces: the error is the aim."""
    with file.open("ab") as end:
        for size in (65536, 4096, 1):
            try:
                while True:
                    os.write(end.fileno(), b"0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def _in_time(began: float, course: Course, otherwise: str) -> None:
    if course.now - began > TIMEOUT_S:
        raise DriftlineError(f"{otherwise} after {TIMEOUT_S:.0f} s")
