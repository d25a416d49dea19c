"""The event store: events, catalogue changes, drift states and served lists of every tenant.

One `Store` is one database (see ``store_schema``). All methods are synchronous, safe to call from many threads, and
one transaction each: when a method returns, what it wrote is on the disk.

Order of a history: ``(timestamp, arrival)``. An event that arrives late takes its place by its own timestamp; events
of equal timestamp stay in the order in which they arrived.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from sqlalchemy import Connection, Insert, Table, delete, func, insert, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from driftline.events.store_schema import drift_states, events, items, open_engine, served, users, versions

CHUNK_ROWS: Final = 500  # ids per statement: SQLite takes 32,766 parameters
Status = Literal["accepted", "duplicate", "conflict"]


@dataclass(frozen=True)
class StoredEvent:
    """One event as the store keeps it; ``timestamp`` in seconds since the epoch."""

    event_id: str
    user_id: str
    item_id: str
    type: str
    timestamp: float
    value: float | None = None
    text: str | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class HistoryEvent:
    """What a model needs to know of one event of a history."""

    event_id: str
    item_id: str
    type: str
    timestamp: float


@dataclass(frozen=True)
class Appended:
    """Outcome of :meth:`Store.append_events`: one status per given event, and the version that holds them."""

    statuses: list[Status]
    version: int


@dataclass(frozen=True)
class StoredDrift:
    """Drift state of one user.

    Parameters
    ----------
    revision
        The user's revision that it was worked out from; it lags if the user has a later one.
    bundle
        The model that it was worked out with.
    change_event_id
        First event of the new regime: unlike an index, it stays right when older events arrive late.
    report
        ``DriftReport.to_dict()``.
    """

    revision: int
    bundle: str
    change_event_id: str | None
    report: dict[str, Any]


@dataclass(frozen=True)
class UserSnapshot:
    """All that is known of one user, read in one transaction.

    ``revision`` is ``None`` if the tenant has no such user; ``history`` holds the newest events, oldest first;
    ``num_events`` counts all of them.
    """

    version: int
    catalogue_version: int
    revision: int | None
    num_events: int
    history: list[HistoryEvent]
    drift: StoredDrift | None


@dataclass(frozen=True)
class CatalogueItem:
    """A catalogue entry; ``deleted`` marks an item that must not be shown any more."""

    item_id: str
    title: str
    year: str = ""
    categories: tuple[str, ...] = ()
    description: str = ""
    deleted: bool = False


@dataclass(frozen=True)
class ServedList:
    """A list that was handed out; ``version`` is the store's version that it was made from."""

    tenant: str
    request_id: str
    user_id: str
    items: tuple[str, ...]
    policy: str
    bundle: str
    served_at: float
    version: int


class Store:
    """The database behind :class:`~driftline.serving.user_state.UserState`.

    Parameters
    ----------
    url
        See :func:`~driftline.events.store_schema.open_engine`.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self.writer = self.engine.execution_options(write=True)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def versions(self, tenant: str) -> tuple[int, int]:
        """Version and catalogue version of a tenant; zeros if nothing was ever written."""
        with self.engine.begin() as connection:
            return _versions(connection, tenant)

    def append_events(self, tenant: str, rows: Sequence[StoredEvent]) -> Appended:
        """Add events that are not there yet.

        An ``event_id`` that is there already makes a row a ``duplicate`` if it is the same event, which is what a
        retry looks like, and a ``conflict`` if it is a different one.
        """
        first_of_id: dict[str, StoredEvent] = {}
        for row in rows:
            first_of_id.setdefault(row.event_id, row)
        with self.writer.begin() as connection:
            statement = _insert(connection, events).on_conflict_do_nothing().returning(events.c.event_id)
            values = [{"tenant": tenant, **_columns(row)} for row in first_of_id.values()]
            inserted = set(connection.scalars(statement, values)) if values else set()
            known = _events_by_id(connection, tenant, first_of_id.keys() - inserted)
            if inserted:
                version = _advance(connection, tenant)
                touched = sorted({first_of_id[event_id].user_id for event_id in inserted})
                _set_revision(connection, tenant, touched, version)
            else:
                version = _versions(connection, tenant)[0]
        statuses: list[Status] = []
        for row in rows:
            if row.event_id in inserted and row is first_of_id[row.event_id]:
                statuses.append("accepted")
            else:
                same = row == (known.get(row.event_id) or first_of_id[row.event_id])
                statuses.append("duplicate" if same else "conflict")
        return Appended(statuses, version)

    def snapshot(self, tenant: str, user_id: str, newest: int) -> UserSnapshot:
        """Read a user with the ``newest`` events of the history."""
        of_user = (events.c.tenant == tenant) & (events.c.user_id == user_id)
        with self.engine.begin() as connection:
            version, catalogue_version = _versions(connection, tenant)
            revision = connection.scalar(
                select(users.c.revision).where(users.c.tenant == tenant, users.c.user_id == user_id)
            )
            num_events = connection.scalar(select(func.count()).select_from(events).where(of_user))
            rows = connection.execute(
                select(events.c.event_id, events.c.item_id, events.c.type, events.c.timestamp)
                .where(of_user)
                .order_by(events.c.timestamp.desc(), events.c.seq.desc())
                .limit(newest)
            ).all()
            state = connection.execute(
                select(
                    drift_states.c.revision,
                    drift_states.c.bundle,
                    drift_states.c.change_event_id,
                    drift_states.c.report,
                ).where(drift_states.c.tenant == tenant, drift_states.c.user_id == user_id)
            ).one_or_none()
        return UserSnapshot(
            version=version,
            catalogue_version=catalogue_version,
            revision=revision,
            num_events=num_events or 0,
            history=[HistoryEvent(*row) for row in reversed(rows)],
            drift=StoredDrift(state[0], state[1], state[2], json.loads(state[3])) if state else None,
        )

    def erase_user(self, tenant: str, user_id: str) -> int:
        """Remove every row of a user and overwrite it on the disk; returns the version that no longer holds it."""
        with self.writer.begin() as connection:
            for table in (events, drift_states, served, users):
                connection.execute(delete(table).where(table.c.tenant == tenant, table.c.user_id == user_id))
            version = _advance(connection, tenant)
        if self.engine.dialect.name == "sqlite":
            raw = self.engine.raw_connection()  # outside any transaction, or SQLite refuses
            try:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log still held the erased pages
            finally:
                raw.close()
        return version

    def users_to_assess(self, bundle: str) -> list[tuple[str, str]]:
        """``(tenant, user_id)`` of users whose drift state is missing, lags, or comes from another bundle."""
        same_user = (drift_states.c.tenant == users.c.tenant) & (drift_states.c.user_id == users.c.user_id)
        statement = (
            select(users.c.tenant, users.c.user_id)
            .join_from(users, drift_states, same_user, isouter=True)
            .where(
                or_(
                    drift_states.c.revision.is_(None),
                    drift_states.c.revision < users.c.revision,
                    drift_states.c.bundle != bundle,
                )
            )
            .order_by(users.c.revision)
        )
        with self.engine.begin() as connection:
            return [(tenant, user_id) for tenant, user_id in connection.execute(statement)]

    def save_drift(self, tenant: str, user_id: str, state: StoredDrift) -> bool:
        """Keep a drift state; ``False`` if the user was erased meanwhile or a later state is there."""
        values = {
            "tenant": tenant,
            "user_id": user_id,
            "revision": state.revision,
            "bundle": state.bundle,
            "change_event_id": state.change_event_id,
            "report": json.dumps(state.report, allow_nan=False),
        }
        with self.writer.begin() as connection:
            of_user = (users.c.tenant == tenant) & (users.c.user_id == user_id)
            user = connection.execute(select(users.c.since, users.c.revision).where(of_user)).one_or_none()
            if user is None or not user[0] <= state.revision <= user[1]:
                return False
            of_state = (drift_states.c.tenant == tenant) & (drift_states.c.user_id == user_id)
            stored = connection.scalar(select(drift_states.c.revision).where(of_state))
            if stored is not None and stored > state.revision:
                return False
            connection.execute(_upsert(connection, drift_states), values)
        return True

    def upsert_items(self, tenant: str, rows: Sequence[CatalogueItem]) -> int:
        """Write catalogue entries, the last one of an id winning; returns the version that holds them."""
        last_of_id = {row.item_id: row for row in rows}
        with self.writer.begin() as connection:
            version = _advance(connection, tenant, catalogue=True)
            written = {"tenant": tenant, "version": version}
            values = [{**written, **_columns(row)} for row in last_of_id.values()]
            if values:
                connection.execute(_upsert(connection, items), values)
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
            _, catalogue_version = _versions(connection, tenant)
            rows = connection.execute(
                select(*_ITEM_COLUMNS)
                .where(items.c.tenant == tenant, items.c.version > version)
                .order_by(items.c.version, items.c.item_id)
            )
            return catalogue_version, [_catalogue_item(row) for row in rows]

    def add_served(self, rows: Sequence[ServedList]) -> None:
        """Record lists that were handed out."""
        values = [_columns(row) for row in rows]
        for value in values:
            del value["version"]
        if values:
            with self.writer.begin() as connection:
                connection.execute(insert(served), values)


_ITEM_COLUMNS = (
    items.c.item_id,
    items.c.title,
    items.c.year,
    items.c.categories,
    items.c.description,
    items.c.deleted,
)


def _catalogue_item(row: Any) -> CatalogueItem:
    return CatalogueItem(row[0], row[1], row[2], tuple(json.loads(row[3])), row[4], row[5])


def _columns(row: StoredEvent | CatalogueItem | ServedList) -> dict[str, Any]:
    """Column values of a record; a tuple is stored as a JSON array."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {name: json.dumps(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """``INSERT`` of the dialect in use: both know ``ON CONFLICT``, the neutral one does not."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _upsert(connection: Connection, table: Table) -> Insert:
    statement = _insert(connection, table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={column.name: statement.excluded[column.name] for column in table.c if not column.primary_key},
    )


def _versions(connection: Connection, tenant: str) -> tuple[int, int]:
    row = connection.execute(
        select(versions.c.version, versions.c.catalogue_version).where(versions.c.tenant == tenant)
    ).one_or_none()
    return (row[0], row[1]) if row else (0, 0)


def _advance(connection: Connection, tenant: str, *, catalogue: bool = False) -> int:
    """Take the tenant's next version; the row stays locked until the transaction ends."""
    first = {"tenant": tenant, "version": 1, "catalogue_version": 1 if catalogue else 0}
    following: dict[str, Any] = {"version": versions.c.version + 1}
    if catalogue:
        following["catalogue_version"] = versions.c.version + 1
    statement = _insert(connection, versions).values(first)
    statement = statement.on_conflict_do_update(index_elements=[versions.c.tenant], set_=following)
    return int(connection.execute(statement.returning(versions.c.version)).scalar_one())


def _set_revision(connection: Connection, tenant: str, user_ids: list[str], revision: int) -> None:
    written = {"tenant": tenant, "since": revision, "revision": revision}
    statement = _insert(connection, users).on_conflict_do_update(
        index_elements=list(users.primary_key), set_={"revision": revision}
    )
    connection.execute(statement, [{**written, "user_id": user_id} for user_id in user_ids])


def _events_by_id(connection: Connection, tenant: str, event_ids: Iterable[str]) -> dict[str, StoredEvent]:
    columns = [events.c[field.name] for field in fields(StoredEvent)]
    found: dict[str, StoredEvent] = {}
    wanted = list(event_ids)
    for start in range(0, len(wanted), CHUNK_ROWS):
        chunk = wanted[start : start + CHUNK_ROWS]
        statement = select(*columns).where(events.c.tenant == tenant, events.c.event_id.in_(chunk))
        found.update((row[0], StoredEvent(*row)) for row in connection.execute(statement))
    return found
