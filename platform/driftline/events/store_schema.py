"""Tables of the event store, and how its database is opened.

Every table is keyed by tenant first. ``versions`` holds one counter per tenant that each acknowledged write advances;
rows remember the version that wrote them, so a follower asks for 'everything after version v'.

SQLite is the default: WAL, so that readers never wait for the writer; ``synchronous=FULL``, so that a commit is on the
disk before it is acknowledged; ``secure_delete``, so that erased bytes are overwritten. The statements are plain
SQLAlchemy Core with ``ON CONFLICT``, which PostgreSQL shares.
"""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from driftline.errors import ConfigError, DataError

SCHEMA_VERSION: Final = 1
LOCK_WAIT_SECONDS: Final = 10

metadata = MetaData()
_Sequence = BigInteger().with_variant(Integer, "sqlite")

schema_info = Table("schema_info", metadata, Column("version", Integer, primary_key=True))

versions = Table(
    "versions",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("catalogue_version", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),  # order of arrival
    Column("tenant", String(64), nullable=False),
    Column("event_id", String(256), nullable=False),
    Column("user_id", String(256), nullable=False),
    Column("item_id", String(256), nullable=False),
    Column("type", String(32), nullable=False),
    Column("timestamp", Float(53), nullable=False),  # seconds since the epoch
    Column("value", Float(53)),
    Column("text", Text),
    Column("request_id", String(128)),
    UniqueConstraint("tenant", "event_id", name="one_event_per_id"),
    Index("events_of_user", "tenant", "user_id", "timestamp", "seq"),
    sqlite_autoincrement=True,  # a number is never given twice, even after an erasure
)

users = Table(
    "users",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("user_id", String(256), primary_key=True),
    Column("since", BigInteger, nullable=False),  # version of the first write, or of the first after an erasure
    Column("revision", BigInteger, nullable=False),  # version of the last write to this user's history
)

drift_states = Table(
    "drift_states",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("user_id", String(256), primary_key=True),
    Column("revision", BigInteger, nullable=False),  # the history it was worked out from
    Column("bundle", String(256), nullable=False),  # the model it was worked out with
    Column("change_event_id", String(256)),  # first event of the new regime
    Column("report", Text, nullable=False),  # DriftReport.to_dict() as JSON
)

items = Table(
    "items",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("item_id", String(256), primary_key=True),
    Column("title", Text, nullable=False),
    Column("year", String(16), nullable=False),
    Column("categories", Text, nullable=False),  # JSON array of names
    Column("description", Text, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Index("items_by_version", "tenant", "version"),
)

served = Table(
    "served",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("user_id", String(256), nullable=False),
    Column("items", Text, nullable=False),  # JSON array of item ids, best first
    Column("policy", String(32), nullable=False),
    Column("bundle", String(256), nullable=False),
    Column("served_at", Float(53), nullable=False),
    Index("served_to_user", "tenant", "user_id"),
    Index("served_by_request", "tenant", "request_id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("scopes", String(64), nullable=False),  # space-separated
    Column("created_at", Float(53), nullable=False),
    Column("revoked_at", Float(53)),
)


def open_engine(url: str) -> Engine:
    """Open a database, creating its tables if it is new.

    Parameters
    ----------
    url
        ``sqlite:////absolute/path.db``, or a PostgreSQL URL.

    Raises
    ------
    ConfigError
        If the URL cannot be read or names a database without durable storage.
    DataError
        If the database was written by another schema version.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError([f"database={url!r} is not a database URL: write sqlite:////absolute/path.db"]) from error
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError([f"database={url!r} keeps events in memory only: write sqlite:////absolute/path.db"])
    engine = create_engine(parsed)
    if parsed.get_backend_name() == "sqlite":
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    with engine.execution_options(write=True).begin() as connection:
        metadata.create_all(connection)
        found = connection.scalar(select(schema_info.c.version))
        if found is None:
            connection.execute(insert(schema_info).values(version=SCHEMA_VERSION))
    if found not in (None, SCHEMA_VERSION):
        raise DataError(
            f"{parsed!r} has schema version {found}, this Driftline reads {SCHEMA_VERSION}: "
            "use the version of Driftline that wrote it, or another database"
        )
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says, not where the driver guesses
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {LOCK_WAIT_SECONDS * 1000}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a reader that turns writer half-way could find its snapshot outdated and fail."""
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
