"""Users as ranking reads them, and the views that were read last, kept in memory.

A view in memory is never trusted: one indexed query reads the user's marks (revision of the history, revision and
bundle of the drift state), and only where these are what the view was made from it is handed out. So it does not matter
which replica or program wrote in between, and a list always reflects what was acknowledged before. Of a user whom
another replica erased, the ids of items stay in memory, and are never handed out, until their place is needed.
"""

from collections import OrderedDict
from dataclasses import replace
from threading import Lock
from typing import Final

from driftline.drift.report import DriftVerdict
from driftline.serving import telemetry
from driftline.serving.calls import DriftStatus, UserHistory, UserView
from driftline.state.records import UserMarks, UserSnapshot
from driftline.state.store import Store

MAX_EVENTS_KEPT: Final = 500_000
"""Events that all views in memory may hold together, about 130 bytes each; who was read longest ago goes first."""


class UserViews:
    """Reads users from a store. Safe to call from many threads.

    Parameters
    ----------
    history_events
        How many of a user's newest events the models get to see.
    max_events_kept
        See :data:`MAX_EVENTS_KEPT`.
    """

    def __init__(self, store: Store, history_events: int, max_events_kept: int = MAX_EVENTS_KEPT) -> None:
        self._store = store
        self._history_events = history_events
        self._max_events_kept = max_events_kept
        self._kept: OrderedDict[tuple[str, str], tuple[UserMarks, UserView]] = OrderedDict()
        self._num_events = 0
        self._lock = Lock()

    def read(self, tenant: str, user_id: str) -> UserView:
        """The user as of now."""
        key = tenant, user_id
        marks = self._store.user_marks(tenant, user_id)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        hit = kept is not None and kept[0].same_user(marks)
        telemetry.count_cache("users", hit)
        if kept is not None and hit:
            return replace(kept[1], version=marks.version, catalogue_version=marks.catalogue_version)
        snapshot = self._store.snapshot(tenant, user_id, self._history_events)
        view = view_of(snapshot)
        self._keep(key, snapshot.marks, view)
        return view

    def read_as_of(self, tenant: str, user_id: str, version: int) -> UserView:
        """The user without the events of later versions."""
        return view_of(self._store.snapshot(tenant, user_id, self._history_events, version))

    def read_history(self, tenant: str, user_id: str) -> UserHistory:
        """The user as of now, with the events themselves."""
        snapshot = self._store.snapshot(tenant, user_id, self._history_events)
        return UserHistory(view_of(snapshot), snapshot.history)

    def forget(self, tenant: str, user_id: str) -> None:
        """Drop what is in memory of a user who is erased."""
        with self._lock:
            self._drop((tenant, user_id))

    def _keep(self, key: tuple[str, str], marks: UserMarks, view: UserView) -> None:
        with self._lock:
            self._drop(key)
            if not view.known:
                return
            self._kept[key] = marks, view
            self._num_events += len(view.item_ids)
            while self._num_events > self._max_events_kept:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[str, str]) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._num_events -= len(gone[1].item_ids)


def view_of(snapshot: UserSnapshot) -> UserView:
    """Snapshot with its drift verdict, the change point put where it lies in this history."""
    stored, history = snapshot.drift, snapshot.history
    verdict: DriftVerdict | None = None
    status: DriftStatus = "none" if snapshot.revision is None else "stale"
    if stored is not None:
        places = {event.event_id: place for place, event in enumerate(history)}
        change = None if stored.change_event_id is None else places.get(stored.change_event_id)
        verdict = DriftVerdict(stored.report["p_drift"], change, stored.report["alarm"])
        if stored.revision == snapshot.revision:
            status = "current"
    return UserView(
        version=snapshot.version,
        catalogue_version=snapshot.catalogue_version,
        known=snapshot.revision is not None,
        num_events=snapshot.num_events,
        item_ids=[event.item_id for event in history],
        times_s=[event.timestamp for event in history],
        types=[event.type for event in history],
        drift=verdict,
        drift_bundle=stored.bundle if stored else None,
        drift_status=status,
    )
