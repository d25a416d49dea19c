"""Histories of a log that fits in no memory: read, validated, shuffled by user, ordered, split and written once.

    files ─► pieces (validated) ─► [shuffle by event id] ─► shuffle by user ─► ordered, split ─► one numbering of items

Ray Data does the reading and the shuffles, so a cluster shares them and what does not fit spills to disk; a task holds
one partition (``EVENTS_PER_PARTITION`` events, or all users whose hash falls into it). The rules are those of the
in-memory path, by the same functions: ``schema`` says what is rejected, ``log`` what comes first and what is a
duplicate, ``splits`` what is held out. The result is a pure function of the input: neither the cluster's size nor a
task that had to be run again changes it.

Every node must see the same files under the same paths, as for training itself.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from rich.console import Console

from driftline.columns import Events, Histories, Items
from driftline.errors import DataError
from driftline.events.fragments import (
    LEFT_OUT,
    REJECTED_ROW,
    REJECTIONS_SHOWN,
    Fragment,
    fragments,
    id_hashes,
    input_columns,
    input_files,
    read_fragment,
)
from driftline.events.histories import (
    EVENT_COLUMNS,
    PARTS,
    TARGET_COLUMNS,
    HistoryFile,
    Ingested,
    ingest_folder,
    open_ingested,
    write_histories,
)
from driftline.events.log import event_log
from driftline.events.splits import last_two, user_part
from driftline.events.tables import Rejection
from driftline.terminal import working

EVENTS_PER_PARTITION: Final = 500_000
PARTITION: Final = "partition"
PART: Final = "part"
DUPLICATE: Final = "duplicate"
FIRST_TIME, FIRST_POSITION = "first_time", "first_position"


def ingest(
    source: Path,
    columns: Mapping[str, str | None],
    storage: Path,
    max_rejected_fraction: float,
    console: Console,
) -> Ingested:
    """Ingest a log, unless it has been. Needs a running Ray.

    Parameters
    ----------
    source
        A Parquet, CSV or RecBole ``.inter`` file, or a folder of them; their order is that of their names.
    columns
        As in :func:`driftline.events.read_events`.
    storage
        The result lies under ``storage/ingest``; it appears there whole or not at all. A process that is killed leaves
        a hidden folder beside it, which nothing reads.

    Raises
    ------
    DataError
        If the input cannot be read, or too many rows are malformed.
    """
    target = ingest_folder(source, dict(columns), storage)
    if target.is_dir():
        return open_ingested(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (folder / "histories").mkdir()
        (folder / "staging").mkdir()
        with working(console, f"ingesting {source}") as tell:
            done = _ingest(source, columns, folder, max_rejected_fraction, tell)
        shutil.rmtree(folder / "staging")
        done.write(folder)
        folder.chmod(0o755)
        try:
            folder.rename(target)
        except OSError:  # another process was faster; its result is the same
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return open_ingested(target)


def _ingest(
    source: Path, columns: Mapping[str, str | None], folder: Path, max_rejected_fraction: float, tell: Any
) -> Ingested:
    files = input_files(source)
    with_ids = any(Events.EVENT_ID in input_columns(path, columns) for path in files)
    parts, rows = fragments(files)
    no_rows = f"{source}: the files have columns but no rows"
    if not parts:
        raise DataError(no_rows)
    partitions = max(1, -(-rows // EVENTS_PER_PARTITION))
    stats = []
    for row in _arranged(parts, columns, partitions, with_ids, folder):
        stats.append(row)
        tell(f"ingesting {source}: {len(stats)} of about {partitions} partitions ordered")
    left_out = [row for row in stats if row[PARTITION] == partitions]
    kept = sorted((row for row in stats if row[PARTITION] < partitions), key=lambda row: int(row[PARTITION]))
    rejected = sum(int(row["rejected"]) for row in left_out)
    duplicates = sum(int(row["duplicates"]) for row in stats)
    events = sum(int(row["events"]) for row in kept)
    shown = [Rejection(*json.loads(text)) for row in left_out for text in row["shown"]]
    total = events + duplicates + rejected
    if not total:
        raise DataError(no_rows)
    if not events or rejected > max_rejected_fraction * total:
        first = "; ".join(f"{r.file}:{r.line}: {r.reason}" for r in shown[:3])
        raise DataError(
            f"{rejected} of {total} rows of {source} are malformed, more than "
            f"data.max_rejected_fraction={max_rejected_fraction} allows. The first: {first}"
        )
    items = _number_items(folder, [int(row[PARTITION]) for row in kept])
    tell(f"ingesting {source}: writing the histories")
    written, fingerprint = _written(folder, [int(row[PARTITION]) for row in kept], items)
    report = {
        "rows": total,
        "rejected": rejected,
        "duplicates": duplicates,
        "events": events,
        "users": sum(sum(file.users) for file in written),
    }
    low, high = np.array([[row["low"], row["high"]] for row in kept]).T
    bounds = (float(np.fmin.reduce(low)), float(np.fmax.reduce(high)))
    return Ingested(folder, fingerprint, report, bounds, written, shown)


def _arranged(
    parts: list[Fragment], columns: Mapping[str, str | None], partitions: int, with_ids: bool, folder: Path
) -> Iterator[dict[str, Any]]:
    """Write every partition to ``staging``; yields one row of counts for each as it is done."""
    import ray.data

    _quiet_ray_data()
    read = partial(_read, parts=parts, columns=dict(columns), partitions=partitions, by_id=with_ids)
    pieces = ray.data.range(len(parts), override_num_blocks=len(parts)).map_batches(read, batch_size=None)
    if with_ids:
        unique = partial(_drop_repeated_ids, partitions=partitions)
        pieces = _grouped(pieces, partitions).map_groups(unique, batch_format="pyarrow")
    arrange = partial(_arrange, partitions=partitions, staging=folder / "staging")
    yield from _rows(_grouped(pieces, partitions).map_groups(arrange, batch_format="pyarrow"))


def _written(folder: Path, partitions: list[int], items: pd.DataFrame) -> tuple[list[HistoryFile], str]:
    """Turn staged partitions into histories; returns the files in order and the fingerprint of all content."""
    import ray.data

    staged = ray.data.from_items([{PARTITION: p} for p in partitions], override_num_blocks=len(partitions))
    rows = _rows(staged.map_batches(partial(_finish, folder=folder), batch_size=None))
    ordered = sorted(rows, key=lambda row: str(row["name"]))
    digest = sha256("\0".join(items[Items.ITEM]).encode("utf-8", "surrogatepass"))
    for row in ordered:
        digest.update(row["digest"].encode())
    files = [
        HistoryFile(row["name"], row["part"], tuple(map(int, row["users"])), tuple(map(int, row["trainable"])))
        for row in ordered
    ]
    return files, digest.hexdigest()


def _grouped(pieces: Any, partitions: int) -> Any:
    return pieces.groupby(PARTITION, num_partitions=partitions + 1)


def _rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """Rows as they are made; an error that Driftline raised in a task is raised as it was."""
    try:
        yield from dataset.iter_rows()
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and type(cause) is not DataError:  # Ray's wrappers are subclasses of what they wrap
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise DataError(str(cause)) from error


def _quiet_ray_data() -> None:
    """Progress is told here; Ray Data's own bars would be drawn over it."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # warns that the bars are off


def _read(
    batch: dict[str, Any], parts: list[Fragment], columns: dict[str, str | None], partitions: int, by_id: bool
) -> Iterator[Any]:
    """Validated pieces with the partition of each row; what was rejected has the partition after the last."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for number in batch["id"]:
        for piece in read_fragment(parts[int(number)], columns):
            where = np.full(piece.num_rows, partitions, dtype=np.int64)
            is_event = piece[Events.USER].is_valid().to_numpy()
            events = piece.filter(pa.array(is_event))
            key = events[Events.USER]
            if by_id:  # those without an id go anywhere, but not all to one place
                key = pc.coalesce(events[Events.EVENT_ID], key)
            where[is_event] = _partition(key, partitions)
            yield piece.append_column(PARTITION, pa.array(where))


def _partition(ids: Any, partitions: int) -> Any:
    return (id_hashes(ids) % partitions).astype(np.int64)


def _drop_repeated_ids(table: Any, partitions: int) -> Any:
    """Of events with the same id the first counts; the partition becomes that of the user."""
    import pyarrow as pa

    if table[PARTITION][0].as_py() == partitions:
        return table
    table = table.sort_by(Events.POSITION)
    ids = table[Events.EVENT_ID].to_pandas()
    repeated = (ids.notna() & ids.duplicated()).to_numpy()
    where = np.where(repeated, partitions, _partition(table[Events.USER], partitions))
    marks = pa.array([DUPLICATE if found else None for found in repeated], pa.string())
    table = table.set_column(table.schema.get_field_index(LEFT_OUT), LEFT_OUT, marks)
    return table.set_column(table.schema.get_field_index(PARTITION), PARTITION, pa.array(where))


def _arrange(table: Any, partitions: int, staging: Path) -> Any:
    """One partition: users in the order of their hashes, each user's events in order, the last two as targets."""
    import pyarrow as pa

    number = int(table[PARTITION][0].as_py())
    counts: dict[str, Any] = {PARTITION: number, "events": 0, "rejected": 0, "duplicates": 0}
    counts |= {"low": np.nan, "high": np.nan, "shown": []}
    if number == partitions:
        marks = table[LEFT_OUT].to_pandas()
        shown = sorted(map(json.loads, table[REJECTED_ROW].drop_null().to_pylist()))[:REJECTIONS_SHOWN]
        counts["duplicates"] = int((marks == DUPLICATE).sum())
        counts["rejected"] = len(marks) - counts["duplicates"]
        counts["shown"] = [json.dumps(row) for row in shown]
        return _one_row(counts)
    log = event_log(table.drop_columns([PARTITION, LEFT_OUT, REJECTED_ROW]).to_pandas())
    frame = log.events
    counts["events"], counts["duplicates"] = len(frame), log.duplicate_ids + log.duplicate_rows
    counts["low"], counts["high"] = float(frame[Events.VALUE].min()), float(frame[Events.VALUE].max())
    hashes = id_hashes(pa.chunked_array([pa.array(frame[Events.USER], pa.string())]))
    codes, _ = pd.factorize(frame[Events.USER])
    items, vocabulary = pd.factorize(frame[Events.ITEM])
    first = np.unique(items, return_index=True)[1]
    seen = {Items.ITEM: vocabulary, FIRST_TIME: frame[Events.TIME].to_numpy()[first]}
    seen[FIRST_POSITION] = frame[Events.POSITION].to_numpy()[first]
    order = np.lexsort((codes, hashes))  # stable: the events of a user stay in order
    users, held, part = _users(frame.iloc[order], codes[order], items[order])
    for name in PARTS:
        seen[name] = np.bincount(items[order][~held & (part == name)], minlength=len(vocabulary))
    pd.DataFrame(seen).to_parquet(staging / f"items-{number:05}.parquet", index=False)
    _write_table(users, staging / f"users-{number:05}.parquet")
    return _one_row(counts)


def _users(frame: pd.DataFrame, codes: Any, items: Any) -> tuple[Any, Any, Any]:
    """One row per user from events grouped by user; which events are targets; the part of each event's user.

    Items are numbers inside the partition.
    """
    import pyarrow as pa

    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    lengths = np.diff(begins, append=len(codes))
    starts, stops = np.repeat(begins, lengths), np.repeat(begins + lengths, lengths)
    validation, test = last_two(starts, stops)
    held = validation | test
    names = frame[Events.USER].to_numpy()[begins]
    parts = np.array([user_part(name) for name in names])
    table = {Histories.USER: pa.array(names, pa.string()), PART: pa.array(parts)}
    cells = (items.astype(np.int64), frame[Events.TIME].to_numpy(), frame[Events.VALUE].to_numpy())
    for chosen, columns in ((~held, EVENT_COLUMNS), (held, TARGET_COLUMNS)):
        offsets = np.append(0, np.add.reduceat(chosen, begins, dtype=np.int64).cumsum()).astype(np.int32)
        for name, column in zip(columns, cells, strict=True):
            table[name] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(column[chosen]))
    return pa.table(table), held, np.repeat(parts, lengths)


def _number_items(folder: Path, partitions: list[int]) -> pd.DataFrame:
    """Number the items of all partitions in order of first occurrence; writes ``items.parquet``."""
    seen = pd.concat(pd.read_parquet(folder / "staging" / f"items-{number:05}.parquet") for number in partitions)
    seen = seen.sort_values([FIRST_TIME, FIRST_POSITION], kind="stable")
    items = seen.groupby(Items.ITEM, sort=False)[list(PARTS)].sum().reset_index()
    items.to_parquet(folder / "items.parquet", index=False)
    return items


def _finish(batch: dict[str, Any], folder: Path) -> Iterator[Any]:
    """Write a staged partition under the common item numbers, one file per part of the drift protocol."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    index = pd.Index(pd.read_parquet(folder / "items.parquet", columns=[Items.ITEM])[Items.ITEM])
    for number in batch[PARTITION]:
        local = pd.read_parquet(folder / "staging" / f"items-{number:05}.parquet", columns=[Items.ITEM])
        numbers = index.get_indexer(local[Items.ITEM])
        users = pq.read_table(folder / "staging" / f"users-{number:05}.parquet").combine_chunks()
        for name in (Histories.ITEMS, Histories.TARGET_ITEMS):
            lists = users[name].combine_chunks()
            mapped = pa.ListArray.from_arrays(lists.offsets, pa.array(numbers[lists.values.to_numpy()]))
            users = users.set_column(users.schema.get_field_index(name), name, mapped)
        for part in PARTS:
            chosen = users.filter(pc.equal(users[PART], part)).drop_columns(PART)
            if not chosen.num_rows:
                continue
            file, digest = write_histories(folder, f"histories/{part}-{number:05}.parquet", part, chosen)
            yield _one_row({**vars(file), "digest": digest})


def _one_row(cells: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist([{k: list(v) if isinstance(v, tuple) else v for k, v in cells.items()}])


def _write_table(table: Any, path: Path) -> None:
    """Write, so that a task that runs again never leaves half a file."""
    import pyarrow.parquet as pq

    part = path.with_name(f"{path.name}.{os.getpid()}")
    pq.write_table(table, part)
    part.replace(path)
