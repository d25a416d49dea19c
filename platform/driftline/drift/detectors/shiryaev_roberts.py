"""Restart Shiryaev-Roberts.

Shape legend: K = T = n events of the window (restart k, event t).
"""

from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.contract import State, Step
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray, advance, best_restart, log_sum_exp, restart_ratio, shiryaev_roberts


@dataclass(frozen=True)
class ShiryaevRoberts:
    """``log(1 + sum_k exp Λ(k, t))``: the evidence that the user began afresh at *some* event (Shiryaev 1963)."""

    name: str = "restart Shiryaev-Roberts"
    version: int = 1

    def start(self) -> State:
        """No restart yet: Λ by restart."""
        return {"ratio_K": np.zeros(0)}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        ratio_K = advance(state["ratio_K"], event.log_p_K)
        return Step({"ratio_K": ratio_K}, float(log_sum_exp(ratio_K)), best_restart(ratio_K))

    def series(self, reading: Reading) -> FloatArray:
        """After every event."""
        return shiryaev_roberts(restart_ratio(reading.log_p_KT))
