"""What does not make sense gets a 4xx with a problem document, whatever it is; never a 5xx."""

import contextlib
import json
import re
import socket
import string
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.conftest import Service, event
from tests.serving.hostile_bodies import JSON, VALUES, Hostile, texts, wrong_fields

pytestmark = pytest.mark.timeout(900)  # the first test also trains a bundle and starts the service

ROUTER_MIB = 64
"""How much the Router may grow by all that, which is hundreds of megabytes."""


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    """The OpenAPI document as it is published."""
    found: dict[str, Any] = service.client_with(None).get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def routes(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Schema and example of the JSON body of every route that takes one."""
    return {
        (method.upper(), path.format(item_id="x")): operation["requestBody"]["content"]["application/json"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    }


@pytest.fixture(scope="module")
def anything(service: Service) -> httpx.Client:
    """A client that may do everything, so that it is the body that is refused."""
    return service.client(scopes=("read", "write", "admin"))


def is_problem(response: httpx.Response) -> bool:
    """Whether a request was refused for what it says, with a problem document."""
    return (
        400 <= response.status_code < 500
        and response.status_code not in (401, 403)
        and response.headers["content-type"] == "application/problem+json"
        and response.json()["status"] == response.status_code
    )


def is_refused(response: httpx.Response) -> None:
    assert is_problem(response), (response.status_code, response.text)


@pytest.mark.slow
def test_two_hundred_hostile_bodies_are_refused_by_every_route(
    service: Service,
    anything: httpx.Client,
    document: dict[str, Any],
    routes: dict[tuple[str, str], dict[str, Any]],
) -> None:
    before = service.rss_mib("Router")
    for (method, path), content in routes.items():
        corpus = list(texts())
        if path != "/v1/events":  # which judges rows one by one; see below
            corpus += wrong_fields(document, content["schema"], first_example(document, content))
            assert len(corpus) >= 200, path

        def send(hostile: Hostile) -> httpx.Response:
            _, body, content_type = hostile
            return anything.request(method, path, content=body, headers={"content-type": content_type})  # noqa: B023

        with ThreadPoolExecutor(4) as pool:
            for (name, *_), response in zip(corpus, pool.map(send, corpus), strict=True):
                assert is_problem(response), (method, path, name, response.status_code, response.text)
    assert service.rss_mib("Router") < before + ROUTER_MIB


def first_example(document: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """Example of a body, from the media type or from the schema that it refers to."""
    if "example" in content:
        found: dict[str, Any] = content["example"]
        return found
    schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    example: dict[str, Any] = schema["examples"][0]
    return example


def test_every_field_of_a_row_of_a_wrong_type_rejects_the_row(client: httpx.Client) -> None:
    good = event("hostile", 0, "i1")
    takes = {"value": {"null", "0", "-1", "1.5", "2**63", "1e308"}, "timestamp": {"0", "-1", "1.5"}}
    texts_taken = {"a string", "a digit"}
    for field in (*good, "value", "text", "request_id", "a name that no row has"):
        wrong = {
            label: value
            for label, value in VALUES.items()
            if label not in takes.get(field, texts_taken if field in good and field != "type" else set())
            and not (field in ("text", "request_id") and label in texts_taken | {"null", "empty string", "a blank"})
            and label != "12,000 items"
        }
        for label, value in wrong.items():
            answer = client.post(
                "/v1/events", content=json.dumps([good | {field: value}]), headers={"content-type": JSON}
            )
            if answer.status_code == 413:
                continue
            assert answer.status_code == 200, (field, label, answer.text)
            assert answer.json()["rejected"] == 1, (field, label, answer.text)


def test_a_body_beyond_the_limit_is_refused(client: httpx.Client) -> None:
    large = b'"' + b"a" * 250_000 + b'"'
    assert client.post("/v1/recommend", content=large, headers={"content-type": JSON}).status_code == 413
    assert client.post("/v1/events", json=[1] * 501).status_code == 413


@pytest.mark.slow
@pytest.mark.parametrize("announced", [True, False])
def test_a_hundred_megabytes_are_refused_without_being_kept(
    service: Service, client: httpx.Client, announced: bool
) -> None:
    chunk = b"1," * 32_768

    def in_parts() -> Iterator[bytes]:
        for _ in range(100 * 1024**2 // len(chunk)):
            yield chunk

    headers = {"content-type": JSON} | ({"content-length": str(100 * 1024**2)} if announced else {})
    before = service.rss_mib("Router")
    with contextlib.suppress(httpx.TransportError):  # the answer came, and the connection closed, in the middle
        is_refused(client.post("/v1/events", content=in_parts(), headers=headers))
    assert service.rss_mib("Router") < before + ROUTER_MIB
    assert client.post("/v1/drift", json={"history": ["i1"]}).status_code == 200


@pytest.mark.parametrize(
    "request_text",
    [
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[]",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n[1, 2, 3]",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n[]",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n[]",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n0\r\n\r\n",
        b"POST /v1/events HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 1000,
    ],
)
def test_a_request_that_lies_about_itself_gets_no_further(service: Service, request_text: bytes) -> None:
    """Some die in Ray's proxy with its own plain 400; none is answered as if it were good, and the next one is."""
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 80), timeout=5) as connection:
        connection.sendall(request_text)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer == b"" or re.match(rb"HTTP/1.1 4\d\d ", answer), answer
    assert service.client_with(None).get("/livez").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/users/%00",
        "/v1/users/a%00b",
        "/v1/users/%FF%FE",
        "/v1/users/" + "a" * 300,
        "/v1/users/%20",
        "/v1/users/",
        "/v1/items/%0A",
    ],
)
def test_a_hostile_path_is_refused(client: httpx.Client, path: str) -> None:
    is_refused(client.get(path))


def test_a_method_that_a_path_lacks_is_refused(client: httpx.Client) -> None:
    for method, path in [("GET", "/v1/events"), ("PATCH", "/v1/users/u"), ("DELETE", "/v1/recommend")]:
        response = client.request(method, path)
        is_refused(response)
        assert response.status_code == 405
    assert client.patch("/v1/items/x").headers["allow"] == "DELETE, GET, PUT"


def test_a_method_that_a_longer_path_lacks_is_not_taken_for_an_id_with_a_slash(client: httpx.Client) -> None:
    refused = client.delete("/v1/users/sub/timeline")
    is_refused(refused)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommend", {}),
        ("/v1/rank", {"candidates": ["i1"]}),
        ("/v1/search", {"query": "drama"}),
        ("/v1/users/sub/timeline/timeline", None),
    ],
)
def test_a_user_whom_no_path_could_erase_is_refused(
    client: httpx.Client, path: str, body: dict[str, object] | None
) -> None:
    refused = client.get(path) if body is None else client.post(path, json={"user_id": "sub/timeline", **body})
    (fault,) = refused.json()["errors"]
    assert (refused.status_code, fault["pointer"] or fault["parameter"]) == (
        422,
        "user_id" if body is None else "/user_id",
    )
    assert "must not end in '/timeline'" in fault["detail"]


@pytest.mark.parametrize("value", [b"\xff\xfe", b"Bearer \x80", b"a" * 4_000, b"Bearer dl_x_y", b"a b\tc"])
def test_hostile_credentials_are_refused(service: Service, value: bytes) -> None:
    with httpx.Client(base_url=service.url, timeout=30) as anyone:
        refused = anyone.get("/v1/users/u", headers=[(b"Authorization", value)])
    assert (refused.status_code, refused.json()["status"]) == (401, 401)


@pytest.mark.parametrize("value", [b"a" * 4_000, b"a b\tc", "ключ".encode()])
def test_hostile_request_ids_are_refused(client: httpx.Client, value: bytes) -> None:
    """Valid UTF-8 only: anything else dies in Ray's own proxy, as docs/serving.md says."""
    response = client.get("/v1/users/u", headers=[(b"X-Request-ID", value)])
    is_refused(response)
    assert response.status_code == 400


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(string.printable, max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
fields = st.sampled_from(
    ["user_id", "k", "exclude", "filters", "diversity", "min_version", "history", "candidates", "items"]
)
objects = st.dictionaries(fields, any_json | st.sampled_from(["u", 5, ["i1", "i2"], {"categories": ["x"]}]), max_size=5)
rows = st.fixed_dictionaries({}, optional=dict.fromkeys([*event("u", 0, "i1"), "value", "text", "zz"], any_json))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["/v1/recommend", "/v1/rank", "/v1/drift", "/v1/items:batch"]), body=objects | any_json)
def test_no_body_at_all_makes_the_service_fail(client: httpx.Client, path: str, body: object) -> None:
    response = client.post(path, content=json.dumps(body).encode(), headers={"content-type": JSON})
    assert response.status_code in {200, 409, 422}, (path, body, response.text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows | any_json, max_size=5))
def test_no_rows_at_all_make_the_ingestion_fail(client: httpx.Client, rows: list[object]) -> None:
    response = client.post("/v1/events", content=json.dumps(rows).encode(), headers={"content-type": JSON})
    assert response.status_code == 200, (rows, response.text)
    assert len(response.json()["events"]) == len(rows)
