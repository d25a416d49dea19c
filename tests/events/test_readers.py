"""Files into events: every format, every way a row can be bad, and nothing lost between."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.columns import Events
from driftline.errors import DataError
from driftline.events import read_events, write_rejections

INTER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ti1\t5\t10\nu2\ti1\t3\t20\nu1\ti2\t4\t30\n"


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_recbole_atomic_file(tmp_path: Path) -> None:
    result = read_events(write(tmp_path / "a.inter", INTER))
    events = result.events
    assert result.rejected == []
    assert list(events.columns) == [
        *("user_id", "item_id", "timestamp", "type", "value", "text", "event_id", "position"),
    ]
    assert events[Events.USER].tolist() == ["u1", "u2", "u1"]
    assert events[Events.VALUE].tolist() == [5.0, 3.0, 4.0]
    assert events[Events.TIME].tolist() == [10.0, 20.0, 30.0]
    assert events[Events.TYPE].tolist() == ["rating"] * 3  # an event with a value, and no type of its own
    assert events[Events.TEXT].tolist() == [None] * 3
    assert events[Events.EVENT_ID].tolist() == [None] * 3
    assert events[Events.POSITION].tolist() == [0, 1, 2]
    assert events[Events.TIME].dtype == events[Events.VALUE].dtype == np.float64
    assert events[Events.POSITION].dtype == np.int64


def test_every_format_yields_the_same_events(tmp_path: Path) -> None:
    expected = read_events(write(tmp_path / "a.inter", INTER)).events
    table = expected.drop(columns=[Events.POSITION, Events.TEXT, Events.EVENT_ID, Events.TYPE])
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    table.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        result = read_events(tmp_path / name)
        assert result.rejected == []
        pd.testing.assert_frame_equal(result.events, expected)


def test_csv_with_crlf_byte_order_mark_quotes_and_line_breaks(tmp_path: Path) -> None:
    content = (
        '\ufeffuser_id,item_id,type,text\r\nu1,i1,review,"good, ""very"" good\nindeed"\r\n\r\nu2,卧虎藏龙,view,\r\n'
    )
    result = read_events(write(tmp_path / "a.csv", content))
    assert result.rejected == []
    assert result.events[Events.TEXT].tolist() == ['good, "very" good\nindeed', None]
    assert result.events[Events.ITEM].tolist() == ["i1", "卧虎藏龙"]
    assert result.events[Events.TIME].isna().all()


def test_missing_type_is_view_without_a_value(tmp_path: Path) -> None:
    result = read_events(write(tmp_path / "a.csv", "user_id,item_id,value,type\nu,a,,\nu,b,2,\nu,c,2,purchase\n"))
    assert result.events[Events.TYPE].tolist() == ["view", "rating", "purchase"]


def test_identifiers_that_are_numbers_become_text(tmp_path: Path) -> None:
    lines = ['{"user_id": 7, "item_id": 12345678901234567890}', '{"user_id": 7.0, "item_id": "007", "event_id": 3}']
    events = read_events(write(tmp_path / "a.jsonl", "\n".join(lines))).events
    assert events[Events.USER].tolist() == ["7", "7"]
    assert events[Events.ITEM].tolist() == ["12345678901234567890", "007"]
    assert events[Events.EVENT_ID].tolist() == [None, "3"]


def test_parquet_moments_nulls_and_invalid_text(tmp_path: Path) -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    table = pa.table(
        {
            "user_id": pa.array([1, 2, None, 4], pa.int64()),
            "item_id": pa.array([b"a", b"\xff", b"c", b"d"], pa.binary()).view(pa.string()),
            "timestamp": pa.array([moment, moment, moment, None], pa.timestamp("ns", tz="Europe/Berlin")),
            "value": pa.array([1.5, 2.5, 3.5, math.nan], pa.float64()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    result = read_events(tmp_path / "a.parquet")
    assert result.events[Events.USER].tolist() == ["1", "4"]
    assert result.events[Events.TIME].tolist()[0] == moment.timestamp()
    assert result.events[Events.TIME].isna().tolist() == [False, True]
    assert result.events[Events.VALUE].isna().tolist() == [False, True]
    assert [(rejection.line, rejection.reason) for rejection in result.rejected] == [
        (2, "item_id: invalid UTF-8"),
        (3, "user_id is missing"),
    ]


BAD_ROWS = {
    b"u1\ti1\t5": "3 fields where the header has 4",
    b"u1\ti1\t5\t10\t11": "5 fields where the header has 4",
    b"\ti1\t5\t10": "user_id is missing",
    b"u1\t  \t5\t10": "item_id is missing",
    b"u1\ti1\tfive\t10": "value: 'five' is not a finite number",
    b"u1\ti1\t5\tyesterday": "timestamp: 'yesterday' is not a finite number",
    b"u1\ti1\t5\tnan": "timestamp: 'nan' is not a finite number",
    b"u1\ti1\t5\tinf": "timestamp: 'inf' is not a finite number",
    b"u1\ti1\t5\t1_0": "timestamp: '1_0' is not a finite number",
    b"u1\ti1\t5\t881250949000": "give seconds since the epoch, not milliseconds",
    b"u\xff1\ti1\t5\t10": "invalid UTF-8",
    b"u1\ti\x001\t5\t10": "NUL byte",
    b"\t\tfive\tlate": "user_id is missing; item_id is missing; timestamp: 'late'",
}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_bad_row_is_rejected_with_line_and_reason(tmp_path: Path, row: bytes) -> None:
    lines = INTER.splitlines()
    path = write(tmp_path / "a.inter", b"\n".join([*lines[:2], row, *lines[2:]]))
    result = read_events(path)
    assert result.events[Events.USER].tolist() == ["u1", "u2", "u1"]
    assert result.events[Events.POSITION].tolist() == [0, 1, 2]
    (rejection,) = result.rejected
    assert (rejection.file, rejection.line) == (str(path), 3)
    assert BAD_ROWS[row] in rejection.reason
    assert rejection.row == row.decode("utf-8", "backslashreplace")


BAD_LINES = {
    "{": "invalid JSON",
    "[1, 2]": "a JSON object is needed, not list",
    '{"user_id": "u", "item_id": "i", "value": NaN}': "NaN is not a JSON value",
    '{"user_id": "u", "item_id": "i", "value": true}': "value: True is not a finite number",
    '{"user_id": "u", "item_id": "i", "timestamp": [1]}': "timestamp: [1] is not a finite number",
    '{"user_id": "u", "item_id": true}': "item_id: True is not text or a whole number",
    '{"user_id": 1.5, "item_id": "i"}': "user_id: 1.5 is not text or a whole number",
    '{"user_id": "u\\u0000", "item_id": "i"}': "user_id: NUL byte",
    '{"user_id": "u\\ud800", "item_id": "i"}': "user_id: invalid UTF-8",
    '{"user_id": "u", "item_id": "i", "type": "glance"}': "type: 'glance' is not one of view, click, cart",
    '{"user_id": "u", "item_id": "i", "value": 1e999}': "value: inf is not a finite number",
    '{"user_id": "u", "item_id": "i", "value": ' + "9" * 400 + "}": "is not a finite number",
    "[" * 100_000: "invalid JSON",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_json_line_is_rejected(tmp_path: Path, line: str) -> None:
    good = '{"user_id": "u", "item_id": "i"}'
    result = read_events(write(tmp_path / "a.jsonl", f"{good}\n\n{line}\n{good}\n"))
    assert len(result.events) == 2
    (rejection,) = result.rejected
    assert rejection.line == 3
    assert BAD_LINES[line] in rejection.reason


def test_an_unclosed_quote_costs_one_line(tmp_path: Path) -> None:
    lines = ["user_id,item_id,text", "u1,i1,fine", 'u2,i2,"open', "u3,i3,fine", 'u4,i4,"closed"', 'u5,i5,"open']
    result = read_events(write(tmp_path / "a.csv", "\n".join(lines)))
    assert result.events[Events.USER].tolist() == ["u1", "u3", "u4"]
    assert [rejection.line for rejection in result.rejected] == [3, 6]
    assert all("invalid CSV" in rejection.reason for rejection in result.rejected)
    assert [rejection.row for rejection in result.rejected] == [lines[2], lines[5]]


def test_rejections_are_written_as_json_lines(tmp_path: Path) -> None:
    result = read_events(write(tmp_path / "a.inter", INTER + "u\t卧虎\n".encode() + b"\xff\ti\t1\t1\n"))
    write_rejections(result, tmp_path / "rejected.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text("utf-8").splitlines()]
    assert [row["line"] for row in rows] == [5, 6]
    assert rows[0]["row"] == "u\t卧虎"
    assert rows[1]["row"] == "\\xff\ti\t1\t1"
    assert set(rows[0]) == {"file", "line", "reason", "row"}


def test_unknown_columns_are_named_with_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "user,item_id,stars,when\nu,i,4,10\n")
    with pytest.raises(DataError) as error:
        read_events(path)
    for part in (
        "'user'",
        "'stars'",
        "'when'",
        "'user_id'",
        "'event_id'",
        "columns=",
        "no column for 'user_id'",
        str(path),
    ):
        assert part in str(error.value)
    mapping = {"user": "user_id", "stars": "value", "when": None}
    events = read_events(path, columns=mapping).events
    assert events[Events.USER].tolist() == ["u"]
    assert events[Events.VALUE].tolist() == [4.0]
    assert events[Events.TIME].isna().all()


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"nobody": "user_id"}, "columns maps 'nobody', which is not in the file"),
        ({"value": "weight"}, "value (mapped to 'weight')"),
        ({"value": "item_id"}, "'item_id', 'value' all mean 'item_id'"),
        ({"user_id": None}, "no column for 'user_id'"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused(tmp_path: Path, columns: dict[str, str | None], part: str) -> None:
    with pytest.raises(DataError, match="a.csv") as error:
        read_events(write(tmp_path / "a.csv", "user_id,item_id,value\nu,i,4\n"), columns=columns)
    assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.inter", b"", "the file is empty"),
        ("a.jsonl", b"\xef\xbb\xbf\n \n", "the file is empty"),
        ("a.csv", b"user_id,item_id\n\n", "the file has columns but no rows"),
        ("a.csv", b"user_id,item_id,item_id\nu,i,i\n", "the header names 'item_id' more than once"),
        ("a.csv", b"\xff\xfeu\x00s\x00", "the header is not UTF-8 text"),
        ("a.csv", b'user_id,"item_id\nu,i\n', "the header is not valid CSV"),
        (
            "a.inter",
            b"user_id:token\titem_id:token\n\ti\nu\t\n",
            "all 2 rows were rejected; the first, line 2: user_id is",
        ),
        ("a.csv", b"user_id,item_id\nu\nu\n", "all 2 rows were rejected; the first, line 2: 1 fields"),
        ("a.jsonl", b"{\n", "no line holds a JSON object; the first, line 1: invalid JSON"),
        ("a.parquet", b"PAR1 and nothing more", "not a readable Parquet file"),
        ("a.xls", b"user_id", "suffix '.xls' is not one of .inter"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_clear_error(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    with pytest.raises(DataError) as error:
        read_events(write(tmp_path / name, content))
    assert part in str(error.value)
    assert name in str(error.value)


def test_missing_file_directory_and_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_events(tmp_path / "none.csv")
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_events(tmp_path / "dir.csv")
    with pytest.raises(DataError, match="format 'xml' is not one of recbole, csv, jsonl, parquet"):
        read_events(write(tmp_path / "a.txt", INTER), format="xml")
    assert len(read_events(write(tmp_path / "a.txt", INTER), format="recbole").events) == 3


@given(st.binary(max_size=200), st.sampled_from(["recbole", "csv", "jsonl"]))
@settings(deadline=None, max_examples=100)
def test_any_bytes_end_in_events_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, format: str
) -> None:
    header = {"recbole": b"user_id:token\titem_id:token\n", "csv": b"user_id,item_id\n", "jsonl": b""}[format]
    path = write(tmp_path_factory.getbasetemp() / "any", header + body)
    try:
        result = read_events(path, format=format)
    except DataError:
        return
    assert result.events[Events.USER].str.strip().ne("").all()
    write_rejections(result, path)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), max_size=6)


@given(st.lists(st.lists(CELL, min_size=1, max_size=4), min_size=1, max_size=12))
@settings(deadline=None, max_examples=50)
def test_every_row_is_an_event_or_a_rejection(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    lines = ["\t".join(row) for row in [["u", "i", "1"], *rows]]
    path = write(tmp_path_factory.getbasetemp() / "any.inter", "user_id\titem_id\ttimestamp\n" + "\n".join(lines))
    result = read_events(path)
    blank = sum(not line.strip() and line.count("\t") != 2 for line in lines)
    assert len(result.events) + len(result.rejected) == len(lines) - blank
