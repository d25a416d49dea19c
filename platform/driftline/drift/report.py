"""What the drift detector says about one history.

Shapes: ``n`` = number of events in the given history, unknown items included.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DriftVerdict:
    """What is believed after the last event: all that ranking acts on, and all that is stored.

    Parameters
    ----------
    p_drift
        Calibrated posterior probability that the current regime began within the last R events (R = 40 by default).
    change_point
        Index into the given history of the first event of the new regime; ``None`` if no change is believed.
    alarm
        Whether ``p_drift`` has crossed the threshold that is calibrated to a rate of false alarms (in bundles before
        format 4: whether the statistic has).
    """

    p_drift: float
    change_point: int | None
    alarm: bool

    def at(self, positions: Sequence[int]) -> "DriftVerdict":
        """The same in terms of a history of which these positions were judged."""
        return replace(self, change_point=None if self.change_point is None else positions[self.change_point])

    @property
    def verdict(self) -> "DriftVerdict":
        """This alone, without what a report adds."""
        return DriftVerdict(self.p_drift, self.change_point, self.alarm)


@dataclass(frozen=True, eq=False)
class DriftReport(DriftVerdict):
    """The verdict, and how it came about, event by event.

    Parameters
    ----------
    statistic
        ``[n]`` float64, log(1 + Shiryaev-Roberts) after each event, nats; 0 where there is no evidence.
    p_drift_by_event
        ``[n]`` float64, ``p_drift`` as it was after each event.
    unknown_items
        Item ids of the history that the bundle does not know; the mathematics passes over them.
    surprise
        ``[n]`` float64, ``-log p`` of each event given those before it, nats; nan where it was not read.
    change_point_by_event
        ``[n]`` int64, ``change_point`` as it was after each event, -1 where no change was believed.
    """

    statistic: NDArray[np.float64]
    p_drift_by_event: NDArray[np.float64]
    unknown_items: list[str]
    surprise: NDArray[np.float64]
    change_point_by_event: NDArray[np.int64]
