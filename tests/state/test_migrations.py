"""Databases come to the newest schema when they are opened, whatever they were before."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from driftline.errors import DataError
from driftline.state.store import CatalogueItem, Store, StoredDrift, StoredEvent
from driftline.state.tables import metadata

FIRST_SCHEMA = """
CREATE TABLE schema_info (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE versions (
    tenant VARCHAR(64) NOT NULL, version BIGINT NOT NULL, catalogue_version BIGINT NOT NULL, PRIMARY KEY (tenant)
);
CREATE TABLE events (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, tenant VARCHAR(64) NOT NULL, event_id VARCHAR(256) NOT NULL,
    user_id VARCHAR(256) NOT NULL, item_id VARCHAR(256) NOT NULL, type VARCHAR(32) NOT NULL, timestamp FLOAT NOT NULL,
    value FLOAT, text TEXT, request_id VARCHAR(128), CONSTRAINT one_event_per_id UNIQUE (tenant, event_id)
);
CREATE INDEX events_of_user ON events (tenant, user_id, timestamp, seq);
CREATE TABLE users (
    tenant VARCHAR(64) NOT NULL, user_id VARCHAR(256) NOT NULL, since BIGINT NOT NULL, revision BIGINT NOT NULL,
    PRIMARY KEY (tenant, user_id)
);
CREATE TABLE drift_states (
    tenant VARCHAR(64) NOT NULL, user_id VARCHAR(256) NOT NULL, revision BIGINT NOT NULL, bundle VARCHAR(256) NOT NULL,
    change_event_id VARCHAR(256), report TEXT NOT NULL, PRIMARY KEY (tenant, user_id)
);
CREATE TABLE items (
    tenant VARCHAR(64) NOT NULL, item_id VARCHAR(256) NOT NULL, title TEXT NOT NULL, year VARCHAR(16) NOT NULL,
    categories TEXT NOT NULL, description TEXT NOT NULL, deleted BOOLEAN NOT NULL, version BIGINT NOT NULL,
    PRIMARY KEY (tenant, item_id)
);
CREATE INDEX items_by_version ON items (tenant, version);
CREATE TABLE served (
    seq INTEGER NOT NULL, tenant VARCHAR(64) NOT NULL, request_id VARCHAR(128) NOT NULL, user_id VARCHAR(256) NOT NULL,
    items TEXT NOT NULL, policy VARCHAR(32) NOT NULL, bundle VARCHAR(256) NOT NULL, served_at FLOAT NOT NULL,
    PRIMARY KEY (seq)
);
CREATE INDEX served_to_user ON served (tenant, user_id);
CREATE INDEX served_by_request ON served (tenant, request_id);
CREATE TABLE api_keys (
    key_id VARCHAR(32) NOT NULL, tenant VARCHAR(64) NOT NULL, name VARCHAR(128) NOT NULL,
    secret_sha256 VARCHAR(64) NOT NULL, scopes VARCHAR(64) NOT NULL, created_at FLOAT NOT NULL, revoked_at FLOAT,
    PRIMARY KEY (key_id)
);
"""
"""What Driftline made before it had migrations."""

FIRST_ROWS = """
INSERT INTO schema_info VALUES (1);
INSERT INTO versions VALUES ('acme', 4, 3);
INSERT INTO events (tenant, event_id, user_id, item_id, type, timestamp, value, text, request_id) VALUES
    ('acme', 'e1', 'ada', 'i1', 'rating', 10.5, 4.0, NULL, NULL),
    ('acme', 'e2', 'ada', 'i2', 'view', 9.0, NULL, 'a word', 'r0'),
    ('acme', 'e3', 'bob', 'i1', 'view', 1.0, NULL, NULL, NULL);
INSERT INTO users VALUES ('acme', 'ada', 1, 2), ('acme', 'bob', 4, 4);
INSERT INTO drift_states VALUES ('acme', 'ada', 2, 'b1', 'e1', '{"p_drift": 0.5}');
INSERT INTO items VALUES ('acme', 'n1', 'New', '1999', '["Drama"]', '', 0, 3);
INSERT INTO served VALUES (7, 'acme', 'r0', 'ada', '["i1", "i2"]', 'steady', 'b1', 5.0);
INSERT INTO api_keys VALUES ('0123456789ab', 'acme', 'old', 'f00d', 'read', 1.0, NULL);
"""


@pytest.fixture
def first_database(tmp_path: Path) -> Path:
    file = tmp_path / "first.db"
    connection = sqlite3.connect(file)
    connection.executescript(f"PRAGMA journal_mode = WAL; {FIRST_SCHEMA} {FIRST_ROWS}")
    connection.close()
    return file


def test_a_database_from_before_migrations_is_taken_over_whole(first_database: Path) -> None:
    store = Store(f"sqlite:///{first_database}")
    ada = store.snapshot("acme", "ada", 9)
    assert (ada.version, ada.catalogue_version, ada.revision, ada.num_events) == (4, 3, 2, 2)
    assert [event.event_id for event in ada.history] == ["e2", "e1"]
    assert ada.drift == StoredDrift(2, "b1", "e1", {"p_drift": 0.5})
    assert store.snapshot("acme", "bob", 9).num_events == 1
    assert store.events_page("acme", "ada", None, 1).events == [
        StoredEvent("e2", "ada", "i2", "view", 9.0, None, "a word", "r0")
    ]
    assert store.item("acme", "n1") == CatalogueItem("n1", "New", "1999", ("Drama",))
    listed = store.served_list("acme", "r0")
    assert listed is not None
    assert (listed.items, listed.arm, listed.scores, listed.shadow, listed.version) == (
        ("i1", "i2"),
        "champion",
        None,
        None,
        0,
    )
    with store.engine.begin() as connection:
        keys = connection.execute(text("SELECT key_id, name, secret_sha256, revoked_at FROM api_keys")).all()
        assert [tuple(row) for row in keys] == [("0123456789ab", "old", "f00d", None)]
    again = store.append_events("acme", [StoredEvent("e3", "bob", "i1", "view", 1.0)])
    assert (again.statuses, again.version) == (["duplicate"], 4)
    assert store.append_events("acme", [StoredEvent("e4", "ada", "i3", "view", 11.0)]).version == 5
    assert store.snapshot("acme", "ada", 9).num_events == 3
    assert_newest(store)
    store.close()


def test_migrations_lead_to_the_schema_that_the_statements_are_written_for(database_url: str) -> None:
    store = Store(database_url)
    assert_newest(store)
    store.close()


def assert_newest(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_database_of_an_unknown_schema_version_is_refused_and_left_alone(database_url: str) -> None:
    store = Store(database_url)
    with store.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DataError, match="schema version 9999"):
        Store(database_url)
    with store.engine.begin() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    store.close()


def test_a_database_of_another_version_from_before_migrations_is_refused(first_database: Path) -> None:
    with sqlite3.connect(first_database) as connection:
        connection.execute("UPDATE schema_info SET version = 99")
    with pytest.raises(DataError, match="schema version 99"):
        Store(f"sqlite:///{first_database}")
