"""CUSUM of a signal: of popularity against the model, and the oracle's.

Shape legend: T events of a stream.
"""

from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.contract import State, Step
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class SignalCusum:
    """``max(0, max_k sum of the signal from k on)`` (Page 1954)."""

    name: str
    signal: str
    sign: int = 1
    """-1 where the signal falls after a change."""
    version: int = 1

    def start(self) -> State:
        """The largest sum of a suffix (0 = the empty one), and the sum of everything."""
        return {"best": np.zeros(1), "total": np.zeros(1)}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        value = self.sign * event.signals[self.signal]
        best = np.maximum(state["best"] + value, 0.0)
        return Step({"best": best, "total": state["total"] + value}, float(best[0]))

    def series(self, reading: Reading) -> FloatArray:
        """After every event."""
        total_T = np.cumsum(self.sign * reading.signal(self.signal))
        return np.asarray(total_T - np.minimum(np.minimum.accumulate(total_T), 0.0))

    def merge(self, first: State, second: State) -> State:
        """A suffix of both pieces lies in the second, or is all of it and a suffix of the first."""
        best = np.maximum(second["best"], first["best"] + second["total"])
        return {"best": best, "total": first["total"] + second["total"]}


def popularity_cusum() -> SignalCusum:
    """Log likelihood ratio of 'anybody' (popularity) against the user's own law under the model."""
    return SignalCusum("popularity CUSUM", "lift", sign=-1)


def oracle_cusum() -> SignalCusum:
    """The law of the user who takes over against the user's own, frozen at the change. A ceiling."""
    return SignalCusum("oracle CUSUM", "oracle")
