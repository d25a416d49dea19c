"""A real HTTP server on a socket that fails as it is told to, request by request."""

import json
import socketserver
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

ACKNOWLEDGED = {"accepted": 1, "duplicate": 0, "rejected": 0, "version": 7, "events": [], "request_id": "r"}


@dataclass
class Received:
    """One request as it came over the wire."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FlakyServer:
    """What the server does with the next requests; when the plan is at its end it answers 200 with ``answer``.

    A step is ``"drop"`` (read the request, then cut the connection), or bytes to send as they are.
    """

    plan: list[str | bytes]
    answer: dict[str, Any] = field(default_factory=lambda: ACKNOWLEDGED)
    requests: list[Received] = field(default_factory=list)
    url: str = ""


def reply(status: str, body: bytes = b"", *headers: str, kind: str = "text/plain") -> bytes:
    """A whole response."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def problem(status: str, detail: str, *headers: str, **more: Any) -> bytes:
    """An error as the service itself makes it."""
    body = {"title": status[4:], "detail": detail, "status": int(status[:3]), "request_id": "r-1", **more}
    return reply(status, json.dumps(body).encode(), *headers, kind="application/problem+json")


@contextmanager
def flaky(*plan: str | bytes, answer: dict[str, Any] = ACKNOWLEDGED) -> Iterator[FlakyServer]:
    """Run the server for a while."""
    told = FlakyServer(list(plan), answer)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline().decode().strip()
            if not line:
                return
            headers = {}
            while header := self.rfile.readline().decode().strip():
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            body = self.rfile.read(int(headers.get("content-length", 0)))
            told.requests.append(Received(line, headers, body))
            step = told.plan.pop(0) if told.plan else reply("200 OK", json.dumps(told.answer).encode())
            if step == "drop":
                self.request.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an orderly end
            else:
                assert isinstance(step, bytes)
                self.wfile.write(step)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


def bodies(server: FlakyServer) -> Sequence[bytes]:
    """What came, in order."""
    return [request.body for request in server.requests]
