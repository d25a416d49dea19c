"""What surrounds every HTTP request: ids, key, rate limit, size and type of the body, last-resort errors, log.

It stands outside the routing, so a path is closed before anybody has thought of it. Ray Serve itself gives every
request an ``X-Request-ID`` if it has none, and puts it into the response.
"""

import asyncio
import logging
import re
import time
import uuid
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driftline.serving import telemetry, tracing
from driftline.serving.http.auth import Authenticator
from driftline.serving.http.ingestion import NDJSON
from driftline.serving.http.problems import Problem, as_problem
from driftline.serving.http.rate_limit import RateLimiter

logger = logging.getLogger("ray.serve")

PROBES: Final = frozenset({"/livez", "/readyz"})
DOCUMENTS: Final = frozenset({"/openapi.json", "/docs"})
EVENTS_PATH: Final = "/v1/events"
MAX_TARGET_BYTES: Final = 8 * 1024
MAX_HEADER_BYTES: Final = 32 * 1024
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")


class Envelope:
    """ASGI middleware.

    Parameters
    ----------
    authenticate
        Turns the ``Authorization`` header into a principal.
    limiter
        Counts the requests of each key.
    open_paths
        Paths that need no key.
    max_body_bytes
        Larger bodies get 413.
    body_seconds
        A body that takes longer to arrive gets 408.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticate: Authenticator,
        limiter: RateLimiter,
        open_paths: frozenset[str],
        max_body_bytes: int,
        body_seconds: float,
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._limiter = limiter
        self._open_paths = open_paths
        self._max_body_bytes = max_body_bytes
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            raise ValueError(f"unsupported connection type {scope['type']!r}")
        headers = Headers(scope=scope)
        given_id = headers.get("x-request-id", "")
        request_id = given_id if _REQUEST_ID.fullmatch(given_id) else uuid.uuid4().hex
        trace = tracing.take_up(headers.get("traceparent"))
        scope.setdefault("state", {}).update(request_id=request_id, trace_id=trace.trace_id)
        started = time.perf_counter()
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["traceresponse"] = trace.header
            await send(message)

        try:
            _check_head(scope, given_id, request_id)
            if route_path(scope) not in self._open_paths:
                principal = await self._authenticate(headers.get("authorization"))
                scope["state"]["principal"] = principal
                self._limiter.take(principal)
            body = await self._read_body(headers, receive)
            _check_media_type(scope, headers, body)
            await self._app(scope, _replay(body, receive), send_and_note)
        except Exception as error:
            problem = as_problem(error)
            if problem is None:
                logger.exception("bug while answering a request", extra={"http_request_id": request_id})
                problem = Problem(500, "this is a bug of the service; the log has it under the request id")
            if status:  # the answer has begun: it can only be cut off
                raise
            await problem.response(Request(scope).url.path, request_id)(scope, receive, send_and_note)
        finally:
            _note(scope, status, time.perf_counter() - started)

    async def _read_body(self, headers: Headers, receive: Receive) -> bytes:
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:19]) > self._max_body_bytes:
            raise self._too_large()
        chunks: list[bytes] = []
        num_bytes = 0
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Problem(400, "the connection closed before the body was complete")
                    chunks.append(message.get("body", b""))
                    num_bytes += len(chunks[-1])
                    if num_bytes > self._max_body_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError as error:
            detail = f"the body did not arrive within {self._body_seconds:g} s: send it faster, or in parts"
            raise Problem(408, detail, headers={"Connection": "close"}) from error

    def _too_large(self) -> Problem:
        return Problem(413, f"the body exceeds {self._max_body_bytes} bytes: send it in parts")


def route_path(scope: Scope) -> str:
    """Path below the prefix that the application is deployed under."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def media_type(headers: Headers) -> str:
    """Media type of a body without its parameters, in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_media_type(scope: Scope, headers: Headers, body: bytes) -> None:
    allowed = {"application/json"} | ({NDJSON} if route_path(scope) == EVENTS_PATH else set())
    if body and media_type(headers) not in allowed:
        raise Problem(415, f"Content-Type {media_type(headers)!r}: send {' or '.join(sorted(allowed))}")


def _check_head(scope: Scope, given_id: str, request_id: str) -> None:
    if given_id not in ("", request_id):
        raise Problem(400, "X-Request-ID must have 1 to 128 visible ASCII characters")
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET_BYTES:
        raise Problem(414, f"path and query exceed {MAX_TARGET_BYTES} bytes")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        raise Problem(431, f"the headers exceed {MAX_HEADER_BYTES} bytes")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand the body on in one piece, then whatever the connection says."""
    handed_on = False

    async def replay() -> Message:
        nonlocal handed_on
        if handed_on:
            return await receive()
        handed_on = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _note(scope: Scope, status: int, seconds: float) -> None:
    """One line and one count per request: the route's pattern, never its parameters, for those hold user ids."""
    state = scope["state"]
    route, principal = scope.get("route"), state.get("principal")
    pattern = getattr(route, "path", "unmatched")
    telemetry.count_request(scope["method"], pattern, status, seconds)
    logger.info(
        "request",
        extra={
            "method": scope["method"] if scope["method"] in telemetry.METHODS else "other",
            "route_pattern": pattern,
            "status": status,
            "milliseconds": round(1000 * seconds, 1),
            "http_request_id": state["request_id"],
            "trace_id": state["trace_id"],
            "tenant": principal.tenant if principal else None,
            "key_id": principal.key_id if principal else None,
        },
    )
