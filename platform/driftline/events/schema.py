"""What an event is: the columns, their meaning, and how one cell of any input becomes a value of the schema.

A cell is whatever a parser found: text from RecBole files and CSV, any JSON value, any Parquet value. Each function
here turns one cell into one value or raises ``ValueError`` with the reason; ``None`` and blank text are 'missing'.
"""

import math
import re
import reprlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from driftline.columns import Events

EVENT_TYPES: Final = ("view", "click", "cart", "purchase", "listen", "read", "rating", "review")
"""Implicit and explicit feedback. An event without a type is a ``rating`` if it carries a value, else a ``view``."""

REQUIRED_COLUMNS: Final = (Events.USER, Events.ITEM)

ALIASES: Final = {"rating": Events.VALUE}
"""Input names that are understood without being mapped."""

LATEST_SECONDS: Final = 1e11
"""The year 5138. A larger timestamp is in milliseconds or finer, and would silently stretch every time gap."""

UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
"""NUL and lone surrogates: neither UTF-8 nor a database takes them. Undecodable bytes arrive as surrogates."""


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def shown(cell: object) -> str:
    """Print a cell in a message, however large or deep it is."""
    return _SHORT.repr(cell)


def storable_fault(text: str) -> str | None:
    """Say why ``text`` cannot be stored, or ``None`` if it can."""
    found = UNSTORABLE.search(text)
    if found is None:
        return None
    return "NUL byte" if found.group() == "\0" else "invalid UTF-8"


def parse_text(cell: object, *, allow_number: bool = False) -> str | None:
    """Text of a cell; ``None`` if it is missing.

    Parameters
    ----------
    cell
        Anything a parser yields.
    allow_number
        Identifiers are often numbers in JSON and Parquet: 7 and 7.0 both become ``"7"``.

    Raises
    ------
    ValueError
        If the cell is of another kind, or holds a NUL or invalid UTF-8.
    """
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "surrogateescape")
    if isinstance(cell, str):
        if not cell.strip():
            return None
        fault = storable_fault(cell)
        if fault is not None:
            raise ValueError(fault)
        return cell
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if allow_number and isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    if allow_number and isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    raise ValueError(f"{shown(cell)} is not text" + (" or a whole number" if allow_number else ""))


def parse_identifier(cell: object) -> str | None:
    """Text of an id cell, where whole numbers count as text."""
    return parse_text(cell, allow_number=True)


def parse_number(cell: object) -> float:
    """Finite number of a cell; NaN if it is missing.

    Raises
    ------
    ValueError
        If the cell is neither missing nor a finite decimal number.
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return math.nan
    if isinstance(cell, str) and not cell.strip():
        return math.nan
    if isinstance(cell, (str, int, float, Decimal)) and not isinstance(cell, bool):
        try:
            number = math.nan if isinstance(cell, str) and "_" in cell else float(cell)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError(f"{shown(cell)} is not a finite number")


def parse_timestamp(cell: object) -> float:
    """Seconds since the epoch; NaN if the moment is unknown. A date and time without a zone is UTC.

    Raises
    ------
    ValueError
        If the cell is not a number, or so large that it cannot be seconds.
    """
    if isinstance(cell, datetime):
        return (cell if cell.tzinfo else cell.replace(tzinfo=UTC)).timestamp()
    seconds = parse_number(cell)
    if abs(seconds) >= LATEST_SECONDS:
        raise ValueError(f"{shown(cell)} is beyond the year 5138: give seconds since the epoch, not milliseconds")
    return seconds


def parse_type(cell: object) -> str | None:
    """One of ``EVENT_TYPES``; ``None`` if it is missing.

    Raises
    ------
    ValueError
        If the cell names no known type.
    """
    name = parse_text(cell)
    if name is not None and name not in EVENT_TYPES:
        raise ValueError(f"{shown(name)} is not one of {', '.join(EVENT_TYPES)}")
    return name


PARSERS: Final[dict[str, Callable[[object], str | float | None]]] = {
    Events.USER: parse_identifier,
    Events.ITEM: parse_identifier,
    Events.TIME: parse_timestamp,
    Events.TYPE: parse_type,
    Events.VALUE: parse_number,
    Events.TEXT: parse_text,
    Events.EVENT_ID: parse_identifier,
}
"""What a file may give. ``position`` is not among them: the reader assigns it."""
