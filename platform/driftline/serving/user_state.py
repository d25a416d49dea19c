"""UserState: reads and writes events, catalogue, drift states and served lists.

Database calls run in threads: one for writing, for a tenant's writes wait for each other anyway, and a few for reading.
Only the reads that every list begins with run on the loop of an SQLite replica: its readers wait for nobody (WAL).
Replicas share nothing but the database: what one has acknowledged the others read, and what must not happen twice or
too late (drift states, erasures) is decided there.
"""

import asyncio
import hashlib
import hmac
import logging
import random
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ray.serve.handle import DeploymentHandle

from driftline.serving import telemetry
from driftline.serving.arms import Arms
from driftline.serving.assessments import Assessments, UserKey
from driftline.serving.audit import Deed, recorded
from driftline.serving.calls import Followed, Principal, UserHistory, UserView, VersionAheadError
from driftline.serving.deadlines import takes_deadlines
from driftline.serving.heap import freeze_heap
from driftline.serving.keys import find_principal
from driftline.serving.notices import Population, PopulationBand, drift_notice
from driftline.serving.promotions import Change, Promotion, find_promotion, promote
from driftline.serving.served_lists import FLUSH_SECONDS, ServedLists
from driftline.serving.short_work import ShortWork
from driftline.serving.user_views import UserViews
from driftline.serving.webhooks import LEASE_SECONDS, SENT_AT_ONCE, Deliveries, check_url
from driftline.state import outbox
from driftline.state.database import reaching_database
from driftline.state.outbox import Webhook
from driftline.state.retention import expire
from driftline.state.store import (
    Appended,
    CatalogueItem,
    Cursor,
    EventsPage,
    PolicyChange,
    ServedList,
    ShadowList,
    Store,
    StoredDrift,
    StoredEvent,
)

logger = logging.getLogger("ray.serve")
R = TypeVar("R")

READER_THREADS = 4
ASSESSMENT_SECONDS = 120.0
SWEEP_USERS = 1000
RETENTION_PAUSE_SECONDS = 3600.0
SECONDS_PER_DAY = 86_400.0


@takes_deadlines
class UserState:
    """Deployment with one replica on SQLite, any number on PostgreSQL.

    Parameters
    ----------
    database
        URL of the store.
    history_events
        How many of a user's newest events the models get to see.
    sweep_seconds
        Pause between two searches for lagging drift states.
    retention_days
        Age beyond which events and served lists are removed; ``None`` keeps them.
    band
        Share of users with a drift alarm that is expected.
    internal_webhooks
        See :func:`~driftline.serving.webhooks.check_url`.
    """

    def __init__(
        self,
        drift_detector: DeploymentHandle[Any],
        database: str,
        history_events: int,
        sweep_seconds: float,
        retention_days: float | None,
        band: PopulationBand,
        internal_webhooks: bool,
    ) -> None:
        self._detector = drift_detector
        self._history_events = history_events
        self._sweep_seconds = sweep_seconds
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(READER_THREADS, "store-reader")
        self._store = Store(database)
        self._views = UserViews(self._store, history_events)
        self._short_reads = ShortWork(self._readers) if self._store.engine.dialect.name == "sqlite" else None
        self._served = ServedLists(
            lambda rows: self._write(self._store.add_served, rows),
            lambda rows: self._write(self._store.add_shadows, rows),
        )
        self._assessments = Assessments(self._assess, self._find_lagging, sweep_seconds)
        self._population = Population(band)
        self._internal_webhooks = internal_webhooks
        self._deliveries = Deliveries(
            lambda: self._write(outbox.claim_messages, self._store, LEASE_SECONDS, SENT_AT_ONCE),
            lambda seqs: self._write(outbox.remove_messages, self._store, seqs),
            lambda *failed: self._write(outbox.postpone_message, self._store, *failed),
            internal_webhooks,
        )
        self._log_salt = secrets.token_bytes(16)
        tasks = (self._assessments.run(), self._served.run(), self._deliveries.run())
        self._background = [asyncio.ensure_future(task) for task in tasks]
        freeze_heap()
        if retention_days is not None:
            self._background.append(asyncio.ensure_future(self._expire(retention_days * SECONDS_PER_DAY)))

    async def check_health(self) -> None:
        """Fail if a background task is gone, so that Serve replaces the replica.

        A database that cannot be reached is no reason: a new replica would not reach it either. ``/readyz`` tells.
        """
        for task in self._background:
            if task.done():
                raise RuntimeError(f"a background task of UserState ended: {task}")
        telemetry.hand_over()
        telemetry.show_backlog("assessments", self._assessments.num_waiting)
        telemetry.show_backlog("served", self._served.num_waiting)

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
        newest = [row.timestamp for row, status in zip(events, appended.statuses, strict=True) if status == "accepted"]
        if newest:
            telemetry.observe_event_lag(max(newest))
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
        if self._short_reads is None:
            view = await self._read(self._views.read, tenant, user_id)
        else:
            view = await self._short_reads.run(_in_database, self._views.read, tenant, user_id)
        _demand(view.version, min_version)
        return view

    async def read_user_as_of(self, tenant: str, user_id: str, version: int) -> UserView:
        """The same without the events of later versions."""
        return await self._read(self._views.read_as_of, tenant, user_id, version)

    async def read_history(self, tenant: str, user_id: str) -> UserHistory:
        """The user with the newest events themselves."""
        return await self._read(self._views.read_history, tenant, user_id)

    async def erase_user(self, tenant: str, user_id: str, actor: str) -> int:
        """Remove everything about a user, here and on the disk; ``actor`` is who asks, for the audit log."""
        deed = Deed(tenant, actor, "user.erase", user_id)
        try:
            version: int = await self._write(self._recorded, deed, self._store.erase_user, tenant, user_id)
        finally:  # a caller who has gone does not stop what the writer has begun
            self._views.forget(tenant, user_id)
            self._population.forget(tenant, user_id)
        logger.info("user erased", extra={"tenant": tenant, "user": self._pseudonym(tenant, user_id)})
        return version

    async def upsert_items(self, tenant: str, items: Sequence[CatalogueItem]) -> int:
        """Write catalogue entries; a Ranker sees them with the next request."""
        return await self._write(self._store.upsert_items, tenant, items)

    async def delete_item(self, tenant: str, item_id: str, actor: str) -> int:
        """Take an item out of every list; ``actor`` is who asks, for the audit log."""
        deed = Deed(tenant, actor, "item.delete", item_id)
        return await self._write(self._recorded, deed, self._store.delete_item, tenant, item_id)

    async def item(self, tenant: str, item_id: str) -> CatalogueItem | None:
        """Read one catalogue entry, which may be a deleted one."""
        return await self._read(self._store.item, tenant, item_id)

    async def catalogue_since(self, tenant: str, version: int) -> tuple[int, list[CatalogueItem]]:
        """Catalogue entries written after ``version``."""
        return await self._read(self._store.catalogue_since, tenant, version)

    async def record_served(self, rows: list[ServedList]) -> None:
        """Queue lists that were handed out."""
        for row in rows:
            self._served.add(row)

    async def record_shadows(self, rows: list[ShadowList]) -> None:
        """Queue what a shadow bundle would have shown."""
        self._served.add_shadows(rows)

    async def promotion(self, champion: str) -> Promotion | None:
        """The promotion in force over a configured champion."""
        return await self._read(find_promotion, self._store, champion)

    async def promote(self, configured: Arms, change: Change) -> Promotion:
        """Add a change to the log of promotions, which the replicas follow.

        Raises
        ------
        PromotionError
            If the change makes no sense after those before.
        """
        return await self._write(promote, self._store, configured, change)

    async def served_list(self, tenant: str, request_id: str) -> ServedList | None:
        """The list that a request was answered with; waits for it once, for recording runs behind the answers."""
        found = await self._read(self._store.served_list, tenant, request_id)
        if found is None:
            await asyncio.sleep(2 * FLUSH_SECONDS)
            found = await self._read(self._store.served_list, tenant, request_id)
        return found

    async def events_page(self, tenant: str, user_id: str, after: Cursor | None, limit: int) -> EventsPage:
        """The ``limit`` events that follow ``after``, or the first ones, oldest first."""
        return await self._read(self._store.events_page, tenant, user_id, after, limit)

    async def policy_changes(self, tenant: str, user_id: str) -> list[PolicyChange]:
        """Lists that came under another policy than the list before, oldest first."""
        return await self._read(self._store.policy_changes, tenant, user_id)

    async def set_webhook(self, tenant: str, url: str, secret: str, actor: str) -> Webhook:
        """Tell a tenant's changes there from now on; ``actor`` is who asks, for the audit log.

        Raises
        ------
        WebhookUrlError
            If nothing is sent there.
        """
        deed = Deed(tenant, actor, "webhook.set", check_url(url, self._internal_webhooks).host)
        webhook: Webhook = await self._write(self._recorded, deed, outbox.set_webhook, self._store, tenant, url, secret)
        self._deliveries.wake()
        return webhook

    async def webhook(self, tenant: str) -> Webhook | None:
        """Where a tenant is told of changes."""
        return await self._read(outbox.find_webhook, self._store, tenant)

    async def delete_webhook(self, tenant: str, actor: str) -> None:
        """Tell a tenant nothing any more."""
        deed = Deed(tenant, actor, "webhook.delete", "")
        await self._write(self._recorded, deed, outbox.delete_webhook, self._store, tenant)

    async def _find_lagging(self) -> list[UserKey]:
        bundle: str = await asyncio.wait_for(_answer(self._detector.bundle.remote()), ASSESSMENT_SECONDS)
        return await self._read(self._store.claim_users_to_assess, bundle, self._sweep_seconds, SWEEP_USERS)

    async def _assess(self, user: UserKey) -> None:
        """Bring one drift state up to date. An erasure or a later state in between wins."""
        tenant, user_id = user
        snapshot = await self._read(self._store.snapshot, tenant, user_id, self._history_events)
        if snapshot.revision is None:
            return
        history, before = [event.item_id for event in snapshot.history], snapshot.drift
        question = self._detector.follow.remote(history, before and before.bundle, before and before.state)
        followed: Followed | None = await asyncio.wait_for(_answer(question), ASSESSMENT_SECONDS)
        if followed is None:  # the bundle has no drift part
            return
        verdict = followed.verdict
        change = None if verdict.change_point is None else snapshot.history[verdict.change_point].event_id
        said = {"p_drift": verdict.p_drift, "alarm": verdict.alarm}
        state = StoredDrift(snapshot.revision, followed.bundle, change, said, followed.state)
        notice = drift_notice(user_id, before, state, verdict, snapshot.history)
        saved = await self._write(self._store.save_drift, tenant, user_id, state, notice)
        if saved:
            await self._observe_population(tenant, user_id, verdict.alarm)
            self._deliveries.wake()
        telemetry.count_assessment("superseded" if not saved else "alarm" if verdict.alarm else "quiet")
        if saved and verdict.alarm:
            described = {"tenant": tenant, "user": self._pseudonym(tenant, user_id), "p_drift": verdict.p_drift}
            logger.info("drift alarm", extra=described)

    async def _observe_population(self, tenant: str, user_id: str, alarm: bool) -> None:
        share, message = self._population.observe(tenant, user_id, alarm)
        telemetry.show_drifting_share(tenant, share)
        if message is not None:
            logger.warning("the share of drifting users left its band", extra={"tenant": tenant, "share": share})
            await self._write(outbox.add_message, self._store, tenant, message)

    async def _expire(self, seconds: float) -> None:
        """Remove what is older than so many seconds, now and then, letting other writes in between the steps."""
        while True:
            try:
                steps = expire(self._store, time.time() - seconds)
                removed = 0
                while (count := await self._write(next, steps, None)) is not None:
                    removed += count
                if removed:
                    logger.info("expired rows were removed", extra={"rows": removed})
            except Exception:
                logger.exception("expired rows could not be removed; the next pass tries again")
            await asyncio.sleep(RETENTION_PAUSE_SECONDS * random.uniform(0.5, 1.5))  # replicas take turns

    def _pseudonym(self, tenant: str, user_id: str) -> str:
        """Keyed hash for logs; the key dies with the process, so a log alone leads to nobody."""
        return hmac.new(self._log_salt, f"{tenant}/{user_id}".encode(), hashlib.sha256).hexdigest()[:16]

    def _recorded(self, deed: Deed, work: Callable[..., R], *args: Any) -> R:
        with recorded(self._store, deed):
            return work(*args)

    def _write(self, work: Callable[..., R], *args: Any) -> "asyncio.Future[R]":
        """Queue ``work`` for the writer thread at once."""
        return asyncio.get_running_loop().run_in_executor(self._writer, _in_database, work, *args)

    def _read(self, work: Callable[..., R], *args: Any) -> "asyncio.Future[R]":
        return asyncio.get_running_loop().run_in_executor(self._readers, _in_database, work, *args)

    async def __del__(self) -> None:
        """Write what waits before the replica goes."""
        for task in self._background:
            task.cancel()
        await self._served.flush()
        self._store.close()


def _in_database(work: Callable[..., R], *args: Any) -> R:
    with reaching_database():
        return work(*args)


def _demand(version: int, min_version: int | None) -> None:
    if min_version is not None and version < min_version:
        raise VersionAheadError(f"min_version={min_version} was never acknowledged: the store is at version {version}")


async def _answer(response: Any) -> Any:
    return await response
