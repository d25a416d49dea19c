"""Cosine of the mean item vectors of two windows.

Shape legend: T events of a stream, S events with an older window, D width.
"""

from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.contract import State, Step
from driftline.drift.detectors.windows import RECENT_EVENTS, from_the_first_window, window_sums
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class Cosine:
    """``1 - cos`` between the mean vectors of the newest events and of all before them; it remembers nothing."""

    recent_events: int = RECENT_EVENTS
    name: str = "cosine"
    version: int = 1

    def start(self) -> State:
        """Nothing."""
        return {}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        return Step(state, float(self._series(event.vectors_KD.astype(np.float64))[-1]))

    def series(self, reading: Reading) -> FloatArray:
        """After every event; 0 while there is no older window."""
        return self._series(reading.vectors_TD.astype(np.float64))

    def _series(self, vectors_TD: FloatArray) -> FloatArray:
        before_SD, recent_SD = window_sums(vectors_TD, self.recent_events)
        lengths_S = np.linalg.norm(before_SD, axis=1) * np.linalg.norm(recent_SD, axis=1)
        cosine_S = (before_SD * recent_SD).sum(axis=1) / np.maximum(lengths_S, 1e-12)
        return from_the_first_window(1 - cosine_S, len(vectors_TD))
