"""Attributes of users: values as numbers, what a table holds, and what of it the model may see."""

from pathlib import Path

import numpy as np
import pytest

from driftline.config import Config, parse_config
from driftline.errors import DataError
from driftline.samples import home
from driftline.sequences.dataset import load_dataset
from driftline.sequences.user_attributes import UserAttributes, learn_attributes, read_user_table

TRADES = UserAttributes({"trade": ["nurse", "smith"], "town": ["Ulm"]})


def test_values_have_numbers_and_0_is_unknown() -> None:
    assert TRADES.size == 3
    assert TRADES.numbers({"trade": "smith", "town": "Ulm"}).tolist() == [2, 3]
    assert TRADES.numbers({"town": "Ulm"}).tolist() == [0, 3]
    assert TRADES.numbers({"trade": "Ulm", "town": "Bonn"}).tolist() == [0, 0]
    assert TRADES.named(np.array([2, 0])) == {"trade": "smith"}
    assert UserAttributes().numbers({}).tolist() == []
    with pytest.raises(DataError, match=r"\['age'\] are not read; valid: trade, town"):
        TRADES.numbers({"age": "9"})


def test_a_value_of_fewer_than_five_users_is_nobodys() -> None:
    users = [{"trade": "smith"}] * 5 + [{"trade": "king"}] * 4 + [{"trade": "nurse", "town": "Ulm"}] * 6 + [{}]
    assert UserAttributes.of(["trade", "town"], users).values == {"trade": ["nurse", "smith"], "town": ["Ulm"]}


def test_a_table_of_users(tmp_path: Path) -> None:
    path = tmp_path / "log.user"
    path.write_text("user_id:token\tage:token\ttrade:token\n1\t24\tsmith\n2\t\t\n\t30\tking\n1\t25\tnurse\n")
    users, rejected = read_user_table(path, ["trade", "age"])
    assert users == {"1": {"trade": "smith", "age": "24"}, "2": {}}
    assert [(one.line, one.reason) for one in rejected] == [
        (4, "user_id is missing"),
        (5, "user_id: '1' was already given"),
    ]
    with pytest.raises(DataError, match="no column for 'town' "):
        read_user_table(path, ["town"])
    with pytest.raises(DataError, match=r"no value of trade is shared by 5 training users; .* the events have 1, such"):
        learn_attributes(path, ["trade"], users, ["9"])


def configured(folder: Path, **sections: object) -> Config:
    """Users u0 to u14 have three events each; odd ones are nurses, even ones smiths, and u2's trade is not told."""
    log, users = folder / "log.csv", folder / "users.csv"
    rows = [f"u{n},{item},{time}" for n in range(15) for time, item in enumerate("abc")]
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    trades = [f"u{n},{'' if n == 2 else ('smith', 'nurse')[n % 2]}" for n in range(14)]
    users.write_text("\n".join(["user_id,trade", *trades]) + "\n")
    data = {"interactions": str(log), "users": str(users), "user_attributes": ["trade"]}
    return parse_config({"data": data, "storage": str(folder), **sections})


def test_histories_and_targets_tell_the_users_attributes(tmp_path: Path) -> None:
    dataset = load_dataset(configured(tmp_path))
    assert dataset.user_attributes.values == {"trade": ["nurse", "smith"]}
    found = {user: history.attributes for user, history in dataset.histories(dataset.events).items()}
    assert [None if found[u] is None else found[u].tolist() for u in ("u0", "u1", "u2", "u14")] == [[2], [1], [0], None]
    target = dataset.target_history(dataset.split.test, 1)
    assert (target.user, target.attributes is not None and target.attributes.tolist()) == ("u1", [1])
    without = load_dataset(parse_config(configured(tmp_path).model_dump(mode="json"), ["data.user_attributes=[]"]))
    assert without.fingerprint != dataset.fingerprint
    assert {history.attributes for history in without.histories(without.events).values()} == {None}


def test_values_are_those_of_the_rankers_training_users(tmp_path: Path) -> None:
    """By hash u8 and u12 are test users of the drift part; without them there are four smiths and seven nurses."""
    dataset = load_dataset(configured(tmp_path, ranking={"exclude_held_out": True}))
    assert dataset.user_attributes.values == {"trade": ["nurse"]}
    assert dataset.attributes_of["u8"].tolist() == [0]


@pytest.mark.slow
def test_occupations_of_movielens() -> None:
    config = parse_config({"data": {"sample": "ml-100k", "user_attributes": ["occupation"]}, "storage": str(home())})
    dataset = load_dataset(config)
    assert len(dataset.attributes_of) == 943
    assert dataset.user_attributes.size == 21
    first = dataset.histories(dataset.events, ["1"])["1"].attributes
    assert first is not None
    assert dataset.user_attributes.named(first) == {"occupation": "technician"}
