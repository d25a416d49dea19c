"""Splits on a log of three users that can be followed by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from driftline.columns import Events
from driftline.errors import DataError
from driftline.events import Split, Targets, is_cold_item, leave_one_out, temporal_successive, user_part, without_users
from driftline.events.splits import cold_item, rating


def table(rows: list[tuple[str, str, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[Events.USER, Events.ITEM, Events.TIME]).assign(
        **{
            Events.TYPE: "view",
            Events.VALUE: math.nan,
            Events.TEXT: None,
            Events.EVENT_ID: None,
            Events.POSITION: range(len(rows)),
        }
    )


def listed(targets: Targets) -> list[tuple[str, str, list[str]]]:
    return [(targets.user_ids[t], targets.item_ids[t], targets.history(t)) for t in range(len(targets))]


@pytest.fixture
def events() -> pd.DataFrame:
    """Users b (4 events), a (3, the last two at the same moment) and c (2), not in order."""
    rows = [("b", "w", 4), ("a", "x", 1), ("b", "x", 2), ("a", "z", 3), ("a", "y", 3)]
    return table([*rows, ("b", "y", 3), ("c", "x", 1), ("b", "z", 9), ("c", "y", 8)])


def test_leave_one_out_by_hand(events: pd.DataFrame) -> None:
    split = leave_one_out(events)
    assert split.fit is split.train
    # in order of (time, position): a x, c x, b x, c y; c is too short for a target, so both events are training events
    assert list(zip(split.train[Events.USER], split.train[Events.ITEM], strict=True)) == [
        *(("a", "x"), ("c", "x"), ("b", "x"), ("b", "y"), ("c", "y")),
    ]
    assert sorted(listed(split.validation)) == [("a", "z", ["x"]), ("b", "w", ["x", "y"])]
    assert sorted(listed(split.test)) == [("a", "y", ["x", "z"]), ("b", "z", ["x", "y", "w"])]
    assert sorted(split.test.history_lengths.tolist()) == [2, 3]


def test_leave_one_out_needs_three_events_of_one_user(events: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="three or more events"):
        leave_one_out(events[events[Events.USER] == "c"])


def test_temporal_successive_by_hand() -> None:
    # times 0..10: T = 9.0, and of the nine training times 0..8 the 0.9 quantile is 7.2
    users = ["a", "b", "a", "b", "a", "b", "a", "b", "b", "c", "a"]
    split = temporal_successive(table([(user, f"i{time}", time) for time, user in enumerate(users)]))
    assert split.train[Events.ITEM].tolist() == [f"i{time}" for time in range(9)]
    assert split.fit[Events.ITEM].tolist() == [f"i{time}" for time in range(8)]
    assert listed(split.validation) == [("b", "i8", ["i1", "i3", "i5", "i7"])]
    assert listed(split.test) == [("a", "i10", ["i0", "i2", "i4", "i6"])]  # the first event of c has no history
    assert split.test.history_times(0).tolist() == [0.0, 2.0, 4.0, 6.0]


def test_temporal_successive_test_histories_go_on_into_the_test_period() -> None:
    split = temporal_successive(table([("a", f"i{time}", time) for time in range(21)]))  # T = 18.0
    assert [target[1] for target in listed(split.test)] == ["i18", "i19", "i20"]
    assert split.test.history(2) == [f"i{time}" for time in range(20)]


def test_temporal_successive_refuses_unknown_times_and_empty_parts() -> None:
    with pytest.raises(DataError, match="1 of 2 have none"):
        temporal_successive(table([("a", "x", 1), ("a", "y", math.nan)]))
    with pytest.raises(DataError, match="fit 0, train 0, validation 0, test 1"):
        temporal_successive(table([("a", "x", 5), ("a", "y", 5)]))


def test_cold_item_by_hand() -> None:
    """Of single letters j, n and t are cold. The last two events of each user are leave-one-out's."""
    logs = {"p": "abjc", "q": "ajbn", "r": "jbt", "s": "acb"}
    split = cold_item(table([(user, item, time) for user, items in logs.items() for time, item in enumerate(items)]))
    assert split.fit is split.train
    events = zip(split.train[Events.USER], split.train[Events.ITEM], strict=True)
    assert sorted(events) == [("p", "a"), ("p", "b"), ("q", "a"), ("s", "a")]
    # p's validation event is cold, and nothing warm is before that of r
    assert listed(split.validation) == [("q", "b", ["a"]), ("s", "c", ["a"])]
    assert listed(split.test) == [("q", "n", ["a", "j", "b"]), ("r", "t", ["j", "b"])]


def test_cold_item_needs_cold_targets(events: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="cold-item leaves nothing in one part of these 9 events: .*test 0"):
        cold_item(events)


def test_rating_by_hand() -> None:
    """Of 20 events two test and two validate, of 10 one each, of 9 none; an event without a value is no target."""
    rows = [(user, f"i{n}", n) for user, count in {"a": 20, "b": 10, "c": 9}.items() for n in range(count)]
    events = table(rows).assign(**{Events.VALUE: 3.0})
    events.loc[(events[Events.USER] == "a") & (events[Events.ITEM] == "i18"), Events.VALUE] = math.nan
    split = rating(events)
    assert split.train[Events.USER].value_counts().to_dict() == {"a": 16, "b": 8, "c": 9}
    assert [target[:2] for target in listed(split.validation)] == [("a", "i16"), ("a", "i17"), ("b", "i8")]
    assert listed(split.test) == [
        ("a", "i19", [f"i{n}" for n in range(19)]),
        ("b", "i9", [f"i{n}" for n in range(9)]),
    ]
    assert split.test.values.tolist() == [3.0, 3.0]
    with pytest.raises(DataError, match="none of the 39 events has one in 'value'"):
        rating(events.assign(**{Events.VALUE: math.nan}))


def test_truncated_histories_keep_the_newest_events(events: pd.DataFrame) -> None:
    test = leave_one_out(events).test
    assert sorted(listed(test.truncated(2))) == [("a", "y", ["x", "z"]), ("b", "z", ["y", "w"])]
    assert sorted(listed(test.truncated(0))) == [("a", "y", []), ("b", "z", [])]
    assert test.truncated(0).history_lengths.tolist() == [0, 0]


def test_splits_do_not_depend_on_row_order(events: pd.DataFrame) -> None:
    def content(split: Split) -> list[object]:
        return [
            split.train[[Events.USER, Events.POSITION]].to_dict("list"),
            sorted(listed(split.validation)),
            sorted(listed(split.test)),
        ]

    shuffled = events.iloc[np.random.default_rng(0).permutation(len(events))]
    assert content(leave_one_out(shuffled)) == content(leave_one_out(events))


def test_without_users_leaves_no_trace_of_them(events: pd.DataFrame) -> None:
    split = without_users(leave_one_out(events), ["b", "nobody"])
    assert split.fit is split.train
    assert split.train[Events.USER].tolist() == ["a", "c", "c"]
    assert listed(split.validation) == [("a", "z", ["x"])]
    assert listed(split.test) == [("a", "y", ["x", "z"])]


def test_hash_rules() -> None:
    # printf 1 | md5sum: c4ca4238a0b923820dcc509a6f75849b = 261578874264819908609102035485573088411
    assert user_part("1") == "train"  # ...11 < 60
    assert not is_cold_item("1")  # ...11 % 5 = 1
    # 3: eccbc87e4b5ce2fe28308fd9f2a7baf3 = 314755909755515592000481005244904880883
    assert user_part("3") == "test"  # ...83 >= 80
    # 4: a87ff679a2f3e71d9181a67b7542122c = 223974724102701384270894320508706361900
    assert is_cold_item("4")  # ...0 % 5 = 0
    parts = pd.Series([user_part(str(user)) for user in range(10_000)]).value_counts(normalize=True)
    assert parts["train"] == pytest.approx(0.6, abs=0.02)
    assert parts["calibration"] == pytest.approx(0.2, abs=0.02)
    assert user_part("用户") in {"train", "calibration", "test"}
