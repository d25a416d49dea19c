"""Training batches streamed from ingested histories: flat memory, and any position of an epoch at once.

Ray Data shuffled the log by user and wrote it down (``events.ingest``); from there on every worker reads row groups
itself. Ray Train could feed the workers too (``ray.train.get_dataset_shard``), but its streaming split hands out blocks
as workers ask for them: which worker sees what, and in which order, differs from run to run, and after a crash nothing
says which half of an epoch is left. Here a batch is a function of (seed, epoch, number) alone, so a run goes on exactly
where it stopped, also with another number of workers.

An epoch puts all row groups in random order. That order numbers the users; batch-aligned runs of ``users_per_chunk``
users are read, shuffled, bucketed by length and cropped together, and only one such chunk is in memory. Users lie on
disk in the order of a hash, so a chunk is a random sample of them in every epoch.

Every rank decodes whole chunks and builds its own batches from them. Decoding costs a few percent of what building
batches costs; in return the order does not depend on the number of ranks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from driftline.columns import Events, Histories, Items
from driftline.config import Config
from driftline.events.histories import EVENT_COLUMNS, MIN_TRAINABLE_EVENTS, PARTS, HistoryFile, Ingested
from driftline.sequences.batches import Batch, CropSampler, History, collate, length_groups
from driftline.sequences.dataset import Dataset, ranking_split
from driftline.sequences.scale import scaled

USERS_PER_CHUNK: Final = 8_192


@dataclass(frozen=True)
class StreamSampler:
    """Seeded training batches from disk, with the same interface and the same rules as ``CropSampler``.

    Rank ``r`` of ``W`` takes every W-th batch; each rank yields equally many, so collective operations match up.

    Parameters
    ----------
    ingested
        What is on disk.
    catalogue_N
        Catalogue index of each ingested item.
    window_events
        Longest crop. Only histories longer than that are cropped, at random.
    batch_size
        Sequences per rank and step.
    seed
        With the epoch it fixes everything.
    parts
        Parts of the drift protocol whose users are trained on.
    drop_times
        Share of crops whose times are made unknown, so that bare item lists are understood too.
    users_per_chunk
        Users in memory at a time, rounded to whole batches.
    random_start
        Start a crop anywhere, as ``CropSampler`` does.
    """

    ingested: Ingested
    catalogue_N: NDArray[np.int64]
    window_events: int
    batch_size: int
    seed: int
    parts: Sequence[str] = PARTS
    drop_times: float = 0.5
    users_per_chunk: int = USERS_PER_CHUNK
    random_start: bool = False

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1, start: int = 0) -> Iterator[Batch]:
        """Batches of one epoch for one rank, from its batch number ``start`` on; nothing before is read."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self._row_groups))
        ends = np.cumsum([self._row_groups[group].trainable for group in order])
        usable = self.batches_per_epoch(world_size) * world_size
        per_chunk = max(1, self.users_per_chunk // self.batch_size)
        chunk: int = -1
        built: _Chunk | None = None
        for number in range(rank + start * world_size, usable, world_size):
            if number // per_chunk != chunk:
                chunk = number // per_chunk
                first, stop = (bound * per_chunk * self.batch_size for bound in (chunk, chunk + 1))
                built = None  # or two chunks are in memory
                built = self._chunk(order, ends, first, min(stop, self._users), [self.seed, epoch, chunk])
            assert built is not None
            yield built.batch(number % per_chunk)

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """Steps of each rank in one epoch."""
        return -(-self._users // self.batch_size) // world_size

    @cached_property
    def _row_groups(self) -> list["_RowGroup"]:
        files = [file for file in self.ingested.files if file.part in self.parts]
        return [_RowGroup(file, n, count) for file in files for n, count in enumerate(file.trainable) if count]

    @cached_property
    def _users(self) -> int:
        return sum(group.trainable for group in self._row_groups)

    def _chunk(
        self, order: NDArray[np.int64], ends: NDArray[np.int64], first: int, stop: int, seed: list[int]
    ) -> "_Chunk":
        """Users ``first`` to ``stop`` (exclusive) of the epoch's order, cropped and grouped into batches."""
        import pyarrow as pa

        begin, end = np.searchsorted(ends, first, side="right"), np.searchsorted(ends, stop, side="left") + 1
        tables = [self._trainable(self._row_groups[group]) for group in order[begin:end]]
        skipped = first - (int(ends[begin - 1]) if begin else 0)
        users = pa.concat_tables(tables).slice(skipped, stop - first)
        return self._cropped(users, np.random.default_rng(seed))

    def _trainable(self, group: "_RowGroup") -> Any:
        """Users of a row group that can be trained on."""
        import pyarrow.compute as pc

        table = self.ingested.read(group.file, [group.number], (Histories.USER, *EVENT_COLUMNS))
        return table.filter(pc.greater_equal(pc.list_value_length(table[Histories.ITEMS]), MIN_TRAINABLE_EVENTS))

    def _cropped(self, users: Any, rng: np.random.Generator) -> "_Chunk":
        lists = [users[name].combine_chunks() for name in EVENT_COLUMNS]
        items, times, values = (column.flatten().to_numpy(zero_copy_only=False) for column in lists)
        lengths = lists[0].value_lengths().to_numpy().astype(np.int64)
        skipped = rng.integers(0, np.maximum(lengths - (2 if self.random_start else self.window_events), 0) + 1)
        begins = np.cumsum(lengths) - lengths + skipped
        lengths = np.minimum(lengths - skipped, self.window_events)
        timed = rng.random(len(lengths)) >= self.drop_times
        shares = scaled(values, *self.ingested.value_range)
        groups = length_groups(lengths, self.batch_size, rng)
        ids = users[Histories.USER].to_numpy()
        return _Chunk(ids, self.catalogue_N[items], times, shares, begins, begins + lengths, timed, groups)


def ranking_sampler(dataset: Dataset, config: Config) -> CropSampler | StreamSampler:
    """Batches of the ranking stage, from memory or from disk."""
    window_events, batch_size = config.encoder.window_events, config.training.batch_users
    anywhere = config.training.crops == "anywhere"
    if dataset.ingested is None:
        histories = list(dataset.histories(ranking_split(dataset, config).fit).values())
        return CropSampler(histories, window_events, batch_size, config.seed, random_start=anywhere)
    catalogue_N = dataset.indices(dataset.ingested.items()[Items.ITEM])
    parts = _ranking_parts(config)
    return StreamSampler(
        dataset.ingested, catalogue_N, window_events, batch_size, config.seed, parts, random_start=anywhere
    )


def ranking_counts(dataset: Dataset, config: Config) -> NDArray[np.int64]:
    """Training events of each item of the catalogue in the ranking stage: ``counts_N``."""
    if dataset.ingested is None:
        items = dataset.indices(ranking_split(dataset, config).fit[Events.ITEM])
        return np.bincount(items, minlength=len(dataset.catalog))
    counted = dataset.ingested.items()
    counts_N = np.zeros(len(dataset.catalog), dtype=np.int64)
    counts_N[dataset.indices(counted[Items.ITEM])] = counted[list(_ranking_parts(config))].sum(axis=1)
    return counts_N


def _ranking_parts(config: Config) -> Sequence[str]:
    return [part for part in PARTS if part != "test"] if config.ranking.exclude_held_out else PARTS


@dataclass(frozen=True)
class _RowGroup:
    file: HistoryFile
    number: int
    trainable: int


@dataclass(frozen=True)
class _Chunk:
    """Events of some users in a row, and the crops that make up each batch."""

    users: NDArray[np.object_]
    items: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    timed: NDArray[np.bool_]
    groups: Sequence[NDArray[np.int64]]

    def batch(self, number: int) -> Batch:
        """A batch of the chunk."""
        return collate([self._crop(user) for user in self.groups[number]])

    def _crop(self, number: int) -> History:
        events = slice(self.begins[number], self.ends[number])
        times = self.times[events] if self.timed[number] else None
        return History(self.items[events], times, self.values[events], str(self.users[number]))
