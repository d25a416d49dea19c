"""Cells of a file on their way into a schema, and what was rejected on that way.

Whatever cannot be used is kept as a ``Rejection`` with its place, so that

    rows in the file = rows used + rows rejected.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from driftline.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class Rejection:
    """A row that could not be used.

    Parameters
    ----------
    file
        Path as it was given.
    line
        1-based line of the row's start in a text file; 1-based row number in Parquet.
    reason
        What is wrong, naming field and value.
    row
        The row as it stands in the file (Parquet: as JSON), undecodable bytes as ``\\xNN``.
    """

    file: str
    line: int
    reason: str
    row: str


class HasRejections(Protocol):
    """Any result of reading."""

    @property
    def rejected(self) -> Sequence[Rejection]:
        """Rows that could not be used, in file order."""
        ...


@dataclass(frozen=True)
class RawTable:
    """Cells of a file by column, before they have a meaning.

    Parameters
    ----------
    file
        Path as it was given.
    columns
        Input name to cells; all of the same length.
    lines
        Place of each row, as in ``Rejection.line``.
    sources
        Text of each row, as in ``Rejection.row``; empty for Parquet, where ``source`` renders the cells.
    rejected
        What was no row.
    """

    file: str
    columns: Mapping[str, Sequence[object]]
    lines: Sequence[int] = ()
    sources: list[str] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    def source(self, row: int) -> str:
        """Text of a row for a rejection."""
        if self.sources:
            return printable(self.sources[row])
        return json.dumps({name: cells[row] for name, cells in self.columns.items()}, ensure_ascii=False, default=repr)

    def select(
        self,
        columns: Mapping[str, str | None] | None,
        *,
        known: Sequence[str],
        required: Sequence[str],
        aliases: Mapping[str, str],
    ) -> dict[str, Sequence[object]]:
        """Cells under their schema names.

        Parameters
        ----------
        columns
            Input name to schema name, or to ``None`` to ignore that column.
        known, required
            Schema names that may and must occur.
        aliases
            Input names that stand for schema names without being mapped.

        Raises
        ------
        DataError
            If a column is unknown, missing, mapped but absent, or given twice; every fault is listed.
        """
        mapping = dict(columns or {})
        faults = [
            f"columns maps {name!r}, which is not in the file (it has {listed(self.columns)})"
            for name in mapping
            if name not in self.columns
        ]
        inputs_of: dict[str, list[str]] = {}
        unknown = []
        for name in self.columns:
            target = mapping[name] if name in mapping else aliases.get(name, name)
            if target is None:
                continue
            if target in known:
                inputs_of.setdefault(target, []).append(name)
            else:
                unknown.append(name if name not in mapping else f"{name} (mapped to {target!r})")
        if unknown:
            advice = "map an input name to a known one, or to None to ignore it, with columns="
            faults.append(f"unknown columns {listed(unknown)}; known are {listed(known)}; {advice}")
        faults += [f"{listed(names)} all mean {target!r}" for target, names in inputs_of.items() if len(names) > 1]
        missing = [name for name in required if name not in inputs_of]
        if missing:
            faults.append(f"no column for {listed(missing)} (the file has {listed(self.columns)})")
        if faults:
            raise DataError(f"{self.file}: " + "; ".join(faults))
        return {target: self.columns[names[0]] for target, names in inputs_of.items()}


class Faults:
    """Reasons against the rows of a table, gathered while its columns are parsed."""

    def __init__(self, table: RawTable) -> None:
        self.table = table
        self.reasons: dict[int, list[str]] = {}

    def add(self, row: int, reason: str) -> None:
        """Note one reason against a row."""
        self.reasons.setdefault(row, []).append(reason)

    def parsed(
        self, name: str, cells: Sequence[object] | None, parse: Callable[[object], T | None], *, required: bool = False
    ) -> list[T | None]:
        """Parse every cell of a column; a fault leaves ``None`` and a reason that names the column.

        An absent column (``cells`` is ``None``) is one of missing cells. A text that occurs again is not parsed again:
        ids, ratings and types repeat.
        """
        values: list[T | None] = []
        seen: dict[str, T | None] = {}
        for row, cell in enumerate([None] * len(self.table) if cells is None else cells):
            if isinstance(cell, str) and cell in seen:
                values.append(seen[cell])
                continue
            value = None
            try:
                value = parse(cell)
                if value is None and required:
                    self.add(row, f"{name} is missing")
                elif isinstance(cell, str):
                    seen[cell] = value
            except ValueError as error:
                self.add(row, f"{name}: {error}")
            values.append(value)
        return values

    def usable(self) -> list[int]:
        """Rows without a fault."""
        return [row for row in range(len(self.table)) if row not in self.reasons]

    def rejections(self) -> list[Rejection]:
        """Every rejection of the table, those of its parser included, in file order.

        Raises
        ------
        DataError
            If no row is left.
        """
        table = self.table
        of_rows = [
            Rejection(table.file, table.lines[row], "; ".join(reasons), table.source(row))
            for row, reasons in self.reasons.items()
        ]
        rejected = sorted([*table.rejected, *of_rows], key=lambda rejection: rejection.line)
        if len(table) == len(self.reasons):
            first = rejected[0]
            raise DataError(
                f"{table.file}: all {len(rejected)} rows were rejected; the first, line {first.line}: {first.reason}"
            )
        return rejected


def printable(text: str) -> str:
    """Text that can be written as UTF-8, undecodable bytes shown as ``\\xNN``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def listed(names: Iterable[str]) -> str:
    """Names for a message, quoted so that stray blanks show."""
    return ", ".join(repr(name) for name in names)
