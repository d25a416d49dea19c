"""Events: what users did. Reading, ordering, splitting.

Reading order: ``schema`` (what an event is), ``tables`` (cells of a file with their lines), ``readers`` (file to event
table), ``log`` (order and duplicates), ``splits`` (what is trained on, what is ranked).
"""

from driftline.events.log import EventLog, event_log, ordered
from driftline.events.readers import ReadResult, read_events, write_rejections
from driftline.events.schema import EVENT_TYPES
from driftline.events.splits import (
    Split,
    Targets,
    is_cold_item,
    leave_one_out,
    temporal_successive,
    user_part,
    without_users,
)
from driftline.events.tables import Rejection

__all__ = [
    "EVENT_TYPES",
    "EventLog",
    "ReadResult",
    "Rejection",
    "Split",
    "Targets",
    "event_log",
    "is_cold_item",
    "leave_one_out",
    "ordered",
    "read_events",
    "temporal_successive",
    "user_part",
    "without_users",
    "write_rejections",
]
