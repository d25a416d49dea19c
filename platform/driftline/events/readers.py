"""Event files into the one event table of ``columns.Events``."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from driftline.columns import Events
from driftline.events.formats import read_table
from driftline.events.schema import ALIASES, PARSERS, REQUIRED_COLUMNS
from driftline.events.tables import Faults, HasRejections, Rejection


@dataclass(frozen=True)
class ReadResult:
    """What a file held.

    Parameters
    ----------
    events
        One row per usable event, columns as in ``columns.Events``, in file order (``position`` counts them from 0).
    rejected
        Every row that could not be used, in file order.
    """

    events: pd.DataFrame
    rejected: list[Rejection]


def read_events(
    path: str | Path, *, columns: Mapping[str, str | None] | None = None, format: str | None = None
) -> ReadResult:
    """Read events from a RecBole ``.inter`` file, CSV, JSON Lines or Parquet.

    Missing values: an event without time gets NaN, without value NaN, without text or event id ``None``; an event
    without type is a ``rating`` if it has a value, else a ``view``. A row is rejected, never repaired, if its user or
    item is missing, its timestamp or value is no finite number, its type is unknown, or it cannot be decoded.

    Parameters
    ----------
    path
        The file.
    columns
        Input name to schema name, for names that differ; ``None`` ignores a column on purpose. RecBole names go
        without their ``:type``. ``rating`` is understood as ``value``.
    format
        ``recbole``, ``csv``, ``jsonl`` or ``parquet``; by default the suffix decides.

    Returns
    -------
    ReadResult
        ``len(events) + len(rejected)`` is the number of rows in the file (blank lines are no rows).

    Raises
    ------
    DataError
        If the file is missing, empty or not of its format, a column is unknown, or no row is usable.
    """
    table = read_table(path, format)
    cells = table.select(columns, known=list(PARSERS), required=REQUIRED_COLUMNS, aliases=ALIASES)
    faults = Faults(table)
    values = {
        name: faults.parsed(name, cells.get(name), parse, required=name in REQUIRED_COLUMNS)
        for name, parse in PARSERS.items()
    }
    rejected = faults.rejections()
    events = _event_table(values).iloc[faults.usable()].reset_index(drop=True)
    return ReadResult(events.assign(**{Events.POSITION: np.arange(len(events), dtype=np.int64)}), rejected)


def _event_table(values: Mapping[str, list[Any]]) -> pd.DataFrame:
    """Parsed columns as a table of the types that ``columns.Events`` states."""
    value = np.array(values[Events.VALUE], dtype=np.float64)
    default_types = np.where(np.isnan(value), "view", "rating")
    types = [given or default for given, default in zip(values[Events.TYPE], default_types, strict=True)]
    return pd.DataFrame(
        {
            Events.USER: pd.Series(values[Events.USER], dtype="str"),
            Events.ITEM: pd.Series(values[Events.ITEM], dtype="str"),
            Events.TIME: np.array(values[Events.TIME], dtype=np.float64),
            Events.TYPE: pd.Series(types, dtype="str"),
            Events.VALUE: value,
            Events.TEXT: pd.Series(values[Events.TEXT], dtype=object),
            Events.EVENT_ID: pd.Series(values[Events.EVENT_ID], dtype=object),
        }
    )


def write_rejections(result: HasRejections, path: str | Path) -> None:
    """Write what was rejected as JSON Lines (``file, line, reason, row``); an empty file if nothing was.

    Parameters
    ----------
    result
        What a reader returned.
    path
        File to write, replaced if it exists.
    """
    with Path(path).open("w", encoding="utf-8") as sink:
        for rejection in result.rejected:
            sink.write(json.dumps(asdict(rejection), ensure_ascii=False) + "\n")
