"""Event files of any size, piece by piece: Parquet, CSV and RecBole's ``.inter``, one file or a folder of them.

The small reader (``readers``) turns cells into values one by one. Here whole columns are converted at once where their
type leaves no doubt, and only the cells that do leave one go through the same parsers of ``schema``: what is accepted,
what is rejected and why is the same in both. Two things differ, because a piece must be readable on its own: a record
of a CSV file ends with its line even inside quotes, and ``Rejection`` counts rows instead of lines and shows them as
JSON.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from driftline.columns import Events
from driftline.errors import DataError
from driftline.events.formats import FORMATS
from driftline.events.schema import ALIASES, EVENT_TYPES, LATEST_SECONDS, PARSERS, REQUIRED_COLUMNS
from driftline.events.tables import RawTable, printable

LARGE_FORMATS: Final = ("parquet", "csv", "recbole")
"""Formats that can be read piece by piece."""
SUFFIXES: Final = {suffix: name for name in LARGE_FORMATS for suffix in FORMATS[name]}
ROWS_PER_PIECE: Final = 131_072
BYTES_PER_TEXT_ROW: Final = 32
"""For estimates of the size of text files."""
POSITIONS_PER_FILE: Final = 1 << 40
REJECTIONS_SHOWN: Final = 20
"""Rejected rows of one piece that are described; the others are counted."""
LEFT_OUT: Final = "left_out"
"""Column of a piece: why a row is no event; null where it is one."""
REJECTED_ROW: Final = "rejected_row"
"""Column of a piece: JSON of a ``Rejection`` for the rejected rows that are described."""


@dataclass(frozen=True)
class Fragment:
    """A part of the input that one task reads.

    Attributes
    ----------
    file
        Path.
    number
        Place of the file among the input's files, in order of their names.
    row_groups
        Those of a Parquet file; empty for text files, which are read whole.
    first_row
        Rows of the file before this fragment.
    """

    file: str
    number: int
    row_groups: tuple[int, ...] = ()
    first_row: int = 0


def input_files(source: Path) -> list[Path]:
    """The files of an input, in order of their names: itself, or those of a folder.

    Raises
    ------
    DataError
        If there is nothing, or a file is of a format that cannot be read piece by piece.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    hidden = (".", "_")
    found = sorted(p for p in source.rglob("*") if p.is_file() and not p.name.startswith(hidden))
    files = found if source.is_dir() else [source]
    foreign = [path for path in files if path.suffix.lower() not in SUFFIXES]
    if foreign or not files:
        what = f"suffix {foreign[0].suffix!r} of {foreign[0].name}" if foreign else "an empty folder"
        raise DataError(f"{source}: {what} cannot be read piece by piece; give files of {', '.join(SUFFIXES)}")
    return files


def fragments(files: Sequence[Path]) -> tuple[list[Fragment], int]:
    """Parts to read in parallel, and how many rows they hold about; what holds no row is no part.

    Raises
    ------
    DataError
        If a Parquet file has no readable footer.
    """
    parts: list[Fragment] = []
    rows = 0
    for number, path in enumerate(files):
        if _format(path) != "parquet":
            if _has_rows(path):
                parts.append(Fragment(str(path), number))
                rows += path.stat().st_size // BYTES_PER_TEXT_ROW
            continue
        footer, first = _footer(path), 0
        for group in range(footer.num_row_groups):
            count = footer.row_group(group).num_rows
            if count:
                parts.append(Fragment(str(path), number, (group,), first))
            first += count
        rows += first
    return parts, rows


def read_fragment(fragment: Fragment, columns: Mapping[str, str | None]) -> Iterator[Any]:
    """Pieces of a fragment as Arrow tables.

    Yields
    ------
    pyarrow.Table
        The columns of ``columns.Events`` without the text, and ``LEFT_OUT`` and ``REJECTED_ROW``. A rejected row has
        no user.

    Raises
    ------
    DataError
        If the file is not of its format, or a column is unknown or missing.
    """
    import pyarrow as pa

    rows = fragment.first_row
    try:
        pieces = _parquet_pieces(fragment, columns) if fragment.row_groups else _text_pieces(fragment, columns)
        for cells, count, invalid in pieces:
            yield _piece(fragment, cells, count, rows, invalid)
            rows += count
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{fragment.file}: cannot be read as {Path(fragment.file).suffix}: {error}") from error


Pieces = Iterator[tuple[dict[str, Any], int, list[str]]]
"""Cells by schema name (Arrow arrays), rows, and what was no row."""


def input_columns(file: str | Path, columns: Mapping[str, str | None]) -> dict[str, str]:
    """Schema name to input name, for every column of a file that is used.

    Raises
    ------
    DataError
        If a column is unknown or missing.
    """
    names = _footer(file).schema.names if _format(file) == "parquet" else _text_header(file)
    return _inputs(file, names, columns)


def _inputs(file: str | Path, names: Sequence[str], columns: Mapping[str, str | None]) -> dict[str, str]:
    table = RawTable(str(file), {name: [name] for name in names})
    known = list(PARSERS)
    found = table.select(columns, known=known, required=REQUIRED_COLUMNS, aliases=ALIASES)
    return {target: str(cells[0]) for target, cells in found.items() if target != Events.TEXT}


def _parquet_pieces(fragment: Fragment, columns: Mapping[str, str | None]) -> Pieces:
    import pyarrow.parquet as pq

    with pq.ParquetFile(fragment.file) as file:
        inputs = _inputs(fragment.file, file.schema_arrow.names, columns)
        wanted = list(inputs.values())
        for batch in file.iter_batches(ROWS_PER_PIECE, row_groups=list(fragment.row_groups), columns=wanted):
            yield {target: batch.column(name) for target, name in inputs.items()}, batch.num_rows, []


def _text_pieces(fragment: Fragment, columns: Mapping[str, str | None]) -> Pieces:
    """Text columns as bytes: a cell that is no UTF-8 costs its row, not the file."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    recbole, names = _format(fragment.file) == "recbole", _text_header(fragment.file)
    inputs = _inputs(fragment.file, names, columns)
    invalid: list[str] = []

    def skip(row: Any) -> str:
        invalid.append(f"{row.actual_columns} fields where the header has {row.expected_columns}: {row.text[:200]}")
        return "skip"

    parse = arrow_csv.ParseOptions(
        delimiter="\t" if recbole else ",", quote_char=False if recbole else '"', invalid_row_handler=skip
    )
    reader = arrow_csv.open_csv(
        fragment.file,
        arrow_csv.ReadOptions(use_threads=False, column_names=names, skip_rows=1, block_size=1 << 23),
        parse,
        arrow_csv.ConvertOptions(
            include_columns=list(inputs.values()), column_types=dict.fromkeys(names, pa.binary()), check_utf8=False
        ),
    )
    for batch in reader:
        found, invalid[:] = list(invalid), []
        yield {target: batch.column(name) for target, name in inputs.items()}, batch.num_rows, found
    if invalid:  # no well-formed row came after them
        yield {target: pa.array([], pa.binary()) for target in inputs}, 0, invalid


def _format(file: str | Path) -> str:
    return SUFFIXES[Path(file).suffix.lower()]


def _footer(file: str | Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file: {error}") from error


def _has_rows(file: Path) -> bool:
    """Whether anything follows a text file's header."""
    with file.open("rb") as lines:
        lines.readline()
        return any(line.strip() for line in lines)


def _text_header(file: str | Path) -> list[str]:
    with Path(file).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        first = lines.readline().rstrip("\r\n")
    names = first.split("\t") if _format(file) == "recbole" else next(csv.reader([first]), [])
    return [name.partition(":")[0].strip() if _format(file) == "recbole" else name.strip() for name in names]


def _piece(fragment: Fragment, cells: dict[str, Any], count: int, first_row: int, invalid: list[str]) -> Any:
    """Validated columns; rejected rows and those that were no rows come last, without a user."""
    import pyarrow as pa
    import pyarrow.compute as pc

    reasons: dict[int, list[str]] = {}
    values: dict[str, Any] = {}
    for name in PARSERS:
        if name == Events.TEXT:
            continue
        column = cells.get(name, pa.nulls(count))
        values[name], faults = _parsed(name, column)
        if name in REQUIRED_COLUMNS:
            missing = np.flatnonzero(values[name].is_null().to_numpy(zero_copy_only=False))
            faults = {int(row): "is missing" for row in missing} | faults
        for row, reason in faults.items():
            text = f"{name} {reason}" if reason == "is missing" else f"{name}: {reason}"
            reasons.setdefault(row, []).append(text)
    default = np.where(values[Events.VALUE].is_null().to_numpy(zero_copy_only=False), "view", "rating")
    values[Events.TYPE] = pc.coalesce(values[Events.TYPE], pa.array(default, pa.string()))
    shown = [
        json.dumps([fragment.file, first_row + row + 1, "; ".join(why), _shown_row(cells, row)])
        for row, why in sorted(reasons.items())[:REJECTIONS_SHOWN]
    ] + [json.dumps([fragment.file, first_row + 1, f"near this row: {why}", ""]) for why in invalid]
    is_event = np.ones(count, dtype=bool)
    is_event[list(reasons)] = False
    usable = np.flatnonzero(is_event)
    values[Events.POSITION] = pa.array(fragment.number * POSITIONS_PER_FILE + first_row + np.arange(count))
    events = pa.table(values).take(usable)
    left_out = len(reasons) + len(invalid)
    marks = {LEFT_OUT: pa.nulls(len(usable), pa.string()), REJECTED_ROW: pa.nulls(len(usable), pa.string())}
    for name, mark in marks.items():
        events = events.append_column(name, mark)
    rejected = {field.name: pa.nulls(left_out, field.type) for field in events.schema}
    rejected[Events.POSITION] = pa.array(np.zeros(left_out, np.int64))
    rejected[LEFT_OUT] = pa.array(["rejected"] * left_out, pa.string())
    rejected[REJECTED_ROW] = pa.array(shown + [None] * (left_out - len(shown)), pa.string())
    return pa.concat_tables([events, pa.table(rejected, schema=events.schema)])


def _shown_row(cells: dict[str, Any], row: int) -> str:
    found = {name: _cell(column[row]) for name, column in cells.items()}
    shown = {name: printable(cell) if isinstance(cell, str) else cell for name, cell in found.items()}
    return json.dumps(shown, ensure_ascii=False, default=repr)


def _cell(scalar: Any) -> object:
    """A Python value as a parser of ``schema`` takes it: undecodable bytes become surrogates."""
    value = scalar.as_py()
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _parsed(name: str, column: Any) -> tuple[Any, dict[int, str]]:
    """A column as its schema type (missing = null), and what is wrong with which cell."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if name in (Events.TIME, Events.VALUE):
        values, doubtful = _numbers(column, seconds=name == Events.TIME)
    else:
        values, doubtful = _texts(column, numbers=name != Events.TYPE)
        if name == Events.TYPE and not doubtful.all():
            known = pc.is_in(values, pa.array([*EVENT_TYPES, None], pa.string()))
            doubtful = doubtful | ~known.to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(doubtful)
    faults: dict[int, str] = {}
    if len(rows):
        mended = values.to_pylist()
        for row in rows.tolist():
            mended[row] = None
            try:
                value = PARSERS[name](_cell(column[row]))
                mended[row] = None if isinstance(value, float) and np.isnan(value) else value
            except ValueError as error:
                faults[row] = str(error)
        values = pa.array(mended, values.type)
    return values, faults


def _texts(column: Any, numbers: bool) -> tuple[Any, "np.ndarray[Any, np.dtype[np.bool_]]"]:
    """Texts without blank ones, and which cells only their parser can judge."""
    import pyarrow as pa
    import pyarrow.compute as pc

    every = np.ones(len(column), dtype=bool)
    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.string()), ~every
    if pa.types.is_integer(kind) and numbers:
        return column.cast(pa.string()), ~every
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)):
        return pa.nulls(len(column), pa.string()), every
    try:
        texts = column.cast(pa.string())
        texts.validate(full=True)
    except pa.ArrowInvalid:  # not UTF-8 somewhere
        return pa.nulls(len(column), pa.string()), every
    blank = pc.equal(pc.utf8_trim_whitespace(texts), "")
    texts = pc.if_else(pc.fill_null(blank, True), pa.scalar(None, pa.string()), texts)
    return texts, pc.fill_null(pc.match_substring(texts, "\0"), False).to_numpy(zero_copy_only=False)


def _numbers(column: Any, seconds: bool) -> tuple[Any, "np.ndarray[Any, np.dtype[np.bool_]]"]:
    """Numbers with NaN as null, and which cells only their parser can judge."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    unknown = pa.nulls(len(column), pa.float64()), np.ones(len(column), dtype=bool)
    if pa.types.is_timestamp(kind) and seconds:
        column = pc.divide(
            column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6
        )
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        texts, doubtful = _texts(column, numbers=False)
        if doubtful.any():
            return unknown
        column = texts
    try:
        numbers = column.cast(pa.float64(), safe=False)
    except pa.ArrowInvalid:
        return unknown
    floats = numbers.to_numpy(zero_copy_only=False)
    written_nan = pa.types.is_string(column.type) and np.isnan(floats) & column.is_valid().to_numpy(
        zero_copy_only=False
    )
    doubtful = np.isinf(floats) | written_nan | (seconds & (np.abs(floats) >= LATEST_SECONDS))
    return pa.array(floats, from_pandas=True), doubtful


def id_hashes(ids: Any) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """64-bit hash of each id, the same everywhere and always (SipHash with pandas' fixed key)."""
    encoded = ids.combine_chunks().dictionary_encode()
    hashed = pd.util.hash_array(encoded.dictionary.to_numpy(zero_copy_only=False), categorize=False)
    found: np.ndarray[Any, np.dtype[np.uint64]] = hashed[encoded.indices.to_numpy(zero_copy_only=False)]
    return found
