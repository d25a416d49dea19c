"""What a model may learn from, and what it must then rank.

Every function orders its events by (timestamp, position) first; see ``log``. Nothing that a split tests on, nor
anything later of the same user, is in its ``train``; nothing that it validates on is in its ``fit``.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import md5
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from driftline.columns import Events
from driftline.config import Protocol
from driftline.errors import DataError
from driftline.events.log import ordered

Rows = npt.NDArray[np.int64]
Strings = npt.NDArray[np.object_]

TRAINING_QUANTILE = 0.9
"""Where temporal-successive cuts all timestamps into training and test, and those of training again for validation."""


@dataclass(frozen=True)
class Targets:
    """Events to be ranked, each with its user's events before it.

    Histories are slices of one log and are not copied. Legend: T = targets, E = events in the log.

    Parameters
    ----------
    log
        [E] events grouped by user, each user's in order; columns as in ``columns.Events``.
    rows
        [T] row of each target in ``log``.
    starts
        [T] row of the first event of the target's user in ``log``; ``log[starts:rows]`` is the history.
    """

    log: pd.DataFrame
    rows: Rows
    starts: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _items(self) -> Strings:
        return self.log[Events.ITEM].to_numpy(dtype=object)

    @cached_property
    def _times(self) -> npt.NDArray[np.float64]:
        return self.log[Events.TIME].to_numpy(dtype=np.float64)

    @cached_property
    def _types(self) -> Strings:
        return self.log[Events.TYPE].to_numpy(dtype=object)

    @cached_property
    def user_ids(self) -> Strings:
        """[T] user of each target."""
        return self.log[Events.USER].to_numpy(dtype=object)[self.rows]

    @cached_property
    def item_ids(self) -> Strings:
        """[T] item of each target."""
        return self._items[self.rows]

    @cached_property
    def values(self) -> npt.NDArray[np.float64]:
        """[T] explicit value of each target; NaN where there is none."""
        return self.log[Events.VALUE].to_numpy(dtype=np.float64)[self.rows]

    @cached_property
    def times(self) -> npt.NDArray[np.float64]:
        """[T] seconds since the epoch of each target."""
        return self._times[self.rows]

    @property
    def history_lengths(self) -> Rows:
        """[T] number of events before each target."""
        return self.rows - self.starts

    def history(self, target: int) -> list[str]:
        """Item ids before a target, oldest first."""
        return list(self._items[self.starts[target] : self.rows[target]])

    def history_times(self, target: int) -> npt.NDArray[np.float64]:
        """Seconds since the epoch of the events before a target."""
        return self._times[self.starts[target] : self.rows[target]]

    def history_types(self, target: int) -> Strings:
        """Types of the events before a target."""
        return self._types[self.starts[target] : self.rows[target]]

    def of(self, selected: npt.NDArray[np.bool_]) -> "Targets":
        """The targets where ``selected`` [T] is true, with their whole histories."""
        return replace(self, rows=self.rows[selected], starts=self.starts[selected])

    def truncated(self, events: int) -> "Targets":
        """The same targets, each with the newest ``events`` events of its history at most."""
        return replace(self, starts=np.maximum(self.starts, self.rows - events))


@dataclass(frozen=True)
class Split:
    """A way to divide a log.

    Parameters
    ----------
    name
        One of :data:`SPLITS`.
    fit
        Events to train on while tuning against ``validation``; in order.
    train
        Events to train on before ``test``; in order. Contains ``fit``.
    validation, test
        What is ranked.
    """

    name: Protocol
    fit: pd.DataFrame
    train: pd.DataFrame
    validation: Targets
    test: Targets


@dataclass(frozen=True)
class _Grouped:
    """Ordered events, and the same events grouped by user.

    Row i of ``grouped`` is row ``order[i]`` of ``events``; its user's events are the rows ``starts[i]:stops[i]``.
    """

    events: pd.DataFrame
    grouped: pd.DataFrame
    order: Rows
    starts: Rows
    stops: Rows

    def targets(self, chosen: npt.NDArray[np.bool_]) -> Targets:
        """Targets at the rows of ``grouped`` where ``chosen`` is true."""
        rows = np.flatnonzero(chosen)
        return Targets(self.grouped, rows, self.starts[rows])

    def select(self, chosen: npt.NDArray[np.bool_]) -> pd.DataFrame:
        """Events, in order, at the rows of ``grouped`` where ``chosen`` is true."""
        return self.events.iloc[np.sort(self.order[chosen])].reset_index(drop=True)


def _group(events: pd.DataFrame) -> _Grouped:
    events = ordered(events)
    users, _ = pd.factorize(events[Events.USER])
    order = np.argsort(users, kind="stable")
    counts = np.bincount(users)
    stops = np.cumsum(counts)
    return _Grouped(
        events=events,
        grouped=events.iloc[order].reset_index(drop=True),
        order=order,
        starts=np.repeat(stops - counts, counts),
        stops=np.repeat(stops, counts),
    )


def leave_one_out(events: pd.DataFrame) -> Split:
    """Test on each user's last event, validate on the one before, train on the rest.

    The test history includes the validation event. ``fit`` is ``train``. A user with fewer than three events has no
    targets, for one history would be empty, and all of their events are training events.

    Parameters
    ----------
    events
        Columns as in ``columns.Events``, in any order.

    Raises
    ------
    DataError
        If no user has three events.
    """
    log = _group(events)
    validation, test = last_two(log.starts, log.stops)
    if not test.any():
        raise DataError(
            f"leave-one-out needs a user with three or more events; none of the {len(events)} events has one"
        )
    train = log.select(~(validation | test))
    return Split("leave-one-out", train, train, log.targets(validation), log.targets(test))


def last_two(starts: Rows, stops: Rows) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which events leave-one-out validates and tests on: the last but one and the last of users with three or more.

    Parameters
    ----------
    starts, stops
        [E] first row of each event's user and the row after the last, in a log grouped by user, each user's in order.
    """
    place = stops - np.arange(len(stops))
    testable = stops - starts >= 3
    return testable & (place == 2), testable & (place == 1)


def temporal_successive(events: pd.DataFrame) -> Split:
    """Test on everything from a moment T on, each event given all earlier events of its user.

    T is the 0.9 quantile of all timestamps, V that of the timestamps before T (linear interpolation). ``train`` is
    t < T and ``fit`` is t < V; test targets have t >= T, validation targets V <= t < T, each with at least one earlier
    event of the same user.

    Parameters
    ----------
    events
        Columns as in ``columns.Events``, in any order.

    Raises
    ------
    DataError
        If an event has no timestamp, or if nothing is left to train, validate or test on.
    """
    log = _group(events)
    times = log.grouped[Events.TIME].to_numpy(dtype=np.float64)
    unknown = int(np.isnan(times).sum())
    if unknown:
        raise DataError(f"temporal-successive needs the time of every event; {unknown} of {len(times)} have none")
    before_test = times < _cut(times)
    before_validation = before_test & (times < _cut(times[before_test]))
    followed = np.arange(len(times)) > log.starts
    split = Split(
        "temporal-successive",
        fit=log.select(before_validation),
        train=log.select(before_test),
        validation=log.targets(before_test & ~before_validation & followed),
        test=log.targets(~before_test & followed),
    )
    return _nothing_empty(split, events)


def _cut(times: npt.NDArray[np.float64]) -> float:
    """Moment at which the last tenth begins; the end of time where there are no events."""
    return float(np.quantile(times, TRAINING_QUANTILE)) if len(times) else np.inf


def cold_item(events: pd.DataFrame) -> Split:
    """Leave-one-out without the events of one item in five (:func:`is_cold_item`); test on the targets that are cold.

    ``fit`` is ``train``: leave-one-out's, less every event of a cold item. Validation targets are leave-one-out's warm
    ones, and cold items are not in their histories either. A test history is what was really before the target.

    Parameters
    ----------
    events
        Columns as in ``columns.Events``, in any order.

    Raises
    ------
    DataError
        If no user has three events, or nothing is left to train, validate or test on.
    """
    split = leave_one_out(events)
    log = split.test.log
    warm = _are_warm(log[Events.ITEM])
    warm_before = np.concatenate([[0], np.cumsum(warm)])
    known = split.validation.of(warm[split.validation.rows])
    validation = Targets(log[warm].reset_index(drop=True), warm_before[known.rows], warm_before[known.starts])
    train = split.train[_are_warm(split.train[Events.ITEM])].reset_index(drop=True)
    cold = Split(
        "cold-item",
        fit=train,
        train=train,
        validation=validation.of(validation.history_lengths > 0),
        test=split.test.of(~warm[split.test.rows]),
    )
    return _nothing_empty(cold, events)


def _are_warm(items: pd.Series) -> npt.NDArray[np.bool_]:
    codes, distinct = pd.factorize(items)
    return np.array([not is_cold_item(str(item)) for item in distinct], dtype=bool)[codes]


def rating(events: pd.DataFrame) -> Split:
    """Each user's events in order: the last tenth tests, the tenth before validates, the rest trains (whole numbers,
    rounded down, so a user with fewer than ten events only trains).

    Only events with an explicit value are targets. ``fit`` is ``train``; a target's history is everything before it.

    Parameters
    ----------
    events
        Columns as in ``columns.Events``, in any order.

    Raises
    ------
    DataError
        If no event has a value, or nothing is left to train, validate or test on.
    """
    log = _group(events)
    has_value = np.isfinite(log.grouped[Events.VALUE].to_numpy(dtype=np.float64))
    if not has_value.any():
        raise DataError(f"rating needs explicit values; none of the {len(events)} events has one in {Events.VALUE!r}")
    tenth = (log.stops - log.starts) // 10
    left = log.stops - np.arange(len(log.stops))  # this event and those after it
    test, validation = left <= tenth, (left > tenth) & (left <= 2 * tenth)
    train = log.select(~(test | validation))
    split = Split("rating", train, train, log.targets(validation & has_value), log.targets(test & has_value))
    return _nothing_empty(split, events)


def _nothing_empty(split: Split, events: pd.DataFrame) -> Split:
    sizes = {name: len(getattr(split, name)) for name in ("fit", "train", "validation", "test")}
    if min(sizes.values()) == 0:
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise DataError(f"{split.name} leaves nothing in one part of these {len(events)} events: {found}")
    return split


SPLITS: Final[Mapping[Protocol, Callable[[pd.DataFrame], Split]]] = {
    "leave-one-out": leave_one_out,
    "temporal-successive": temporal_successive,
    "cold-item": cold_item,
    "rating": rating,
}
"""How each protocol divides a log."""


def without_users(split: Split, users: Collection[str]) -> Split:
    """The split as if these users did not exist: no event of theirs to train on, no target of theirs to rank."""
    gone = set(users)

    def events(table: pd.DataFrame) -> pd.DataFrame:
        return table[~table[Events.USER].isin(gone)].reset_index(drop=True)

    def targets(targets: Targets) -> Targets:
        return targets.of(np.array([user not in gone for user in targets.user_ids], dtype=bool))

    train = events(split.train)
    return Split(
        name=split.name,
        fit=train if split.fit is split.train else events(split.fit),
        train=train,
        validation=targets(split.validation),
        test=targets(split.test),
    )


def user_part(user_id: str) -> Literal["train", "calibration", "test"]:
    """Part of a user in the drift protocol: 60 % train, 20 % calibration, 20 % test, by the MD5 of the external id."""
    share = _hashed(user_id) % 100
    if share < 60:
        return "train"
    return "calibration" if share < 80 else "test"


def is_cold_item(item_id: str) -> bool:
    """Whether the cold-item protocol removes an item from training (one in five, by the MD5 of the external id)."""
    return _hashed(item_id) % 5 == 0


def _hashed(external_id: str) -> int:
    return int(md5(external_id.encode("utf-8"), usedforsecurity=False).hexdigest(), 16)
