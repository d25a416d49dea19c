"""State as Parquet files: out of one database, into another, of whatever kind.

Both ways are all or nothing. An export reads one moment of the database while the service goes on writing, and writes
``manifest.json`` last: a directory without it is no export. An import is one transaction, into a database that holds
nothing of the tenants that the files hold; if it ends early, nothing was imported. So neither is resumed: it is
repeated.

API keys, webhooks, the audit log and promotions stay where they are: they belong to an installation. Arrival numbers
are given anew, in the same order, so a timeline cursor does not survive the move.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    Select,
    Table,
    insert,
    select,
)
from sqlalchemy import Text as LongText
from sqlalchemy.types import String

from driftline.errors import DataError
from driftline.state.store import Store
from driftline.state.tables import drift_states, events, items, served, users, versions

TABLES: Final = (versions, users, events, drift_states, items, served)
FORMAT: Final = 1
CHUNK_ROWS: Final = 20_000
_LEFT_OUT: Final = {"seq", "claimed_until"}  # numbers of one database, and what its replicas are busy with
_ARROW_TYPES: Final[tuple[tuple[type, pa.DataType], ...]] = (
    (Boolean, pa.bool_()),
    (BigInteger, pa.int64()),
    (Integer, pa.int64()),
    (Float, pa.float64()),
    (LargeBinary, pa.binary()),
    (LongText, pa.string()),
    (String, pa.string()),
)


def export_state(store: Store, folder: Path, tenant: str | None = None) -> dict[str, int]:
    """Write every table, or one tenant's part, as ``TABLE-NUMBER.parquet``.

    Parameters
    ----------
    folder
        A directory that is empty or not there yet.

    Returns
    -------
    dict[str, int]
        Rows by table.

    Raises
    ------
    DataError
        If the directory holds something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DataError(f"{folder} is not empty: name a new directory")
    rows: dict[str, int] = {}
    with store.engine.begin() as connection:
        for table in TABLES:
            rows[table.name] = 0
            for number, chunk in enumerate(_chunks(connection, table, tenant)):
                pq.write_table(chunk, folder / f"{table.name}-{number:06}.parquet", compression="zstd")
                rows[table.name] += chunk.num_rows
    draft = folder / "manifest.json.draft"
    draft.write_text(json.dumps({"format": FORMAT, "tenant": tenant, "rows": rows}, indent=2), encoding="utf-8")
    draft.rename(folder / "manifest.json")
    return rows


def import_state(store: Store, folder: Path, tenant: str | None = None) -> dict[str, int]:
    """Read what :func:`export_state` wrote, or one tenant's part of it.

    Returns
    -------
    dict[str, int]
        Rows by table.

    Raises
    ------
    DataError
        If the directory is no complete export, or the database holds something of a tenant in it.
    """
    expected = _manifest(folder)["rows"]
    rows: dict[str, int] = {}
    with store.writer.begin() as connection:
        for table in TABLES:
            found, rows[table.name], fresh = 0, 0, set[str]()
            for file in sorted(folder.glob(f"{table.name}-*.parquet")):
                chunk = _read(file, table)
                found += len(chunk)
                wanted = [row for row in chunk if tenant in (None, row["tenant"])]
                fresh |= _check_absent(connection, table, {row["tenant"] for row in wanted} - fresh)
                if wanted:
                    connection.execute(insert(table), wanted)
                rows[table.name] += len(wanted)
            if found != expected.get(table.name):
                raise DataError(f"{folder}: {found} rows of {table.name}, the manifest says {expected.get(table.name)}")
    return rows


def _chunks(connection: Connection, table: Table, tenant: str | None) -> Iterator[pa.Table]:
    columns = _columns(table)
    schema = pa.schema([(column.name, _arrow_type(column)) for column in columns])
    statement: Select[Any] = select(*columns).order_by(*table.primary_key)
    if tenant is not None:
        statement = statement.where(table.c.tenant == tenant)
    streamed = connection.execute(statement, execution_options={"yield_per": CHUNK_ROWS})
    for rows in streamed.mappings().partitions():
        yield pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def _columns(table: Table) -> list[Column[Any]]:
    return [column for column in table.c if column.name not in _LEFT_OUT]


def _arrow_type(column: Column[Any]) -> pa.DataType:
    return next(arrow for kind, arrow in _ARROW_TYPES if isinstance(column.type, kind))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is no complete export (manifest.json: {error}): export again") from error
    if manifest.get("format") != FORMAT:
        raise DataError(f"{folder} has export format {manifest.get('format')}, this Driftline reads {FORMAT}")
    return manifest


def _read(file: Path, table: Table) -> list[dict[str, Any]]:
    """Rows of a file; a column that the file lacks, from an older Driftline, takes its default."""
    try:
        chunk = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    unknown = set(chunk.column_names) - {column.name for column in _columns(table)}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise DataError(f"{file} has columns that this Driftline does not know ({names}): use the one that wrote it")
    rows: list[dict[str, Any]] = chunk.to_pylist()
    return rows


def _check_absent(connection: Connection, table: Table, tenants: set[str]) -> set[str]:
    present = connection.scalars(select(table.c.tenant).where(table.c.tenant.in_(tenants)).limit(1)).first()
    if present is not None:
        raise DataError(
            f"the database holds {table.name} of tenant {present!r} already: import into a database without that tenant"
        )
    return tenants
