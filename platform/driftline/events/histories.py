"""Ingested histories on disk: what training streams from, and what a sample of users is drawn from.

    storage/ingest/<key>/
      manifest.json                          counts, rejected rows, and every file's row groups
      items.parquet                          items of the log and their training events by part
      histories/<part>-<partition>.parquet   one row per user, columns as in ``columns.Histories``

A file holds users of one part of the drift protocol (``splits.user_part``), so that a part can be read or left out by
name. Users lie in the order of a hash of their id: any run of row groups is a random sample of users. A row group is
small (``USERS_PER_GROUP`` users, or fewer with long histories), so one can be held in memory whatever the log's size.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from driftline.columns import Histories
from driftline.errors import DataError
from driftline.events.fragments import input_files
from driftline.events.tables import Rejection

FORMAT: Final = 1
USERS_PER_GROUP: Final = 512
EVENTS_PER_GROUP: Final = 65_536
MIN_TRAINABLE_EVENTS: Final = 2
"""A shorter training history holds nothing to predict."""
EVENT_COLUMNS: Final = (Histories.ITEMS, Histories.TIMES, Histories.VALUES)
TARGET_COLUMNS: Final = (Histories.TARGET_ITEMS, Histories.TARGET_TIMES, Histories.TARGET_VALUES)
PARTS: Final = ("train", "calibration", "test")
"""Of the drift protocol, test last; also the columns of ``items.parquet`` that count training events of each item."""


@dataclass(frozen=True)
class HistoryFile:
    """One file of histories.

    Attributes
    ----------
    name
        Path under the ingested folder.
    part
        train, calibration or test (of the drift protocol).
    users
        Rows of each row group.
    trainable
        Of these, users with ``MIN_TRAINABLE_EVENTS`` training events or more.
    """

    name: str
    part: str
    users: tuple[int, ...]
    trainable: tuple[int, ...]


@dataclass(frozen=True)
class Ingested:
    """A log that has been ingested.

    Attributes
    ----------
    fingerprint
        sha256 of the content: events and items in order.
    report
        Counts: rows, rejected, duplicates, events, users.
    value_range
        Smallest and largest explicit value; NaN where no event has one.
    rejected
        Some of the rejected rows.
    """

    folder: Path
    fingerprint: str
    report: dict[str, int]
    value_range: tuple[float, float]
    files: Sequence[HistoryFile]
    rejected: Sequence[Rejection]

    def items(self) -> pd.DataFrame:
        """Items in order of first occurrence in the log, and training events of each, one column per part."""
        return pd.read_parquet(self.folder / "items.parquet")

    def read(self, file: HistoryFile, row_groups: Sequence[int], columns: Iterable[str]) -> Any:
        """Row groups of a file as an Arrow table.

        Raises
        ------
        DataError
            If the file is missing or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / file.name
        try:
            with pq.ParquetFile(path) as opened:
                return opened.read_row_groups(list(row_groups), columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: {error}; remove {self.folder} and ingest again") from error

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder that holds everything else."""
        text = asdict(self) | {"format": FORMAT}
        del text["folder"]
        (folder / "manifest.json").write_text(json.dumps(text, indent=1), encoding="utf-8")


def open_ingested(folder: Path) -> Ingested:
    """Read the manifest of an ingested log.

    Raises
    ------
    DataError
        If it is damaged or of another version.
    """
    try:
        text = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if text["format"] != FORMAT:
            raise DataError(f"{folder} has format {text['format']}, this Driftline reads {FORMAT}: remove it")
        return Ingested(
            folder,
            text["fingerprint"],
            text["report"],
            (text["value_range"][0], text["value_range"][1]),
            [HistoryFile(f["name"], f["part"], tuple(f["users"]), tuple(f["trainable"])) for f in text["files"]],
            [Rejection(**rejection) for rejection in text["rejected"]],
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder / 'manifest.json'} cannot be read ({error}): remove {folder}") from error


def ingest_folder(source: Path, columns: dict[str, str | None], storage: Path) -> Path:
    """Where a log is ingested to: named by its files' paths, sizes and times of change, and by the columns.

    Raises
    ------
    DataError
        If there is no input, or a file is of a format that cannot be read piece by piece.
    """
    stamps = []
    for path in input_files(source):
        found = path.stat()
        stamps.append([str(path.resolve()), found.st_size, found.st_mtime_ns])
    key = sha256(json.dumps([FORMAT, stamps, columns]).encode("utf-8", "surrogatepass")).hexdigest()[:20]
    return storage / "ingest" / key


def write_histories(folder: Path, name: str, part: str, users: Any) -> tuple[HistoryFile, str]:
    """Write users as row groups.

    Parameters
    ----------
    users
        Arrow table, columns as in ``columns.Histories``.

    Returns
    -------
    HistoryFile, str
        What was written, and the sha256 of its content.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    lengths = pc.list_value_length(users[Histories.ITEMS]).to_numpy()
    trainable = lengths >= MIN_TRAINABLE_EVENTS
    bounds = _row_groups(lengths)
    with pq.ParquetWriter(folder / name, users.schema, compression="zstd") as writer:
        for start, stop in bounds:
            writer.write_table(users.slice(start, stop - start))
    counts = tuple(stop - start for start, stop in bounds)
    written = HistoryFile(name, part, counts, tuple(int(trainable[start:stop].sum()) for start, stop in bounds))
    return written, _digest(users)


def _row_groups(lengths: "np.ndarray[Any, np.dtype[np.int64]]") -> list[tuple[int, int]]:
    """Runs of users that hold neither too many users nor, unless one user alone does, too many events."""
    ends = np.cumsum(lengths)
    bounds: list[tuple[int, int]] = []
    start = 0
    while start < len(lengths):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + EVENTS_PER_GROUP, side="right"))
        stop = min(max(stop, start + 1), start + USERS_PER_GROUP)
        bounds.append((start, stop))
        start = stop
    return bounds


def _digest(users: Any) -> str:
    digest = sha256("\0".join(users[Histories.USER].to_pylist()).encode("utf-8", "surrogatepass"))
    for name in (*EVENT_COLUMNS, *TARGET_COLUMNS):
        column = users[name].combine_chunks()
        digest.update(column.value_lengths().to_numpy().astype(np.int64).tobytes())
        digest.update(column.flatten().to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()
