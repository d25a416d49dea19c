"""API keys: ``dl_<key id>_<secret>``. Only the SHA-256 of the secret is stored.

The secret has 256 random bits, so a plain hash is enough: there is nothing to guess. A key belongs to one tenant and
carries scopes; ``admin`` does not imply the others. Every change is in the audit log, in the same transaction.
"""

import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from sqlalchemy import Connection, insert, select, update

from driftline.errors import ConfigError, UnknownIdError
from driftline.serving import audit
from driftline.serving.calls import Principal, RateLimit
from driftline.state.store import Store
from driftline.state.tables import api_keys

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
DEFAULT_OVERLAP_SECONDS: Final = 24 * 3600.0
_KEY: Final = re.compile(r"dl_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_SECRET: Final = "0" * 64


@dataclass(frozen=True)
class KeyRecord:
    """A key as it is listed: everything but the secret. Times in seconds since the epoch."""

    key_id: str
    tenant: str
    name: str
    scopes: tuple[str, ...]
    created_at: float
    revoked_at: float | None
    expires_at: float | None
    limit: RateLimit | None


def create_key(
    store: Store, tenant: str, name: str, scopes: Sequence[str], limit: RateLimit | None = None, actor: str = audit.CLI
) -> str:
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
    if limit is not None and not (math.isfinite(limit.per_second) and limit.per_second > 0):
        faults.append(f"rate={limit.per_second}: use a number of requests per second above 0")
    if limit is not None and limit.burst < 1:
        faults.append(f"burst={limit.burst}: use at least 1")
    if faults:
        raise ConfigError(faults, "driftline keys create")
    values = {
        "tenant": tenant,
        "name": name,
        "scopes": " ".join(scope for scope in SCOPES if scope in scopes),
        "rate": limit.per_second if limit else None,
        "burst": limit.burst if limit else None,
    }
    with store.writer.begin() as connection:
        key_id, key = _insert(connection, values)
        audit.write(connection, audit.Deed(tenant, actor, "key.create", key_id))
    return key


def list_keys(store: Store) -> list[KeyRecord]:
    """Read every key, oldest first, closed ones included."""
    names = ("key_id", "tenant", "name", "scopes", "created_at", "revoked_at", "expires_at", "rate", "burst")
    with store.engine.begin() as connection:
        rows = connection.execute(select(*(api_keys.c[name] for name in names)).order_by(api_keys.c.created_at)).all()
    return [
        KeyRecord(key_id, tenant, name, tuple(scopes.split()), created, revoked, expires, _limit(rate, burst))
        for key_id, tenant, name, scopes, created, revoked, expires, rate, burst in rows
    ]


def revoke_key(store: Store, key_id: str, actor: str = audit.CLI) -> None:
    """Close a key for good; closing it twice is harmless.

    Raises
    ------
    UnknownIdError
        If there is no such key.
    """
    with store.writer.begin() as connection:
        tenant = _row(connection, key_id).tenant
        open_key = (api_keys.c.key_id == key_id) & api_keys.c.revoked_at.is_(None)
        connection.execute(update(api_keys).where(open_key).values(revoked_at=time.time()))
        audit.write(connection, audit.Deed(tenant, actor, "key.revoke", key_id))


def rotate_key(
    store: Store, key_id: str, overlap_seconds: float = DEFAULT_OVERLAP_SECONDS, actor: str = audit.CLI
) -> str:
    """Make a successor with the same tenant, name, scopes and limit; the old key closes after the overlap.

    Raises
    ------
    UnknownIdError
        If there is no such key.
    ConfigError
        If it is closed already, or the overlap is negative.
    """
    now = time.time()
    with store.writer.begin() as connection:
        old = _row(connection, key_id)
        if not (math.isfinite(overlap_seconds) and overlap_seconds >= 0):
            raise ConfigError([f"overlap={overlap_seconds}: use 0 or more seconds"], "driftline keys rotate")
        if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
            raise ConfigError([f"key {key_id!r} is closed already: make one with `driftline keys create`"])
        inherited = ("tenant", "name", "scopes", "rate", "burst")
        _, key = _insert(connection, {name: getattr(old, name) for name in inherited})
        expires_at = min(now + overlap_seconds, old.expires_at or math.inf)
        connection.execute(update(api_keys).where(api_keys.c.key_id == key_id).values(expires_at=expires_at))
        audit.write(connection, audit.Deed(old.tenant, actor, "key.rotate", key_id))
    return key


def find_principal(store: Store, key_id: str, secret_sha256: str) -> Principal | None:
    """Who presents this key; ``None`` if it is unknown, wrong, revoked or expired.

    The secret is compared in constant time, and also if there is no such key or it is closed, so that the time until
    the refusal does not tell which of these it was.
    """
    with store.engine.begin() as connection:
        row = connection.execute(select(api_keys).where(api_keys.c.key_id == key_id)).one_or_none()
    is_right = hmac.compare_digest(row.secret_sha256 if row else _NO_SECRET, secret_sha256)
    if row is None or not is_right or row.revoked_at is not None:
        return None
    if row.expires_at is not None and row.expires_at <= time.time():
        return None
    limit = _limit(row.rate, row.burst)
    return Principal(row.tenant, key_id, frozenset(row.scopes.split()), limit, row.expires_at)


def parse_key(text: str) -> tuple[str, str] | None:
    """Key id and SHA-256 of the secret; ``None`` if ``text`` is no key."""
    match = _KEY.fullmatch(text)
    return (match.group(1), _sha256(match.group(2))) if match else None


def _insert(connection: Connection, values: dict[str, Any]) -> tuple[str, str]:
    """Add a key with a fresh id and secret; returns the id and the key."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    fresh = {"key_id": key_id, "secret_sha256": _sha256(secret), "created_at": time.time()}
    connection.execute(insert(api_keys).values(values | fresh))
    return key_id, f"dl_{key_id}_{secret}"


def _row(connection: Connection, key_id: str) -> Any:
    row = connection.execute(select(api_keys).where(api_keys.c.key_id == key_id)).one_or_none()
    if row is None:
        raise UnknownIdError(f"no key {key_id!r}: `driftline keys list` shows them")
    return row


def _limit(rate: float | None, burst: int | None) -> RateLimit | None:
    return None if rate is None or burst is None else RateLimit(rate, burst)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
