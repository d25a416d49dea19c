"""What the drift detector says about one history.

Shapes: ``n`` = number of events in the given history, unknown items included.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class DriftReport:
    """Verdict over a history, event by event.

    Parameters
    ----------
    p_drift
        Calibrated posterior probability, after the last event, that the current regime began within the last R
        events (R = 40 by default).
    change_point
        Index into the given history of the first event of the new regime; ``None`` if no change is believed.
    statistic
        ``[n]`` float64, log(1 + Shiryaev-Roberts) after each event, nats; 0 where there is no evidence.
    p_drift_by_event
        ``[n]`` float64, ``p_drift`` as it was after each event.
    alarm
        Whether the statistic has crossed the calibrated threshold.
    unknown_items
        Item ids of the history that the bundle does not know; the mathematics passes over them.
    surprise
        ``[n]`` float64, ``-log p`` of each event given those before it, nats; nan where it was not read. ``None`` in a
        report that was stored: it takes the history itself to work it out again.
    change_point_by_event
        ``[n]`` int64, ``change_point`` as it was after each event, -1 where no change was believed. ``None`` likewise.
    """

    p_drift: float
    change_point: int | None
    statistic: NDArray[np.float64]
    p_drift_by_event: NDArray[np.float64]
    alarm: bool
    unknown_items: list[str]
    surprise: NDArray[np.float64] | None = None
    change_point_by_event: NDArray[np.int64] | None = None

    def to_dict(self) -> dict[str, Any]:
        """What is stored: plain values that strict JSON can carry; ``-inf`` becomes ``None``."""
        return {
            "p_drift": float(self.p_drift),
            "change_point": self.change_point,
            "statistic": [float(value) if math.isfinite(value) else None for value in self.statistic],
            "p_drift_by_event": [float(value) for value in self.p_drift_by_event],
            "alarm": bool(self.alarm),
            "unknown_items": list(self.unknown_items),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DriftReport":
        """Rebuild what :meth:`to_dict` wrote; ``None`` becomes ``-inf``."""
        statistic: Sequence[float | None] = values["statistic"]
        return cls(
            p_drift=float(values["p_drift"]),
            change_point=values["change_point"],
            statistic=np.array([-math.inf if value is None else value for value in statistic], dtype=np.float64),
            p_drift_by_event=np.array(values["p_drift_by_event"], dtype=np.float64),
            alarm=bool(values["alarm"]),
            unknown_items=list(values["unknown_items"]),
        )
