"""Bulk scoring: a file of users in, a table of lists out."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from driftline.errors import DataError
from driftline.ranking.requests import RankRequest, Recommendation

BATCH_USERS = 128
SUFFIXES = (".parquet", ".csv", ".jsonl")


class UserHistory(BaseModel):
    """One line of the users file."""

    model_config = ConfigDict(extra="forbid")

    user_id: str
    history: list[str]
    times_s: list[float] | None = None
    types: list[str] | None = None
    attributes: dict[str, str] = {}
    now_s: float | None = None

    @model_validator(mode="after")
    def _one_each(self) -> "UserHistory":
        for name, column in (("times_s", self.times_s), ("types", self.types)):
            if column is not None and len(column) != len(self.history):
                raise ValueError(f"{name} has {len(column)} entries for {len(self.history)} events")
        return self


def read_users(path: Path) -> list[UserHistory]:
    """Read a JSONL file of users.

    Raises
    ------
    DataError
        If the file is missing or empty, or a line is malformed; every fault is named with its line.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    users, faults = [], []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):  # text may hold other line separators
        if not line.strip():
            continue
        try:
            users.append(UserHistory.model_validate(json.loads(line.decode("utf-8-sig"))))
        except ValidationError as error:
            faults += [f"{path}:{number}: {'.'.join(map(str, e['loc'])) or 'line'}: {e['msg']}" for e in error.errors()]
        except json.JSONDecodeError as error:
            faults.append(f"{path}:{number}: not JSON: {error.msg}")
        except UnicodeDecodeError as error:
            faults.append(f"{path}:{number}: not UTF-8: {error.reason}")
    if faults:
        more = f"\n… and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise DataError(
            "\n".join(faults[:20])
            + more
            + '\neach line is {"user_id": "…", "history": ["item", …]}; "times_s": [seconds, …], "types", '
            + '"attributes": {name: value} and "now_s" beside it are read too'
        )
    if not users:
        raise DataError(f"{path} names no user")
    return users


def recommend_users(
    recommend: Callable[[Sequence[RankRequest]], list[Recommendation]], users: Sequence[UserHistory], k: int
) -> pd.DataFrame:
    """Lists of a batch of users: one row per user and place."""
    requests = [
        RankRequest(u.history, k, times_s=u.times_s, types=u.types, attributes=u.attributes, now_s=u.now_s)
        for u in users
    ]
    answers = recommend(requests)
    return pd.DataFrame(
        [
            {
                "user_id": user.user_id,
                "rank": rank,
                "item_id": item.item_id,
                "title": item.title,
                "score": item.score,
                "policy": answer.policy.name,
                "p_drift": answer.drift.p_drift if answer.drift else None,
                "unknown_items": len(answer.unknown_items),
            }
            for user, answer in zip(users, answers, strict=True)
            for rank, item in enumerate(answer.items, start=1)
        ]
    )


def check_format(path: Path) -> None:
    """Refuse a file whose suffix no list can be written as, before anything is computed.

    Raises
    ------
    DataError
        If the suffix is none of .parquet, .csv, .jsonl.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"--out {path}: unknown format {path.suffix!r}; valid: {', '.join(SUFFIXES)}")


def write_lists(lists: Sequence[pd.DataFrame], path: Path) -> int:
    """Write all lists by the file's suffix; returns the number of rows.

    Raises
    ------
    DataError
        If the suffix is none of .parquet, .csv, .jsonl.
    """
    check_format(path)
    table = pd.concat(lists, ignore_index=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    return len(table)
