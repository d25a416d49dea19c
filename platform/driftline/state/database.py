"""How the store's database is opened and brought to the newest schema.

SQLite is the default: WAL, so that readers never wait for the writer; ``synchronous=FULL``, so that a commit is on the
disk before it is acknowledged; ``secure_delete``, so that erased bytes are overwritten. PostgreSQL is for several
replicas: readers see one moment (``REPEATABLE READ``), writers wait for each other's row locks (``READ COMMITTED``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Select, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionInTimeError
from sqlalchemy.sql.compiler import SQLCompiler

from driftline.errors import ConfigError, DatabaseError, DataError

LOCK_WAIT_SECONDS: Final = 10
CONNECTIONS: Final = 8
"""Kept open by a process: more than a UserState replica has threads that use them, its loop included."""
MIGRATIONS: Final = Path(__file__).parent / "migrations"
_MIGRATION_LOCK: Final = 0x6472696674  # any number that no other program on the server takes: "drift"
_WRITE_ONE: Final = "sqlite:////absolute/path.db or postgresql://user@host/name"


def open_engine(url: str) -> Engine:
    """Open a database and bring it to the newest schema.

    Parameters
    ----------
    url
        ``sqlite:////absolute/path.db`` or ``postgresql://user:password@host:port/name``.

    Raises
    ------
    ConfigError
        If the URL cannot be read, or names a database without durable storage or of another kind.
    DataError
        If the database was written by a Driftline that is newer than this one.
    DatabaseError
        If it cannot be reached.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        # parameters are user ids, and errors are logged
        engine = create_engine(parsed, pool_size=CONNECTIONS, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        engine = create_engine(parsed, hide_parameters=True, pool_pre_ping=True, isolation_level="REPEATABLE READ")
    try:
        with reaching_database():
            _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def reaching_database() -> Iterator[None]:
    """Turn what says that the database cannot be used now, whatever was asked of it, into one error.

    Raises
    ------
    DatabaseError
        The server is down or going down, the connection broke, a lock was not free in time, or the disk is full. What
        was asked may have been done, if it broke during the commit: ask again.
    """
    try:
        yield
    except (OperationalError, InterfaceError, NoConnectionInTimeError) as error:
        raise DatabaseError(f"the database cannot be used: {getattr(error, 'orig', error)}") from error


def writing(engine: Engine) -> Engine:
    """The same database and pool, for transactions that write."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(write=True)
    return engine.execution_options(isolation_level="READ COMMITTED")


class RowLookup:
    """A query of one row that is asked for all the time: compiled once and run on the driver itself.

    What SQLAlchemy does around a statement takes several times as long as a look into an index. The connection is
    still the pool's.

    Parameters
    ----------
    statement
        Its columns need no conversion (numbers and text), its only parameters are ``bindparam``.
    """

    def __init__(self, engine: Engine, statement: Select[Any]) -> None:
        compiled = statement.compile(dialect=engine.dialect)
        assert isinstance(compiled, SQLCompiler)
        self._engine, self._sql = engine, str(compiled)
        self._order = compiled.positiontup

    def __call__(self, **parameters: object) -> tuple[Any, ...] | None:
        """The first row; ``None`` if there is none.

        Raises
        ------
        DatabaseError
            See :func:`reaching_database`.
        """
        driver: Any = self._engine.dialect.loaded_dbapi
        values = parameters if self._order is None else [parameters[name] for name in self._order]
        raw = None
        try:
            with reaching_database():
                raw = self._engine.raw_connection()
            row: tuple[Any, ...] | None = raw.cursor().execute(self._sql, values).fetchone()
        except (driver.OperationalError, driver.InterfaceError) as error:
            if raw is not None:
                raw.invalidate(error)
            raise DatabaseError(f"the database cannot be used: {error}") from error
        finally:
            if raw is not None:
                raw.close()
        return row


def truncate_log(engine: Engine) -> None:
    """Move SQLite's write-ahead log into the database and empty it: it still holds pages as they were.

    Raises
    ------
    TimeoutError
        If readers or writers kept the log in use for ``LOCK_WAIT_SECONDS``.
    """
    raw = engine.raw_connection()  # outside any transaction, or SQLite refuses
    try:
        busy = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        raw.close()
    if busy:
        raise TimeoutError(f"the write-ahead log was in use for {LOCK_WAIT_SECONDS} s and was not emptied: try again")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError([f"database={url!r} is not a database URL: write {_WRITE_ONE}"]) from error
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise ConfigError([f"database={url!r} keeps events in memory only: write {_WRITE_ONE}"])
        return parsed
    if kind != "postgresql":
        raise ConfigError([f"database: {kind!r} is not supported: write {_WRITE_ONE}"])
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise ConfigError(["database: PostgreSQL needs a driver: pip install 'driftline[postgres]'"]) from error
    return parsed.set(drivername="postgresql+psycopg")


def _migrate(engine: Engine) -> None:
    """Run the migrations that are missing, in one transaction that keeps out others who open the database."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config(attributes={"configure_logger": False})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        if MigrationContext.configure(connection).get_current_revision() == script.get_current_head():
            return
    with writing(engine).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _MIGRATION_LOCK})
        found = MigrationContext.configure(connection).get_current_revision()
        known = {revision.revision for revision in script.walk_revisions()}
        _check_readable(engine, found, known)
        if found is None and inspect(connection).has_table("schema_info"):
            found = str(connection.scalar(text("SELECT version FROM schema_info")))
            _check_readable(engine, found, {"1"})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _check_readable(engine: Engine, found: str | None, known: set[str]) -> None:
    if found is not None and found not in known:
        raise DataError(
            f"{engine.url!r} has schema version {found}, which this Driftline does not know: "
            "use the version of Driftline that wrote it, or another database"
        )


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
