"""Jensen-Shannon divergence of the genres of two windows.

Shape legend: T events of a stream, S events with an older window, G genres.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from driftline.drift.detectors.contract import State, Step
from driftline.drift.detectors.windows import RECENT_EVENTS, from_the_first_window, window_sums
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class GenreJensenShannon:
    """Divergence of the genre shares of the newest events and of all before them, nats (Lin 1991).

    It remembers nothing.
    """

    recent_events: int = RECENT_EVENTS
    name: str = "genre Jensen-Shannon"
    version: int = 1

    def start(self) -> State:
        """Nothing."""
        return {}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        return Step(state, float(self._series(event.genres_KG)[-1]))

    def series(self, reading: Reading) -> FloatArray:
        """After every event; 0 while there is no older window."""
        return self._series(reading.genres_TG)

    def _series(self, genres_TG: FloatArray) -> FloatArray:
        before_SG, recent_SG = window_sums(genres_TG, self.recent_events)
        return from_the_first_window(divergence(before_SG, recent_SG), len(genres_TG))


def divergence(first_SG: FloatArray, second_SG: FloatArray) -> FloatArray:
    """Jensen-Shannon divergence of the shares of two rows of counts: ``divergence_S``."""
    p_SG, q_SG = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) for counts in (first_SG, second_SG))
    middle_SG = (p_SG + q_SG) / 2
    joint_SG = (xlogy(p_SG, p_SG) + xlogy(q_SG, q_SG)) / 2 - xlogy(middle_SG, middle_SG)
    return np.asarray(joint_SG.sum(axis=1))
