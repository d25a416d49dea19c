"""Event logs of any size from a seed: people with tastes, popular and rare items, and interests that change.

Every user has one taste, a cluster of items; ``OWN_TASTE`` of the events are items of it, the others are of any taste.
Activity of users and popularity of items inside a taste are skewed. A stated share of the users changes to another
taste at a moment of its own, somewhere in the middle half of the period. Events of all users are interleaved in time,
as in a real log, so nothing about a user lies in one place.

The log is written file by file; memory holds one file and a few numbers per user and item.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.columns import Events, Items
from driftline.errors import DataError

OWN_TASTE = 0.8
"""Share of events that are items of the user's own taste."""
SKEW = 0.8
"""Exponent of Zipf's law for the popularity of items inside a taste."""
ACTIVITY_SPREAD = 1.0
"""Standard deviation of the logarithm of a user's activity."""
START_S = 1_700_000_000
PERIOD_S = 365 * 86_400
EVENTS_PER_FILE = 1_000_000


@dataclass(frozen=True)
class Population:
    """Who there is and what they like.

    Legend: U = users, N = items.

    Attributes
    ----------
    activity_U
        Cumulative share of the events, in order of the users.
    taste_U, later_taste_U
        Taste before and after the change; equal where there is none.
    change_U
        Moment of the change in seconds since the epoch; infinite where there is none.
    popularity_N
        Cumulative share of the events inside one taste; tastes are equally long runs of items.
    """

    activity_U: NDArray[np.float64]
    taste_U: NDArray[np.int64]
    later_taste_U: NDArray[np.int64]
    change_U: NDArray[np.float64]
    popularity_N: NDArray[np.float64]
    tastes: int


@dataclass(frozen=True)
class SyntheticLog:
    """What was written.

    Attributes
    ----------
    events
        Folder of Parquet files: user_id, item_id, timestamp, type.
    items
        Parquet: item_id, title, categories (the taste's name).
    truth
        Parquet, one row per user: user_id, taste, later_taste, changed_at (infinite: never).
    """

    events: Path
    items: Path
    truth: Path


def write_synthetic_log(
    folder: Path,
    events: int,
    users: int,
    items: int,
    seed: int = 0,
    *,
    tastes: int = 20,
    drifting_share: float = 0.0,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> SyntheticLog:
    """Write a log with a known truth; the same arguments write the same rows.

    Parameters
    ----------
    folder
        Is created; must not hold a log yet.
    drifting_share
        Share of users whose taste changes.
    tell
        Called with (events written, events in all) after each file.

    Raises
    ------
    DataError
        If a number makes no sense, or the folder holds events already.
    """
    _check(folder, events, users, items, tastes, drifting_share)
    log = SyntheticLog(folder / "events", folder / "items.parquet", folder / "truth.parquet")
    log.events.mkdir(parents=True, exist_ok=True)
    people = _population(users, items, tastes, drifting_share, np.random.default_rng([seed, 0]))
    _write(log.items, _item_columns(items, tastes))
    _write(
        log.truth,
        {
            Events.USER: _names("u", users),
            "taste": people.taste_U,
            "later_taste": people.later_taste_U,
            "changed_at": people.change_U,
        },
    )
    user_names, item_names = _names("u", users), _names("i", items)
    files = -(-events // EVENTS_PER_FILE)
    for number in range(files):
        count = min(EVENTS_PER_FILE, events - number * EVENTS_PER_FILE)
        span = (number * EVENTS_PER_FILE / events, (number * EVENTS_PER_FILE + count) / events)
        user, item, time = _draw(people, count, span, np.random.default_rng([seed, 1, number]))
        columns = {Events.USER: user_names.take(user), Events.ITEM: item_names.take(item), Events.TIME: time}
        _write(log.events / f"part-{number:05}.parquet", columns | {Events.TYPE: ["view"] * count})
        tell(number * EVENTS_PER_FILE + count, events)
    return log


def _population(users: int, items: int, tastes: int, drifting_share: float, rng: np.random.Generator) -> Population:
    activity_U = np.exp(ACTIVITY_SPREAD * rng.standard_normal(users)).cumsum()
    taste_U = rng.integers(0, tastes, users)
    drifts_U = rng.random(users) < drifting_share
    later_taste_U = np.where(drifts_U, (taste_U + rng.integers(1, max(tastes, 2), users)) % tastes, taste_U)
    moments_U = START_S + PERIOD_S * rng.uniform(0.25, 0.75, users)
    popularity_N = (1 / (1 + np.arange(items // tastes)) ** SKEW).cumsum()
    return Population(
        activity_U / activity_U[-1],
        taste_U,
        later_taste_U,
        np.where(drifts_U, moments_U, np.inf),
        popularity_N / popularity_N[-1],
        tastes,
    )


def _draw(
    people: Population, count: int, span: tuple[float, float], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Users, items and times (whole seconds) of ``count`` events in a part of the period, in order of time."""
    time = np.sort(START_S + PERIOD_S * rng.uniform(*span, count)).astype(np.int64)
    user = np.searchsorted(people.activity_U, rng.random(count))
    taste = np.where(time < people.change_U[user], people.taste_U[user], people.later_taste_U[user])
    taste = np.where(rng.random(count) < OWN_TASTE, taste, rng.integers(0, people.tastes, count))
    item = taste * len(people.popularity_N) + np.searchsorted(people.popularity_N, rng.random(count))
    return user, item, time


def _item_columns(items: int, tastes: int) -> dict[str, Any]:
    taste = np.arange(items) // (items // tastes)
    return {
        Items.ITEM: _names("i", items),
        Items.TITLE: [f"Item {number} of taste {name}" for number, name in enumerate(taste)],
        Items.CATEGORIES: [f"taste-{name}" for name in taste],
    }


def _names(prefix: str, count: int) -> Any:
    import pyarrow as pa

    return pa.array([f"{prefix}{number}" for number in range(count)])


def _write(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


def _check(folder: Path, events: int, users: int, items: int, tastes: int, drifting_share: float) -> None:
    faults = [f"{name}={value} must be at least 1" for name, value in
              (("events", events), ("users", users), ("tastes", tastes)) if value < 1]  # fmt: skip
    if tastes >= 1 and (items < tastes or items % tastes):
        faults.append(f"items={items} must be a multiple of tastes={tastes}")
    if not 0 <= drifting_share <= 1 or (drifting_share and tastes < 2):
        faults.append(f"drifting_share={drifting_share} must lie in 0..1, and needs two or more tastes")
    if (folder / "events").is_dir() and any((folder / "events").iterdir()):
        faults.append(f"{folder / 'events'} holds files already: name another folder, or remove it")
    if faults:
        raise DataError("; ".join(faults))
