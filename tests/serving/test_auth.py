"""Keys, scopes and tenants; nothing is open by omission."""

import httpx
import pytest
from fastapi import FastAPI

from driftline.serving.calls import RateLimit
from driftline.serving.http.routes import check_scopes
from driftline.serving.keys import create_key, revoke_key
from driftline.state.store import Store
from tests.serving.conftest import Service, event, visit
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)  # the first test also trains a bundle and starts the service

OPEN = {"/livez", "/readyz", "/openapi.json", "/docs"}
SCOPES = {
    ("POST", "/v1/events"): "write",
    ("PUT", "/v1/items/{item_id}"): "write",
    ("POST", "/v1/items:batch"): "write",
    ("GET", "/v1/items/{item_id}"): "read",
    ("DELETE", "/v1/items/{item_id}"): "write",
    ("GET", "/v1/users/{user_id}"): "read",
    ("DELETE", "/v1/users/{user_id}"): "write",
    ("POST", "/v1/recommend"): "read",
    ("POST", "/v1/rank"): "read",
    ("POST", "/v1/drift"): "read",
    ("POST", "/v1/similar"): "read",
    ("POST", "/v1/search"): "read",
    ("POST", "/v2/rerank"): "read",
    ("GET", "/v1/users/{user_id}/timeline"): "read",
    ("PUT", "/v1/webhook"): "admin",
    ("GET", "/v1/webhook"): "admin",
    ("DELETE", "/v1/webhook"): "admin",
    ("GET", "/v1/explanations/{request_id}"): "read",
    ("GET", "/v1/bundles"): "admin",
    ("POST", "/v1/bundles:promote"): "admin",
}
"""Every route of the service that needs a key. A new route fails the walk until it stands here."""


@pytest.fixture(scope="module")
def routes(service: Service) -> list[tuple[str, str]]:
    """Method and path of every route, as the running service publishes them, and some that do not exist."""
    paths = service.client_with(None).get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def call(client: httpx.Client, method: str, path: str) -> httpx.Response:
    filled = path.format(item_id="i1", user_id="u", request_id="r1")
    return client.request(method, filled, json={} if method in {"POST", "PUT"} else None)


def test_every_route_is_known_to_this_test(routes: list[tuple[str, str]]) -> None:
    assert {route for route in routes if route[1] not in OPEN} == set(SCOPES)


def test_no_route_answers_without_a_valid_key(service: Service, routes: list[tuple[str, str]]) -> None:
    forged = f"dl_{'0' * 12}_{'A' * 43}"
    for key in (None, "nonsense", forged):
        anyone = service.client_with(key)
        for method, path in [
            *routes,
            ("GET", "/"),
            ("GET", "/v1/admin"),
            ("POST", "/livez/../v1/events"),
            ("GET", "/docs/x"),
        ]:
            if path not in OPEN:
                response = call(anyone, method, path)
                assert response.status_code == 401, (method, path, response.text)
                assert response.headers["www-authenticate"].startswith("Bearer")
                assert response.headers["content-type"] == "application/problem+json"


def test_every_route_demands_its_scope(service: Service) -> None:
    for (method, path), scope in SCOPES.items():
        others = [other for other in ("read", "write", "admin") if other != scope]
        response = call(service.client(scopes=others), method, path)
        assert response.status_code == 403, (method, path)
        assert repr(scope) in response.json()["detail"]


def test_a_route_without_a_scope_stops_the_application() -> None:
    app = FastAPI(openapi_url=None)

    @app.get("/v1/forgotten")
    def forgotten() -> None: ...

    with pytest.raises(RuntimeError, match="/v1/forgotten"):
        check_scopes(app)


def test_a_tenant_sees_nothing_of_another(service: Service) -> None:
    ours, theirs = service.client("tenant-a"), service.client("tenant-b")
    visit(ours, "shared-name", ["i1", "i2"])
    ours.put("/v1/items/secret", json={"title": "Our secret"})
    ours.delete("/v1/items/i3")
    assert theirs.get("/v1/users/shared-name").status_code == 404
    assert theirs.get("/v1/items/secret").status_code == 404
    assert theirs.get("/v1/items/i3").status_code == 200
    ranked = theirs.post("/v1/rank", json={"history": ["i1"], "candidates": ["secret", "i3"]}).json()
    assert [item["item_id"] for item in ranked["items"]] == ["i3"]
    assert theirs.post("/v1/events", json=[event("shared-name", 0, "i9")]).json()["accepted"] == 1
    theirs.delete("/v1/users/shared-name")
    assert ours.get("/v1/users/shared-name").json()["history"]["num_events"] == 2


def test_a_revoked_key_stops_working_within_seconds(service: Service) -> None:
    store = Store(service.database)
    key = create_key(store, "acme", "short-lived", ["read"])
    client = service.client_with(key)
    assert client.get("/v1/items/i1").status_code == 200
    revoke_key(store, key.split("_")[1])
    store.close()
    wait_for(lambda: client.get("/v1/items/i1").status_code == 401, 15)


def test_a_key_over_its_rate_is_told_when_to_come_back(service: Service) -> None:
    store = Store(service.database)
    key = create_key(store, "acme", "slow", ["read"], RateLimit(per_second=0.05, burst=3))
    store.close()
    limited, free = service.client_with(key), service.client()
    assert [limited.get("/v1/items/i1").status_code for _ in range(3)] == [200, 200, 200]
    refused = limited.get("/v1/items/i1")
    assert refused.status_code == 429
    assert 15 <= int(refused.headers["retry-after"]) <= 20  # a token comes back after 1 / 0.05 s
    assert refused.headers["content-type"] == "application/problem+json"
    assert "0.05 requests per second, 3 at once" in refused.json()["detail"]
    assert free.get("/v1/items/i1").status_code == 200
