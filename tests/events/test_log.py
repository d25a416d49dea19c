"""The order of events and the duplicate rule, on tables small enough to check by eye."""

import math

import pandas as pd

from driftline.columns import Events
from driftline.events import event_log, ordered

NAN = math.nan


def table(rows: list[tuple[str, str, float, str, str | None]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=[Events.USER, Events.ITEM, Events.TIME, Events.TYPE, Events.EVENT_ID])
    frame[Events.EVENT_ID] = frame[Events.EVENT_ID].astype(object)
    return frame.assign(**{Events.VALUE: NAN, Events.TEXT: None, Events.POSITION: range(len(frame))})


def test_order_is_time_then_position_with_unknown_times_last() -> None:
    events = table(
        [("u", name, time, "view", None) for name, time in zip("abcdef", [5, NAN, 3, 5, NAN, 3], strict=True)]
    )
    assert ordered(events)[Events.ITEM].tolist() == ["c", "f", "a", "d", "b", "e"]
    shuffled = events.iloc[[4, 0, 5, 2, 1, 3]]
    assert ordered(shuffled)[Events.ITEM].tolist() == ["c", "f", "a", "d", "b", "e"]
    assert ordered(shuffled).index.tolist() == [0, 1, 2, 3, 4, 5]


def test_of_equal_event_ids_the_first_in_the_input_counts() -> None:
    events = table([("u", "late", 9, "view", "e1"), ("v", "early", 1, "click", "e1"), ("u", "other", 5, "view", "e2")])
    log = event_log(events)
    assert log.events[Events.ITEM].tolist() == ["other", "late"]
    assert (log.duplicate_ids, log.duplicate_rows) == (1, 0)


def test_without_ids_user_item_time_and_type_decide() -> None:
    events = table(
        [
            ("u", "i", 1, "view", None),
            ("u", "i", 1, "view", None),  # the same
            ("u", "i", 1, "click", None),  # another type
            ("u", "i", 2, "view", None),  # another time
            ("v", "i", 1, "view", None),  # another user
            ("u", "i", 1, "view", "e1"),  # it has an id, and no other event has that id
            ("u", "i", NAN, "view", None),  # at an unknown time ...
            ("u", "i", NAN, "view", None),  # ... nothing says that two are one
        ]
    )
    log = event_log(events)
    assert log.events[Events.POSITION].tolist() == [0, 2, 4, 5, 3, 6, 7]
    assert (log.duplicate_ids, log.duplicate_rows) == (0, 1)
