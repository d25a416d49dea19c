"""The event store on a real SQLite file."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from driftline.errors import ConfigError, DataError
from driftline.events.store import CatalogueItem, ServedList, Store, StoredDrift, StoredEvent
from driftline.events.store_schema import served


def an_event(event_id: str, timestamp: float = 0.0, user: str = "ada", item: str = "i1") -> StoredEvent:
    return StoredEvent(event_id, user, item, "view", timestamp)


def a_list(user: str, version: int = 1) -> ServedList:
    return ServedList("acme", "r1", user, ("i1", "i2"), "steady", "b1", 5.0, version)


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


def test_the_same_event_twice_is_a_duplicate_and_another_with_its_id_a_conflict(store: Store) -> None:
    first = store.append_events("acme", [an_event("e1"), an_event("e2"), an_event("e1"), an_event("e1", item="i9")])
    again = store.append_events("acme", [an_event("e2"), an_event("e2", timestamp=7.0)])
    assert first.statuses == ["accepted", "accepted", "duplicate", "conflict"]
    assert again.statuses == ["duplicate", "conflict"]
    assert (first.version, again.version) == (1, 1)
    assert len(store.snapshot("acme", "ada", 10).history) == 2


def test_an_event_id_belongs_to_its_tenant(store: Store) -> None:
    store.append_events("acme", [an_event("e1")])
    assert store.append_events("beta", [an_event("e1", item="i7")]).statuses == ["accepted"]
    assert [e.item_id for e in store.snapshot("beta", "ada", 10).history] == ["i7"]


def test_a_history_is_ordered_by_timestamp_then_arrival(store: Store) -> None:
    store.append_events("acme", [an_event("a", 5.0), an_event("b", 3.0), an_event("c", 5.0)])
    store.append_events("acme", [an_event("late", 4.0), an_event("tie", 3.0)])
    assert [e.event_id for e in store.snapshot("acme", "ada", 10).history] == ["b", "tie", "late", "a", "c"]


def test_a_snapshot_holds_the_newest_events_and_counts_all(store: Store) -> None:
    store.append_events("acme", [an_event(f"e{n}", n) for n in range(2_000)])
    snapshot = store.snapshot("acme", "ada", 3)
    assert [e.event_id for e in snapshot.history] == ["e1997", "e1998", "e1999"]
    assert snapshot.num_events == 2_000


def test_threads_that_retry_the_same_events_store_each_once(store: Store) -> None:
    batches = [[an_event(f"e{n}", n) for n in range(start, start + 20)] for start in range(0, 100, 10)]

    def send(batch: list[StoredEvent]) -> list[str]:
        return list(store.append_events("acme", batch).statuses)

    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(status for outcome in pool.map(send, batches * 3) for status in outcome)
    assert statuses == {"accepted": 110, "duplicate": 490}  # 30 batches of 20; e0..e109
    assert store.snapshot("acme", "ada", 1_000).num_events == 110


def test_each_write_takes_the_next_version(store: Store) -> None:
    assert store.append_events("acme", [an_event("e1")]).version == 1
    assert store.upsert_items("acme", [CatalogueItem("n1", "New")]) == 2
    assert store.append_events("acme", [an_event("e1")]).version == 2  # nothing new, nothing written
    assert store.erase_user("acme", "ada") == 3
    assert store.versions("acme") == (3, 2)
    assert store.versions("beta") == (0, 0)


def test_a_follower_gets_what_was_written_since(store: Store) -> None:
    first = store.upsert_items(
        "acme", [CatalogueItem("n1", "Old", categories=("Sci-Fi", "新浪潮")), CatalogueItem("n2", "B")]
    )
    store.upsert_items("acme", [CatalogueItem("n1", "New")])
    store.delete_item("acme", "n2")
    version, changes = store.catalogue_since("acme", first)
    assert (version, [(item.item_id, item.title, item.deleted) for item in changes]) == (
        3,
        [("n1", "New", False), ("n2", "", True)],
    )
    assert store.catalogue_since("acme", version) == (3, [])


def test_users_whose_drift_state_lags_are_found(store: Store) -> None:
    store.append_events("acme", [an_event("e1"), an_event("e2", user="bob")])
    assert store.users_to_assess("b1") == [("acme", "ada"), ("acme", "bob")]
    assert store.save_drift("acme", "ada", StoredDrift(1, "b1", "e1", {"p_drift": 0.5}))
    assert store.save_drift("acme", "bob", StoredDrift(1, "b1", None, {}))
    assert store.users_to_assess("b1") == []
    assert len(store.users_to_assess("b2")) == 2
    store.append_events("acme", [an_event("e3")])
    assert store.users_to_assess("b1") == [("acme", "ada")]


def test_a_drift_state_never_goes_back_nor_revives_an_erased_user(store: Store) -> None:
    store.append_events("acme", [an_event("e1")])
    store.append_events("acme", [an_event("e2")])
    assert store.save_drift("acme", "ada", StoredDrift(2, "b1", "e1", {"p_drift": 0.5}))
    assert not store.save_drift("acme", "ada", StoredDrift(1, "b1", None, {}))
    stored = store.snapshot("acme", "ada", 9).drift
    assert stored == StoredDrift(2, "b1", "e1", {"p_drift": 0.5})
    store.erase_user("acme", "ada")
    assert not store.save_drift("acme", "ada", StoredDrift(2, "b1", None, {}))
    store.append_events("acme", [an_event("e3")])  # she came back: what was assessed before is not hers
    assert not store.save_drift("acme", "ada", StoredDrift(2, "b1", None, {}))
    assert store.snapshot("acme", "ada", 9).drift is None


def test_an_erased_user_is_nowhere_on_the_disk(store: Store, database: Path) -> None:
    name = "user-to-forget"
    store.append_events("acme", [an_event(f"{name}-{n}", n, user=name, item="kept-item") for n in range(600)])
    store.append_events("acme", [an_event("other", user="somebody-else")])
    store.add_served([a_list(name), a_list("somebody-else")])
    store.save_drift("acme", name, StoredDrift(1, "b1", f"{name}-0", {}))
    assert any(name.encode() in file.read_bytes() for file in database.parent.iterdir())
    store.erase_user("acme", name)
    for file in database.parent.iterdir():
        assert name.encode() not in file.read_bytes(), file
    with store.engine.begin() as connection:
        assert connection.execute(select(served.c.user_id)).scalars().all() == ["somebody-else"]
    assert store.snapshot("acme", "somebody-else", 9).num_events == 1


def test_a_store_is_found_again_after_closing(database: Path) -> None:
    for number in range(2):
        opened = Store(f"sqlite:///{database}")
        opened.append_events("acme", [an_event(f"e{number}", number)])
        opened.close()
    reopened = Store(f"sqlite:///{database}")
    assert reopened.snapshot("acme", "ada", 9).num_events == 2
    reopened.close()


def test_a_database_of_another_schema_version_is_refused(store: Store, database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE schema_info SET version = 99")
    with pytest.raises(DataError, match="schema version 99"):
        Store(f"sqlite:///{database}")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "no url"])
def test_a_database_that_forgets_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"write sqlite:////absolute/path\.db"):
        Store(url)
