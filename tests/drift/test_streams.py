import numpy as np
import pytest

from driftline.drift.divergence import jensen_shannon
from driftline.drift.streams import (
    Recipe,
    Stream,
    TasteDistance,
    draw_steady,
    draw_streams,
    with_noise,
)
from driftline.errors import DataError
from driftline.sequences.batches import History
from tests.drift.tastes import ITEMS, ITEMS_PER_TASTE, users

HISTORIES = {user: History(items, np.arange(len(items), dtype=float)) for user, items in users(12, seed=7).items()}
GENRES = np.eye(2)[np.arange(ITEMS) // ITEMS_PER_TASTE]
TASTE = TasteDistance(GENRES, np.ones(ITEMS, dtype=np.int64))


def draw(track: str = "X", drifted: int = 30, seed: int = 0, **kwargs: object) -> list[Stream]:
    return draw_streams(HISTORIES, TASTE, Recipe(track), drifted, seed, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("track", ["X", "N"])
def test_pairs_share_user_and_change_point(track: str) -> None:
    streams = draw(track)
    assert len(streams) == 60
    for drifted, null in zip(streams[::2], streams[1::2], strict=True):
        assert (drifted.drifted, null.drifted) == (True, False)
        assert (drifted.user, drifted.change_point) == (null.user, null.change_point)
        assert drifted.other != drifted.user
        assert 20 <= drifted.change_point <= 40
        assert len(null.items) == null.change_point + 40
        np.testing.assert_array_equal(drifted.items[: drifted.change_point], null.items[: null.change_point])


def test_natural_order_splices_the_same_life_position_without_duplicates() -> None:
    for stream in draw("N")[::2]:
        k, own, other = stream.change_point, HISTORIES[stream.user].items, HISTORIES[stream.other or ""].items
        np.testing.assert_array_equal(stream.items[:k], own[:k])
        expected = [item for item in other[k : k + 40] if item not in set(own[:k].tolist())]
        np.testing.assert_array_equal(stream.items[k:], expected)
        assert len(expected) >= 15


def test_natural_null_skips_twenty_own_events() -> None:
    for stream in draw("N")[1::2]:
        k, own = stream.change_point, HISTORIES[stream.user].items
        np.testing.assert_array_equal(stream.items, np.concatenate([own[:k], own[k + 20 : k + 60]]))


def test_shuffled_null_is_a_shuffle_of_own_events() -> None:
    stream = draw("X")[1]
    own = HISTORIES[stream.user].items
    assert set(stream.items) <= set(own)
    assert len(set(stream.items)) == len(stream.items)
    assert not np.array_equal(stream.items, own[: len(stream.items)])


def test_ties_in_time_are_broken_at_random() -> None:
    tied = {user: History(h.items, np.zeros(len(h))) for user, h in HISTORIES.items()}
    first, second = (draw_streams(tied, TASTE, Recipe("N"), 5, seed)[1] for seed in (0, 1))
    assert not np.array_equal(first.items, HISTORIES[first.user].items[: len(first.items)])
    assert not np.array_equal(first.items, second.items)


def test_a_seed_fixes_everything_and_another_changes_it() -> None:
    first, again, other = draw(seed=3), draw(seed=3), draw(seed=4)
    assert all(np.array_equal(a.items, b.items) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a.items, b.items) for a, b in zip(first, other, strict=False))


def test_far_is_the_other_taste() -> None:
    for stream in draw(severities=("far",))[::2]:
        assert stream.severity == "far"
        own, other = (int(name.split("-")[1]) % 2 for name in (stream.user, stream.other or ""))
        assert own != other


def test_jensen_shannon_of_disjoint_shares_is_log_two() -> None:
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(np.log(2))
    assert jensen_shannon(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0


def test_too_few_long_users_is_an_error_that_says_so() -> None:
    short = {user: history.slice(0, 79) for user, history in HISTORIES.items()}
    with pytest.raises(DataError, match="at least 4 users with 80 events, there are 0"):
        draw_streams(short, TASTE, Recipe(), 1, 0)
    same = dict.fromkeys(HISTORIES, HISTORIES["7-0"])
    with pytest.raises(DataError, match="only 0 of 2 drift streams"):
        draw_streams(same, TASTE, Recipe("N", min_spliced=41), 2, 0)


def test_a_genre_comes_in_only_after_the_change() -> None:
    streams = draw("G", drifted=10)
    for drifted, null in zip(streams[::2], streams[1::2], strict=True):
        assert drifted.other is not None
        held = GENRES[:, int(drifted.other.removeprefix("genre "))] > 0
        k = drifted.change_point
        assert not held[drifted.items[:k]].any()
        assert held[drifted.items[k:]].all()
        assert not held[null.items].any()
        assert len(null.items) == k + 40
        assert 15 <= len(drifted.items) - k <= 40


def test_a_ramp_goes_from_own_events_to_the_others() -> None:
    streams = draw_streams(HISTORIES, TASTE, Recipe("X", ramp_events=20), 60, 0)
    own = {stream.stream_id: set(HISTORIES[stream.user].items) for stream in streams}
    first, last = [], []
    for stream in streams[::2]:
        foreign = [item not in own[stream.stream_id] for item in stream.items[stream.change_point :]]
        assert len(set(stream.items)) == len(stream.items)
        first += foreign[:5]
        last += foreign[20:]
    assert np.mean(first) < 0.25 < 0.4 < np.mean(last)  # the two users share many items


def test_noise_replaces_a_share_by_items_that_were_not_there() -> None:
    stream = draw()[1]
    noisy = with_noise(stream, 0.5, ITEMS, np.random.default_rng(0))
    changed = noisy.items != stream.items
    assert 0.3 < changed.mean() < 0.7
    assert not np.isin(noisy.items[changed], stream.items).any()
    assert len(set(noisy.items)) == len(stream.items)


@pytest.mark.parametrize("track", ["X", "N", "G"])
def test_steady_streams_come_equally_from_every_user(track: str) -> None:
    streams = draw_steady(HISTORIES, TASTE, Recipe(track), 3, 0)  # type: ignore[arg-type]
    assert not any(stream.drifted for stream in streams)
    users, counts = np.unique([stream.user for stream in streams], return_counts=True)
    assert set(counts) == {3}
    assert set(users) <= set(HISTORIES)
