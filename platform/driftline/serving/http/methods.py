"""Which methods a path has: the first pattern that fits a path is what it names, and only its methods count.

The router of FastAPI goes on to later patterns if a method does not fit. As ids may hold slashes,
``DELETE /v1/users/ada/timeline`` would erase the user ``ada/timeline`` instead of being refused.
"""

import re
from collections.abc import Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from driftline.serving.http.problems import Problem


class MethodGuard:
    """ASGI middleware: 405 with ``Allow`` for a method that a path does not have.

    Parameters
    ----------
    routes
        Of the application, in its order.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        methods: dict[str, set[str]] = {}
        patterns: dict[str, re.Pattern[str]] = {}
        for route in routes:
            if isinstance(route, Route):
                patterns[route.path] = route.path_regex
                methods.setdefault(route.path, set()).update(route.methods or ())
        self._resources = [(patterns[path], frozenset(methods[path])) for path in patterns]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection.

        Raises
        ------
        Problem
            405.
        """
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            allowed = next((methods for pattern, methods in self._resources if pattern.match(path)), None)
            if allowed is not None and scope["method"] not in allowed:
                listed = ", ".join(sorted(allowed))
                raise Problem(405, f"this path takes {listed}", headers={"Allow": listed})
        await self._app(scope, receive, send)
