"""Padding, windows, and training crops that every rank draws equally often."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.sequences.batches import Batch, CropSampler, History, collate, target_gaps, window


def numbered(*lengths: int, times: bool = True) -> list[History]:
    """Histories whose items all differ, so that an event says where it came from."""
    starts = np.cumsum([0, *lengths[:-1]])
    return [
        History(np.arange(start, start + n), np.arange(n, dtype=np.float64) if times else None)
        for start, n in zip(starts, lengths, strict=True)
    ]


def rows(batch: Batch) -> list[list[int]]:
    return [items[mask].tolist() for items, mask in zip(batch.items_BL, batch.mask_BL, strict=True)]


def test_collate_pads_on_the_right() -> None:
    batch = collate(
        [
            History(np.array([7, 8, 9]), np.array([0.0, 3.0, 3.0]), np.array([0.5, np.nan, 1.0], dtype=np.float32)),
            History(np.array([4])),
        ]
    )
    assert batch.items_BL.tolist() == [[7, 8, 9], [4, 0, 0]]
    assert batch.mask_BL.tolist() == [[True, True, True], [True, False, False]]
    assert batch.gaps_BL is not None
    assert batch.gaps_BL.tolist() == [[0, 2, 1], [0, 0, 0]]
    assert batch.values_BL is not None
    np.testing.assert_array_equal(batch.values_BL.numpy(), [[0.5, np.nan, 1.0], [np.nan] * 3])
    assert batch.events == 4


def test_collate_without_times_or_values_holds_neither() -> None:
    batch = collate([History(np.array([1, 2]))])
    assert batch.gaps_BL is None
    assert batch.values_BL is None
    assert collate(numbered(3), with_times=False).gaps_BL is None


def test_attributes_are_of_the_user_whatever_is_left_of_the_history() -> None:
    known = History(np.arange(6), np.arange(6.0), attributes=np.array([3, 0]))
    batch = collate([known.slice(1, 2), History(np.array([9, 9])), known.shuffled(np.random.default_rng(0))])
    assert batch.attributes_BA is not None
    assert batch.attributes_BA.tolist() == [[3, 0], [0, 0], [3, 0]]
    assert collate([History(np.array([1]))]).attributes_BA is None
    kept, dropped = (next(CropSampler([known], 6, 1, 0, drop_times=share).epoch(0)) for share in (0.0, 1.0))
    assert kept.attributes_BA is not None
    assert kept.attributes_BA.tolist() == [[3, 0]]
    assert dropped.attributes_BA is None  # as of a bare list


def test_types_are_padded_cropped_dropped_with_the_times_and_shuffled_with_the_items() -> None:
    """Purchases are number 4; 0 is unknown."""
    typed = History(np.arange(6), np.arange(6.0), types=np.array([1, 1, 4, 1, 1, 4]))
    batch = collate([typed.slice(1, 4), History(np.array([9, 9, 9, 9]))])
    assert batch.types_BL is not None
    assert batch.types_BL.tolist() == [[1, 4, 1, 0], [0, 0, 0, 0]]
    assert collate([History(np.array([1]))]).types_BL is None
    shuffled = typed.shuffled(np.random.default_rng(0))
    assert shuffled.types is not None
    assert set(shuffled.items[shuffled.types == 4].tolist()) == {2, 5}
    kept, dropped = (next(CropSampler([typed], 6, 1, 0, drop_times=share).epoch(0)) for share in (0.0, 1.0))
    assert kept.types_BL is not None
    assert kept.types_BL.tolist() == [[1, 1, 4, 1, 1, 4]]
    assert dropped.types_BL is None


def test_an_empty_history_is_a_row_of_padding() -> None:
    batch = collate([History(np.empty(0, np.int64)), History(np.array([5, 6]))])
    assert rows(batch) == [[], [5, 6]]
    assert collate([History(np.empty(0, np.int64))]).items_BL.shape == (1, 1)


def test_window_keeps_the_newest() -> None:
    history = numbered(5)[0]
    assert window(history, 2).items.tolist() == [3, 4]
    assert window(history, 9).items.tolist() == [0, 1, 2, 3, 4]


def test_a_shuffled_history_keeps_each_value_beside_its_item_and_has_no_times() -> None:
    items = np.arange(50)
    shuffled = History(items, items.astype(np.float64), items / np.float32(50)).shuffled(np.random.default_rng(0))
    assert shuffled.items.tolist() != items.tolist()
    assert sorted(shuffled.items.tolist()) == items.tolist()
    assert shuffled.times_s is None
    assert shuffled.values is not None
    np.testing.assert_allclose(shuffled.values, shuffled.items / 50, rtol=1e-6)


def test_an_epoch_is_fixed_by_seed_and_epoch() -> None:
    def drawn(seed: int, epoch: int) -> list[list[list[int]]]:
        sampler = CropSampler(numbered(30, 40, 50), window_events=10, batch_size=2, seed=seed)
        return [rows(batch) for batch in sampler.epoch(epoch)]

    assert drawn(1, 0) == drawn(1, 0)
    assert drawn(1, 0) != drawn(1, 1)
    assert drawn(1, 0) != drawn(2, 0)


@settings(deadline=None)  # other processes may share the cores
@given(
    lengths=st.lists(st.integers(0, 30), max_size=25),
    batch_size=st.integers(1, 5),
    world_size=st.integers(1, 4),
    random_start=st.booleans(),
)
def test_ranks_draw_disjoint_users_equally_often(
    lengths: list[int], batch_size: int, world_size: int, random_start: bool
) -> None:
    histories = numbered(*lengths) if lengths else []
    owner = np.repeat(np.arange(len(lengths)), lengths)
    sampler = CropSampler(histories, 8, batch_size, seed=3, random_start=random_start)
    by_rank = [list(sampler.epoch(0, rank, world_size)) for rank in range(world_size)]
    assert {len(batches) for batches in by_rank} == {sampler.batches_per_epoch(world_size)}
    crops = [crop for batches in by_rank for batch in batches for crop in rows(batch)]
    users = [int(owner[crop[0]]) for crop in crops]
    assert len(users) == len(set(users))
    for crop in crops:
        assert 2 <= len(crop) <= 8
        assert crop == list(range(crop[0], crop[0] + len(crop)))  # consecutive events
        assert len(set(owner[crop].tolist())) == 1  # of one user
    if world_size == 1:
        assert set(users) == {user for user, length in enumerate(lengths) if length >= 2}


def test_only_a_history_longer_than_the_window_is_cropped_unless_starts_are_random() -> None:
    histories = numbered(*[6] * 200)
    whole = CropSampler(histories, window_events=6, batch_size=200, seed=0)
    assert {len(crop) for crop in rows(next(whole.epoch(0)))} == {6}
    anywhere = CropSampler(histories, window_events=6, batch_size=200, seed=0, random_start=True)
    assert {len(crop) for crop in rows(next(anywhere.epoch(0)))} == {2, 3, 4, 5, 6}


def test_crops_of_a_long_history_start_everywhere() -> None:
    sampler = CropSampler(numbered(12), window_events=10, batch_size=1, seed=0)
    starts = {rows(next(sampler.epoch(epoch)))[0][0] for epoch in range(40)}
    assert starts == {0, 1, 2}


def test_crops_of_like_length_share_a_batch() -> None:
    lengths = [2, 20, 3, 19, 4, 18]
    sampler = CropSampler(numbered(*lengths), window_events=30, batch_size=2, seed=0)
    pairs = {tuple(sorted(len(crop) for crop in rows(batch))) for batch in sampler.epoch(0)}
    assert pairs == {(2, 3), (4, 18), (19, 20)}


@pytest.mark.parametrize(("share", "with_gaps"), [(0.0, 100), (1.0, 0)])
def test_times_are_dropped_from_the_stated_share(share: float, with_gaps: int) -> None:
    sampler = CropSampler(numbered(*[5] * 100), window_events=5, batch_size=100, seed=0, drop_times=share)
    gaps_BL = next(sampler.epoch(0)).gaps_BL
    known = 0 if gaps_BL is None else int((gaps_BL[:, 1:] > 0).all(dim=1).sum())
    assert known == with_gaps


def test_half_of_the_times_are_dropped_by_default() -> None:
    gaps_BL = next(CropSampler(numbered(*[5] * 400), 5, 400, seed=0).epoch(0)).gaps_BL
    assert gaps_BL is not None
    assert 0.4 < float((gaps_BL[:, 1] > 0).float().mean()) < 0.6


def test_order_is_shuffled_on_request() -> None:
    sampler = CropSampler(numbered(30), window_events=30, batch_size=1, seed=0, shuffle_order=True)
    crop = rows(next(sampler.epoch(0)))[0]
    assert crop != sorted(crop)
    assert sorted(crop) == list(range(30))


def test_a_batch_moves_with_all_its_parts() -> None:
    moved = collate(numbered(3, 2)).to("cpu")
    assert moved.items_BL.device == torch.device("cpu")
    assert moved.gaps_BL is not None
    assert rows(moved) == [[0, 1, 2], [3, 4]]


def test_the_gap_to_the_moment_that_is_asked_about() -> None:
    """Last event at 100: asked at 104 is bucket 3 (log2(5) / 2 = 1.16), before it none; else unknown."""
    timed = History(np.array([1, 2]), np.array([0.0, 100.0]), now_s=104.0)
    others = [replace(timed, now_s=90.0), replace(timed, now_s=None), replace(timed, times_s=None), timed.slice(2, 2)]
    assert target_gaps([timed, window(timed, 1), *others]).tolist() == [3, 3, 1, 0, 0, 0]
    assert timed.slice(0, 1).now_s is None
    assert target_gaps([]).tolist() == []
