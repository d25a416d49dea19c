"""The client against a server that drops connections and answers with errors, over a real socket."""

import asyncio
import socket
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from driftline.client import (
    AsyncClient,
    Client,
    Event,
    InvalidRequestError,
    NoAnswerError,
    NotFoundError,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    UnauthenticatedError,
    new_event_id,
)
from driftline.client.retries import retry_after
from tests.client.flaky import ACKNOWLEDGED, bodies, flaky, problem, reply

QUICK = RetryPolicy(first_pause_seconds=0.001, longest_pause_seconds=0.01)
VIEW = Event(user_id="ada", item_id="7", type="view", timestamp=1.0)
PLAIN_500 = reply("500 Internal Server Error", b"<html>proxy: no server is available</html>")


def test_the_same_bytes_are_sent_until_they_are_acknowledged() -> None:
    plan = (
        "drop",
        PLAIN_500,
        reply("502 Bad Gateway"),
        problem("503 Overloaded", "busy"),
        problem("504 Timed out", "x"),
    )
    with flaky(*plan) as server, Client(server.url, "key", retries=QUICK) as client:
        assert client.events.add([VIEW]).accepted == 1
        assert len(set(bodies(server))) == 1
        assert len(server.requests) == 6
        assert VIEW.event_id.encode() in server.requests[0].body
        assert len({request.headers["x-request-id"] for request in server.requests}) == 1
        assert server.requests[0].headers["authorization"] == "Bearer key"


def test_the_asynchronous_client_does_the_same() -> None:
    async def add(url: str) -> int:
        async with AsyncClient(url, "key", retries=QUICK) as client:
            outcome = await client.events.add([VIEW])
            assert client.version == 7
            return outcome.accepted

    with flaky("drop", PLAIN_500, problem("429 Too Many Requests", "slow down", "Retry-After: 0")) as server:
        assert asyncio.run(add(server.url)) == 1
        assert len(set(bodies(server))) == 1
        assert len(server.requests) == 4


def test_retry_after_is_honoured() -> None:
    with flaky(problem("503 Overloaded", "busy", "Retry-After: 1")) as server, Client(server.url, "k") as client:
        began = time.monotonic()
        client.events.add([VIEW])
        assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize(("given", "seconds"), [("3", 3.0), ("", 0.0), ("soon", 0.0), ("-1", 0.0), ("1.5", 0.0)])
def test_retry_after_is_a_number(given: str, seconds: float) -> None:
    assert retry_after(httpx.Response(503, headers={"Retry-After": given})) == seconds


@pytest.mark.parametrize(("ahead", "low", "high"), [(100, 90, 100), (-100, 0, 0)])
def test_retry_after_may_be_a_date(ahead: int, low: float, high: float) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    assert low <= retry_after(httpx.Response(503, headers={"Retry-After": date})) <= high


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem("401 Unauthorized", "give a valid key"), UnauthenticatedError),
        (problem("404 Not Found", "there is no such user"), NotFoundError),
        (
            problem("422 Unprocessable", "2 faults", errors=[{"detail": "too small", "pointer": "/k"}]),
            InvalidRequestError,
        ),
        (problem("501 Not Implemented", "no drift part"), ServerError),
    ],
)
def test_what_would_fail_again_is_sent_once(answer: bytes, kind: type[Exception]) -> None:
    with flaky(answer) as server, Client(server.url, "key", retries=QUICK) as client:
        with pytest.raises(kind) as caught:
            client.recommend("ada")
        assert len(server.requests) == 1
        assert caught.value.attempts == 1  # type: ignore[attr-defined]
        assert caught.value.request_id == "r-1"  # type: ignore[attr-defined]


def test_an_error_names_its_faults() -> None:
    answer = problem("422 Invalid request", "1 fault", errors=[{"detail": "too small", "pointer": "/k"}])
    with flaky(answer) as server, Client(server.url, "key") as client:
        with pytest.raises(InvalidRequestError, match="/k: too small") as caught:
            client.recommend("ada", k=0)
        assert caught.value.errors == [{"detail": "too small", "pointer": "/k"}]


def test_attempts_end_and_the_last_error_is_raised() -> None:
    three = RetryPolicy(first_pause_seconds=0.001, max_attempts=3)
    with flaky(*[problem("429 Too Many Requests", "slow")] * 9) as server:
        with Client(server.url, "key", retries=three) as client, pytest.raises(RateLimitedError, match="3 attempts"):
            client.recommend("ada")
        assert len(server.requests) == 3
    with (
        flaky(*["drop"] * 9) as server,
        Client(server.url, "key", retries=three) as client,
        pytest.raises(NoAnswerError, match="3 attempts"),
    ):
        client.recommend("ada")


def test_the_deadline_holds_for_all_attempts_together() -> None:
    hasty = RetryPolicy(deadline_seconds=1.0, first_pause_seconds=0.02, longest_pause_seconds=0.1, max_attempts=1000)
    with flaky(*[PLAIN_500] * 1000) as server, Client(server.url, "key", retries=hasty) as client:
        with pytest.raises((ServerError, NoAnswerError)):
            client.recommend("ada")
        assert 0 < len(server.requests) < 1000
    with flaky(problem("503 Overloaded", "busy", "Retry-After: 60")) as server:
        patient = RetryPolicy(deadline_seconds=50.0)
        with Client(server.url, "key", retries=patient) as client, pytest.raises(ServerError):
            client.recommend("ada")  # to wait that long would be in vain
        assert len(server.requests) == 1


def test_a_silent_or_absent_server_is_no_answer() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        hasty = RetryPolicy(deadline_seconds=0.4, attempt_seconds=0.1, first_pause_seconds=0.01)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, "key", retries=hasty) as client, pytest.raises(NoAnswerError):
            client.recommend("ada")  # bound, but nobody listens
        silent.listen()
        with Client(url, "key", retries=hasty) as client, pytest.raises(NoAnswerError, match="Timeout"):
            client.recommend("ada")


def test_a_client_demands_what_it_has_written_unless_told_otherwise() -> None:
    answer = {
        **ACKNOWLEDGED,
        "items": [],
        "policy": {"name": "steady", "reason": "", "weight_recent": 0.0},
        "drift": {"status": "none"},
        "bundle": "b",
    }
    with flaky(answer=answer) as server:
        with Client(server.url, "key") as client:
            client.recommend("ada")
            client.events.add([VIEW])
            client.recommend("ada")
            client.recommend("ada", min_version=3)
        with Client(server.url, "key", read_your_writes=False) as client:
            client.events.add([VIEW])
            client.recommend("ada")
    assert b"min_version" not in bodies(server)[0]
    assert b'"min_version": 7' in bodies(server)[2]
    assert b'"min_version": 3' in bodies(server)[3]
    assert b"min_version" not in bodies(server)[5]


def test_many_events_go_in_batches_and_their_outcomes_add_up() -> None:
    events = [Event(user_id="ada", item_id=str(n), type="view") for n in range(1_201)]
    with flaky("drop") as server, Client(server.url, "key", retries=QUICK) as client:
        outcome = client.events.add(iter(events))
        assert (outcome.accepted, outcome.version) == (3, 7)  # the server says 1 to each of three requests
        assert [body.count(b"\n") + 1 for body in bodies(server)] == [500, 500, 500, 201]  # the first one twice
        assert server.requests[0].headers["content-type"] == "application/x-ndjson"
    long = [Event(user_id="ada", item_id="7", type="review", text="x" * 20_000) for _ in range(120)]
    with flaky() as server, Client(server.url, "key") as client:
        client.events.add(long)
        assert [body.count(b"\n") + 1 for body in bodies(server)] == [49, 49, 22]
        assert max(map(len, bodies(server))) < 1_000_000


def test_ids_of_events_are_in_order_of_time_and_unique() -> None:
    ids = []
    for _ in range(5):
        ids.append(new_event_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert len({new_event_id() for _ in range(1000)}) == 1000


def test_identifiers_are_escaped_in_paths() -> None:
    with flaky(answer={"version": 1}) as server, Client(server.url, "key") as client:
        client.delete_user("families/王?#")
        assert server.requests[0].line == "DELETE /v1/users/families%2F%E7%8E%8B%3F%23 HTTP/1.1"


def test_the_client_needs_neither_torch_nor_ray_nor_the_service() -> None:
    code = (
        "import sys, driftline.client; "
        "mine = {m for m in sys.modules if m.startswith('driftline') and not m.startswith('driftline.client')}; "
        "print(sorted((mine - {'driftline'}) | ({'torch', 'ray', 'fastapi', 'numpy'} & set(sys.modules))))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
