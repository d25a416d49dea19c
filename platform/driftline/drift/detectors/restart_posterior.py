"""Posterior over restart points.

Shape legend: K = T = n events of the window (restart k, event t).
"""

from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.contract import State, Step
from driftline.drift.posterior import recent_log_odds, recent_log_odds_now, recent_onset, restart_posterior
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray, advance, restart_ratio


@dataclass(frozen=True)
class RestartPosterior:
    """Log odds that the current regime began within the last ``recent_events`` events; see :mod:`..posterior`."""

    hazard: float = 0.01
    recent_events: int = 40
    name: str = "restart posterior"
    version: int = 1

    def start(self) -> State:
        """No restart yet: Λ by restart."""
        return {"ratio_K": np.zeros(0)}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        ratio_K = advance(state["ratio_K"], event.log_p_K)
        log_posterior_K = restart_posterior(ratio_K[:, None], self.hazard)[:, 0]
        odds = recent_log_odds_now(log_posterior_K, self.recent_events)
        return Step({"ratio_K": ratio_K}, odds, recent_onset(log_posterior_K, self.recent_events))

    def series(self, reading: Reading) -> FloatArray:
        """After every event; ``-inf`` after the first, which nothing can have changed from."""
        return recent_log_odds(restart_posterior(restart_ratio(reading.log_p_KT), self.hazard), self.recent_events)
