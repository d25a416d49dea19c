"""Statements that several parts of the event store share: plain SQLAlchemy Core with ``ON CONFLICT``.

A tenant's row in ``versions`` is the tenant's write lock: who changes events, catalogue or served lists takes it first.
So the versions of a tenant are committed in their order, events get their arrival numbers in the order in which they
become visible, and two writers cannot each hold a row that the other waits for.
"""

import json
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Insert, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite

from driftline.state.records import CatalogueItem, ServedList, StoredEvent
from driftline.state.tables import versions


def column_values(row: StoredEvent | CatalogueItem | ServedList) -> dict[str, Any]:
    """Column values of a record; a tuple or a mapping is stored as JSON."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {name: json.dumps(value) if isinstance(value, tuple | dict) else value for name, value in values.items()}


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """``INSERT`` of the dialect in use: both know ``ON CONFLICT``, the neutral one does not."""
    return insert_of(connection.dialect.name, table)


def insert_of(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """``INSERT`` of a dialect."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def upsert_into(connection: Connection, table: Table) -> Insert:
    """Insert a row, or replace what the row of that primary key holds."""
    statement = insert_into(connection, table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={column.name: statement.excluded[column.name] for column in table.c if not column.primary_key},
    )


def read_versions(connection: Connection, tenant: str) -> tuple[int, int]:
    """Version and catalogue version of a tenant; zeros if nothing was ever written."""
    row = connection.execute(
        select(versions.c.version, versions.c.catalogue_version).where(versions.c.tenant == tenant)
    ).one_or_none()
    return (row[0], row[1]) if row else (0, 0)


def lock_tenant(connection: Connection, tenant: str) -> int:
    """Keep other writers of the tenant out until the transaction ends; returns the version of the last write."""
    locked = select(versions.c.version).where(versions.c.tenant == tenant).with_for_update()
    version = connection.scalar(locked)
    if version is None:
        first = {"tenant": tenant, "version": 0, "catalogue_version": 0}
        connection.execute(insert_into(connection, versions).values(first).on_conflict_do_nothing())
        version = connection.scalar(locked)
    assert version is not None
    return int(version)


def set_version(connection: Connection, tenant: str, version: int, **others: int) -> None:
    """Advance a tenant that is locked."""
    connection.execute(update(versions).where(versions.c.tenant == tenant).values(version=version, **others))
