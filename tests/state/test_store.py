"""What the event store promises, on SQLite and on PostgreSQL alike."""

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import inspect, select, text

from driftline.errors import ConfigError
from driftline.state.store import CatalogueItem, PolicyChange, ServedList, Store, StoredDrift, StoredEvent
from driftline.state.tables import served

ADA, BOB = ("acme", "ada"), ("acme", "bob")


def an_event(event_id: str, timestamp: float = 0.0, user: str = "ada", item: str = "i1") -> StoredEvent:
    return StoredEvent(event_id, user, item, "view", timestamp)


def a_list(user: str, version: int = 1, policy: str = "steady", at: float = 5.0, request: str = "r1") -> ServedList:
    return ServedList("acme", request, user, ("i1", "i2"), policy, "b1", at, version)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


@pytest.fixture
def other(store: Store, database_url: str) -> Iterator[Store]:
    """The store of another replica."""
    opened = Store(database_url)
    yield opened
    opened.close()


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


def test_events_of_one_timestamp_keep_the_order_in_which_they_were_sent(store: Store) -> None:
    names = [f"e{(7 * n) % 2500}" for n in range(2500)]  # 7 and 2500 share no divisor: each number once, jumbled
    store.append_events("acme", [an_event(name) for name in names])
    assert [e.event_id for e in store.snapshot("acme", "ada", 3000).history] == names


def test_a_snapshot_holds_the_newest_events_and_counts_all(store: Store) -> None:
    store.append_events("acme", [an_event(f"e{n}", n) for n in range(2_000)])
    store.append_events("acme", [an_event("e7", 7), an_event("more", 2_000)])
    snapshot = store.snapshot("acme", "ada", 3)
    assert [e.event_id for e in snapshot.history] == ["e1998", "e1999", "more"]
    assert snapshot.num_events == 2_001


def test_a_history_can_be_read_as_it_was(store: Store) -> None:
    store.append_events("acme", [an_event("e1", 5.0)])
    store.append_events("acme", [an_event("late", 1.0), an_event("e2", 6.0)])
    assert [e.event_id for e in store.snapshot("acme", "ada", 9, as_of=1).history] == ["e1"]
    assert [e.event_id for e in store.snapshot("acme", "ada", 9, as_of=2).history] == ["late", "e1", "e2"]


def test_each_write_takes_the_next_version(store: Store) -> None:
    assert store.append_events("acme", [an_event("e1")]).version == 1
    assert store.upsert_items("acme", [CatalogueItem("n1", "New")]) == 2
    assert store.append_events("acme", [an_event("e1")]).version == 2  # nothing new, nothing written
    assert store.erase_user("acme", "ada") == 3
    assert store.versions("acme") == (3, 2)
    assert store.versions("beta") == (0, 0)


def test_what_one_replica_acknowledged_the_other_reads(store: Store, other: Store) -> None:
    assert store.append_events("acme", [an_event("e1")]).version == 1
    assert other.snapshot("acme", "ada", 9).num_events == 1
    assert other.append_events("acme", [an_event("e1"), an_event("e2")]).statuses == ["duplicate", "accepted"]
    assert store.versions("acme") == (2, 0)
    assert store.snapshot("acme", "ada", 9).num_events == 2


def test_threads_that_retry_the_same_events_store_each_once(store: Store) -> None:
    batches = [[an_event(f"e{n}", n) for n in range(start, start + 20)] for start in range(0, 100, 10)]

    def send(batch: list[StoredEvent]) -> list[str]:
        return list(store.append_events("acme", batch).statuses)

    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(status for outcome in pool.map(send, batches * 3) for status in outcome)
    assert statuses == {"accepted": 110, "duplicate": 490}  # 30 batches of 20; e0..e109
    assert store.snapshot("acme", "ada", 1_000).num_events == 110


def _write_batches(url: str, writer: int) -> list[tuple[int, list[str]]]:
    """8 batches over the same two users and 20 shared events, in an order that differs by writer."""
    users = ["ada", "bob"] if writer % 2 else ["bob", "ada"]
    shared = [an_event(f"shared-{n}", n) for n in range(20)]
    store = Store(url)
    outcomes = []
    for batch in range(8):
        own = [an_event(f"{writer}-{batch}-{user}", 100.0, user) for user in users]
        appended = store.append_events("acme", own + (shared if writer % 2 else shared[::-1]))
        outcomes.append((appended.version, [str(status) for status in appended.statuses]))
    store.close()
    return outcomes


def test_processes_that_write_at_once_open_the_same_database_and_get_versions_in_order(database_url: str) -> None:
    """The first to open it migrates; no writer deadlocks; every version belongs to one write and only grows."""
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
        by_writer = list(pool.map(_write_batches, [database_url] * 3, range(3)))
    versions = [[version for version, _ in outcomes] for outcomes in by_writer]
    assert all(own == sorted(own) for own in versions)
    assert sorted(version for own in versions for version in own) == list(range(1, 25))  # 3 writers, 8 batches
    statuses = Counter(status for outcomes in by_writer for _, batch in outcomes for status in batch)
    assert statuses == {"accepted": 3 * 8 * 2 + 20, "duplicate": 3 * 8 * 20 - 20}
    store = Store(database_url)
    assert store.snapshot("acme", "ada", 999).num_events == 24 + 20
    assert store.snapshot("acme", "bob", 999).num_events == 24
    assert len(store.snapshot("acme", "ada", 999).history) == 44
    arrivals = [e.event_id for e in store.snapshot("acme", "bob", 999).history]  # one timestamp: in order of arrival
    written_at = {f"{w}-{b}-bob": version for w, own in enumerate(versions) for b, version in enumerate(own)}
    assert [written_at[event_id] for event_id in arrivals] == list(range(1, 25))
    store.close()


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
    assert sorted(store.claim_users_to_assess("b1", 0.0, 10)) == [ADA, BOB]
    assert len(store.claim_users_to_assess("b1", 0.0, 1)) == 1
    assert store.save_drift("acme", "ada", StoredDrift(1, "b1", "e1", {"p_drift": 0.5}))
    assert store.save_drift("acme", "bob", StoredDrift(1, "b1", None, {}))
    assert store.claim_users_to_assess("b1", 0.0, 10) == []
    assert len(store.claim_users_to_assess("b2", 0.0, 10)) == 2
    store.append_events("acme", [an_event("e3")])
    assert store.claim_users_to_assess("b1", 0.0, 10) == [ADA]


def test_replicas_share_the_users_to_assess_and_take_over_what_another_has_left(store: Store, other: Store) -> None:
    store.append_events("acme", [an_event(f"e{n}", user=f"user-{n}") for n in range(40)])
    with ThreadPoolExecutor(8) as pool:
        claims = [pool.submit(s.claim_users_to_assess, "b1", 60.0, 10) for s in [store, other] * 8]
        claimed = Counter(user for claim in claims for user in claim.result())
    assert set(claimed.values()) == {1}  # nobody's work is done twice
    assert len(claimed) == 40 or store.claim_users_to_assess("b1", 60.0, 40)
    store.append_events("acme", [an_event("e")])
    assert store.claim_users_to_assess("b1", -1.0, 10) == [ADA]  # by a replica that dies: the claim has an end
    assert other.claim_users_to_assess("b1", 60.0, 10) == [ADA]


def test_a_drift_state_never_goes_back_nor_revives_an_erased_user(store: Store) -> None:
    store.append_events("acme", [an_event("e1")])
    store.append_events("acme", [an_event("e2")])
    written = StoredDrift(2, "b1", "e1", {"p_drift": 0.5}, b"\x00\xff state")
    assert store.save_drift("acme", "ada", written)
    assert not store.save_drift("acme", "ada", StoredDrift(1, "b1", None, {}))
    assert store.snapshot("acme", "ada", 9).drift == written
    store.erase_user("acme", "ada")
    assert not store.save_drift("acme", "ada", StoredDrift(2, "b1", None, {}))
    store.append_events("acme", [an_event("e3")])  # she came back: what was assessed before is not hers
    assert not store.save_drift("acme", "ada", StoredDrift(2, "b1", None, {}))
    assert store.snapshot("acme", "ada", 9).drift is None


def test_replicas_that_assess_the_same_user_end_with_the_newest_state(store: Store, other: Store) -> None:
    for number in range(20):
        store.append_events("acme", [an_event(f"e{number}", number)])

    def save(revision: int) -> bool:
        return (store, other)[revision % 2].save_drift("acme", "ada", StoredDrift(revision, "b1", None, {}))

    with ThreadPoolExecutor(8) as pool:
        saved = dict(zip(range(20, 0, -1), pool.map(save, range(20, 0, -1)), strict=True))
    assert saved[20]
    stored = store.snapshot("acme", "ada", 1).drift
    assert stored is not None
    assert stored.revision == 20


def rows_that_hold(store: Store, needle: str) -> dict[str, int]:
    """How many rows of each table of the database hold a text, in whatever column."""
    found = {}
    with store.engine.begin() as connection:
        for table in inspect(connection).get_table_names():
            rows = connection.execute(text(f'SELECT * FROM "{table}"')).all()
            found[table] = sum(needle in str(tuple(row)) for row in rows)
    return found


def test_an_erased_user_is_in_no_table(store: Store) -> None:
    name = "user-to-forget"
    for tenant in ("acme", "beta"):
        store.append_events(tenant, [an_event(f"{name}-{n}", n, user=name) for n in range(3)])
    store.add_served([a_list(name), a_list("somebody-else")])
    store.save_drift("acme", name, StoredDrift(1, "b1", f"{name}-0", {}))
    before = rows_that_hold(store, name)
    assert before == dict.fromkeys(before, 0) | {"events": 6, "users": 2, "drift_states": 1, "served": 1}
    store.erase_user("acme", name)
    assert {table: rows for table, rows in rows_that_hold(store, name).items() if rows} == {"events": 3, "users": 1}
    store.erase_user("beta", name)
    assert not any(rows_that_hold(store, name).values())
    assert sum(rows_that_hold(store, "somebody-else").values()) == 1


def test_an_erasure_on_one_replica_stops_what_another_is_about_to_record(store: Store, other: Store) -> None:
    for user in ("ada", "bob"):
        store.append_events("acme", [an_event(user, user=user)])  # versions 1 and 2
    assert store.erase_user("acme", "ada") == 3
    other.add_served(
        [a_list("ada", 2), a_list("bob", 2), a_list("never seen", 3), replace(a_list("ada"), tenant="beta")]
    )
    assert store.append_events("acme", [an_event("back", user="ada")]).version == 4
    other.add_served([a_list("ada", 2, request="late"), a_list("ada", 4, request="new")])
    with store.engine.begin() as connection:
        kept = connection.execute(select(served.c.tenant, served.c.user_id, served.c.version).order_by(served.c.seq))
        assert [tuple(row) for row in kept] == [
            ("acme", "bob", 2),
            ("acme", "never seen", 3),
            ("beta", "ada", 1),
            ("acme", "ada", 4),
        ]


def test_a_list_from_before_the_first_event_is_kept(store: Store) -> None:
    store.append_events("acme", [an_event("e", user="bob")])
    store.append_events("acme", [an_event("e1")])
    store.add_served([a_list("ada", 1)])  # made while nobody knew her
    assert store.served_list("acme", "r1") == a_list("ada", 1)


def test_erasing_and_recording_at_once_leaves_nothing(store: Store, other: Store) -> None:
    def record(number: int) -> None:
        version = other.append_events("acme", [an_event(f"e{number}")]).version
        other.add_served([a_list("ada", version)])
        other.save_drift("acme", "ada", StoredDrift(version, "b1", None, {}))

    with ThreadPoolExecutor(1) as recorder, ThreadPoolExecutor(1) as eraser:
        work = [recorder.submit(record, number) for number in range(30)]
        work += [eraser.submit(store.erase_user, "acme", "ada") for _ in range(15)]
        for task in work:
            task.result()
    with store.engine.begin() as connection:
        known = connection.scalar(text("SELECT count(*) FROM users"))
        orphans = connection.scalar(text("SELECT count(*) FROM drift_states")) if not known else 0
    assert orphans == 0
    snapshot = store.snapshot("acme", "ada", 99)
    assert snapshot.num_events == len(snapshot.history)
    store.erase_user("acme", "ada")
    assert not any(rows_that_hold(store, "ada").values())


def test_a_served_list_is_read_back_whole_and_the_last_of_its_request_id(store: Store) -> None:
    plain = a_list("ada")
    whole = replace(plain, request_id="r2", arm="challenger", scores=(0.5, -1.25), shadow={"bundle": "b2", "items": []})
    store.add_served([plain, whole, replace(plain, policy="reset")])
    assert store.served_list("acme", "r2") == whole
    assert store.served_list("acme", "r1") == replace(plain, policy="reset")
    assert store.served_list("beta", "r2") is None


def test_a_history_is_paged_through_without_gap_or_repetition(store: Store) -> None:
    store.append_events("acme", [an_event(f"e{n}", n // 3) for n in range(10)])  # ties across page borders
    store.append_events("acme", [an_event("x", 1.0, user="bob")])
    pages, cursor = [], None
    while True:
        page = store.events_page("acme", "ada", cursor, 4)
        pages.append([event.event_id for event in page.events])
        cursor = page.next_cursor
        if cursor is None:
            break
    assert pages == [["e0", "e1", "e2", "e3"], ["e4", "e5", "e6", "e7"], ["e8", "e9"]]
    assert store.events_page("acme", "ada", None, 10).next_cursor is None
    assert store.events_page("acme", "nobody", None, 10).events == []


def test_policy_changes_are_the_lists_under_another_policy_than_the_one_before(store: Store) -> None:
    course = ["steady", "steady", "drifting", "drifting", "steady", "reset"]
    shown = [a_list("ada", policy=policy, at=float(n), request=f"r{n}") for n, policy in enumerate(course)]
    store.add_served([*reversed(shown), a_list("bob", policy="reset", at=2.5)])
    changes = store.policy_changes("acme", "ada")
    assert changes[1] == PolicyChange(2.0, "drifting", "b1", "r2")
    assert [(change.served_at, change.policy) for change in changes] == [
        (0.0, "steady"),
        (2.0, "drifting"),
        (4.0, "steady"),
        (5.0, "reset"),
    ]
    assert [change.served_at for change in store.policy_changes("acme", "ada", newest=2)] == [4.0, 5.0]


def plan(store: Store, statement: str) -> Any:
    """The plan of a query: SQLite's as text, PostgreSQL's as JSON, with actual numbers of rows."""
    with store.engine.begin() as connection:
        if store.engine.dialect.name == "sqlite":
            return [row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"))]
        return json.loads(json.dumps(connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")).scalar()))


def statements_of(store: Store, work: Any) -> list[str]:
    """Every SQL statement that ``work`` sends, parameters written out."""
    from sqlalchemy import event

    sent = []

    def note(connection: Any, clause: Any, *_: Any) -> None:
        sent.append(str(clause.compile(store.engine, compile_kwargs={"literal_binds": True})))

    event.listen(store.engine, "before_execute", note)
    work()
    event.remove(store.engine, "before_execute", note)
    return sent


def test_a_history_read_costs_what_its_window_holds_and_not_what_the_user_has_done(store: Store) -> None:
    store.append_events("acme", [an_event(f"e{n}", n) for n in range(5_000)])
    store.append_events("acme", [an_event(f"b{n}", n, user="bob") for n in range(100)])
    statements = statements_of(store, lambda: store.snapshot("acme", "ada", 50))
    (history,) = [statement for statement in statements if "FROM events" in statement]
    assert not any("count(" in statement for statement in statements)
    if store.engine.dialect.name == "sqlite":
        assert plan(store, history) == ["SEARCH events USING INDEX events_of_user (tenant=? AND user_id=?)"]
        assert instructions(store, lambda: store.snapshot("acme", "ada", 50)) == instructions(
            store, lambda: store.snapshot("acme", "bob", 50)
        )
    else:
        with store.writer.begin() as connection:
            connection.execute(text("ANALYZE"))
        (limit,) = [node["Plan"] for node in plan(store, history)]
        (scan,) = limit["Plans"]
        assert (limit["Node Type"], scan["Node Type"], scan["Index Name"]) == ("Limit", "Index Scan", "events_of_user")
        assert scan["Actual Rows"] == 50


def instructions(store: Store, work: Any) -> int:
    """How many instructions SQLite's machine takes for ``work``."""
    from sqlalchemy import event

    taken = 0

    def tick() -> int:
        nonlocal taken
        taken += 1
        return 0

    def watch(connection: Any) -> None:
        connection.connection.driver_connection.set_progress_handler(tick, 1)

    event.listen(store.engine, "begin", watch)
    work()
    event.remove(store.engine, "begin", watch)
    return taken


def test_a_store_is_found_again_after_closing(database_url: str) -> None:
    for number in range(2):
        opened = Store(database_url)
        opened.append_events("acme", [an_event(f"e{number}", number)])
        opened.close()
    reopened = Store(database_url)
    assert reopened.snapshot("acme", "ada", 9).num_events == 2
    reopened.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "no url", "mysql://host/name"])
def test_a_database_that_forgets_or_is_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"write sqlite:////absolute/path\.db or postgresql://"):
        Store(url)
