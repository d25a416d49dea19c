"""Item tables, and the catalogue that every later part indexes into."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import pandas as pd

from driftline.catalog.text import clean, compose, display_title
from driftline.columns import Items
from driftline.errors import DataError
from driftline.events.formats import read_table
from driftline.events.schema import parse_identifier, parse_text
from driftline.events.tables import Faults, Rejection

ALIASES: Final = {
    "movie_title": Items.TITLE,
    "name": Items.TITLE,
    "release_year": Items.YEAR,
    "class": Items.CATEGORIES,
    "genre": Items.CATEGORIES,
    "genres": Items.CATEGORIES,
    "category": Items.CATEGORIES,
}
"""Input names that are understood without being mapped; those of RecBole's MovieLens among them."""


@dataclass(frozen=True)
class ItemTable:
    """What an item file held.

    Parameters
    ----------
    items
        One row per usable item in file order, columns as in ``columns.Items`` without ``text``; missing values are
        empty text.
    rejected
        Every row that could not be used, in file order.
    """

    items: pd.DataFrame
    rejected: list[Rejection]


def read_items(
    path: str | Path, *, columns: Mapping[str, str | None] | None = None, format: str | None = None
) -> ItemTable:
    """Read items from a RecBole ``.item`` file, CSV, JSON Lines or Parquet.

    A row is rejected if its item id is missing or has occurred before (the first counts), or if it cannot be decoded.
    A year without a digit counts as unknown. Categories are read by ``split_categories`` or from a list.

    Parameters
    ----------
    path
        The file.
    columns
        Input name to schema name, for names that differ; ``None`` ignores a column on purpose.
    format
        ``recbole``, ``csv``, ``jsonl`` or ``parquet``; by default the suffix decides.

    Raises
    ------
    DataError
        If the file is missing, empty or not of its format, a column is unknown, or no row is usable.
    """
    table = read_table(path, format)
    cells = table.select(columns, known=list(PARSERS), required=(Items.ITEM,), aliases=ALIASES)
    faults = Faults(table)
    values = {
        name: faults.parsed(name, cells.get(name), parse, required=name == Items.ITEM)
        for name, parse in PARSERS.items()
    }
    first_line: dict[str, int] = {}
    for row in faults.usable():
        item_id = values[Items.ITEM][row] or ""
        if item_id in first_line:
            faults.add(row, f"{Items.ITEM}: {item_id!r} was already given on line {first_line[item_id]}")
        else:
            first_line[item_id] = table.lines[row]
    rejected = faults.rejections()
    items = pd.DataFrame({name: pd.Series(column, dtype="str").fillna("") for name, column in values.items()})
    return ItemTable(items.iloc[faults.usable()].reset_index(drop=True), rejected)


def _parse_year(cell: object) -> str:
    if isinstance(cell, date):
        return str(cell.year)
    year = parse_identifier(cell) or ""
    return re.sub(r"\.0+$", "", year) if re.search(r"\d", year) else ""


def _parse_categories(cell: object) -> str:
    if isinstance(cell, list):
        return join_categories([parse_text(entry) or "" for entry in cell])
    return join_categories(split_categories(parse_text(cell) or ""))


PARSERS: Final[dict[str, Callable[[object], str | None]]] = {
    Items.ITEM: parse_identifier,
    Items.TITLE: parse_text,
    Items.YEAR: _parse_year,
    Items.CATEGORIES: _parse_categories,
    Items.DESCRIPTION: parse_text,
    Items.FACTS: parse_text,
}
"""What a file may give. ``text`` is not among them: it is composed."""


def split_categories(cell: str) -> tuple[str, ...]:
    """Names in a category cell: between ``|`` where there is one, else between spaces; each once.

    Examples
    --------
    >>> split_categories("Crime Film-Noir"), split_categories("Crime|Science Fiction"), split_categories("Jazz Rock|")
    (('Crime', 'Film-Noir'), ('Crime', 'Science Fiction'), ('Jazz Rock',))
    """
    names = map(clean, cell.split("|")) if "|" in cell else clean(cell).split()
    return tuple(dict.fromkeys(filter(None, names)))


def join_categories(names: Iterable[str]) -> str:
    """The cell that ``split_categories`` reads as these names."""
    names = [name for name in map(clean, names) if name]
    return "|".join([*names, ""]) if any(" " in name or "|" in name for name in names) else " ".join(names)


@dataclass(frozen=True)
class Catalog:
    """Everything that can be recommended, in a fixed order. Every list has one entry per item.

    Parameters
    ----------
    ids
        External item ids: those of the item table in its order, then the unlisted ones.
    titles
        Titles as people read them.
    years
        Release years, empty where unknown.
    categories
        Category names.
    texts
        What the text tower reads.
    repeat_consumption
        Whether an item can be recommended again to a user who has had it; only where it cannot are seen items masked.
    unlisted
        Ids that occur in events but not in the item table; their id serves as title.
    """

    ids: list[str]
    titles: list[str]
    years: list[str]
    categories: list[tuple[str, ...]]
    texts: list[str]
    repeat_consumption: bool = False
    unlisted: list[str] = field(default_factory=list)
    index: dict[str, int] = field(init=False, repr=False)
    """External id to place in the lists."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {item_id: place for place, item_id in enumerate(self.ids)})
        assert len(self.index) == len(self.ids), "item ids must be unique"

    def __len__(self) -> int:
        return len(self.ids)


def build_catalog(
    items: pd.DataFrame,
    facts: Mapping[str, str] | None = None,
    repeat_consumption: bool = False,
    *,
    event_items: Iterable[str] = (),
    max_facts_chars: int = 300,
) -> Catalog:
    """Build the catalogue from an item table.

    Parameters
    ----------
    items
        As read by ``read_items``; only ``item_id`` is required.
    facts
        Item id to facts as text (``graph.facts``); where an item has none, its own ``facts`` column is used.
    repeat_consumption
        See ``Catalog``.
    event_items
        Item ids that occur in events. Those that the table lacks are added at the end, in order of first occurrence.
    max_facts_chars
        See ``text.compose``.

    Raises
    ------
    DataError
        If an item id occurs twice.
    """
    doubled = items.loc[items[Items.ITEM].duplicated(), Items.ITEM].unique().tolist()
    if doubled:
        raise DataError(
            f"item table: {len(doubled)} item ids occur more than once, such as {doubled[0]!r}; keep one row each"
        )
    listed = items[Items.ITEM].tolist()
    known = set(listed)
    unlisted = [item_id for item_id in dict.fromkeys(event_items) if item_id not in known]
    ids: list[str] = listed + unlisted

    def column(name: str) -> list[str]:
        given = items[name].fillna("").tolist() if name in items else [""] * len(listed)
        return given + [""] * len(unlisted)

    titles = [display_title(title) or item_id for title, item_id in zip(column(Items.TITLE), ids, strict=True)]
    years = column(Items.YEAR)
    categories = [split_categories(cell) for cell in column(Items.CATEGORIES)]
    graph_facts = facts or {}
    item_facts = [graph_facts.get(item_id) or own for item_id, own in zip(ids, column(Items.FACTS), strict=True)]
    parts = zip(titles, years, categories, column(Items.DESCRIPTION), item_facts, strict=True)
    texts = [compose(*part, max_facts_chars=max_facts_chars) for part in parts]
    return Catalog(ids, titles, years, categories, texts, repeat_consumption, unlisted)
