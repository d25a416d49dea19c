"""Streaming from disk: every user once an epoch, any position at once, the same batches for any number of ranks."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.columns import Histories
from driftline.events import histories as files
from driftline.events.histories import Ingested, open_ingested, write_histories
from driftline.sequences.batches import Batch
from driftline.sequences.stream import StreamSampler

PARTS = ("train", "calibration", "test")


def written(folder: Path, lengths: list[int], rng: np.random.Generator) -> Ingested:
    """Users u0, u1 … with histories of these lengths, dealt to three files; items of user n are n·100 + 0, 1, 2 …"""
    (folder / "histories").mkdir(parents=True)
    found = []
    for number, part in enumerate(PARTS):
        users = list(range(number, len(lengths), 3))
        if not users:
            continue
        items = [np.arange(lengths[user]) + 100 * user for user in users]
        columns = {Histories.USER: pa.array([f"u{user}" for user in users]), Histories.ITEMS: pa.array(items)}
        columns[Histories.TIMES] = pa.array([np.arange(len(i), dtype=np.float64) for i in items])
        columns[Histories.VALUES] = pa.array([rng.integers(1, 6, len(i)).astype(np.float64) for i in items])
        none = pa.array([[]] * len(users), pa.list_(pa.float64()))
        for name, kind in ((Histories.TARGET_ITEMS, pa.int64()), (Histories.TARGET_TIMES, pa.float64())):
            columns[name] = none.cast(pa.list_(kind))
        columns[Histories.TARGET_VALUES] = none
        found.append(write_histories(folder, f"histories/{part}-00000.parquet", part, pa.table(columns))[0])
    Ingested(folder, "f", {"users": len(lengths)}, (1.0, 5.0), found, []).write(folder)
    return open_ingested(folder)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """200 users in row groups of at most 16 users or 200 events; 13 of them have no two events."""
    rng = np.random.default_rng(5)
    lengths = [0, 1, 1, *[1] * 10, *rng.integers(2, 40, 187).tolist()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "USERS_PER_GROUP", 16)
        patch.setattr(files, "EVENTS_PER_GROUP", 200)
        return written(tmp_path_factory.mktemp("ingested"), lengths, rng)


def sampler(ingested: Ingested, **changes: object) -> StreamSampler:
    # the catalogue has another order than the ingested items: index = 20,000 − item
    settings = {"window_events": 30, "batch_size": 4, "seed": 3, "users_per_chunk": 40} | changes
    return StreamSampler(ingested, 20_000 - np.arange(20_001), **settings)  # type: ignore[arg-type]


def content(batch: Batch) -> tuple[object, ...]:
    gaps = None if batch.gaps_BL is None else batch.gaps_BL.tolist()
    values = None if batch.values_BL is None else np.nan_to_num(batch.values_BL.numpy(), nan=-1).tolist()
    return batch.users, batch.items_BL.tolist(), batch.mask_BL.tolist(), gaps, values


def test_row_groups_are_small_and_counted(ingested: Ingested) -> None:
    assert [file.part for file in ingested.files] == list(PARTS)
    assert sum(sum(file.users) for file in ingested.files) == 200
    assert sum(sum(file.trainable) for file in ingested.files) == 187
    for file in ingested.files:
        assert max(file.users) <= 16
        for number, users in enumerate(file.users):
            table = ingested.read(file, [number], [Histories.ITEMS])
            assert table.num_rows == users
            assert users == 1 or sum(map(len, table[Histories.ITEMS].to_pylist())) <= 200


def test_every_user_once_an_epoch_and_epochs_differ(ingested: Ingested) -> None:
    stream = sampler(ingested)
    epochs = [[user for batch in stream.epoch(epoch) for user in batch.users] for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(f"u{user}" for user in range(13, 200))
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]
    assert [content(batch) for batch in stream.epoch(1)] == [content(batch) for batch in sampler(ingested).epoch(1)]
    assert stream.batches_per_epoch() == 47  # 187 users in batches of 4


def test_crops_are_consecutive_events_in_catalogue_numbers(ingested: Ingested) -> None:
    starts = set()
    for batch in sampler(ingested, window_events=10, drop_times=0.0).epoch(0):
        assert batch.values_BL is not None
        assert batch.gaps_BL is not None
        for row, user in enumerate(batch.users):
            real = batch.mask_BL[row]
            events = 20_000 - batch.items_BL[row][real].numpy() - 100 * int(user[1:])
            assert events.tolist() == list(range(events[0], events[0] + len(events)))
            assert 2 <= len(events) <= 10
            assert set((batch.values_BL[row][real] * 4).tolist()) <= {0, 1, 2, 3, 4}  # 1..5 became 0..1
            assert batch.gaps_BL[row][real].tolist() == [0, *[2] * (len(events) - 1)]  # a second each
            starts.add(int(events[0]))
    assert len(starts) > 10


def test_crops_from_anywhere_go_on_to_the_end_of_the_window(ingested: Ingested) -> None:
    """Users have 2 to 39 events: what follows from a random place on, of which the window keeps ten."""
    lengths = [
        int(length)
        for epoch in range(3)
        for batch in sampler(ingested, window_events=10, random_start=True).epoch(epoch)
        for length in batch.mask_BL.sum(dim=1)
    ]
    assert set(lengths) == set(range(2, 11))


@settings(max_examples=25)
@given(
    start=st.integers(0, 50),
    world_size=st.integers(1, 4),
    users_per_chunk=st.sampled_from([1, 12, 40, 64, 1_000]),
    batch_size=st.integers(1, 7),
    epoch=st.integers(0, 3),
)
def test_a_resumed_epoch_is_the_tail_of_the_whole(
    ingested: Ingested, start: int, world_size: int, users_per_chunk: int, batch_size: int, epoch: int
) -> None:
    stream = sampler(ingested, users_per_chunk=users_per_chunk, batch_size=batch_size)
    steps = stream.batches_per_epoch(world_size)
    whole = [content(batch) for batch in stream.epoch(epoch)]
    for rank in range(world_size):
        tail = [content(batch) for batch in stream.epoch(epoch, rank, world_size, start)]
        assert tail == whole[rank : steps * world_size : world_size][start:]


def test_a_jump_reads_one_chunk(ingested: Ingested, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[str, int]] = []
    original = Ingested.read

    def counted(self: Ingested, file: files.HistoryFile, row_groups: list[int], columns: list[str]) -> object:
        reads.extend((file.name, group) for group in row_groups)
        return original(self, file, row_groups, columns)

    monkeypatch.setattr(Ingested, "read", counted)
    next(sampler(ingested).epoch(0, start=31))
    groups = sum(len(file.users) for file in ingested.files)
    assert len(reads) <= groups // 3  # 40 of 187 users, and the rest of the two row groups they begin and end in


def test_parts_can_be_left_out(ingested: Ingested) -> None:
    users = {user for batch in sampler(ingested, parts=("train", "calibration")).epoch(0) for user in batch.users}
    assert users == {f"u{user}" for user in range(13, 200) if user % 3 != 2}


def test_too_few_users_for_the_ranks_are_no_batches(tmp_path: Path) -> None:
    stream = sampler(written(tmp_path / "few", [5, 5, 5], np.random.default_rng(0)))
    assert stream.batches_per_epoch(2) == 0
    assert list(stream.epoch(0, 0, 2)) == []
