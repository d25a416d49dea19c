"""Restart CUSUM.

Shape legend: K = T = n events of the window (restart k, event t).
"""

from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.contract import State, Step
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray, advance, best_restart, cusum, restart_ratio


@dataclass(frozen=True)
class RestartCusum:
    """``max(0, max_k Λ(k, t))``: the evidence that the user began afresh at the *best* event (Page 1954)."""

    name: str = "restart CUSUM"
    version: int = 1

    def start(self) -> State:
        """No restart yet: Λ by restart."""
        return {"ratio_K": np.zeros(0)}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        ratio_K = advance(state["ratio_K"], event.log_p_K)
        return Step({"ratio_K": ratio_K}, float(ratio_K.max()), best_restart(ratio_K))

    def series(self, reading: Reading) -> FloatArray:
        """After every event."""
        return cusum(restart_ratio(reading.log_p_KT))
