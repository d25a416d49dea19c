"""Streams with a known change: the end of one user's history replaced by another user's events.

Tracks (no standard benchmark exists for the drift of single users):

- ``X``: the order of each user's events is shuffled, so a stream without a splice is exchangeable and labels are exact.
- ``N``: natural order; the stream without a splice skips 20 of its user's own events, so it too has a gap in browsing.
- ``G``: a genre switch within one user, in shuffled order: no item of the genre before the change, only such after it.

A change is sudden, or gradual: events of the other user come more and more often. :func:`with_noise` replaces events.

Shape legend: N items, G genres.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from driftline.drift.divergence import jensen_shannon
from driftline.errors import DataError
from driftline.sequences.batches import History
from driftline.sequences.dataset import Dataset

Track = Literal["X", "N", "G"]
Severity = Literal["near", "mid", "far"]
SEVERITIES: tuple[Severity, ...] = ("near", "mid", "far")
POPULARITY_BINS = 10


@dataclass(frozen=True)
class Recipe:
    """How streams are cut."""

    track: Track = "X"
    first_change: int = 20
    last_change: int = 40
    """The change point k is uniform on ``first_change .. last_change``, as far as both users reach."""
    horizon: int = 40
    """Events after the change point."""
    min_spliced: int = 15
    """A splice with fewer new events left is drawn again."""
    self_skip: int = 20
    """Own events that an undrifted stream of track N leaves out at k."""
    ramp_events: int = 0
    """Events over which the other user takes over; 0 = at once."""

    @property
    def min_events(self) -> int:
        """Shortest history that takes part: by default 80 on track X, 100 on track N."""
        return self.last_change + self.horizon + (self.self_skip if self.track == "N" else 0)


@dataclass(frozen=True)
class Stream:
    """One labelled stream."""

    stream_id: str
    items: NDArray[np.int64]
    user: str
    """A, whose history it begins with."""
    other: str | None
    """B, whose events follow from ``change_point`` on, or on track G the genre ("genre 3"); None = no drift."""
    change_point: int
    """k: index of the first event after the change (in an undrifted stream, of the event at the same position)."""
    severity: Severity | None
    track: Track
    seed: int
    other_before: NDArray[np.int64] | None = None
    """What B did before the same life position, for the oracle; an undrifted stream has the B of its pair. None on
    track G."""

    @property
    def drifted(self) -> bool:
        """The label."""
        return self.other is not None


class TasteDistance:
    """How far apart the tastes of two users are, by genres and popularity alone (never by a model's vectors).

    Parameters
    ----------
    genres_NG
        1 where an item has a genre.
    popularity_N
        Events of each item among the training users; items are cut into deciles of equal event mass.
    """

    def __init__(self, genres_NG: NDArray[np.float64], popularity_N: NDArray[np.int64]) -> None:
        self.genres_NG = genres_NG
        order = np.argsort(-popularity_N, kind="stable")
        mass = popularity_N[order].cumsum() / max(popularity_N.sum(), 1)
        self._decile_N = np.zeros(len(popularity_N), dtype=np.int64)
        self._decile_N[order] = np.minimum((mass * POPULARITY_BINS).astype(np.int64), POPULARITY_BINS - 1)

    def profile(self, items: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shares of genres and of popularity deciles."""
        genres_G = self.genres_NG[items].sum(axis=0)
        deciles = np.bincount(self._decile_N[items], minlength=POPULARITY_BINS)
        return genres_G / max(genres_G.sum(), 1), deciles / max(deciles.sum(), 1)

    def neighbours(self, histories: Mapping[str, History]) -> dict[str, list[str]]:
        """For every user all others, nearest taste first."""
        profiles = [self.profile(history.items) for history in histories.values()]
        everybodys = [np.stack(share) for share in zip(*profiles, strict=True)]
        ranked = {}
        for user, own in zip(histories, profiles, strict=True):
            distance_U = np.add(*map(jensen_shannon, own, everybodys))
            ranked[user] = [other for _, other in sorted(zip(distance_U, histories, strict=True)) if other != user]
        return ranked


def taste_distance(dataset: Dataset) -> TasteDistance:
    """Genres of the catalogue, and popularity among the training users of the drift protocol."""
    held = dataset.catalog.categories
    names = sorted({name for categories in held for name in categories})
    genres_NG = np.array([[name in categories for name in names] for categories in held], dtype=np.float64)
    trained = dataset.histories(dataset.events, dataset.users_of("train")).values()
    items = np.concatenate([history.items for history in trained])
    return TasteDistance(genres_NG.reshape(len(held), -1), np.bincount(items, minlength=len(held)))


def draw_streams(
    histories: Mapping[str, History],
    taste: TasteDistance | None,
    recipe: Recipe,
    drifted: int,
    seed: int,
    severities: Sequence[Severity] = SEVERITIES,
) -> list[Stream]:
    """Draw pairs of a drifted and an undrifted stream of the same user and change point.

    Parameters
    ----------
    histories
        Users that streams may be cut from; those with fewer than ``recipe.min_events`` events take no part. Events at
        the same time are put in random order, per stream; histories without times are taken as ordered.
    taste
        What near, mid and far mean: terciles of the distance from A. None = B is anybody, of no stated severity.
    recipe
        How streams are cut.
    drifted
        Number of pairs.
    seed
        Fixes everything.
    severities
        Terciles that B is drawn from.

    Raises
    ------
    DataError
        If no two users are long enough, or if users share so many items that splices keep too few events.
    """
    usable = _long_enough(histories, recipe)
    rng = np.random.default_rng([seed, SEVERITIES.index(severities[0]), len(severities)])
    neighbours = None if taste is None else taste.neighbours(usable)
    users = list(usable)
    streams: list[Stream] = []
    for _ in range(20 * drifted):
        if len(streams) == 2 * drifted:
            break
        user = _pick(users, rng)
        severity: Severity | None = None
        others: Sequence[str] = [name for name in users if name != user]
        if neighbours is not None:
            severity = severities[int(rng.integers(len(severities)))]
            others = _tercile(neighbours[user], severity)
        other = _pick(others, rng)
        number = (seed, len(streams))
        if recipe.track == "G":
            streams += _genre_pair(usable[user], user, taste, recipe, number, rng)
        else:
            streams += _pair(usable[user], usable[other], (user, other, severity), recipe, number, rng)
    if len(streams) < 2 * drifted:
        raise DataError(
            f"only {len(streams) // 2} of {drifted} drift streams could be cut: fewer than min_spliced="
            f"{recipe.min_spliced} new events are left after most splices"
        )
    return streams


def draw_steady(
    histories: Mapping[str, History], taste: TasteDistance | None, recipe: Recipe, per_user: int, seed: int
) -> list[Stream]:
    """Draw undrifted streams, equally many of every user: what thresholds are calibrated on.

    Users of whom none can be cut (track G: without a genre to switch to) take no part.
    """
    usable = _long_enough(histories, recipe)
    rng = np.random.default_rng([seed, len(usable), per_user])
    users = list(usable)
    streams: list[Stream] = []
    for user in users:
        for _ in range(per_user):
            other, number = _pick([name for name in users if name != user], rng), (seed, 2 * len(streams))
            if recipe.track == "G":
                pair = _genre_pair(usable[user], user, taste, recipe, number, rng)
            else:
                pair = _pair(usable[user], usable[other], (user, other, None), recipe, number, rng)
            streams += [stream for stream in pair if not stream.drifted]
    return streams


def with_noise(stream: Stream, share: float, num_items: int, rng: np.random.Generator) -> Stream:
    """The same stream, some of its events replaced by items that it does not hold, drawn evenly from the catalogue."""
    replaced = rng.random(len(stream.items)) < share
    others = np.setdiff1d(np.arange(num_items), stream.items)
    items = stream.items.copy()
    items[replaced] = rng.choice(others, size=int(replaced.sum()), replace=False)
    return replace(stream, items=items)


def _long_enough(histories: Mapping[str, History], recipe: Recipe) -> dict[str, History]:
    """Users with enough events, in order of their ids, so that the order of the input does not matter."""
    usable = {user: history for user, history in sorted(histories.items()) if len(history) >= recipe.min_events}
    if len(usable) <= len(SEVERITIES):
        raise DataError(
            f"drift streams need at least {len(SEVERITIES) + 1} users with {recipe.min_events} events, there are "
            f"{len(usable)}: use more data, or a smaller horizon than {recipe.horizon}"
        )
    return usable


def _pair(
    own: History,
    theirs: History,
    names: tuple[str, str, Severity | None],
    recipe: Recipe,
    number: tuple[int, int],
    rng: np.random.Generator,
) -> list[Stream]:
    """One drifted and one undrifted stream, or nothing if too few spliced events are new."""
    user, other, severity = names
    skip = recipe.self_skip if recipe.track == "N" else 0
    latest = min(recipe.last_change, len(own) - recipe.horizon - skip, len(theirs) - recipe.horizon)
    k = int(rng.integers(recipe.first_change, latest + 1))
    a, b = in_order(own, recipe.track, rng), in_order(theirs, recipe.track, rng)
    spliced = b[k : k + recipe.horizon]
    spliced = spliced[~np.isin(spliced, a[:k])]
    if len(spliced) < recipe.min_spliced:
        return []
    own_later = a[k + skip : k + skip + recipe.horizon]
    drifted = _ramped(own_later, spliced, recipe, rng) if recipe.ramp_events else spliced
    return _labelled(a[:k], drifted, own_later, (user, other, severity), recipe.track, number, b[:k])


def _genre_pair(
    own: History,
    user: str,
    taste: TasteDistance | None,
    recipe: Recipe,
    number: tuple[int, int],
    rng: np.random.Generator,
) -> list[Stream]:
    """The same for a genre of the user's own that comes in only after the change."""
    if taste is None:
        raise DataError("track G needs the catalogue's genres: give `taste`")
    items = in_order(own, "G", rng)
    held_NG = taste.genres_NG[items] > 0
    enough_G = (held_NG.sum(axis=0) >= recipe.min_spliced) & (
        (~held_NG).sum(axis=0) >= recipe.first_change + recipe.horizon
    )
    if not enough_G.any():
        return []
    genre = int(rng.choice(np.flatnonzero(enough_G)))
    switched, without = items[held_NG[:, genre]], items[~held_NG[:, genre]]
    latest = min(recipe.last_change, len(without) - recipe.horizon)
    k = int(rng.integers(recipe.first_change, latest + 1))
    later = without[k : k + recipe.horizon]
    names = (user, f"genre {genre}", None)
    return _labelled(without[:k], switched[: recipe.horizon], later, names, "G", number)


def _ramped(
    own: NDArray[np.int64], theirs: NDArray[np.int64], recipe: Recipe, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Own events at first, the other's more and more often, only theirs after ``ramp_events``; no item twice."""
    mixed: list[int] = []
    queues = [list(own[::-1]), list(theirs[::-1])]
    while queues[0] and queues[1] and len(mixed) < recipe.horizon:
        taken = queues[int(rng.random() < (len(mixed) + 1) / recipe.ramp_events)].pop()
        if taken not in mixed:
            mixed.append(int(taken))
    return np.array(mixed, dtype=np.int64)


def _labelled(
    before: NDArray[np.int64],
    drifted: NDArray[np.int64],
    own_later: NDArray[np.int64],
    names: tuple[str, str, Severity | None],
    track: Track,
    number: tuple[int, int],
    other_before: NDArray[np.int64] | None = None,
) -> list[Stream]:
    """The two streams of a pair, which share their beginning."""
    user, other, severity = names
    seed, serial = number
    name, k = f"{track}-{seed}-{serial // 2}", len(before)
    return [
        Stream(f"{name}-{label}", np.concatenate([before, after]), user, b, k, tercile, track, seed, other_before)
        for label, after, b, tercile in (("drifted", drifted, other, severity), ("null", own_later, None, None))
    ]


def in_order(history: History, track: Track, rng: np.random.Generator) -> NDArray[np.int64]:
    """Items in the track's order; ties in time are broken at random."""
    ties = rng.permutation(len(history))
    if track != "N":
        return history.items[ties]
    if history.times_s is None:
        return history.items
    return history.items[np.lexsort((ties, history.times_s))]


def _tercile(nearest_first: Sequence[str], severity: Severity) -> Sequence[str]:
    part = SEVERITIES.index(severity)
    n = len(nearest_first)
    return nearest_first[part * n // 3 : (part + 1) * n // 3]


def _pick(names: Sequence[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]
