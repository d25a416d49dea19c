"""Who is asking, and what a route demands of them."""

import time
from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from driftline.serving import telemetry
from driftline.serving.calls import Principal
from driftline.serving.http.problems import Problem
from driftline.serving.keys import Scope, parse_key


class Authenticator:
    """Turns an ``Authorization`` header into a principal, remembering good keys for a few seconds.

    Parameters
    ----------
    find
        Looks up ``(key id, SHA-256 of the secret)``.
    remember_seconds
        A revoked key may go on working for this long. An expired one stops on time.
    """

    def __init__(self, find: Callable[[str, str], Awaitable[Principal | None]], remember_seconds: float) -> None:
        self._find = find
        self._remember_seconds = remember_seconds
        self._known: dict[tuple[str, str], tuple[float, Principal]] = {}

    async def __call__(self, authorization: str | None) -> Principal:
        """Authenticate one request.

        Raises
        ------
        Problem
            401, with the same words whatever is wrong with the key.
        """
        scheme, _, token = (authorization or "").partition(" ")
        key = parse_key(token.strip())
        if scheme.lower() != "bearer" or key is None:
            raise _unauthenticated("malformed" if authorization else "missing")
        remembered = self._recall(key)
        telemetry.count_cache("keys", remembered is not None)
        if remembered is not None:
            return remembered
        principal = await self._find(*key)
        if principal is None:
            self._known.pop(key, None)
            raise _unauthenticated("rejected")
        self._known[key] = (time.monotonic() + self._remember_seconds, principal)
        return principal

    def _recall(self, key: tuple[str, str]) -> Principal | None:
        until, principal = self._known.get(key, (0.0, None))
        if principal is None or time.monotonic() >= until:
            return None
        return None if principal.expires_at is not None and time.time() >= principal.expires_at else principal


class Needs(SecurityBase):
    """Route dependency: the key must carry ``scope``. Every route has exactly one (see ``routes.check_scopes``)."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.scheme_name = "ApiKey"
        self.model = HTTPBearer(description="An API key, as `driftline keys create` prints it.", bearerFormat="dl_…")

    async def __call__(self, request: Request) -> Principal:  # not async, it would run in a thread
        """Return the principal that the envelope authenticated.

        Raises
        ------
        Problem
            403, naming the scope.
        """
        principal: Principal = request.state.principal
        if self.scope not in principal.scopes:
            raise Problem(403, f"this key lacks the scope {self.scope!r}")
        return principal


def _unauthenticated(reason: telemetry.Refusal) -> Problem:
    telemetry.count_refusal(reason)
    return Problem(
        401,
        "give a valid key: 'Authorization: Bearer dl_...'",
        headers={"WWW-Authenticate": 'Bearer realm="driftline"'},
    )
