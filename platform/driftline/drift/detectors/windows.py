"""The newest events against all before them: what detectors that compare two windows share.

Shape legend: T events of a stream, F columns.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.contract import State, Step
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray

RECENT_EVENTS = 20
"""Events of the newer window."""
MIN_BEFORE_EVENTS = 10
"""Fewer events than this before the newer window say nothing."""


def window_sums(rows_TF: FloatArray, recent_events: int = RECENT_EVENTS) -> tuple[FloatArray, FloatArray]:
    """Column sums of the older and of the newer window after every event that has enough before it.

    Returns
    -------
    before_SF, recent_SF
        S = max(0, T - recent_events - MIN_BEFORE_EVENTS + 1): the last S events of the stream.
    """
    total_TF = np.concatenate([np.zeros((1, rows_TF.shape[1])), np.cumsum(rows_TF, axis=0)])
    ends = np.arange(recent_events + MIN_BEFORE_EVENTS, len(rows_TF) + 1)
    before_SF = total_TF[ends - recent_events]
    return before_SF, total_TF[ends] - before_SF


def from_the_first_window(values_S: FloatArray, events: int) -> FloatArray:
    """One value per event: 0 where there was no older window yet."""
    return np.concatenate([np.zeros(events - len(values_S)), values_S])


@dataclass(frozen=True)
class TwoWindows(ABC):
    """A statistic that compares sums over the newest events with those over all before them; it remembers nothing.

    Subclasses set ``name``, and say which rows are summed and how two windows are compared.
    """

    recent_events: int = RECENT_EVENTS
    name: str = ""
    version: int = 1

    @abstractmethod
    def rows(self, read: Event | Reading) -> FloatArray:
        """What is summed, one row per event of the window: ``rows_TF``."""

    @abstractmethod
    def compare(self, before_SF: FloatArray, recent_SF: FloatArray) -> FloatArray:
        """The statistic of each pair of sums: ``statistic_S``."""

    def start(self) -> State:
        """Nothing."""
        return {}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        return Step(state, float(self._series(self.rows(event))[-1]))

    def series(self, reading: Reading) -> FloatArray:
        """After every event; 0 while there is no older window."""
        return self._series(self.rows(reading))

    def _series(self, rows_TF: FloatArray) -> FloatArray:
        return from_the_first_window(self.compare(*window_sums(rows_TF, self.recent_events)), len(rows_TF))
