"""API keys: ``dl_<key id>_<secret>``. Only the SHA-256 of the secret is stored.

The secret has 256 random bits, so a plain hash is enough: there is nothing to guess. A key belongs to one tenant and
carries scopes; ``admin`` does not imply the others.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from fastapi import Request
from sqlalchemy import insert, select, update

from driftline.errors import ConfigError, UnknownIdError
from driftline.events.store import Store
from driftline.events.store_schema import api_keys
from driftline.serving.calls import Principal
from driftline.serving.problems import Problem

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
_KEY: Final = re.compile(r"dl_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class KeyRecord:
    """A key as it is listed: everything but the secret. Times in seconds since the epoch."""

    key_id: str
    tenant: str
    name: str
    scopes: tuple[str, ...]
    created_at: float
    revoked_at: float | None


def create_key(store: Store, tenant: str, name: str, scopes: Sequence[str]) -> str:
    """Make a key and return it; it cannot be read again.

    Raises
    ------
    ConfigError
        Naming every argument that cannot be.
    """
    faults = [f"scope={scope!r}: choose from {', '.join(SCOPES)}" for scope in scopes if scope not in SCOPES]
    if not scopes:
        faults.append(f"a key without scopes opens nothing: choose from {', '.join(SCOPES)}")
    if not _TENANT.fullmatch(tenant):
        faults.append(f"tenant={tenant!r}: use 1-64 letters, digits, dots, dashes and underscores")
    if len(name) > 128:
        faults.append(f"name={name!r}: use at most 128 characters")
    if faults:
        raise ConfigError(faults, "driftline keys create")
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = {
        "key_id": key_id,
        "tenant": tenant,
        "name": name,
        "secret_sha256": _sha256(secret),
        "scopes": " ".join(scope for scope in SCOPES if scope in scopes),
        "created_at": time.time(),
    }
    with store.writer.begin() as connection:
        connection.execute(insert(api_keys).values(row))
    return f"dl_{key_id}_{secret}"


def list_keys(store: Store) -> list[KeyRecord]:
    """Read every key, oldest first, revoked ones included."""
    columns = (api_keys.c[name] for name in ("key_id", "tenant", "name", "scopes", "created_at", "revoked_at"))
    with store.engine.begin() as connection:
        rows = connection.execute(select(*columns).order_by(api_keys.c.created_at)).all()
    return [KeyRecord(row[0], row[1], row[2], tuple(row[3].split()), row[4], row[5]) for row in rows]


def revoke_key(store: Store, key_id: str) -> None:
    """Close a key for good; closing it twice is harmless.

    Raises
    ------
    UnknownIdError
        If there is no such key.
    """
    of_key = api_keys.c.key_id == key_id
    with store.writer.begin() as connection:
        if connection.scalar(select(api_keys.c.key_id).where(of_key)) is None:
            raise UnknownIdError(f"no key {key_id!r}: `driftline keys list` shows them")
        connection.execute(
            update(api_keys).where(of_key, api_keys.c.revoked_at.is_(None)).values(revoked_at=time.time())
        )


def find_principal(store: Store, key_id: str, secret_sha256: str) -> Principal | None:
    """Who presents this key; ``None`` if it is unknown, wrong or revoked. Compares in constant time."""
    columns = (api_keys.c.tenant, api_keys.c.scopes, api_keys.c.secret_sha256)
    with store.engine.begin() as connection:
        row = connection.execute(
            select(*columns).where(api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
        ).one_or_none()
    if row is None or not hmac.compare_digest(row[2], secret_sha256):
        return None
    return Principal(row[0], key_id, frozenset(row[1].split()))


class Authenticator:
    """Turns an ``Authorization`` header into a principal, remembering good keys for a few seconds.

    Parameters
    ----------
    find
        Looks up ``(key id, SHA-256 of the secret)``.
    remember_seconds
        A revoked key may go on working for this long.
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
        match = _KEY.fullmatch(token.strip())
        if scheme.lower() != "bearer" or match is None:
            raise _unauthenticated()
        key = (match.group(1), _sha256(match.group(2)))
        until, principal = self._known.get(key, (0.0, None))
        if principal is None or time.monotonic() >= until:
            principal = await self._find(*key)
            if principal is None:
                self._known.pop(key, None)
                raise _unauthenticated()
            self._known[key] = (time.monotonic() + self._remember_seconds, principal)
        return principal


class Needs:
    """Route dependency: the key must carry ``scope``. Every route has exactly one (see ``routes.check_scopes``)."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, request: Request) -> Principal:
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


def _unauthenticated() -> Problem:
    return Problem(
        401,
        "give a valid key: 'Authorization: Bearer dl_...'",
        headers={"WWW-Authenticate": 'Bearer realm="driftline"'},
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
