"""The large reader accepts and rejects what the small one does, for the same reasons."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.columns import Events
from driftline.errors import DataError
from driftline.events.fragments import LEFT_OUT, REJECTED_ROW, fragments, id_hashes, input_files, read_fragment
from driftline.events.readers import read_events

COLUMNS = [Events.USER, Events.ITEM, Events.TIME, Events.TYPE, Events.VALUE, Events.EVENT_ID]


def in_pieces(path: Path, columns: dict[str, str | None] | None = None) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """Events, and (row, reason) of what was rejected."""
    parts, _ = fragments(input_files(path))
    table = pa.concat_tables([piece for part in parts for piece in read_fragment(part, columns or {})])
    frame = table.to_pandas()
    events = frame[frame[LEFT_OUT].isna()]
    shown = pd.Series([pd.io.json.ujson_loads(text) for text in frame[REJECTED_ROW].dropna()], dtype=object)
    return events, [(row, reason) for _, row, reason, _ in shown]


def assert_like_the_small_reader(path: Path, first_line: int) -> None:
    events, rejected = in_pieces(path)
    small = read_events(path)
    found = events[COLUMNS].reset_index(drop=True)
    found[Events.EVENT_ID] = found[Events.EVENT_ID].astype(object).where(found[Events.EVENT_ID].notna(), None)
    pd.testing.assert_frame_equal(found, small.events[COLUMNS], check_dtype=False)
    assert rejected == [(rejection.line - first_line + 1, rejection.reason) for rejection in small.rejected]
    assert events[Events.POSITION].is_monotonic_increasing


CSV = """user_id,item_id,timestamp,rating,type,event_id
u1,a,1,2.5,,e1
u1,,2,nan,,
"u,2",b,x,1,view,
u3,c,4,,bogus,e2
u5,e,9e99,,,
 u6 ,f,,,click,7
7,g,inf,1e400,,
卧,虎,-3.5,1_0,listen,\t
u8,h, 12 ,3,,
u9,i,2020-01-01,1,,
"""


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(CSV, encoding="utf-8")
    assert_like_the_small_reader(path, first_line=2)


def test_undecodable_bytes_and_nul_cost_their_row(tmp_path: Path) -> None:
    path = tmp_path / "log.inter"
    path.write_bytes(
        b'user_id:token\titem_id:token\ttimestamp:float\nu1\t"a\t1\nu\xff2\tb\t2\nu\x003\tc\t3\nu4\td\t4\xff\n'
    )
    events, rejected = in_pieces(path)
    assert events[Events.ITEM].tolist() == ['"a']
    assert rejected == [
        (2, "user_id: invalid UTF-8"),
        (3, "user_id: NUL byte"),
        (4, r"timestamp: '4\udcff' is not a finite number"),
    ]


def test_a_row_with_another_number_of_fields_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\nu1,a\nu2\nu3,c,d\n\nu4,b\n", encoding="utf-8")
    events, rejected = in_pieces(path)
    assert events[Events.USER].tolist() == ["u1", "u4"]
    assert [reason.partition(": ")[2] for _, reason in rejected] == [
        "1 fields where the header has 2: u2",
        "3 fields where the header has 2: u3,c,d",
    ]


def test_a_file_of_broken_rows_is_all_rejections(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\nu2\nu3,c,d\n", encoding="utf-8")
    events, rejected = in_pieces(path)
    assert (len(events), len(rejected)) == (0, 2)


def test_what_holds_no_row_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id\n\n", encoding="utf-8")
    pq.write_table(
        pa.table({"user_id": pa.array([], pa.string()), "item_id": pa.array([], pa.string())}), tmp_path / "b.parquet"
    )
    assert fragments(input_files(tmp_path)) == ([], 0)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="b.parquet: not a readable Parquet file"):
        fragments(input_files(tmp_path))


CELLS = st.one_of(
    st.none(),
    st.text(alphabet="01 .-e\0nаif卧", max_size=5),
    st.sampled_from(["view", "rating", "nan", "inf", "1e3", "-0.5", "", "  ", "1_0"]),
)


@given(
    users=st.one_of(st.lists(CELLS, min_size=1, max_size=8), st.lists(st.integers(-5, 5), min_size=1, max_size=8)),
    data=st.data(),
)
def test_any_parquet_cells_are_read_as_the_small_reader_reads_them(
    tmp_path_factory: pytest.TempPathFactory, users: list[object], data: st.DataObject
) -> None:
    def cells(kind: st.SearchStrategy[object]) -> list[object]:
        return data.draw(st.lists(kind, min_size=len(users), max_size=len(users)))

    floats = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))
    columns = {
        "user_id": pa.array(users),
        "item_id": pa.array(["a", *["b"] * (len(users) - 1)]),
        "timestamp": pa.array(cells(CELLS), pa.string()) if data.draw(st.booleans()) else pa.array(cells(floats)),
        "type": pa.array(cells(CELLS), pa.string()).dictionary_encode(),
        "value": pa.array(cells(floats), pa.float64()),
    }
    path = tmp_path_factory.mktemp("cells") / "log.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=3)
    try:
        small = read_events(path)
    except DataError:
        assert len(in_pieces(path)[0]) == 0
        return
    events, rejected = in_pieces(path)
    names = COLUMNS[:5]
    pd.testing.assert_frame_equal(events[names].reset_index(drop=True), small.events[names], check_dtype=False)
    assert rejected == [(rejection.line, rejection.reason) for rejection in small.rejected]


def test_moments_in_parquet_become_seconds(tmp_path: Path) -> None:
    moments = pd.to_datetime(["1970-01-02", "2020-01-01 00:00:00.5", None], format="ISO8601")
    for kind in ("us", "ms", "ns"):
        path = tmp_path / f"{kind}.parquet"
        times = pa.array(moments).cast(pa.timestamp(kind))
        pq.write_table(pa.table({"user_id": ["u"] * 3, "item_id": ["a"] * 3, "timestamp": times}), path)
        np.testing.assert_array_equal(in_pieces(path)[0][Events.TIME], [86_400, 1_577_836_800.5, np.nan])


def test_files_of_a_folder_keep_their_order(tmp_path: Path) -> None:
    for name, user in (("b.csv", "late"), ("a.csv", "early")):
        (tmp_path / name).write_text(f"who,item_id\n{user},x\n", encoding="utf-8")
    (tmp_path / "_SUCCESS").touch()
    events, _ = in_pieces(tmp_path, {"who": Events.USER})
    assert events.sort_values(Events.POSITION)[Events.USER].tolist() == ["early", "late"]


def test_what_cannot_be_read_in_pieces_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        input_files(tmp_path / "none")
    with pytest.raises(DataError, match="an empty folder"):
        input_files(tmp_path)
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(DataError, match="suffix '.jsonl' of log.jsonl"):
        input_files(tmp_path)


def test_hashes_of_ids_never_change() -> None:
    """Files written by one version are named and ordered by them."""
    hashes = id_hashes(pa.chunked_array([["u1", "卧"], ["u1"]]))
    assert hashes.tolist() == [2984610181246591869, 13049301698206350188, 2984610181246591869]
