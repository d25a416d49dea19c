"""Alarms as a classifier of streams: is there one within 20 events of the change?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import classification_report

from driftline.drift.restart import FloatArray

WITHIN_EVENTS = 20
NAMES = ("drifted", "not drifted")


@dataclass(frozen=True, eq=False)
class AlarmDelays:
    """Events from the change to the first alarm, the alarming event included; infinite without an alarm.

    Streams with an earlier alarm (0 or less) are left out: it was false, and nothing after it counts.
    """

    drifted_P: FloatArray
    steady_Q: FloatArray
    """Counted from the position at which the stream's drifted twin changes."""

    def report(self) -> str:
        """Precision, recall, F1 and support of both classes, accuracy and averages, as scikit-learn prints them."""
        return str(self._report(output_dict=False))

    def figures(self) -> dict[str, Any]:
        """The same as numbers."""
        return dict(self._report(output_dict=True))

    def _report(self, output_dict: bool) -> Any:
        delays = np.concatenate([self.drifted_P, self.steady_Q])
        drifted = np.arange(len(delays)) < len(self.drifted_P)
        kept = delays >= 1
        if not kept.any():
            return {} if output_dict else "every stream has an alarm before the change: nothing to classify"
        return classification_report(
            drifted[kept],
            delays[kept] <= WITHIN_EVENTS,
            labels=[True, False],
            target_names=NAMES,
            digits=3,
            output_dict=output_dict,
            zero_division=0.0,
        )
