"""Batches of user histories as tensors: event-count windows, random crops, bucketing by length.

Shape legend: B sequences, L events.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftline.sequences.event_types import UNKNOWN_TYPE
from driftline.sequences.gaps import UNKNOWN_GAP, gap_buckets
from driftline.sequences.user_attributes import UNKNOWN

Places = slice | NDArray[np.bool_]
"""Which events of a history."""


@dataclass(frozen=True)
class History:
    """One user's events as arrays of equal length, oldest first."""

    items: NDArray[np.int64]
    """Item indices in the catalogue."""
    times_s: NDArray[np.float64] | None = None
    values: NDArray[np.float32] | None = None
    """Explicit values scaled to 0..1; NaN where there is none."""
    user: str = ""
    types: NDArray[np.int64] | None = None
    """Kinds of events, see :mod:`driftline.sequences.event_types`; None = all unknown."""
    attributes: NDArray[np.int64] | None = None
    """Of the user, see :mod:`driftline.sequences.user_attributes`; not one for each event. None = all unknown."""
    now_s: float | None = None
    """Moment that the next event is asked for; None = unknown."""

    def __len__(self) -> int:
        return len(self.items)

    def slice(self, start: int, stop: int) -> "History":
        """Events ``start`` to ``stop`` (exclusive); ``now_s`` goes with the newest."""
        return replace(self.at(slice(start, stop)), now_s=self.now_s if stop >= len(self) else None)

    def at(self, places: Places) -> "History":
        """The events at these places."""
        return replace(
            self,
            items=self.items[places],
            times_s=None if self.times_s is None else self.times_s[places],
            values=None if self.values is None else self.values[places],
            types=None if self.types is None else self.types[places],
        )

    def shuffled(self, rng: np.random.Generator) -> "History":
        """The same events in random order; times no longer mean anything and are dropped."""
        order = rng.permutation(len(self.items))
        values = None if self.values is None else self.values[order]
        types = None if self.types is None else self.types[order]
        return History(self.items[order], None, values, self.user, types, self.attributes)


@dataclass(frozen=True)
class Batch:
    """Right-padded histories."""

    items_BL: Tensor
    """int64; 0 where padded."""
    mask_BL: Tensor
    """bool, true where there is an event."""
    gaps_BL: Tensor | None
    """int64 buckets, see :mod:`driftline.sequences.gaps`; None = all unknown."""
    values_BL: Tensor | None
    """float32 in 0..1, NaN where there is none."""
    users: tuple[str, ...] = ()
    """Whose sequences they are, where that is known."""
    types_BL: Tensor | None = None
    """int64, see :mod:`driftline.sequences.event_types`; None = all unknown."""
    attributes_BA: Tensor | None = None
    """int64, see :mod:`driftline.sequences.user_attributes`; None = all unknown."""
    now_gaps_B: Tensor | None = None
    """int64 buckets of the time from the last event to the moment that is asked about; None = all unknown."""

    @property
    def events(self) -> int:
        """Real events in the batch."""
        return int(self.mask_BL.sum())

    @property
    def next_gaps_BS(self) -> Tensor | None:
        """int64 buckets of the time from each state to the event after it, unknown in rows whose ``now_gaps_B`` is."""
        if self.now_gaps_B is None:
            return None
        gaps_BL = torch.full_like(self.items_BL, UNKNOWN_GAP) if self.gaps_BL is None else self.gaps_BL
        next_BS = torch.nn.functional.pad(gaps_BL, (0, 1), value=UNKNOWN_GAP)
        next_BS = next_BS.scatter(1, self.mask_BL.sum(dim=1, keepdim=True), self.now_gaps_B.unsqueeze(1))
        return next_BS.masked_fill((self.now_gaps_B == UNKNOWN_GAP).unsqueeze(1), UNKNOWN_GAP)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        parts = (self.gaps_BL, self.values_BL, self.types_BL, self.attributes_BA, self.now_gaps_B)
        gaps, values, *others = (None if t is None else t.to(device) for t in parts)
        return Batch(self.items_BL.to(device), self.mask_BL.to(device), gaps, values, self.users, *others)


def target_gaps(histories: Sequence[History]) -> NDArray[np.int64]:
    """Bucket of the time from each history's last event to the moment that is asked about: ``gaps_B``."""
    unknown = np.full((len(histories), 2), np.nan)
    for row, history in enumerate(histories):
        if history.now_s is not None and history.times_s is not None and len(history):
            unknown[row] = history.times_s[-1], history.now_s
    return gap_buckets(unknown)[:, 1]


def collate(histories: Sequence[History], with_times: bool = True) -> Batch:
    """Pad histories on the right into one batch."""
    length = max((len(h) for h in histories), default=0)
    shape = (len(histories), max(length, 1))
    items = np.zeros(shape, dtype=np.int64)
    mask = np.zeros(shape, dtype=bool)
    with_times = with_times and any(history.times_s is not None for history in histories)
    times = np.full(shape, np.nan) if with_times else None
    values = np.full(shape, np.nan, dtype=np.float32)
    types = np.full(shape, UNKNOWN_TYPE, dtype=np.int64)
    for row, history in enumerate(histories):
        n = len(history)
        items[row, :n] = history.items
        mask[row, :n] = True
        if times is not None and history.times_s is not None:
            times[row, :n] = history.times_s
        if history.values is not None:
            values[row, :n] = history.values
        if history.types is not None:
            types[row, :n] = history.types
    known = [history.attributes for history in histories if history.attributes is not None]
    attributes = np.full((len(histories), len(known[0])), UNKNOWN) if known else None
    for row, history in enumerate(histories):
        if attributes is not None and history.attributes is not None:
            attributes[row] = history.attributes
    gaps = None if times is None else gap_buckets(times)
    now_gaps = target_gaps(histories)
    return Batch(
        torch.from_numpy(items),
        torch.from_numpy(mask),
        torch.from_numpy(gaps) if gaps is not None and gaps.any() else None,
        None if np.isnan(values).all() else torch.from_numpy(values),
        tuple(history.user for history in histories),
        torch.from_numpy(types) if types.any() else None,
        None if attributes is None else torch.from_numpy(attributes),
        torch.from_numpy(now_gaps) if now_gaps.any() else None,
    )


def window(history: History, window_events: int) -> History:
    """The newest ``window_events`` events."""
    return history.slice(max(0, len(history) - window_events), len(history))


@dataclass(frozen=True)
class CropSampler:
    """Seeded training batches: every history is cropped at random, crops of like length share a batch.

    Rank ``r`` of ``W`` takes every W-th batch; each rank yields equally many, so collective operations match up.

    Parameters
    ----------
    histories
        Training histories.
    window_events
        Longest crop.
    batch_size
        Sequences per rank and step.
    seed
        With the epoch it fixes everything.
    shuffle_order
        Also shuffle the events inside a history (drift encoder: a new order is not a new taste).
    random_start
        Start a crop anywhere, so that short contexts are calibrated; otherwise only histories longer than the
        window are cropped.
    drop_times
        Share of crops whose times and types are made unknown, so that bare item lists are understood too; drawn apart,
        of those whose users' attributes are.
    """

    histories: Sequence[History]
    window_events: int
    batch_size: int
    seed: int
    shuffle_order: bool = False
    random_start: bool = False
    drop_times: float = 0.5

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1, start: int = 0) -> Iterator[Batch]:
        """Batches of one epoch for one rank, from its batch number ``start`` on."""
        rng = np.random.default_rng([self.seed, epoch])
        crops = [self._crop(h, rng) for h in self.histories if len(h) >= 2]
        groups = length_groups([len(c) for c in crops], self.batch_size, rng)
        usable = len(groups) - len(groups) % world_size if len(groups) >= world_size else 0
        for number in range(rank + start * world_size, usable, world_size):
            yield collate([crops[i] for i in groups[number]])

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """Steps of each rank in one epoch."""
        usable = sum(len(h) >= 2 for h in self.histories)
        return -(-usable // self.batch_size) // world_size

    def _crop(self, history: History, rng: np.random.Generator) -> History:
        if self.shuffle_order:
            history = history.shuffled(rng)
        latest_start = len(history) - 2 if self.random_start else max(0, len(history) - self.window_events)
        start = int(rng.integers(0, latest_start + 1))
        crop = history.slice(start, start + self.window_events)
        if crop.times_s is not None and rng.random() < self.drop_times:
            crop = replace(crop, times_s=None, types=None)
        if crop.attributes is not None and rng.random() < self.drop_times:
            crop = replace(crop, attributes=None)
        return crop


def length_groups(
    lengths: Sequence[int] | NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Bucket crops by length: indices of each batch's crops, batches in random order.

    Crops of like length share a batch, so that little of it is padding; those of equal length are drawn anew each time.
    """
    jitter = rng.random(len(lengths))
    by_length = np.lexsort((jitter, np.asarray(lengths)))
    groups = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    return [groups[i] for i in rng.permutation(len(groups))]
