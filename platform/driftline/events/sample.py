"""Whole histories of some users of an ingested log: what must be in memory works on these."""

from typing import Any

import numpy as np
import pandas as pd

from driftline.columns import Events, Histories, Items
from driftline.events.histories import EVENT_COLUMNS, TARGET_COLUMNS, Ingested
from driftline.events.log import ordered


def sample_events(ingested: Ingested, users: int, seed: int) -> pd.DataFrame:
    """All events, targets included, of a random sample of users.

    Whole row groups are drawn: users lie in the order of a hash, so any of them is a random sample.

    Parameters
    ----------
    users
        How many; all, if there are not more.
    seed
        The same seed draws the same users of the same log.

    Returns
    -------
    DataFrame
        Columns as in ``columns.Events``, ordered. Types are lost: an event with a value is a ``rating``, others are
        ``view``; so are texts and event ids.
    """
    groups = [(file, n, count) for file in ingested.files for n, count in enumerate(file.users)]
    tables: list[Any] = []
    missing = users
    for number in np.random.default_rng(seed).permutation(len(groups)):
        file, group, count = groups[number]
        columns = (Histories.USER, *EVENT_COLUMNS, *TARGET_COLUMNS)
        tables.append(ingested.read(file, [group], columns).slice(0, missing))
        missing -= count
        if missing <= 0:
            break
    item_ids = ingested.items()[Items.ITEM].to_numpy(dtype=object)
    # positions follow the order inside a history: training events first, then the two targets
    frames = [_events(table, names, item_ids) for names in (EVENT_COLUMNS, TARGET_COLUMNS) for table in tables]
    frame = pd.concat(frames, ignore_index=True)
    types = np.where(frame[Events.VALUE].isna(), "view", "rating")
    events = frame.assign(
        **{
            Events.TYPE: pd.Series(types, dtype="str"),
            Events.TEXT: None,
            Events.EVENT_ID: None,
            Events.POSITION: np.arange(len(frame)),
        }
    )
    return ordered(events)


def _events(table: Any, names: tuple[str, str, str], item_ids: Any) -> pd.DataFrame:
    lists = [table[name].combine_chunks() for name in names]
    items, times, values = (column.flatten().to_numpy(zero_copy_only=False) for column in lists)
    users = np.repeat(table[Histories.USER].to_numpy(), lists[0].value_lengths().to_numpy())
    return pd.DataFrame(
        {
            Events.USER: pd.Series(users, dtype="str"),
            Events.ITEM: pd.Series(item_ids[items.astype(np.int64)], dtype="str"),
            Events.TIME: times.astype(np.float64),
            Events.VALUE: values.astype(np.float64),
        }
    )
