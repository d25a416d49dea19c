"""What only SQLite has: pragmas of durability, and files whose bytes can be searched."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from driftline.state import database as opening
from driftline.state.store import ServedList, Store, StoredDrift, StoredEvent


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events.db"


@pytest.fixture
def store(database: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{database}")
    yield opened
    opened.close()


def test_every_connection_is_durable_and_erases(store: Store) -> None:
    with store.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "secure_delete")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}  # 2 = FULL


def test_an_erased_user_is_nowhere_on_the_disk(store: Store, database: Path) -> None:
    name = "user-to-forget"
    rows = [StoredEvent(f"{name}-{n}", name, "kept-item", "view", float(n)) for n in range(600)]
    store.append_events("acme", [*rows, StoredEvent("other", "somebody-else", "kept-item", "view", 0.0)])
    shown = ServedList("acme", "r1", name, ("i1",), "steady", "b1", 5.0, 1, shadow={"user": name})
    store.add_served([shown])
    store.save_drift("acme", name, StoredDrift(1, "b1", f"{name}-0", {}))
    assert any(name.encode() in file.read_bytes() for file in database.parent.iterdir())
    store.erase_user("acme", name)
    for file in database.parent.iterdir():
        assert name.encode() not in file.read_bytes(), file
    assert store.snapshot("acme", "somebody-else", 9).num_events == 1


def test_an_erasure_that_a_reader_keeps_from_the_log_is_not_acknowledged(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LOCK_WAIT_SECONDS", 0.1)
    store = Store(f"sqlite:///{database}")
    store.append_events("acme", [StoredEvent("e1", "ada", "i1", "view", 0.0)])
    with sqlite3.connect(database) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM events").fetchall()  # from now on this reader needs the log
        with pytest.raises(TimeoutError, match="try again"):
            store.erase_user("acme", "ada")
    reader.close()
    store.erase_user("acme", "ada")
    assert all(b"ada" not in file.read_bytes() for file in database.parent.iterdir())
    store.close()
