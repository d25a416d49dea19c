"""river's Page-Hinkley test on a signal.

Shape legend: T events of a stream.
"""

from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.contract import WARM_UP_EVENTS, State, Step
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class PageHinkley:
    """The test statistic of ``river.drift.PageHinkley``: alarming where it is above λ is river's alarm with that λ.

    The state is what river's object has read: a wrapper for benchmarks, not for serving.
    """

    signal: str
    falls: bool
    """Whether the signal falls after a change (lift), or rises (surprise)."""
    delta: float = 0.005
    min_instances: int = WARM_UP_EVENTS
    """river's default of 30 is later than many changes of the benchmark."""
    version: int = 1

    @property
    def name(self) -> str:
        """Unique among the statistics."""
        return f"Page-Hinkley ({self.signal}, δ={self.delta:g}, from {self.min_instances})"

    def start(self) -> State:
        """The signal so far."""
        return {"values_T": np.zeros(0)}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        values_T = np.append(state["values_T"], event.signals[self.signal])
        return Step({"values_T": values_T}, float(self._series(values_T)[-1]))

    def series(self, reading: Reading) -> FloatArray:
        """After every event."""
        return self._series(reading.signal(self.signal))

    def _series(self, values_T: FloatArray) -> FloatArray:
        from river.drift import PageHinkley as River

        test = River(self.min_instances, self.delta, threshold=np.inf, mode="down" if self.falls else "up")
        statistic_T = np.zeros(len(values_T))
        for t, value in enumerate(values_T.tolist()):
            test.update(value)
            if t + 1 < self.min_instances:
                continue
            if self.falls:
                statistic_T[t] = test._max_decrease - test._sum_decrease
            else:
                statistic_T[t] = test._sum_increase - test._min_increase
        return statistic_T
