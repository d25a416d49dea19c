"""What is older than it may be kept goes, and nothing else changes."""

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from driftline.state import retention
from driftline.state.retention import expire
from driftline.state.store import ServedList, Store, StoredDrift, StoredEvent
from driftline.state.tables import drift_states, served


@pytest.fixture
def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(retention, "ROWS_PER_STEP", 4)
    monkeypatch.setattr(retention, "USERS_PER_STEP", 2)
    opened = Store(database_url)
    yield opened
    opened.close()


def an_event(user: str, timestamp: float) -> StoredEvent:
    return StoredEvent(f"{user}-{timestamp}", user, "i1", "view", timestamp)


def test_old_events_go_in_bounded_steps_and_counts_and_drift_follow(store: Store) -> None:
    store.append_events("acme", [an_event("ada", float(day)) for day in range(10)])  # version 1
    store.append_events("acme", [an_event("bob", 9.0), an_event("old", 1.0), an_event("old", 2.0)])  # version 2
    store.append_events("beta", [an_event("ada", 3.0), an_event("ada", 8.0)])
    for user, revision in (("ada", 1), ("bob", 2), ("old", 2)):
        assert store.save_drift("acme", user, StoredDrift(revision, "b1", None, {}, state=b"items"))
    removed = list(expire(store, before=7.0))
    assert max(removed) == 4
    assert sum(removed) == 7 + 0 + 2 + 1  # ada's 0..6; bob's none; both of old; one of beta's ada

    ada, bob, old = (store.snapshot("acme", user, 99) for user in ("ada", "bob", "old"))
    assert ([event.timestamp for event in ada.history], ada.num_events) == ([7.0, 8.0, 9.0], 3)
    assert (bob.num_events, bob.revision) == (1, 2)
    assert (old.revision, old.num_events, old.drift) == (None, 0, None)
    assert store.snapshot("beta", "ada", 99).num_events == 1
    assert ada.drift is not None
    assert bob.drift is not None
    assert (ada.drift.state, bob.drift.state) == (None, b"items")  # a state holds items of the events that went
    assert ada.revision is not None
    assert ada.revision > 2
    assert sorted(store.claim_users_to_assess("b1", 0.0, 9)) == [("acme", "ada"), ("beta", "ada")]
    with store.engine.begin() as connection:
        assert sorted(connection.scalars(select(drift_states.c.user_id))) == ["ada", "bob"]

    version = store.versions("acme")
    assert sum(expire(store, before=7.0)) == 0
    assert store.versions("acme") == version  # nothing to remove, nothing written
    assert store.append_events("acme", [an_event("old", 8.0)]).statuses == ["accepted"]
    assert store.snapshot("acme", "old", 9).num_events == 1


def test_a_drift_state_worked_out_before_the_removal_is_not_taken_for_current(store: Store) -> None:
    store.append_events("acme", [an_event("ada", 1.0), an_event("ada", 9.0)])
    list(expire(store, before=5.0))
    assert store.save_drift("acme", "ada", StoredDrift(1, "b1", None, {}))  # it was under way
    assert store.claim_users_to_assess("b1", 0.0, 9) == [("acme", "ada")]
    assert store.save_drift("acme", "ada", StoredDrift(2, "b1", None, {}))
    assert store.claim_users_to_assess("b1", 0.0, 9) == []


def test_old_served_lists_go(store: Store) -> None:
    lists = [ServedList("acme", f"r{n}", "ada", ("i1",), "steady", "b1", float(n), 0) for n in range(11)]
    store.add_served([lists[1], lists[0], *lists[2:]])
    assert list(expire(store, before=9.0)) == [4, 4, 1]
    with store.engine.begin() as connection:
        kept = select(served.c.request_id).order_by(served.c.seq)
        assert connection.scalars(kept).all() == ["r9", "r10"]
