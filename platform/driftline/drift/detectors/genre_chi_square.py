"""Chi-square of the genres of two windows.

Shape legend: T events of a stream, S events with an older window, G genres.
"""

from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.contract import State, Step
from driftline.drift.detectors.windows import RECENT_EVENTS, from_the_first_window, window_sums
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class GenreChiSquare:
    """Pearson's chi-square of the 2 by G table of genre counts: newest events against all before them.

    It remembers nothing.
    """

    recent_events: int = RECENT_EVENTS
    name: str = "genre chi-square"
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
        return from_the_first_window(chi_square(before_SG, recent_SG), len(genres_TG))


def chi_square(first_SG: FloatArray, second_SG: FloatArray) -> FloatArray:
    """Pearson's statistic of 2 by G tables; 0 where a row is empty: ``chi_square_S``."""
    both_SG = first_SG + second_SG
    total_S1 = both_SG.sum(axis=1, keepdims=True)
    statistic_S = np.zeros(len(both_SG))
    for row_SG in (first_SG, second_SG):
        expected_SG = both_SG * row_SG.sum(axis=1, keepdims=True) / np.maximum(total_S1, 1)
        deviation_SG = (row_SG - expected_SG) ** 2 / np.where(expected_SG > 0, expected_SG, 1)
        statistic_S += deviation_SG.sum(axis=1)
    return statistic_S
