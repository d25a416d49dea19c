"""What surrounds a request, without Ray: limits of bodies and headers, strict JSON, traces."""

import asyncio
import json

import pytest
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from driftline.serving import tracing
from driftline.serving.calls import Principal
from driftline.serving.http.auth import Authenticator
from driftline.serving.http.envelope import MAX_HEADER_BYTES, MAX_TARGET_BYTES, Envelope
from driftline.serving.http.json_text import MAX_DEPTH, JsonFault, parse_json
from driftline.serving.http.rate_limit import RateLimiter

KEY = f"dl_{'0' * 12}_{'A' * 43}"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with the body that it got."""
    body = (await receive())["body"]
    await JSONResponse({"body": body.decode(), "trace_id": scope["state"]["trace_id"]})(scope, receive, send)


def call(
    *parts: bytes, path: bytes = b"/v1/events", delay: float = 0.0, **headers: str
) -> tuple[int, dict[str, str], dict[str, object]]:
    """Send a body in parts, each ``delay`` seconds after the one before; returns status, headers and answer."""

    async def find(key_id: str, secret_sha256: str) -> Principal | None:
        return Principal("acme", key_id, frozenset({"read"}))

    envelope = Envelope(
        echo, Authenticator(find, 5.0), RateLimiter(None), frozenset(), max_body_bytes=1000, body_seconds=0.2
    )
    given = {"authorization": f"Bearer {KEY}", "content-type": "application/json"} | headers
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "server": ("test", 80),
        "path": path.decode(),
        "raw_path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
    }
    waiting = list(parts)
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(delay)
        part = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(envelope(scope, receive, send))
    start, body = sent[0], b"".join(message.get("body", b"") for message in sent[1:])
    return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, json.loads(body)


def test_a_body_in_parts_comes_through_whole() -> None:
    assert call(b"[1,", b"2]")[2]["body"] == "[1,2]"


def test_a_body_that_dribbles_in_is_given_up() -> None:
    status, headers, answer = call(b"[", b"1", b",", b"2", b"]", delay=0.06)
    assert status == 408
    assert headers["content-type"] == "application/problem+json"
    assert "within 0.2 s" in str(answer["detail"])


def test_bodies_paths_and_headers_are_bounded() -> None:
    assert call(b"1" * 1001)[0] == 413
    assert call(b"1" * 600, b"1" * 600)[0] == 413
    assert call(b"1", content_length="9" * 5000)[0] == 413  # what is announced counts already
    assert call(path=b"/v1/" + b"a" * MAX_TARGET_BYTES)[0] == 414
    assert call(cookie="a" * MAX_HEADER_BYTES)[0] == 431


def test_a_trace_is_taken_up_and_answered() -> None:
    _, headers, answer = call(b"1", traceparent=TRACE)
    assert answer["trace_id"] == TRACE.split("-")[1]
    version, trace_id, span_id, flags = headers["traceresponse"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE.split("-")[1], "01")
    assert span_id != TRACE.split("-")[2]
    assert "traceresponse" in call(b"1" * 1001)[1]  # errors too


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        TRACE.upper(),
        f"{TRACE}-more",
        f"ff{TRACE[2:]}",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
    ],
)
def test_a_header_that_is_no_trace_begins_one(header: str | None) -> None:
    first, second = tracing.take_up(header), tracing.take_up(header)
    assert len(first.trace_id) == 32
    assert first.trace_id != second.trace_id
    assert first.flags == "01"


def test_a_later_version_of_the_header_may_say_more() -> None:
    assert tracing.take_up(f"cc{TRACE[2:]}-more").trace_id == TRACE.split("-")[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "character 1"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        ("[1]".encode("utf-16"), "NUL byte"),
        ("[1]".encode("utf-16-le"), "NUL byte"),
        (b"\xef\xbb\xbf[1]", "byte order mark"),
        (b"[1]\0", "NUL byte"),
        (b"[NaN]", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"9" * 5_000, "digits"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the name 'c' stands twice"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} deep"),
        (b'{"a":' * 50_000, f"more than {MAX_DEPTH} deep"),
        (b"[" * 50_000, f"more than {MAX_DEPTH} deep"),
        (b'"' + b"[" * 50_000, "not closed"),
    ],
)
def test_what_requests_may_not_hold_is_refused_with_the_reason(text: bytes, reason: str) -> None:
    with pytest.raises(JsonFault, match=reason):
        parse_json(text)


def test_what_requests_may_hold_is_parsed() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert json.dumps(parse_json(deepest)).encode() == deepest
    wide = b'{"a": [{}, {"b": "' + rb"[{\"[" * 100 + b'"}, []]}'
    assert parse_json(wide) == json.loads(wide)
    assert [type(number) for number in parse_json(b"[5.0, 5.5, 1e2, 1e300]")] == [int, float, int, float]
    assert parse_json(b"[" + b"[[]]," * 1000 + b"1]") == [*([[[]]] * 1000), 1]
