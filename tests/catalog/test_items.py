"""Item tables and the catalogue built from them."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.catalog import build_catalog, read_items, split_categories
from driftline.catalog.items import join_categories
from driftline.columns import Items
from driftline.errors import DataError
from driftline.samples import fetch_movielens

RECBOLE = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "12\tUsual Suspects, The\t1995\tCrime Thriller\n"
    "7\t卧虎藏龙\t2000\t动作\n"
    "267\tunkonwn\tunkonwn\tunknown\n"
)


def write(path: Path, content: str) -> Path:
    path.write_text(content, "utf-8")
    return path


def test_recbole_item_file(tmp_path: Path) -> None:
    table = read_items(write(tmp_path / "a.item", RECBOLE))
    assert table.rejected == []
    assert table.items.to_dict("list") == {
        Items.ITEM: ["12", "7", "267"],
        Items.TITLE: ["Usual Suspects, The", "卧虎藏龙", "unkonwn"],
        Items.YEAR: ["1995", "2000", ""],
        Items.CATEGORIES: ["Crime Thriller", "动作", "unknown"],
        Items.DESCRIPTION: ["", "", ""],
        Items.FACTS: ["", "", ""],
    }


def test_csv_json_and_parquet_with_lists_and_numbers(tmp_path: Path) -> None:
    csv = write(tmp_path / "a.csv", "item_id,name,genres,release_year\n1,Solaris,Drama|Science Fiction,1972.0\n")
    line = '{"item_id": 1, "title": "Solaris", "categories": ["Drama", "Science Fiction"], "year": 1972}\n'
    jsonl = write(tmp_path / "a.jsonl", line)
    frame = pd.DataFrame(
        {"item_id": [1], "title": ["Solaris"], "genre": [["Drama", "Science Fiction"]], "year": [1972.0]}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    for path in (csv, jsonl, tmp_path / "a.parquet"):
        items = read_items(path).items
        assert items[Items.ITEM].tolist() == ["1"]
        assert items[Items.YEAR].tolist() == ["1972"]
        assert [split_categories(cell) for cell in items[Items.CATEGORIES]] == [("Drama", "Science Fiction")]


def test_bad_and_doubled_rows_are_rejected_with_their_line(tmp_path: Path) -> None:
    result = read_items(
        write(tmp_path / "a.item", RECBOLE + "\tNobody\t1990\tDrama\n12\tAgain\t1990\tDrama\n8\tShort\n")
    )
    assert result.items[Items.ITEM].tolist() == ["12", "7", "267"]
    assert [(rejection.line, rejection.reason) for rejection in result.rejected] == [
        (5, "item_id is missing"),
        (6, "item_id: '12' was already given on line 2"),
        (7, "2 fields where the header has 4 (item_id, movie_title, release_year, class)"),
    ]


def test_unknown_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "item_id,title,price\n1,Solaris,3\n")
    with pytest.raises(DataError, match="unknown columns 'price'; known are 'item_id', 'title'"):
        read_items(path)
    assert read_items(path, columns={"price": None}).items[Items.TITLE].tolist() == ["Solaris"]


@given(st.lists(st.text(st.characters(exclude_characters="|")), max_size=5))
def test_categories_survive_their_cell(names: list[str]) -> None:
    once = split_categories(join_categories(names))
    assert split_categories(join_categories(once)) == once
    assert len(set(once)) == len(once)


def test_catalogue(tmp_path: Path) -> None:
    items = read_items(write(tmp_path / "a.item", RECBOLE)).items
    catalog = build_catalog(items, {"12": "same director as: X-Men"}, event_items=["7", "99", "12", "98", "99"])
    assert catalog.ids == ["12", "7", "267", "99", "98"]
    assert catalog.index == {"12": 0, "7": 1, "267": 2, "99": 3, "98": 4}
    assert catalog.unlisted == ["99", "98"]
    assert catalog.titles == ["The Usual Suspects", "卧虎藏龙", "unkonwn", "99", "98"]
    assert catalog.years == ["1995", "2000", "", "", ""]
    assert catalog.categories == [("Crime", "Thriller"), ("动作",), ("unknown",), (), ()]
    assert catalog.texts == [
        "The Usual Suspects (1995). Genres: Crime, Thriller. same director as: X-Men.",
        "卧虎藏龙 (2000). Genres: 动作.",
        "unkonwn. Genres: unknown.",
        "99.",
        "98.",
    ]
    assert len(catalog) == 5
    assert not catalog.repeat_consumption


def test_a_catalogue_of_bare_ids_and_of_doubled_ids() -> None:
    assert build_catalog(pd.DataFrame({Items.ITEM: ["b", "a"]}), repeat_consumption=True).texts == ["b.", "a."]
    with pytest.raises(DataError, match="1 item ids occur more than once, such as 'a'"):
        build_catalog(pd.DataFrame({Items.ITEM: ["a", "b", "a"]}))


def test_movielens_items() -> None:
    table = read_items(fetch_movielens() / "ml-100k.item")
    assert table.rejected == []
    catalog = build_catalog(table.items)
    assert len(catalog) == 1682
    assert catalog.texts[catalog.index["12"]] == "The Usual Suspects (1995). Genres: Crime, Thriller."
    assert catalog.texts[catalog.index["543"]] == "Les Misérables (1995). Genres: Drama, Musical."
    assert [catalog.ids[i] for i, year in enumerate(catalog.years) if not year] == ["267", "1412"]  # as in the file
    assert len({name for names in catalog.categories for name in names}) == 19
