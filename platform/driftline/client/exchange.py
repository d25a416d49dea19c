"""What a synchronous and an asynchronous client share: the request of a call, and what becomes of its answer."""

import json
import threading
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx

from driftline.client.calls import Call
from driftline.client.errors import error_of

T = TypeVar("T")


class Exchange:
    """One client's side of the conversation.

    Parameters
    ----------
    read_your_writes
        Demand, where a request can, the newest version that any earlier answer acknowledged.
    """

    def __init__(self, read_your_writes: bool) -> None:
        self._read_your_writes = read_your_writes
        self._version = 0
        self._lock = threading.Lock()

    @property
    def version(self) -> int:
        """The newest acknowledged version; 0 before the first write."""
        return self._version

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """Arguments for ``httpx``, made once: every attempt sends the same bytes under the same request id."""
        headers = {"X-Request-ID": uuid.uuid4().hex}
        content = call.lines
        if call.body is not None:
            body: Mapping[str, Any] = call.body
            if call.demands and self._read_your_writes and self._version:
                body = {"min_version": self._version, **body}
            content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        if content is not None:
            headers["Content-Type"] = "application/json" if call.lines is None else "application/x-ndjson"
        return {
            "method": call.method,
            "url": call.path,
            "params": dict(call.query),
            "content": content,
            "headers": headers,
        }

    def answer(self, call: Call[T], response: httpx.Response, attempts: int) -> T:
        """Read a final response.

        Raises
        ------
        ApiError
            If it is an error.
        """
        if not response.is_success:
            raise error_of(response, attempts)
        body = response.json() if response.content else None
        if (
            call.method != "GET"
            and not call.demands
            and isinstance(body, dict)
            and isinstance(body.get("version"), int)
        ):
            with self._lock:
                self._version = max(self._version, body["version"])
        return call.read(body)


def connection(url: str, key: str) -> dict[str, Any]:
    """Settings of an ``httpx`` client. No redirects: they could carry the key elsewhere."""
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}", "User-Agent": "driftline-client"},
        "follow_redirects": False,
    }
