"""river's ADWIN on a signal.

Shape legend: T events of a stream.
"""

from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.contract import State, Step
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray

STRICTNESS = np.concatenate([np.linspace(0.0, 2.0, 41), np.linspace(2.25, 16.0, 56)])
"""``-log δ`` of the copies that watch a stream: δ from 1 to 1e-7, densest where run lengths of hundreds lie."""


@dataclass(frozen=True)
class Adwin:
    """The largest ``-log δ`` at which ``river.drift.ADWIN`` (clock 1) has alarmed by now (Bifet & Gavaldà 2007).

    Until its first alarm ADWIN's window does not depend on δ, and a smaller δ alarms no earlier; so crossing a level
    for the first time is the first alarm of river's object with that δ. The state is what it has read: a wrapper for
    benchmarks, not for serving.
    """

    signal: str
    version: int = 1

    @property
    def name(self) -> str:
        """Unique among the statistics."""
        return f"ADWIN ({self.signal})"

    def start(self) -> State:
        """The signal so far."""
        return {"values_T": np.zeros(0)}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        values_T = np.append(state["values_T"], event.signals[self.signal])
        return Step({"values_T": values_T}, float(self._series(values_T)[-1]))

    def series(self, reading: Reading) -> FloatArray:
        """After every event; 0 where no δ has alarmed."""
        return self._series(reading.signal(self.signal))

    def _series(self, values_T: FloatArray) -> FloatArray:
        from river.drift import ADWIN as River

        level_T = np.zeros(len(values_T))
        values = values_T.tolist()
        for strictness in STRICTNESS[1:]:
            test = River(delta=float(np.exp(-strictness)), clock=1)
            alarmed = next((t for t, value in enumerate(values) if _alarms(test, value)), None)
            if alarmed is None:
                break  # a stricter one does not alarm either
            level_T[alarmed:] = strictness
        return level_T


def _alarms(test: object, value: float) -> bool:
    test.update(value)  # type: ignore[attr-defined]
    return bool(test.drift_detected)  # type: ignore[attr-defined]
