"""Routes whose bodies are read once, by :func:`~driftline.serving.http.json_text.parse_json`, not by FastAPI."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from driftline.serving.http.json_text import JsonFault, parse_json


class _StrictRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            try:
                self._json = parse_json(await self.body())
            except JsonFault as fault:
                raise json.JSONDecodeError(str(fault), "", 0) from fault  # which FastAPI makes a validation error
        return self._json


class StrictRoute(APIRoute):
    """A route that refuses JSON which is ambiguous, too deep or not UTF-8."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly
