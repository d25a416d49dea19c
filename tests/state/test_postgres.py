"""What a service does while its PostgreSQL server restarts."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import text

from driftline.errors import ConfigError, DatabaseError
from driftline.serving.app import AppArgs, build_app
from driftline.serving.http.problems import as_problem
from driftline.state.database import reaching_database
from driftline.state.store import Store, StoredEvent
from tests.postgres import PostgresServer


@pytest.fixture
def store(postgres: PostgresServer) -> Iterator[Store]:
    with closing(Store(postgres.new_database())) as opened:
        yield opened


def an_event(event_id: str) -> StoredEvent:
    return StoredEvent(event_id, "ada", "i1", "view", 0.0)


def test_a_restart_costs_a_retryable_error_and_no_connection_is_left_broken(
    store: Store, postgres: PostgresServer
) -> None:
    assert store.append_events("acme", [an_event("e1")]).version == 1
    connection = store.writer.connect()
    connection.execute(text("UPDATE versions SET version = 99"))
    postgres.stop()
    try:
        with pytest.raises(DatabaseError) as broken, reaching_database():
            connection.commit()  # what was not acknowledged is not kept
        connection.close()
        with pytest.raises(DatabaseError), reaching_database():
            store.append_events("acme", [an_event("e2")])
        for _ in range(2):  # with a connection of the pool that broke, and with none
            with pytest.raises(DatabaseError):
                store.user_marks("acme", "ada")
        with pytest.raises(DatabaseError):
            Store(store.engine.url.render_as_string(hide_password=False))
    finally:
        postgres.start()
    problem = as_problem(broken.value)
    assert problem is not None
    assert (problem.status, problem.headers) == (503, {"Retry-After": "1"})
    retried = store.append_events("acme", [an_event("e1"), an_event("e2")])
    assert (retried.statuses, retried.version) == (["duplicate", "accepted"], 2)


def test_connections_that_an_administrator_has_ended_are_replaced_unseen(store: Store) -> None:
    with closing(Store(store.engine.url.render_as_string(hide_password=False))) as administrator:
        store.versions("acme")  # leaves a connection in the pool
        with administrator.engine.begin() as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            ended = connection.scalars(text(f"{others} AND datname = current_database()")).all()
    assert ended == [True]
    assert store.append_events("acme", [an_event("e1")]).version == 1


def test_errors_do_not_tell_whose_row_it_was(store: Store) -> None:
    with pytest.raises(Exception, match="value too long") as caught:
        store.append_events("acme", [StoredEvent("e1", "secret-user-" + "x" * 300, "i1", "view", 0.0)])
    assert "secret-user" not in str(caught.value)


def test_several_user_states_need_postgresql() -> None:
    with pytest.raises(ConfigError, match="user_state_replicas=2: an SQLite file has one writer"):
        build_app(AppArgs(bundle="anywhere", database="sqlite:////srv/state.db", user_state_replicas=2))
