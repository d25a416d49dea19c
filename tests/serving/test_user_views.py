"""Views in memory: what is handed out is always what the database holds, whoever wrote it."""

from collections.abc import Iterator

import pytest

from driftline.drift.report import DriftVerdict
from driftline.serving.user_views import UserViews
from driftline.state.store import Store, StoredDrift, StoredEvent, UserSnapshot


class CountingStore(Store):
    """Counts how often a whole history is read."""

    num_read = 0

    def snapshot(self, tenant: str, user_id: str, newest: int, as_of: int | None = None) -> UserSnapshot:
        self.num_read += 1
        return super().snapshot(tenant, user_id, newest, as_of)


@pytest.fixture
def store(database_url: str) -> Iterator[CountingStore]:
    opened = CountingStore(database_url)
    yield opened
    opened.close()


@pytest.fixture
def elsewhere(database_url: str) -> Iterator[Store]:
    """Another replica, or a program."""
    opened = Store(database_url)
    yield opened
    opened.close()


def event(number: int, user: str = "ada") -> StoredEvent:
    return StoredEvent(f"{user}-{number}", user, f"i{number}", "view", float(number))


def test_a_history_is_read_once_and_versions_are_always_new(store: CountingStore) -> None:
    views = UserViews(store, 10)
    store.append_events("acme", [event(1), event(2)])
    assert views.read("acme", "ada").version == 1
    store.append_events("acme", [event(1, "bob")])
    again = views.read("acme", "ada")
    assert (again.version, again.item_ids, again.times_s) == (2, ["i1", "i2"], [1.0, 2.0])
    assert store.num_read == 1


def test_what_another_writer_changes_is_seen_at_once(store: CountingStore, elsewhere: Store) -> None:
    views = UserViews(store, 10)
    elsewhere.append_events("acme", [event(1), event(3)])
    assert views.read("acme", "ada").drift_status == "stale"
    elsewhere.append_events("acme", [event(2)])  # late
    assert views.read("acme", "ada").item_ids == ["i1", "i2", "i3"]
    elsewhere.save_drift("acme", "ada", StoredDrift(2, "b1", "ada-3", {"p_drift": 0.9, "alarm": True}))
    found = views.read("acme", "ada")
    assert (found.drift, found.drift_bundle, found.drift_status) == (DriftVerdict(0.9, 2, True), "b1", "current")
    elsewhere.save_drift("acme", "ada", StoredDrift(2, "b2", None, {"p_drift": 0.1, "alarm": False}))
    assert views.read("acme", "ada").drift == DriftVerdict(0.1, None, False)
    elsewhere.erase_user("acme", "ada")
    assert not views.read("acme", "ada").known
    elsewhere.append_events("acme", [event(7)])
    assert views.read("acme", "ada").item_ids == ["i7"]


def test_tenants_do_not_share_views(store: CountingStore) -> None:
    views = UserViews(store, 10)
    store.append_events("acme", [event(1)])
    assert views.read("acme", "ada").known
    assert not views.read("other", "ada").known


def test_memory_is_bounded_by_events_and_who_was_read_longest_ago_goes(store: CountingStore) -> None:
    views = UserViews(store, 10, max_events_kept=5)
    for user in ("ada", "bob", "eve"):
        store.append_events("acme", [event(1, user), event(2, user)])
    for user in ("ada", "bob", "ada", "eve"):  # bob's view makes room for eve's
        views.read("acme", user)
    assert store.num_read == 3
    views.read("acme", "ada")
    assert store.num_read == 3
    views.read("acme", "bob")
    assert store.num_read == 4
    views.forget("acme", "bob")
    views.read("acme", "bob")
    assert store.num_read == 5
