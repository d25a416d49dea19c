"""The event store: events, catalogue changes, drift states and served lists of every tenant.

One `Store` is one database (see ``database`` and ``tables``). All methods are synchronous, safe to call from many
threads and processes, and one transaction each: when a method returns, what it wrote is on the disk.

Order of a history: ``(timestamp, arrival)``. An event that arrives late takes its place by its own timestamp; events
of equal timestamp stay in the order in which they arrived.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Insert, and_, bindparam, delete, insert, or_, select, tuple_, update

from driftline.state import timeline
from driftline.state.database import RowLookup, open_engine, truncate_log, writing
from driftline.state.outbox import Message, queue_message
from driftline.state.records import (
    Appended,
    CatalogueItem,
    Cursor,
    EventsPage,
    HistoryEvent,
    PolicyChange,
    ServedList,
    ShadowList,
    Status,
    StoredDrift,
    StoredEvent,
    UserMarks,
    UserSnapshot,
)
from driftline.state.statements import (
    column_values,
    insert_of,
    lock_tenant,
    read_versions,
    set_version,
    upsert_into,
)
from driftline.state.tables import drift_states, events, items, metadata, served, users, versions

__all__ = [
    "Appended",
    "CatalogueItem",
    "Cursor",
    "EventsPage",
    "HistoryEvent",
    "PolicyChange",
    "ServedList",
    "ShadowList",
    "Status",
    "Store",
    "StoredDrift",
    "StoredEvent",
    "UserMarks",
    "UserSnapshot",
]

CHUNK_ROWS: Final = 500  # ids per statement: SQLite takes 32,766 parameters


class Store:
    """The database behind :class:`~driftline.serving.user_state.UserState`.

    Parameters
    ----------
    url
        See :func:`~driftline.state.database.open_engine`.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self.writer = writing(self.engine)
        self._marks = RowLookup(self.engine, _MARKS)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def versions(self, tenant: str) -> tuple[int, int]:
        """Version and catalogue version of a tenant; zeros if nothing was ever written."""
        with self.engine.begin() as connection:
            return read_versions(connection, tenant)

    def append_events(self, tenant: str, rows: Sequence[StoredEvent]) -> Appended:
        """Add events that are not there yet.

        An ``event_id`` that is there already makes a row a ``duplicate`` if it is the same event, which is what a
        retry looks like, and a ``conflict`` if it is a different one.
        """
        first_of_id: dict[str, StoredEvent] = {}
        for row in rows:
            first_of_id.setdefault(row.event_id, row)
        with self.writer.begin() as connection:
            version = lock_tenant(connection, tenant)
            known = _events_by_id(connection, tenant, first_of_id)
            inserted = first_of_id.keys() - known.keys()
            if inserted:
                version += 1
                set_version(connection, tenant, version)
                written = {"tenant": tenant, "version": version}
                new = [row for row in first_of_id.values() if row.event_id in inserted]
                connection.execute(insert(events), [{**written, **vars(row)} for row in new])
                _count_events(connection, tenant, Counter(row.user_id for row in new), version)
        statuses: list[Status] = []
        for row in rows:
            if row.event_id in inserted and row is first_of_id[row.event_id]:
                statuses.append("accepted")
            else:
                same = row == (known.get(row.event_id) or first_of_id[row.event_id])
                statuses.append("duplicate" if same else "conflict")
        return Appended(statuses, version)

    def user_marks(self, tenant: str, user_id: str) -> UserMarks:
        """Read whether anything about a user has changed: one indexed query."""
        row = self._marks(tenant=tenant, user_id=user_id)
        return UserMarks(*row) if row else UserMarks(0, 0, None, None, None)

    def snapshot(self, tenant: str, user_id: str, newest: int, as_of: int | None = None) -> UserSnapshot:
        """Read a user with the ``newest`` events of the history; ``as_of`` leaves out what a later version wrote."""
        history = (
            select(events.c.event_id, events.c.item_id, events.c.type, events.c.timestamp)
            .where(events.c.tenant == tenant, events.c.user_id == user_id)
            .order_by(events.c.timestamp.desc(), events.c.seq.desc())
            .limit(newest)
        )
        if as_of is not None:
            history = history.where(events.c.version <= as_of)
        with self.engine.begin() as connection:
            version, catalogue_version = read_versions(connection, tenant)
            user = connection.execute(
                select(users.c.revision, users.c.num_events).where(users.c.tenant == tenant, users.c.user_id == user_id)
            ).one_or_none()
            rows = connection.execute(history).all()
            state = connection.execute(
                select(
                    drift_states.c.revision,
                    drift_states.c.bundle,
                    drift_states.c.change_event_id,
                    drift_states.c.report,
                    drift_states.c.state,
                ).where(drift_states.c.tenant == tenant, drift_states.c.user_id == user_id)
            ).one_or_none()
        return UserSnapshot(
            version=version,
            catalogue_version=catalogue_version,
            revision=user[0] if user else None,
            num_events=user[1] if user else 0,
            history=[HistoryEvent(*row) for row in reversed(rows)],
            drift=StoredDrift(*state[:3], json.loads(state[3]), state[4]) if state else None,
        )

    def erase_user(self, tenant: str, user_id: str) -> int:
        """Remove every row of a user; returns the version that no longer holds it.

        On SQLite the bytes are overwritten as well. PostgreSQL keeps them in its files until it vacuums the tables.

        Raises
        ------
        TimeoutError
            If a reader kept SQLite's log open so long that it may still hold erased bytes: erase again.
        """
        with self.writer.begin() as connection:
            version = lock_tenant(connection, tenant) + 1
            set_version(connection, tenant, version, erased_version=version)
            for table in _OF_USERS:
                connection.execute(delete(table).where(table.c.tenant == tenant, table.c.user_id == user_id))
        if self.engine.dialect.name == "sqlite":
            truncate_log(self.engine)
        return version

    def claim_users_to_assess(self, bundle: str, seconds: float, limit: int) -> list[tuple[str, str]]:
        """``(tenant, user_id)`` of users whose drift state is missing, lags, or comes from another bundle.

        Another replica does not get the same users for so many ``seconds``.
        """
        now = time.time()
        same_user = (drift_states.c.tenant == users.c.tenant) & (drift_states.c.user_id == users.c.user_id)
        lagging = (
            select(users.c.tenant, users.c.user_id)
            .join_from(users, drift_states, same_user, isouter=True)
            .where(
                users.c.claimed_until <= now,
                or_(
                    drift_states.c.revision.is_(None),
                    drift_states.c.revision < users.c.revision,
                    drift_states.c.bundle != bundle,
                ),
            )
            .order_by(users.c.revision)
            .limit(limit)
        )
        key = tuple_(users.c.tenant, users.c.user_id)
        with self.engine.begin() as connection:  # the search is long: it must not hold the write lock of SQLite
            found = [(tenant, user_id) for tenant, user_id in connection.execute(lagging)]
        if not found:
            return []
        free = (
            select(users.c.tenant, users.c.user_id)
            .where(key.in_(found), users.c.claimed_until <= now)
            .with_for_update(skip_locked=True)
        )
        claim = update(users).where(key.in_(free)).values(claimed_until=now + seconds)
        with self.writer.begin() as connection:
            returned = connection.execute(claim.returning(users.c.tenant, users.c.user_id))
            claimed = {(tenant, user_id) for tenant, user_id in returned}
        return [user for user in found if user in claimed]

    def save_drift(self, tenant: str, user_id: str, state: StoredDrift, notice: Message | None = None) -> bool:
        """Keep a drift state; ``False`` if the user was erased meanwhile or a later state is there.

        ``notice`` goes into the outbox of the tenant's webhook with it, or not at all.
        """
        values = {
            "tenant": tenant,
            "user_id": user_id,
            "revision": state.revision,
            "bundle": state.bundle,
            "change_event_id": state.change_event_id,
            "report": json.dumps(state.report, allow_nan=False),
            "state": state.state,
        }
        with self.writer.begin() as connection:
            of_user = (users.c.tenant == tenant) & (users.c.user_id == user_id)
            lifetime = select(users.c.since, users.c.revision).where(of_user).with_for_update()
            user = connection.execute(lifetime).one_or_none()
            if user is None or not user[0] <= state.revision <= user[1]:
                return False
            of_state = (drift_states.c.tenant == tenant) & (drift_states.c.user_id == user_id)
            stored = connection.scalar(select(drift_states.c.revision).where(of_state))
            if stored is not None and stored > state.revision:
                return False
            connection.execute(upsert_into(connection, drift_states), values)
            if notice is not None:
                queue_message(connection, tenant, notice)
        return True

    def upsert_items(self, tenant: str, rows: Sequence[CatalogueItem]) -> int:
        """Write catalogue entries, the last one of an id winning; returns the version that holds them."""
        last_of_id = {row.item_id: row for row in rows}
        with self.writer.begin() as connection:
            version = lock_tenant(connection, tenant) + 1
            set_version(connection, tenant, version, catalogue_version=version)
            written = {"tenant": tenant, "version": version}
            values = [{**written, **column_values(row)} for row in last_of_id.values()]
            if values:
                connection.execute(upsert_into(connection, items), values)
        return version

    def delete_item(self, tenant: str, item_id: str) -> int:
        """Leave a mark that the item must not be shown, with nothing of its text."""
        return self.upsert_items(tenant, [CatalogueItem(item_id, title="", deleted=True)])

    def item(self, tenant: str, item_id: str) -> CatalogueItem | None:
        """Read one catalogue entry, which may be a deleted one; ``None`` if the tenant never wrote it."""
        with self.engine.begin() as connection:
            row = connection.execute(
                select(*_ITEM_COLUMNS).where(items.c.tenant == tenant, items.c.item_id == item_id)
            ).one_or_none()
        return _catalogue_item(row) if row else None

    def catalogue_since(self, tenant: str, version: int) -> tuple[int, list[CatalogueItem]]:
        """Entries written after ``version``, deleted ones included, and the version that a follower then has."""
        with self.engine.begin() as connection:
            _, catalogue_version = read_versions(connection, tenant)
            rows = connection.execute(
                select(*_ITEM_COLUMNS)
                .where(items.c.tenant == tenant, items.c.version > version)
                .order_by(items.c.version, items.c.item_id)
            )
            return catalogue_version, [_catalogue_item(row) for row in rows]

    def add_served(self, rows: Sequence[ServedList]) -> None:
        """Record lists that were handed out, but none that was made before its user was erased."""
        with self.writer.begin() as connection:
            kept: list[ServedList] = []
            for tenant in sorted({row.tenant for row in rows}):  # in order: two replicas never wait for each other
                lock_tenant(connection, tenant)
                kept += _of_the_living(connection, tenant, [row for row in rows if row.tenant == tenant])
            if kept:
                connection.execute(insert(served), [column_values(row) for row in kept])

    def add_shadows(self, rows: Sequence[ShadowList]) -> None:
        """Add what another bundle would have shown to lists that are recorded; one that is not is passed over."""
        with self.writer.begin() as connection:
            for tenant in sorted({row.tenant for row in rows}):
                lock_tenant(connection, tenant)
            for row in rows:
                of_request = (served.c.tenant == row.tenant) & (served.c.request_id == row.request_id)
                connection.execute(update(served).where(of_request).values(shadow=json.dumps(row.shadow)))

    def served_list(self, tenant: str, request_id: str) -> ServedList | None:
        """The list that a request was answered with; the last one, if a client has used its request id again."""
        with self.engine.begin() as connection:
            return timeline.served_list(connection, tenant, request_id)

    def events_page(self, tenant: str, user_id: str, after: Cursor | None, limit: int) -> EventsPage:
        """Read the ``limit`` events that follow ``after``, or the first ones, oldest first."""
        with self.engine.begin() as connection:
            return timeline.events_page(connection, tenant, user_id, after, limit)

    def policy_changes(self, tenant: str, user_id: str, newest: int = 1000) -> list[PolicyChange]:
        """Read the ``newest`` lists that came under another policy than the list before, oldest first."""
        with self.engine.begin() as connection:
            return timeline.policy_changes(connection, tenant, user_id, newest)


_OF_USERS: Final = sorted(  # the user first: no drift state is added without that row
    (table for table in metadata.tables.values() if "user_id" in table.c), key=lambda table: table is not users
)
_MARKS: Final = (
    select(
        versions.c.version,
        versions.c.catalogue_version,
        users.c.revision,
        drift_states.c.revision,
        drift_states.c.bundle,
    )
    .select_from(versions)
    .outerjoin(users, and_(users.c.tenant == versions.c.tenant, users.c.user_id == bindparam("user_id")))
    .outerjoin(drift_states, and_(drift_states.c.tenant == users.c.tenant, drift_states.c.user_id == users.c.user_id))
    .where(versions.c.tenant == bindparam("tenant"))
)
_ITEM_COLUMNS = (
    items.c.item_id,
    items.c.title,
    items.c.year,
    items.c.categories,
    items.c.description,
    items.c.deleted,
    items.c.available,
)


def _catalogue_item(row: Any) -> CatalogueItem:
    return CatalogueItem(row[0], row[1], row[2], tuple(json.loads(row[3])), row[4], row[5], row[6])


def _count_events(connection: Connection, tenant: str, added: Mapping[str, int], revision: int) -> None:
    """Take note of new events of users, some of whom may be new themselves."""
    written = {"tenant": tenant, "since": revision, "revision": revision}
    rows = [{**written, "user_id": user_id, "num_events": count} for user_id, count in sorted(added.items())]
    connection.execute(_count_into(connection.dialect.name), rows)


@cache  # to build it takes longer than to run it
def _count_into(dialect: str) -> Insert:
    statement = insert_of(dialect, users)
    added = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=list(users.primary_key),
        set_={"revision": added.revision, "num_events": users.c.num_events + added.num_events},
    )


def _events_by_id(connection: Connection, tenant: str, event_ids: Iterable[str]) -> dict[str, StoredEvent]:
    columns = [events.c[field.name] for field in fields(StoredEvent)]
    found: dict[str, StoredEvent] = {}
    wanted = list(event_ids)
    for start in range(0, len(wanted), CHUNK_ROWS):
        chunk = wanted[start : start + CHUNK_ROWS]
        statement = select(*columns).where(events.c.tenant == tenant, events.c.event_id.in_(chunk))
        found.update((row[0], StoredEvent(*row)) for row in connection.execute(statement))
    return found


def _of_the_living(connection: Connection, tenant: str, rows: list[ServedList]) -> list[ServedList]:
    """Lists that no erasure has overtaken.

    Erasures leave no names behind, so a list from before the tenant's last erasure is kept only if its user has been
    there ever since. An unknown user's list may be lost in this way, one at most half a second old.
    """
    erased_version = connection.scalar(select(versions.c.erased_version).where(versions.c.tenant == tenant)) or 0
    doubtful = sorted({row.user_id for row in rows if row.version < erased_version})
    since: dict[str, int] = {}
    for start in range(0, len(doubtful), CHUNK_ROWS):
        chunk = doubtful[start : start + CHUNK_ROWS]
        found = select(users.c.user_id, users.c.since).where(users.c.tenant == tenant, users.c.user_id.in_(chunk))
        since.update((user_id, first) for user_id, first in connection.execute(found))
    return [
        row for row in rows if row.version >= erased_version or since.get(row.user_id, row.version + 1) <= row.version
    ]
