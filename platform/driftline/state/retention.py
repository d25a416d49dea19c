"""Removing what is older than it may be kept: a bounded transaction per step, so that other writers get in between.

A history loses its oldest events, so its user's revision advances and the drift state is worked out again. A user
without events left is forgotten, but for the lists that were served, which go by their own age.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from sqlalchemy import bindparam, delete, select, tuple_, update

from driftline.state.statements import lock_tenant, set_version
from driftline.state.store import Store
from driftline.state.tables import drift_states, events, served, users

USERS_PER_STEP: Final = 500
ROWS_PER_STEP: Final = 2000


def expire(store: Store, before: float) -> Iterator[int]:
    """Remove events and served lists from ``before`` that time.

    Parameters
    ----------
    before
        Seconds since the epoch, compared with ``timestamp`` of events and ``served_at`` of lists.

    Yields
    ------
    int
        Rows that a step has removed; each step is one transaction or none.
    """
    last = ("", "")
    while page := _users_after(store, last):
        for tenant, keys in groupby(page, key=lambda key: key[0]):
            user_ids = [user_id for _, user_id in keys]
            removed = ROWS_PER_STEP
            while removed == ROWS_PER_STEP:
                removed = _expire_events(store, tenant, user_ids, before)
                yield removed
        last = page[-1]
    while removed := _expire_served(store, before):
        yield removed


def _users_after(store: Store, last: tuple[str, str]) -> list[tuple[str, str]]:
    key = (users.c.tenant, users.c.user_id)
    following = select(*key).where(tuple_(*key) > tuple_(*last)).order_by(*key).limit(USERS_PER_STEP)
    with store.engine.begin() as connection:
        return [(tenant, user_id) for tenant, user_id in connection.execute(following)]


def _expire_events(store: Store, tenant: str, user_ids: Sequence[str], before: float) -> int:
    """Remove old events of these users; a search of the index per user if there are none."""
    old = (
        select(events.c.seq)
        .where(events.c.tenant == tenant, events.c.user_id.in_(user_ids), events.c.timestamp < before)
        .limit(ROWS_PER_STEP)
    )
    with store.engine.begin() as connection:
        numbers = connection.scalars(old).all()
    if not numbers:
        return 0
    with store.writer.begin() as connection:
        version = lock_tenant(connection, tenant) + 1
        removal = delete(events).where(events.c.seq.in_(numbers)).returning(events.c.user_id)
        removed = Counter(connection.scalars(removal))
        if not removed:  # by another replica, or an erasure
            return 0
        set_version(connection, tenant, version)
        connection.execute(
            update(users)
            .where(users.c.tenant == tenant, users.c.user_id == bindparam("of_user"))
            .values(num_events=users.c.num_events - bindparam("fewer"), revision=version),
            [{"of_user": user_id, "fewer": fewer} for user_id, fewer in sorted(removed.items())],
        )
        of_those = (drift_states.c.tenant == tenant) & drift_states.c.user_id.in_(list(removed))
        connection.execute(update(drift_states).where(of_those).values(state=None))  # it holds items of what went
        empty = (users.c.tenant == tenant) & users.c.user_id.in_(list(removed)) & (users.c.num_events == 0)
        gone = connection.scalars(delete(users).where(empty).returning(users.c.user_id)).all()
        of_the_gone = (drift_states.c.tenant == tenant) & drift_states.c.user_id.in_(gone)
        connection.execute(delete(drift_states).where(of_the_gone))
    return len(numbers)


def _expire_served(store: Store, before: float) -> int:
    """Remove old lists from the beginning of the table, where the oldest are."""
    oldest = select(served.c.seq).order_by(served.c.seq).limit(ROWS_PER_STEP)
    with store.engine.begin() as connection:
        numbers = connection.scalars(
            select(served.c.seq).where(served.c.seq.in_(oldest), served.c.served_at < before)
        ).all()
    if not numbers:
        return 0
    with store.writer.begin() as connection:
        connection.execute(delete(served).where(served.c.seq.in_(numbers)))
    return len(numbers)
