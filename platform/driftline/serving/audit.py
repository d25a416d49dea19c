"""The audit log: who did what that cannot be undone, or that opens or closes something.

Ids of users and items are never written: their place is taken by an HMAC-SHA-256 whose key is made once per database
and stays in it. Who holds the database can tell whether an entry is about a given id; who sees the log alone cannot.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from driftline.state.store import Store
from driftline.state.tables import audit, audit_secret

Action = Literal[
    "key.create",
    "key.rotate",
    "key.revoke",
    "user.erase",
    "item.delete",
    "bundle.promote",
    "webhook.set",
    "webhook.delete",
]
CLI: Final = "cli"
"""Actor of what is done on the command line."""


@dataclass(frozen=True)
class Deed:
    """Something to record.

    Parameters
    ----------
    tenant
        Whose data or key it is about.
    actor
        Key id, or ``CLI``.
    subject
        Key id or bundle id; for ``user.erase`` and ``item.delete`` the id itself, of which only a keyed hash is kept.
    """

    tenant: str
    actor: str
    action: Action
    subject: str


@dataclass(frozen=True)
class AuditEntry:
    """One line of the log; ``at`` in seconds since the epoch."""

    at: float
    tenant: str
    actor: str
    action: str
    subject: str
    outcome: str


def write(connection: Connection, deed: Deed, outcome: Literal["done", "failed"] = "done") -> None:
    """Record a deed in the transaction that does it."""
    hashed = deed.action in ("user.erase", "item.delete")
    row = {
        "at": time.time(),
        "tenant": deed.tenant,
        "actor": deed.actor,
        "action": deed.action,
        "subject": _hash(_secret(connection), deed.tenant, deed.subject) if hashed else deed.subject,
        "outcome": outcome,
    }
    connection.execute(insert(audit).values(row))


@contextmanager
def recorded(store: Store, deed: Deed) -> Iterator[None]:
    """Record what the block does, and whether it succeeded.

    The entry is a transaction of its own, after the block's. A crash between the two leaves a deed without an entry,
    but also without an answer: whoever asked for it asks again, and then it is recorded.
    """
    try:
        yield
    except Exception:
        with store.writer.begin() as connection:
            write(connection, deed, "failed")
        raise
    with store.writer.begin() as connection:
        write(connection, deed)


def read(store: Store, tenant: str | None = None, subject: str | None = None, newest: int = 100) -> list[AuditEntry]:
    """Read the newest entries, oldest first.

    Parameters
    ----------
    subject
        Only entries about this user, item, key or bundle of ``tenant``.
    """
    names = ("at", "tenant", "actor", "action", "subject", "outcome")
    statement = select(*(audit.c[name] for name in names)).order_by(audit.c.seq.desc()).limit(newest)
    with store.writer.begin() as connection:
        if tenant is not None:
            statement = statement.where(audit.c.tenant == tenant)
        if tenant is not None and subject is not None:
            hashed = _hash(_secret(connection), tenant, subject)
            statement = statement.where(audit.c.subject.in_([subject, hashed]))
        rows = connection.execute(statement).all()
    return [AuditEntry(*row) for row in reversed(rows)]


def _hash(secret: str, tenant: str, subject: str) -> str:
    return hmac.new(bytes.fromhex(secret), f"{tenant}/{subject}".encode(), hashlib.sha256).hexdigest()[:32]


def _secret(connection: Connection) -> str:
    """Key of the hashes, made when it is first needed; the first of several processes wins."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    fresh = dialect.insert(audit_secret).values(number=1, secret=secrets.token_hex(32))
    connection.execute(fresh.on_conflict_do_nothing())
    found: str = connection.execute(select(audit_secret.c.secret)).scalar_one()
    return found
