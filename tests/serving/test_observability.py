"""A tour of every route, with good and with bad requests, and what it leaves behind: logs and metrics."""

import json
import re
import socket
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from driftline.serving.calls import RateLimit
from driftline.serving.keys import create_key
from driftline.serving.telemetry import METRICS, Refusal
from driftline.state.store import Store
from tests.serving.conftest import USERS, Service, settled, visit
from tests.serving.logs import assert_nothing_personal, session_logs
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)  # the first test also trains a bundle and starts the service

USER = "user-who-must-not-be-logged"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
FORGED = f"dl_{'0' * 12}_{'must-not-be-logged'.ljust(43, 'A')}"
RARE = {"driftline_dropped_total", "driftline_webhooks_total"}
"""What a healthy service does not do."""


@pytest.fixture(scope="module")
def key(service: Service) -> str:
    """The key of the tour; it may do everything."""
    client = service.client("touring", scopes=("read", "write", "admin"))
    visit(client, USER, [f"i{number}" for number in range(12)])
    settled(client, USER)
    strangers = [service.client_with(key) for key in (None, FORGED, USER)]
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path != "/v1/bundles:promote":  # which would change what other tests are served
                take(client, strangers, method.upper(), path, body_of(document, operation))
    unheard(service, client)
    over_the_rate(service)
    client.delete("/v1/webhook")
    client.delete(f"/v1/users/{USER}")
    client.get("/readyz", headers={"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"})
    return str(client.headers["Authorization"].removeprefix("Bearer "))


def body_of(document: dict[str, Any], operation: dict[str, Any]) -> bytes | None:
    """Example of an operation's body, about the user of the tour."""
    if "requestBody" not in operation:
        return None
    content = operation["requestBody"]["content"]["application/json"]
    if "example" in content:
        example = content["example"]
    else:
        example = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["examples"][0]
    return json.dumps(example).replace("ada", USER).encode()


def take(client: httpx.Client, strangers: Sequence[httpx.Client], method: str, path: str, body: bytes | None) -> None:
    """One route: as it should be, with bad bodies, without a key, with a forged one."""
    filled = re.sub(r"\{\w+\}", USER, path)
    headers = {"content-type": "application/json"}
    named = json.dumps({"user_id": USER, "colour": USER, USER: USER}).encode()
    if method != "DELETE":
        client.request(method, filled, content=body, headers=headers)
    if body is not None:
        for bad in (named, named[:-1], named + b"\xff", b"[" + named + b"]", named * 5000):
            client.request(method, filled, content=bad, headers=headers)
        client.request(method, filled, content=body, headers={"content-type": f"text/{USER}"})
    client.request("PATCH", filled)
    client.request(method, f"{filled}/{USER}?user_id={USER}", headers={"min-version": USER})
    for stranger in strangers:
        stranger.request(method, filled, content=body, headers=headers)


def unheard(service: Service, client: httpx.Client) -> None:
    """Requests whose caller is gone before the answer, or that never end."""
    url = httpx.URL(service.url)
    for text in (f"GET /v1/users/{USER} HTTP/1.1", f"POST /v1/recommend?{USER} HTTP/1.1\r\nContent-Length: 99"):
        request = f"{text}\r\nHost: x\r\nAuthorization: {client.headers['Authorization']}\r\n\r\n"
        with socket.create_connection((url.host, url.port or 80), timeout=5) as connection:
            connection.sendall(request.encode())


def over_the_rate(service: Service) -> None:
    store = Store(service.database)
    limited = service.client_with(create_key(store, "acme", "slow", ["read"], RateLimit(0.01, 1)))
    store.close()
    assert [limited.get("/v1/items/i1").status_code for _ in range(2)] == [200, 429]


def records(message: str) -> list[dict[str, Any]]:
    lines = [line for file in session_logs().glob("serve/replica_*.log") for line in file.read_text().splitlines()]
    parsed = [json.loads(line) for line in lines if line.startswith("{")]
    return [record for record in parsed if record.get("message") == message]


def test_logs_hold_neither_keys_nor_user_ids(key: str) -> None:
    erased = wait_for(lambda: records("user erased"), 10)
    assert all(len(record["user"]) == 16 for record in erased)
    for file in session_logs().rglob("*"):  # what replicas, proxies and Ray itself print goes there too
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            for secret in (USER, key, key.split("_", 2)[2], "must-not-be-logged"):
                assert secret not in text, (file, [line for line in text.splitlines() if secret in line][:3])
    assert_nothing_personal(session_logs(), USERS)  # and so again when the last test of the service has ended


def test_every_request_leaves_one_line_that_others_can_be_joined_with(key: str) -> None:
    requests = wait_for(lambda: [record for record in records("request") if record["trace_id"] == TRACE_ID], 10)
    assert [(record["method"], record["route_pattern"], record["status"]) for record in requests] == [
        ("GET", "/readyz", 200)
    ]
    erasure = next(record for record in records("request") if record["key_id"] == key.split("_")[1])
    assert {"tenant", "milliseconds", "http_request_id"} <= erasure.keys()
    ids = {record["http_request_id"] for record in records("request")}
    assert {record["request_id"] for record in records("user erased")} <= ids  # UserState's lines carry it too


@pytest.mark.slow
def test_metrics_are_exported_and_their_labels_are_bounded(service: Service, key: str) -> None:
    wanted = {f"ray_{name}" for name in METRICS if name not in RARE}

    missing = wanted

    def scraped() -> dict[str, list[dict[str, str]]] | None:
        nonlocal missing
        found = series(scrape())
        missing = wanted - found.keys()
        return None if missing else found

    try:
        found = wait_for(scraped, 60)
    except AssertionError as error:
        raise AssertionError(f"never exported: {sorted(missing)}") from error
    for name, (_, _, labels) in METRICS.items():
        for one in found.get(f"ray_{name}", []):
            assert set(labels) <= one.keys(), name
    patterns = {one["route_pattern"] for one in found["ray_driftline_requests_total"]}
    assert "unmatched" in patterns
    assert all(pattern == "unmatched" or pattern.startswith("/") for pattern in patterns)
    assert len(patterns) < 40
    assert {one["method"] for one in found["ray_driftline_requests_total"]} <= {"GET", "POST", "PUT", "DELETE", "PATCH"}
    assert {one["reason"] for one in found["ray_driftline_auth_failures_total"]} == set(Refusal.__args__)
    stages = {one["stage"] for one in found["ray_driftline_stage_seconds"]}
    assert {"UserState.principal", "UserState.read_user", "Ranker.rank"} <= stages
    assert USER not in scrape()


def scrape() -> str:
    """What Prometheus would get from the node."""
    import ray

    (node,) = ray.nodes()
    return httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=30).text


def series(text: str) -> dict[str, list[dict[str, str]]]:
    """Labels of every series by name; the three of a histogram as one."""
    found: dict[str, list[dict[str, str]]] = {}
    for name, labels in re.findall(r"^(ray_driftline_\w+?)(?:_bucket|_sum|_count)?\{(.*)\} ", text, re.MULTILINE):
        found.setdefault(name, []).append(dict(re.findall(r'(\w+)="([^"]*)"', labels)))
    return found
