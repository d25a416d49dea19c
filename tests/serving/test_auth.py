"""Keys, scopes and tenants; nothing is open by omission."""

import httpx
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from driftline.errors import ConfigError, UnknownIdError
from driftline.events.store import Store
from driftline.serving.auth import create_key, find_principal, list_keys, revoke_key
from driftline.serving.keys_cli import app as keys_app
from driftline.serving.routes import check_scopes
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
}
"""Every route of the service that needs a key. A new route fails the walk until it stands here."""


@pytest.fixture(scope="module")
def routes(service: Service) -> list[tuple[str, str]]:
    """Method and path of every route, as the running service publishes them, and some that do not exist."""
    paths = service.client_with(None).get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def call(client: httpx.Client, method: str, path: str) -> httpx.Response:
    filled = path.format(item_id="i1", user_id="u")
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


def test_only_the_hash_of_a_key_is_stored(service: Service) -> None:
    store = Store(service.database)
    key = create_key(store, "acme", "hashed", ["read", "write"])
    _, key_id, secret = key.split("_", 2)
    with store.engine.begin() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM api_keys").all()
    assert not any(secret in str(row) for row in rows)
    assert find_principal(store, key_id, "0" * 64) is None
    with pytest.raises(UnknownIdError, match="no key 'ffff'"):
        revoke_key(store, "ffff")
    with pytest.raises(ConfigError) as caught:
        create_key(store, "a b", "bad", ["root"])
    assert len(caught.value.faults) == 2
    store.close()


def test_keys_are_made_listed_and_revoked_on_the_command_line(tmp_path: object) -> None:
    database = f"sqlite:///{tmp_path}/keys.db"
    run = CliRunner()
    made = run.invoke(
        keys_app, ["create", "--name", "demo", "--scope", "read", "--scope", "write", "--database", database]
    )
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    key_id = key.split("_")[1]
    listed = run.invoke(keys_app, ["list", "--database", database]).stdout
    assert key_id in listed
    assert "read,write" in listed
    assert key not in listed
    assert run.invoke(keys_app, ["revoke", key_id, "--database", database]).exit_code == 0
    assert "revoked" in run.invoke(keys_app, ["list", "--database", database]).stdout
    store = Store(database)
    assert list_keys(store)[0].revoked_at is not None
    store.close()
