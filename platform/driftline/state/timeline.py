"""What happened to one user: events in their order, and the lists that were shown."""

import json

from sqlalchemy import Connection, and_, func, or_, select

from driftline.state.records import Cursor, EventsPage, PolicyChange, ServedList, StoredEvent
from driftline.state.tables import events, served

_EVENT_COLUMNS = (
    events.c.event_id,
    events.c.user_id,
    events.c.item_id,
    events.c.type,
    events.c.timestamp,
    events.c.value,
    events.c.text,
    events.c.request_id,
)


def events_page(connection: Connection, tenant: str, user_id: str, after: Cursor | None, limit: int) -> EventsPage:
    """The ``limit`` events that follow ``after``; one more is read to know whether there is a next page."""
    statement = (
        select(events.c.seq, *_EVENT_COLUMNS)
        .where(events.c.tenant == tenant, events.c.user_id == user_id)
        .order_by(events.c.timestamp, events.c.seq)
        .limit(limit + 1)
    )
    if after is not None:
        timestamp, seq = after
        # the first half bounds the index search, which neither database finds in the second
        statement = statement.where(
            events.c.timestamp >= timestamp,
            or_(events.c.timestamp > timestamp, and_(events.c.timestamp == timestamp, events.c.seq > seq)),
        )
    rows = connection.execute(statement).all()
    found = [StoredEvent(*row[1:]) for row in rows[:limit]]
    return EventsPage(found, (found[-1].timestamp, rows[limit - 1][0]) if len(rows) > limit else None)


def policy_changes(connection: Connection, tenant: str, user_id: str, newest: int) -> list[PolicyChange]:
    """The ``newest`` lists that came under another policy than the list before, oldest first."""
    policy_before = func.lag(served.c.policy).over(order_by=(served.c.served_at, served.c.seq))
    shown = (
        select(
            served.c.served_at,
            served.c.policy,
            served.c.bundle,
            served.c.request_id,
            served.c.seq,
            policy_before.label("before"),
        )
        .where(served.c.tenant == tenant, served.c.user_id == user_id)
        .subquery()
    )
    changes = (
        select(shown.c.served_at, shown.c.policy, shown.c.bundle, shown.c.request_id)
        .where(shown.c.policy.is_distinct_from(shown.c.before))
        .order_by(shown.c.served_at.desc(), shown.c.seq.desc())
        .limit(newest)
    )
    return [PolicyChange(*row) for row in reversed(connection.execute(changes).all())]


def served_list(connection: Connection, tenant: str, request_id: str) -> ServedList | None:
    """The list that a request was answered with; the last one, if a client has used its request id again."""
    statement = (
        select(served)
        .where(served.c.tenant == tenant, served.c.request_id == request_id)
        .order_by(served.c.seq.desc())
        .limit(1)
    )
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    return ServedList(
        tenant=row["tenant"],
        request_id=row["request_id"],
        user_id=row["user_id"],
        items=tuple(json.loads(row["items"])),
        policy=row["policy"],
        bundle=row["bundle"],
        served_at=row["served_at"],
        version=row["version"],
        arm=row["arm"],
        scores=None if row["scores"] is None else tuple(json.loads(row["scores"])),
        shadow=None if row["shadow"] is None else json.loads(row["shadow"]),
        reading=None if row["reading"] is None else json.loads(row["reading"]),
    )
