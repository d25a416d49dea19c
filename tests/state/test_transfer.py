"""State moves between databases whole, and keys stay behind."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from driftline.errors import DataError
from driftline.serving.commands.state import app
from driftline.serving.keys import create_key, parse_key
from driftline.state import transfer
from driftline.state.store import CatalogueItem, ServedList, Store, StoredDrift, StoredEvent
from driftline.state.tables import metadata
from driftline.state.transfer import TABLES, export_state, import_state
from tests.postgres import PostgresServer


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Two tenants; 15 events and 3 served lists, more than one chunk of 4."""
    monkeypatch.setattr(transfer, "CHUNK_ROWS", 4)
    opened = Store(f"sqlite:///{tmp_path / 'first.db'}")
    jumbled = [StoredEvent(f"e{n}", "ada", "i1", "view", float(5 * n % 7), 4.5, "ein Wört 新", "r") for n in range(12)]
    opened.append_events("acme", [*jumbled, StoredEvent("x", "gone", "i2", "rating", 0.1 + 0.2)])
    opened.append_events(
        "beta", [StoredEvent("e0", "ada", "i9", "view", 1.0), StoredEvent("e1", "bob", "i9", "view", 2.0)]
    )
    opened.erase_user("acme", "gone")
    opened.save_drift("acme", "ada", StoredDrift(1, "b1", "e3", {"p_drift": 0.1, "statistic": [None, 1e-300]}, b"\x00"))
    opened.upsert_items(
        "acme", [CatalogueItem("n1", "New", categories=("Drama",)), CatalogueItem("n2", "", deleted=True)]
    )
    whole = ServedList("acme", "r1", "ada", ("i1", "i2"), "reset", "b1", 5.5, 2, "challenger", (0.1, -2.0), {"k": [1]})
    opened.add_served([whole, ServedList("acme", "r2", "bob", (), "steady", "b1", 6.0, 3), whole])
    yield opened
    opened.close()


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row in order, but for numbers that a database gives itself."""
    found = {}
    with store.engine.begin() as connection:
        for table in TABLES:
            columns = [column for column in table.c if column.name not in ("seq", "claimed_until")]
            rows = connection.execute(select(*columns).order_by(*table.primary_key))
            found[table.name] = [tuple(row) for row in rows]
    return found


def test_a_round_trip_from_sqlite_to_postgresql_and_back_keeps_every_row(
    store: Store, tmp_path: Path, postgres: PostgresServer
) -> None:
    places = [postgres.new_database(), f"sqlite:///{tmp_path / 'second.db'}"]
    before = contents(store)
    counts = {"versions": 2, "users": 3, "events": 14, "drift_states": 1, "items": 2, "served": 3}
    assert {name: len(rows) for name, rows in before.items()} == counts
    source = store
    for number, place in enumerate(places):
        folder = tmp_path / f"export-{number}"
        assert export_state(source, folder) == counts
        assert len(list(folder.glob("events-*.parquet"))) == 4  # 14 rows in chunks of 4
        target = Store(place)
        assert import_state(target, folder) == counts
        assert contents(target) == before
        if source is not store:
            source.close()
        source = target
    with closing(source) as last:
        assert last.served_list("acme", "r1") == store.served_list("acme", "r1")
        assert last.snapshot("acme", "ada", 99) == store.snapshot("acme", "ada", 99)
        again = last.append_events("acme", [StoredEvent("e3", "ada", "i1", "view", 1.0, 4.5, "ein Wört 新", "r")])
        assert (again.statuses, again.version) == (["duplicate"], store.versions("acme")[0])
        assert last.append_events("acme", [StoredEvent("new", "ada", "i1", "view", 9.0)]).statuses == ["accepted"]


def test_an_imported_database_on_postgresql_goes_on_where_the_other_was(
    store: Store, tmp_path: Path, postgres: PostgresServer
) -> None:
    export_state(store, tmp_path / "export")
    with closing(Store(postgres.new_database())) as target:
        import_state(target, tmp_path / "export")
        late = [StoredEvent(f"late-{n}", "ada", "i1", "view", 0.0) for n in range(3)]
        assert target.append_events("acme", late).version == store.versions("acme")[0] + 1
        firsts = [event.event_id for event in target.events_page("acme", "ada", None, 5).events]
        assert firsts == ["e0", "e7", "late-0", "late-1", "late-2"]  # 5n mod 7 = 0 for n = 0 and 7; arrivals after


def test_one_tenant_is_exported_or_imported_alone(store: Store, tmp_path: Path) -> None:
    assert export_state(store, tmp_path / "beta", "beta")["events"] == 2
    export_state(store, tmp_path / "all")
    for name, tenant in (("beta", None), ("all", "beta")):
        with closing(Store(f"sqlite:///{tmp_path / name}.db")) as target:
            assert import_state(target, tmp_path / name, tenant)["events"] == 2
            assert target.versions("acme") == (0, 0)
            assert target.snapshot("beta", "bob", 9).num_events == 1
            import_state(target, tmp_path / "all", "acme")  # another tenant may follow
            for table, rows in contents(store).items():
                imported = contents(target)[table]
                assert [row for row in imported if "acme" in row] == [row for row in rows if "acme" in row]
                assert len(imported) == len(rows)


def test_no_secret_leaves_the_database(store: Store, tmp_path: Path) -> None:
    key = create_key(store, "acme", "test", ["read"])
    parsed = parse_key(key)
    assert parsed is not None
    export_state(store, tmp_path / "export")
    written = b"".join(file.read_bytes() for file in (tmp_path / "export").iterdir())
    assert parsed[0].encode() not in written
    assert parsed[1].encode() not in written
    secret = {"api_keys", "webhooks", "webhook_outbox", "audit", "audit_secret", "promotions"}
    assert {table.name for table in TABLES} == set(metadata.tables) - secret


def test_what_is_there_is_not_overwritten_and_what_is_incomplete_not_imported(store: Store, tmp_path: Path) -> None:
    export_state(store, tmp_path / "export")
    with pytest.raises(DataError, match="not empty"):
        export_state(store, tmp_path / "export")
    with pytest.raises(DataError, match="versions of tenant 'acme' already"):
        import_state(store, tmp_path / "export")
    before = contents(store)
    with closing(Store(f"sqlite:///{tmp_path / 'target.db'}")) as target:
        (tmp_path / "export" / "served-000000.parquet").unlink()
        with pytest.raises(DataError, match="0 rows of served, the manifest says 3"):
            import_state(target, tmp_path / "export")
        assert not any(contents(target).values())  # nothing of what came before that
        (tmp_path / "export" / "manifest.json").unlink()
        with pytest.raises(DataError, match="no complete export"):
            import_state(target, tmp_path / "export")
    assert contents(store) == before


def test_the_command_line_exports_and_imports(store: Store, tmp_path: Path) -> None:
    folder, target = tmp_path / "export", f"sqlite:///{tmp_path / 'target.db'}"
    written = CliRunner().invoke(app, ["export", "--database", str(store.engine.url), "--out", str(folder)])
    assert written.exit_code == 0, written.output
    assert written.output.splitlines()[2].split() == ["events", "14"]
    assert json.loads((folder / "manifest.json").read_text())["rows"]["served"] == 3
    read = CliRunner().invoke(app, ["import", "--database", target, "--source", str(folder)])
    assert read.exit_code == 0, read.output
    with closing(Store(target)) as imported:
        assert contents(imported) == contents(store)
