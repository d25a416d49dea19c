"""Several UserState replicas on one PostgreSQL server: they answer as one, and outlive its restart."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from driftline.errors import DatabaseError
from driftline.serving.drift_detector import DriftDetector
from driftline.serving.http.problems import as_problem
from driftline.serving.notices import PopulationBand
from driftline.serving.user_state import UserState
from driftline.state.store import ServedList, Store, StoredEvent
from driftline.state.tables import served
from tests.postgres import PostgresServer
from tests.serving.conftest import Service
from tests.waiting import wait_for

NAME = "replicas"


@pytest.fixture
def replicas(service: Service, tiny_bundle: Path, postgres: PostgresServer) -> Iterator[tuple[Any, Store]]:
    """A handle of two UserStates with a DriftDetector behind them, and a store of the same database."""
    from ray import serve

    database = postgres.new_database()
    store = Store(database)
    store.append_events("old", [StoredEvent("e1", "of-1970", "i1", "view", 0.0)])
    options = {"ray_actor_options": {"num_cpus": 0.2}}
    detector = serve.deployment(DriftDetector, user_config={"champion": str(tiny_bundle)}, **options).bind(1)
    state = serve.deployment(UserState, num_replicas=2, **options).bind(
        detector,
        database,
        history_events=1000,
        sweep_seconds=1.0,
        retention_days=3650.0,
        band=PopulationBand(0.0, 1.0, 100),
        internal_webhooks=False,
    )
    handle = serve.run(state, name=NAME, route_prefix=None)
    yield handle, store
    store.close()
    serve.delete(NAME)


def _states() -> set[str]:
    """Ids of the UserState replicas that run."""
    from ray import serve

    details = serve.context._get_global_client().get_serve_details()["applications"][NAME]["deployments"]["UserState"]
    return {replica["replica_id"] for replica in details["replicas"] if replica["state"] == "RUNNING"}


@pytest.mark.slow
def test_replicas_answer_as_one_and_outlive_a_restart_of_the_database(
    replicas: tuple[Any, Store], postgres: PostgresServer
) -> None:
    handle, store = replicas
    before = _states()
    assert len(before) == 2
    now = time.time()
    batches = [
        [StoredEvent(f"{user}-{n}", f"user-{user}", f"i{n}", "view", now + n) for n in range(12)] for user in range(20)
    ]
    acknowledged = [answer.result() for answer in [handle.append_events.remote("acme", batch) for batch in batches]]
    assert sorted(appended.version for appended in acknowledged) == list(range(1, 21))
    views = [handle.read_user.remote("acme", f"user-{user}", 20) for user in range(20) for _ in range(2)]
    assert {view.result().num_events for view in views} == {12}
    repeated = [handle.append_events.remote("acme", batches[0]).result() for _ in range(4)]
    assert {status for appended in repeated for status in appended.statuses} == {"duplicate"}

    def all_current() -> bool:
        views = [handle.read_user.remote("acme", f"user-{user}", None) for user in range(20)]
        return {view.result().drift_status for view in views} == {"current"}

    wait_for(all_current, 60)
    wait_for(lambda: store.snapshot("old", "of-1970", 9).revision is None, 30)  # older than retention_days
    assert store.versions("old") == (2, 0)  # one of the two has removed it

    shown = ServedList("acme", "r", "user-0", ("i1",), "steady", "b", now, 20)
    for answer in [handle.record_served.remote([shown]) for _ in range(8)]:  # waits in both replicas
        answer.result()
    handle.erase_user.remote("acme", "user-0", "test").result()
    handle.record_served.remote([shown]).result()
    time.sleep(1.5)  # three flushes
    with store.engine.begin() as connection:
        assert connection.scalars(select(served.c.user_id)).all() == []

    postgres.stop()
    try:
        with pytest.raises(DatabaseError) as caught:
            handle.versions.remote("acme", None).result()
        problem = as_problem(caught.value)
        assert problem is not None
        assert problem.status == 503
    finally:
        postgres.start()
    retried = [handle.append_events.remote("acme", batches[1]).result() for _ in range(4)]
    assert {status for appended in retried for status in appended.statuses} == {"duplicate"}
    assert _states() == before  # nobody was replaced for it
