"""Webhooks of tenants, and the outbox: messages that are still to be sent.

A message is queued in the transaction of what it tells, and leaves the outbox when its receiver has taken it. So none
is lost by a crash, and one that was sent just before it is sent again, under the same id.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, func, insert, select, update

from driftline.state.statements import upsert_into
from driftline.state.tables import webhook_outbox as outbox
from driftline.state.tables import webhooks

if TYPE_CHECKING:
    from driftline.state.store import Store


@dataclass(frozen=True)
class Webhook:
    """Where a tenant is told of changes, and what the messages are signed with."""

    url: str
    secret: str
    updated_at: float
    num_waiting: int = 0


@dataclass(frozen=True)
class Message:
    """Something to tell: ``body`` is JSON, ``user_id`` whom it is about, if anybody."""

    event_id: str
    body: str
    user_id: str | None = None


@dataclass(frozen=True)
class Delivery:
    """A message on its way: ``attempts`` have failed so far."""

    seq: int
    tenant: str
    event_id: str
    body: str
    attempts: int
    url: str
    secret: str


def set_webhook(store: "Store", tenant: str, url: str, secret: str) -> Webhook:
    """Tell a tenant's changes there from now on; messages that wait go there too."""
    now = time.time()
    row = {"tenant": tenant, "url": url, "secret": secret, "updated_at": now}
    with store.writer.begin() as connection:
        connection.execute(upsert_into(connection, webhooks), row)
    return Webhook(url, secret, now)


def find_webhook(store: "Store", tenant: str) -> Webhook | None:
    """The tenant's webhook, if there is one."""
    with store.engine.begin() as connection:
        row = connection.execute(
            select(webhooks.c.url, webhooks.c.secret, webhooks.c.updated_at).where(webhooks.c.tenant == tenant)
        ).one_or_none()
        waiting = connection.scalar(select(func.count()).select_from(outbox).where(outbox.c.tenant == tenant))
    return Webhook(row[0], row[1], row[2], waiting or 0) if row else None


def delete_webhook(store: "Store", tenant: str) -> None:
    """Tell the tenant nothing any more, nor what still waits."""
    with store.writer.begin() as connection:
        for table in (webhooks, outbox):
            connection.execute(delete(table).where(table.c.tenant == tenant))


def queue_message(connection: Connection, tenant: str, message: Message) -> bool:
    """Put a message into the outbox within a transaction; ``False`` if the tenant has no webhook."""
    if connection.scalar(select(webhooks.c.tenant).where(webhooks.c.tenant == tenant)) is None:
        return False
    now = time.time()
    row = {
        "tenant": tenant,
        "event_id": message.event_id,
        "user_id": message.user_id,
        "body": message.body,
        "created_at": now,
        "attempts": 0,
        "next_at": now,
    }
    connection.execute(insert(outbox).values(row))
    return True


def add_message(store: "Store", tenant: str, message: Message) -> bool:
    """:func:`queue_message` in a transaction of its own."""
    with store.writer.begin() as connection:
        return queue_message(connection, tenant, message)


def claim_messages(store: "Store", lease_seconds: float, limit: int) -> list[Delivery]:
    """Messages that are due, oldest first. For so many seconds nobody else gets them."""
    now = time.time()
    due = select(outbox.c.seq).where(outbox.c.next_at <= now).order_by(outbox.c.seq).limit(limit)
    with store.engine.begin() as connection:  # most of the time there is nothing: SQLite's write lock is not taken
        found = connection.scalars(due).all()
    if not found:
        return []
    free = select(outbox.c.seq).where(outbox.c.seq.in_(found), outbox.c.next_at <= now)
    claim = update(outbox).where(outbox.c.seq.in_(free.with_for_update(skip_locked=True)))
    with store.writer.begin() as connection:
        claimed = connection.scalars(claim.values(next_at=now + lease_seconds).returning(outbox.c.seq)).all()
        rows = connection.execute(
            select(
                *(outbox.c[name] for name in ("seq", "tenant", "event_id", "body", "attempts")),
                webhooks.c.url,
                webhooks.c.secret,
            )
            .join_from(outbox, webhooks, outbox.c.tenant == webhooks.c.tenant)
            .where(outbox.c.seq.in_(claimed))
            .order_by(outbox.c.seq)
        ).mappings()
        return [Delivery(**row) for row in rows]


def remove_messages(store: "Store", seqs: Sequence[int]) -> None:
    """Take messages out that were delivered, or that nobody will ever take."""
    with store.writer.begin() as connection:
        connection.execute(delete(outbox).where(outbox.c.seq.in_(seqs)))


def postpone_message(store: "Store", delivery: Delivery, seconds: float, fault: str) -> None:
    """Note a failed attempt; the next one comes after so many seconds."""
    values = {"attempts": delivery.attempts + 1, "next_at": time.time() + seconds, "fault": fault[:1000]}
    with store.writer.begin() as connection:
        connection.execute(update(outbox).where(outbox.c.seq == delivery.seq).values(values))
