"""Kernel two-sample test of every split of the window (batch MMD).

Shape legend: K = T = n events of the window.
"""

from dataclasses import dataclass

from driftline.drift.detectors.contract import State, Step
from driftline.drift.discrepancy import measure
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class Mmd:
    """Soft maximum over recent splits of the scaled unbiased MMD² of item vectors (Gretton et al. 2012).

    It remembers nothing: the window is all it needs.
    """

    recent_events: int = 40
    name: str = "MMD"
    version: int = 1

    def start(self) -> State:
        """Nothing."""
        return {}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        return Step(state, float(measure(event.vectors_KD, self.recent_events).split_T[-1]))

    def series(self, reading: Reading) -> FloatArray:
        """After every event; 0 where no split has enough events on both sides."""
        return measure(reading.vectors_TD, self.recent_events).split_T
