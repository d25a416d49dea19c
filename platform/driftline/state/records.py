"""What goes into the event store and comes out of it."""

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["accepted", "duplicate", "conflict"]
Cursor = tuple[float, int]
"""Place in a history: timestamp and arrival number of the last event that was read."""


@dataclass(frozen=True)
class StoredEvent:
    """One event as the store keeps it; ``timestamp`` in seconds since the epoch."""

    event_id: str
    user_id: str
    item_id: str
    type: str
    timestamp: float
    value: float | None = None
    text: str | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class HistoryEvent:
    """What a model needs to know of one event of a history."""

    event_id: str
    item_id: str
    type: str
    timestamp: float


@dataclass(frozen=True)
class Appended:
    """Outcome of ``Store.append_events``: one status per given event, and the version that holds them."""

    statuses: list[Status]
    version: int


@dataclass(frozen=True)
class StoredDrift:
    """Drift state of one user.

    Parameters
    ----------
    revision
        The user's revision that it was worked out from; it lags if the user has a later one.
    bundle
        The model that it was worked out with.
    change_event_id
        First event of the new regime: unlike an index, it stays right when older events arrive late.
    report
        ``p_drift`` and ``alarm`` of the :class:`~driftline.drift.report.DriftVerdict` (JSON values).
    state
        What the same model scores the next event from (:class:`~driftline.drift.state.DriftState`); ``None``: it reads
        the window again.
    """

    revision: int
    bundle: str
    change_event_id: str | None
    report: dict[str, Any]
    state: bytes | None = None


@dataclass(frozen=True)
class UserMarks:
    """Tells whether what was read of a user is still so: while nothing but the versions moves, it is.

    Revisions are versions of the tenant, which no erasure sets back: a user who came back has another one.
    """

    version: int
    catalogue_version: int
    revision: int | None
    drift_revision: int | None
    drift_bundle: str | None

    def same_user(self, other: "UserMarks") -> bool:
        """Whether history and drift state are the same."""
        mine = self.revision, self.drift_revision, self.drift_bundle
        return mine == (other.revision, other.drift_revision, other.drift_bundle)


@dataclass(frozen=True)
class UserSnapshot:
    """All that is known of one user, read in one transaction.

    ``revision`` is ``None`` if the tenant has no such user; ``history`` holds the newest events, oldest first;
    ``num_events`` counts all of them.
    """

    version: int
    catalogue_version: int
    revision: int | None
    num_events: int
    history: list[HistoryEvent]
    drift: StoredDrift | None

    @property
    def marks(self) -> UserMarks:
        """What it was read as."""
        drift = self.drift
        return UserMarks(
            self.version,
            self.catalogue_version,
            self.revision,
            drift.revision if drift else None,
            drift.bundle if drift else None,
        )


@dataclass(frozen=True)
class EventsPage:
    """Part of a history, oldest first.

    Parameters
    ----------
    next_cursor
        Where the next page begins; ``None`` if this is the last one.
    """

    events: list[StoredEvent]
    next_cursor: Cursor | None


@dataclass(frozen=True)
class CatalogueItem:
    """A catalogue entry.

    ``deleted`` marks an item that must not be shown any more, ``available`` is false while it cannot be had.
    """

    item_id: str
    title: str
    year: str = ""
    categories: tuple[str, ...] = ()
    description: str = ""
    deleted: bool = False
    available: bool = True


@dataclass(frozen=True)
class ServedList:
    """A list that was handed out.

    Parameters
    ----------
    items
        Item ids, best first.
    bundle
        The model that made the list.
    served_at
        Seconds since the epoch.
    version
        The store's version that the list was made from: ``Store.snapshot(..., as_of=version)`` reads that history.
    arm
        Part of the traffic that the request belonged to.
    scores
        ``[len(items)]`` scores of the items, if they were kept.
    shadow
        What another bundle would have shown (JSON values).
    reading
        How the history was read (JSON values), where an explanation was asked for.
    """

    tenant: str
    request_id: str
    user_id: str
    items: tuple[str, ...]
    policy: str
    bundle: str
    served_at: float
    version: int
    arm: str = "champion"
    scores: tuple[float, ...] | None = None
    shadow: dict[str, Any] | None = None
    reading: dict[str, Any] | None = None


@dataclass(frozen=True)
class ShadowList:
    """What another bundle would have shown in answer to a request (JSON values)."""

    tenant: str
    request_id: str
    shadow: dict[str, Any]


@dataclass(frozen=True)
class PolicyChange:
    """The first list that a user was shown under another policy than the list before; the very first list is one."""

    served_at: float
    policy: str
    bundle: str
    request_id: str
