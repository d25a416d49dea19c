"""UserState: the one writer of events, catalogue, drift states and served lists.

Database calls run in threads: one for writing, which also puts writes in order, and a few for reading.
"""

import asyncio
import hashlib
import hmac
import logging
import math
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ray.serve.handle import DeploymentHandle

from driftline.drift.report import DriftReport
from driftline.events.store import (
    Appended,
    CatalogueItem,
    ServedList,
    Store,
    StoredDrift,
    StoredEvent,
    UserSnapshot,
)
from driftline.serving.assessments import Assessments, UserKey
from driftline.serving.auth import find_principal
from driftline.serving.calls import Assessment, DriftStatus, Principal, UserView, VersionAheadError
from driftline.serving.served_lists import ServedLists

logger = logging.getLogger("ray.serve")
R = TypeVar("R")

READER_THREADS = 4
ASSESSMENT_SECONDS = 120.0
ERASURE_MEMORY_SECONDS = 600.0
"""Longer than any request can take."""


class UserState:
    """Deployment with one replica.

    Parameters
    ----------
    database
        URL of the store.
    history_events
        How many of a user's newest events the models get to see.
    sweep_seconds
        Pause between two searches for lagging drift states.
    """

    def __init__(
        self, drift_detector: DeploymentHandle[Any], database: str, history_events: int, sweep_seconds: float
    ) -> None:
        self._detector = drift_detector
        self._history_events = history_events
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(READER_THREADS, "store-reader")
        self._store = Store(database)
        self._served = ServedLists(lambda rows: self._write(self._store.add_served, rows))
        self._assessments = Assessments(self._assess, self._find_lagging, sweep_seconds)
        self._log_salt = secrets.token_bytes(16)
        self._background = [asyncio.ensure_future(self._assessments.run()), asyncio.ensure_future(self._served.run())]

    async def check_health(self) -> None:
        """Fail if the database or a background task is gone, so that Serve replaces the replica."""
        for task in self._background:
            if task.done():
                raise RuntimeError(f"a background task of UserState ended: {task}")
        await self.ping()

    async def ping(self) -> None:
        """Reach the database."""
        await self._read(self._store.versions, "")

    async def principal(self, key_id: str, secret_sha256: str) -> Principal | None:
        """Who presents this key."""
        return await self._read(find_principal, self._store, key_id, secret_sha256)

    async def append_events(self, tenant: str, events: Sequence[StoredEvent]) -> Appended:
        """Add events; returns after the commit, and the drift states follow in the background."""
        appended = await self._write(self._store.append_events, tenant, events)
        accepted = {row.user_id for row, status in zip(events, appended.statuses, strict=True) if status == "accepted"}
        for user_id in accepted:
            self._assessments.add((tenant, user_id))
        return appended

    async def versions(self, tenant: str, min_version: int | None) -> tuple[int, int]:
        """Version and catalogue version, at least ``min_version``."""
        version, catalogue_version = await self._read(self._store.versions, tenant)
        _demand(version, min_version)
        return version, catalogue_version

    async def read_user(self, tenant: str, user_id: str, min_version: int | None) -> UserView:
        """Everything that ranking needs to know of a user.

        Raises
        ------
        VersionAheadError
            If the store has never acknowledged ``min_version``.
        """
        snapshot = await self._read(self._store.snapshot, tenant, user_id, self._history_events)
        _demand(snapshot.version, min_version)
        return view_of(snapshot)

    async def erase_user(self, tenant: str, user_id: str) -> int:
        """Remove everything about a user, here and on the disk."""
        self._served.forget(tenant, user_id, math.inf)
        version = await self._write(self._store.erase_user, tenant, user_id)
        self._served.forget(tenant, user_id, version)
        asyncio.get_running_loop().call_later(ERASURE_MEMORY_SECONDS, self._served.expire, tenant, user_id)
        logger.info("user erased", extra={"tenant": tenant, "user": self._pseudonym(tenant, user_id)})
        return version

    async def upsert_items(self, tenant: str, items: Sequence[CatalogueItem]) -> int:
        """Write catalogue entries; a Ranker sees them with the next request."""
        return await self._write(self._store.upsert_items, tenant, items)

    async def item(self, tenant: str, item_id: str) -> CatalogueItem | None:
        """Read one catalogue entry, which may be a deleted one."""
        return await self._read(self._store.item, tenant, item_id)

    async def catalogue_since(self, tenant: str, version: int) -> tuple[int, list[CatalogueItem]]:
        """Catalogue entries written after ``version``."""
        return await self._read(self._store.catalogue_since, tenant, version)

    async def record_served(self, row: ServedList) -> None:
        """Queue a list that was handed out."""
        self._served.add(row)

    async def _find_lagging(self) -> list[UserKey]:
        bundle: str = await asyncio.wait_for(_answer(self._detector.bundle.remote()), ASSESSMENT_SECONDS)
        return await self._read(self._store.users_to_assess, bundle)

    async def _assess(self, user: UserKey) -> None:
        """Bring one drift state up to date. An erasure or a later state in between wins."""
        tenant, user_id = user
        snapshot = await self._read(self._store.snapshot, tenant, user_id, self._history_events)
        if snapshot.revision is None:
            return
        history = [event.item_id for event in snapshot.history]
        question = self._detector.assess.remote(history)
        assessment: Assessment | None = await asyncio.wait_for(_answer(question), ASSESSMENT_SECONDS)
        if assessment is None:  # the bundle has no drift part
            return
        report = assessment.report
        change = None if report.change_point is None else snapshot.history[report.change_point].event_id
        state = StoredDrift(snapshot.revision, assessment.bundle, change, report.to_dict())
        saved = await self._write(self._store.save_drift, tenant, user_id, state)
        if saved and report.alarm:
            described = {"tenant": tenant, "user": self._pseudonym(tenant, user_id), "p_drift": report.p_drift}
            logger.info("drift alarm", extra=described)

    def _pseudonym(self, tenant: str, user_id: str) -> str:
        """Keyed hash for logs; the key dies with the process, so a log alone leads to nobody."""
        return hmac.new(self._log_salt, f"{tenant}/{user_id}".encode(), hashlib.sha256).hexdigest()[:16]

    def _write(self, work: Callable[..., R], *args: Any) -> "asyncio.Future[R]":
        """Queue ``work`` for the writer thread at once."""
        return asyncio.get_running_loop().run_in_executor(self._writer, work, *args)

    def _read(self, work: Callable[..., R], *args: Any) -> "asyncio.Future[R]":
        return asyncio.get_running_loop().run_in_executor(self._readers, work, *args)

    async def __del__(self) -> None:
        """Write what waits before the replica goes."""
        for task in self._background:
            task.cancel()
        await self._served.flush()
        self._store.close()


def _demand(version: int, min_version: int | None) -> None:
    if min_version is not None and version < min_version:
        raise VersionAheadError(f"min_version={min_version} was never acknowledged: the store is at version {version}")


def view_of(snapshot: UserSnapshot) -> UserView:
    """Snapshot with its drift report, the change point put where it lies in this history."""
    stored = snapshot.drift
    report: DriftReport | None = None
    status: DriftStatus = "none" if snapshot.revision is None else "stale"
    if stored is not None:
        places = {event.event_id: place for place, event in enumerate(snapshot.history)}
        change = None if stored.change_event_id is None else places.get(stored.change_event_id)
        report = DriftReport.from_dict({**stored.report, "change_point": change})
        if stored.revision == snapshot.revision:
            status = "current"
    return UserView(
        version=snapshot.version,
        catalogue_version=snapshot.catalogue_version,
        known=snapshot.revision is not None,
        num_events=snapshot.num_events,
        history=snapshot.history,
        drift=report,
        drift_bundle=stored.bundle if stored else None,
        drift_status=status,
    )


async def _answer(response: Any) -> Any:
    return await response
