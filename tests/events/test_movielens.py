"""The protocols' published counts on MovieLens-100K."""

from collections import Counter

import pandas as pd
import pytest

from driftline.columns import Events
from driftline.events import event_log, is_cold_item, leave_one_out, read_events, temporal_successive, user_part
from driftline.samples import fetch_movielens


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    result = read_events(fetch_movielens() / "ml-100k.inter")
    assert result.rejected == []
    return result.events


def test_nothing_is_dropped(events: pd.DataFrame) -> None:
    log = event_log(events)
    assert (len(log.events), log.duplicate_ids, log.duplicate_rows) == (100_000, 0, 0)
    assert events[Events.USER].nunique() == 943
    assert events[Events.ITEM].nunique() == 1682


def test_leave_one_out_counts(events: pd.DataFrame) -> None:
    split = leave_one_out(events)
    assert (len(split.train), len(split.validation), len(split.test)) == (100_000 - 2 * 943, 943, 943)
    assert sum(map(is_cold_item, split.test.item_ids)) == 175
    assert sum(map(is_cold_item, events[Events.ITEM].unique())) == 338


def test_temporal_successive_counts(events: pd.DataFrame) -> None:
    split = temporal_successive(events)
    assert (len(split.fit), len(split.train)) == (81_000, 90_000)
    assert len(split.test) == 9_924
    assert len(set(split.test.user_ids)) == 166
    assert len(split.validation) == 8_894
    assert split.train[Events.TIME].max() < split.test.log[Events.TIME].to_numpy()[split.test.rows].min()
    for target in range(0, len(split.test), 500):
        user = split.test.log[split.test.log[Events.USER] == split.test.user_ids[target]]
        assert split.test.history(target) == user[Events.ITEM].tolist()[: split.test.history_lengths[target]]


def test_users_are_divided_by_hash(events: pd.DataFrame) -> None:
    parts = Counter(map(user_part, events[Events.USER].unique()))
    assert parts == {"train": 570, "calibration": 167, "test": 206}
