"""The order of events, and which of two equal events counts.

Order: by (timestamp, position in the input), stable. Events of unknown time come last, in input order.

Duplicates: of events with the same ``event_id`` the first in the input counts, whatever the others say (the same rule
as the server's ``UNIQUE(tenant, event_id)``). Of events without an id that agree in user, item, timestamp and type the
first in the input counts. Events without id and without time are never duplicates: nothing says that they are one.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from driftline.columns import Events


@dataclass(frozen=True)
class EventLog:
    """Events in order, each once.

    Parameters
    ----------
    events
        Ordered, without duplicates.
    duplicate_ids
        Number of events dropped because their ``event_id`` had occurred.
    duplicate_rows
        Number of events without id dropped because user, item, timestamp and type had occurred.
    """

    events: pd.DataFrame
    duplicate_ids: int
    duplicate_rows: int


def ordered(events: pd.DataFrame) -> pd.DataFrame:
    """Sort events by (timestamp, position), events of unknown time last; the index is renewed."""
    order = np.lexsort((events[Events.POSITION].to_numpy(), events[Events.TIME].to_numpy(dtype=np.float64)))
    return events.iloc[order].reset_index(drop=True)


def event_log(events: pd.DataFrame) -> EventLog:
    """Order events and drop duplicates by the rules above.

    Parameters
    ----------
    events
        Columns as in ``columns.Events``, in any order.
    """
    events = events.iloc[np.argsort(events[Events.POSITION].to_numpy(), kind="stable")]
    has_id = events[Events.EVENT_ID].notna().to_numpy()
    has_time = events[Events.TIME].notna().to_numpy()
    same_id = has_id & events.duplicated(Events.EVENT_ID).to_numpy()
    identity = events[[Events.USER, Events.ITEM, Events.TIME, Events.TYPE]].assign(has_id=has_id)
    same_row = ~has_id & has_time & identity.duplicated().to_numpy()
    return EventLog(
        events=ordered(events[~(same_id | same_row)]),
        duplicate_ids=int(same_id.sum()),
        duplicate_rows=int(same_row.sum()),
    )
