"""What does not make sense gets a 4xx with a problem document, whatever it is; never a 5xx."""

import json
import string

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.conftest import Service, event

pytestmark = pytest.mark.timeout(900)  # the first test also trains a bundle and starts the service

JSON = "application/json"
POSTS = ("/v1/events", "/v1/recommend", "/v1/rank", "/v1/drift", "/v1/items:batch")
BODIES = {
    "empty": (b"", JSON),
    "not JSON": (b"{", JSON),
    "NUL bytes": (b"\0\0\0", JSON),
    "invalid UTF-8": (b'{"user_id": "\xff\xfe"}', JSON),
    "lone surrogate": (rb'{"user_id": "\ud800"}', JSON),
    "NUL in an id": (rb'{"user_id": "a\u0000b"}', JSON),
    "deep arrays": (b"[" * 50_000, JSON),
    "deep objects": (b'{"user_id":' * 10_000, JSON),
    "an integer of 5,000 digits": (b'{"user_id":"u","k":' + b"9" * 5_000 + b"}", JSON),
    "an integer of 400 digits": (
        b'{"user_id":"u","diversity":' + b"9" * 400 + b',"min_version":' + b"9" * 400 + b"}",
        JSON,
    ),
    "not a number": (b'{"user_id":"u","diversity":NaN}', JSON),
    "infinity": (b'{"user_id":"u","diversity":Infinity}', JSON),
    "a bare number": (b"7", JSON),
    "null": (b"null", JSON),
    "UTF-16": ('{"user_id": "u", "x": 1}'.encode("utf-16"), JSON),
    "a form": (b"user_id=u", "application/x-www-form-urlencoded"),
    "no content type": (b'{"user_id":"u"}', ""),
    "text": (b'{"user_id":"u"}', "text/plain"),
    "multipart": (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x"),
    "an unknown charset": (b'{"user_id":"u", "x": 1}', "application/json; charset=klingon"),
}


def is_refused(response: httpx.Response) -> None:
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused_everywhere(client: httpx.Client, name: str) -> None:
    body, content_type = BODIES[name]
    for path in POSTS:
        is_refused(client.post(path, content=body, headers={"content-type": content_type}))
    is_refused(client.put("/v1/items/x", content=body, headers={"content-type": content_type}))


def test_a_body_beyond_the_limit_is_refused(client: httpx.Client) -> None:
    large = b'"' + b"a" * 250_000 + b'"'
    assert client.post("/v1/recommend", content=large, headers={"content-type": JSON}).status_code == 413

    def in_parts() -> object:
        yield from (b"[" for _ in range(250))
        yield from (b"1," * 500 for _ in range(250))

    assert client.post("/v1/events", content=in_parts(), headers={"content-type": JSON}).status_code == 413
    assert client.post("/v1/events", json=[1] * 501).status_code == 413


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


@pytest.mark.parametrize("value", [b"\xff\xfe", b"Bearer \x80", b"a" * 4_000, b"Bearer dl_x_y", b"a b\tc"])
def test_hostile_credentials_are_refused(service: Service, value: bytes) -> None:
    with httpx.Client(base_url=service.url, timeout=30) as anyone:
        is_refused(anyone.get("/v1/users/u", headers=[(b"Authorization", value)]))


@pytest.mark.parametrize("value", [b"a" * 4_000, b"a b\tc", "ключ".encode()])
def test_hostile_request_ids_are_refused(client: httpx.Client, value: bytes) -> None:
    """Valid UTF-8 only: anything else dies in Ray's own proxy, as docs/serving.md says."""
    response = client.get("/v1/users/u", headers=[(b"X-Request-ID", value)])
    is_refused(response)
    assert response.status_code == 400


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
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
@given(path=st.sampled_from(POSTS[1:]), body=objects | any_json)
def test_no_body_at_all_makes_the_service_fail(client: httpx.Client, path: str, body: object) -> None:
    response = client.post(path, content=json.dumps(body).encode(), headers={"content-type": JSON})
    assert response.status_code in {200, 409, 422}, (path, body, response.text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows | any_json, max_size=5))
def test_no_rows_at_all_make_the_ingestion_fail(client: httpx.Client, rows: list[object]) -> None:
    response = client.post("/v1/events", content=json.dumps(rows).encode(), headers={"content-type": JSON})
    assert response.status_code == 200, (rows, response.text)
    assert len(response.json()["events"]) == len(rows)
