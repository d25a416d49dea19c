"""RecBole atomic files, CSV, JSON Lines and Parquet as cells, each row with its place in the file.

A parser never decides what a column means; it finds rows, and rejects those that are no rows (wrong field count,
invalid JSON, bytes that are not UTF-8, NUL). Blank lines hold no row. The whole file is held in memory.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from driftline.errors import DataError
from driftline.events.schema import storable_fault
from driftline.events.tables import RawTable, Rejection, listed, printable

FORMATS: Final = {
    "recbole": (".inter", ".item", ".user", ".kg", ".link"),
    "csv": (".csv",),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq"),
}
"""Format name to the file suffixes that mean it."""


def read_table(path: str | Path, format: str | None = None) -> RawTable:
    """Read a file into cells.

    Parameters
    ----------
    path
        The file.
    format
        One of ``FORMATS``; by default the suffix decides.

    Raises
    ------
    DataError
        If the file is missing, unreadable, empty, without rows, or of an unknown format.
    """
    path = Path(path)
    if format is None:
        format = next((name for name, suffixes in FORMATS.items() if path.suffix.lower() in suffixes), None)
        if format is None:
            suffixes = ", ".join(suffix for group in FORMATS.values() for suffix in group)
            raise DataError(
                f"{path}: suffix {path.suffix!r} is not one of {suffixes}; give format= ({', '.join(FORMATS)})"
            )
    if format not in FORMATS:
        raise DataError(f"{path}: format {format!r} is not one of {', '.join(FORMATS)}")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data or data.isspace():
        raise DataError(f"{path}: the file is empty")
    parsers = {"recbole": _parse_recbole, "csv": _parse_csv, "jsonl": _parse_jsonl}
    table = _parse_parquet(str(path), data) if format == "parquet" else parsers[format](str(path), _decoded_lines(data))
    if not table.lines and not table.rejected:
        raise DataError(f"{path}: the file has columns but no rows")
    return table


def _decoded_lines(data: bytes) -> list[str]:
    """Lines with their line ends; undecodable bytes become surrogates. Only a line feed ends a line."""
    lines = [line + "\n" for line in data.decode("utf-8", "surrogateescape").split("\n")]
    lines[-1] = lines[-1].removesuffix("\n")
    return lines


def _parse_recbole(file: str, lines: list[str]) -> RawTable:
    """Tab-separated, never quoted; a header of ``name:type`` fields (https://recbole.io/docs, atomic files)."""
    header = [name.partition(":")[0] for name in lines[0].rstrip("\r\n").split("\t")]
    records = ((number, line, line.rstrip("\r\n").split("\t")) for number, line in enumerate(lines[1:], start=2))
    return _tabular(file, header, records, [])


def _parse_csv(file: str, lines: list[str]) -> RawTable:
    """RFC 4180. A quote that is never closed costs its own line only, not the lines it would swallow."""
    rejected: list[Rejection] = []
    records = _csv_records(file, lines, rejected)
    _, _, header = next(records, (0, "", []))
    return _tabular(file, header, records, rejected)


def _csv_records(file: str, lines: list[str], rejected: list[Rejection]) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (line, text, fields); when a record is broken, reject its first line and start again at the next."""

    def reader_from(first: int) -> Any:
        return csv.reader(map(lines.__getitem__, range(first, len(lines))), strict=True)

    start, base, width = 0, 0, 0
    reader = reader_from(base)
    while start < len(lines):
        try:
            fields: list[str] = next(reader)
            stop = base + reader.line_num
            if width and stop > start + 1 and len(fields) != width:
                raise csv.Error("a quoted field is not closed on this line")
        except csv.Error as error:
            if width == 0:
                raise DataError(f"{file}: the header is not valid CSV: {error}") from error
            rejected.append(Rejection(file, start + 1, f"invalid CSV: {error}", printable(lines[start].rstrip("\r\n"))))
            start = base = start + 1
            reader = reader_from(base)
            continue
        if fields:
            width = width or len(fields)
            yield start + 1, "".join(lines[start:stop]), fields
        start = stop


def _tabular(
    file: str, header: list[str], records: Iterable[tuple[int, str, list[str]]], rejected: list[Rejection]
) -> RawTable:
    """Collect records that have as many fields as the header."""
    names = [name.strip() for name in header]
    _check_header(file, names)
    kept: list[list[str]] = []
    numbers: list[int] = []
    sources: list[str] = []
    for number, text, fields in records:
        reason = storable_fault(text)
        if reason is None and len(fields) != len(names):
            if not text.strip():
                continue
            reason = f"{len(fields)} fields where the header has {len(names)} ({', '.join(names)})"
        source = text.rstrip("\r\n")
        if reason is None:
            kept.append(fields)
            numbers.append(number)
            sources.append(source)
        else:
            rejected.append(Rejection(file, number, reason, printable(source)))
    cells: list[Sequence[object]] = list(zip(*kept, strict=True)) if kept else [()] * len(names)
    return RawTable(file, dict(zip(names, cells, strict=True)), numbers, sources, rejected)


def _check_header(file: str, names: Sequence[str]) -> None:
    if any(storable_fault(name) for name in names):
        raise DataError(f"{file}: the header is not UTF-8 text: {listed(names)}")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DataError(f"{file}: the header names {listed(doubled)} more than once")


def _parse_jsonl(file: str, lines: list[str]) -> RawTable:
    """One JSON object a line (RFC 8259: NaN and Infinity are no JSON); an absent key is a missing value."""
    decode = json.JSONDecoder(parse_constant=_no_constant).decode
    objects: list[dict[str, object]] = []
    numbers: list[int] = []
    sources: list[str] = []
    rejected: list[Rejection] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip(" \t\r\n")
        if not text:
            continue
        reason = storable_fault(text)
        found: object = None
        if reason is None:
            try:
                found = decode(text)
            except (ValueError, RecursionError) as error:
                reason = f"invalid JSON: {error}"
            else:
                reason = None if isinstance(found, dict) else f"a JSON object is needed, not {type(found).__name__}"
        if reason is None and isinstance(found, dict):
            objects.append(found)
            numbers.append(number)
            sources.append(text)
        else:
            rejected.append(Rejection(file, number, reason or "", printable(text)))
    if not objects:
        first = rejected[0]
        raise DataError(f"{file}: no line holds a JSON object; the first, line {first.line}: {first.reason}")
    names = dict.fromkeys(name for found in objects for name in found)
    columns = {name: [found.get(name) for found in objects] for name in names}
    return RawTable(file, columns, numbers, sources, rejected)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _parse_parquet(file: str, data: bytes) -> RawTable:
    """Any Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file: {error}") from error
    names = arrow.column_names
    _check_header(file, names)
    columns = {name: _arrow_cells(column) for name, column in zip(names, arrow.columns, strict=True)}
    return RawTable(file, columns, range(1, arrow.num_rows + 1))


def _arrow_cells(column: Any) -> Sequence[object]:
    """Python values of an Arrow column."""
    import pyarrow as pa

    try:
        cells: list[object] = column.to_pylist()
    except UnicodeDecodeError:  # Parquet does not guarantee that its strings are UTF-8
        cells = column.cast(pa.binary()).to_pylist()
    return cells
