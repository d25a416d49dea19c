"""A file of users in, a table of lists out."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from driftline.drift.report import DriftVerdict
from driftline.errors import DataError
from driftline.ranking.bulk import UserHistory, read_users, recommend_users, write_lists
from driftline.ranking.requests import Policy, RankedItem, RankRequest, Recommendation


def users_file(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "users.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n")
    return path


def test_users_are_read_in_order(tmp_path: Path) -> None:
    told = '{"user_id": "用户", "history": [], "times_s": [], "now_s": 7}'
    path = users_file(tmp_path, '{"user_id": "u1", "history": ["50", "181"]}', "", told)
    assert read_users(path) == [
        UserHistory(user_id="u1", history=["50", "181"]),
        UserHistory(user_id="用户", history=[], times_s=[], now_s=7.0),
    ]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    path = users_file(
        tmp_path, '\ufeff{"user_id": "a\u2028b\x85c", "history": []}\r', '{"user_id": "d", "history": []}'
    )
    assert [user.user_id for user in read_users(path)] == ["a\u2028b\x85c", "d"]


def test_every_fault_is_named_with_its_line(tmp_path: Path) -> None:
    path = users_file(
        tmp_path,
        '{"user_id": "u1", "history": ["50"]}',
        '{"user_id": "u2", "history": [50]}',
        '{"user_id": "u3", "history": ',
        "",
        '{"user_id": "u5", "histories": ["50"]}',
        '["u6"]',
        b'{"user_id": "u\xff", "history": []}',
    )
    with pytest.raises(DataError) as raised:
        read_users(path)
    lines = str(raised.value).splitlines()
    assert [line.removeprefix(str(path)) for line in lines[:-1]] == [
        ":2: history.0: Input should be a valid string",
        ":3: not JSON: Expecting value",
        ":5: history: Field required",
        ":5: histories: Extra inputs are not permitted",
        ":6: line: Input should be a valid dictionary or instance of UserHistory",
        ":7: not UTF-8: invalid start byte",
    ]
    assert lines[-1].startswith('each line is {"user_id": "…", "history": ["item", …]}; "times_s": [seconds, …]')


def test_many_faults_are_cut_short_and_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="… and 5 more"):
        read_users(users_file(tmp_path, *["no"] * 25))


@pytest.mark.parametrize("lines", [[], ["", "   "]])
def test_a_file_without_users_is_an_error(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(DataError, match="names no user"):
        read_users(users_file(tmp_path, *lines))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file: .*nobody.jsonl"):
        read_users(tmp_path / "nobody.jsonl")


def answer(requests: Sequence[RankRequest]) -> list[Recommendation]:
    """The history backwards, cut at k; drift is known for long histories only."""
    return [
        Recommendation(
            [
                RankedItem(i, f"Title {i}", -place)
                for place, i in enumerate(list(reversed(request.history))[: request.k])
            ],
            Policy("steady", "because", 0.0),
            DriftVerdict(0.25, None, False) if len(request.history) > 2 else None,
            ["x"] * len(request.history),
        )
        for request in requests
    ]


USERS = [UserHistory(user_id="u1", history=["a", "b", "c"]), UserHistory(user_id="u2", history=["d"])]


def test_one_row_per_user_and_place() -> None:
    table = recommend_users(answer, USERS, k=2)
    first = {"user_id": "u1", "rank": 1, "item_id": "c", "title": "Title c", "score": 0}
    assert table.iloc[0].to_dict() == first | {"policy": "steady", "p_drift": 0.25, "unknown_items": 3}
    assert list(zip(table["user_id"], table["rank"], table["item_id"], strict=True)) == [
        *[("u1", 1, "c"), ("u1", 2, "b"), ("u2", 1, "d")],
    ]
    assert np.isnan(table["p_drift"].iloc[2])


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_lists_are_written_by_suffix(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "deep" / f"lists{suffix}"
    assert write_lists([recommend_users(answer, USERS, 2), recommend_users(answer, USERS[1:], 2)], out) == 4
    if suffix == ".jsonl":
        found = [json.loads(line)["item_id"] for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        found = (pd.read_parquet(out) if suffix == ".parquet" else pd.read_csv(out))["item_id"].tolist()
    assert found == ["c", "b", "d", "d"]


def test_an_unknown_format_names_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown format '.xlsx'; valid: .parquet, .csv, .jsonl"):
        write_lists([recommend_users(answer, USERS, 2)], tmp_path / "lists.xlsx")
