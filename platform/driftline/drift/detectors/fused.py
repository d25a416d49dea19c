"""The calibrated classifier: what is served.

Shape legend: K = T = n events of the window.
"""

from dataclasses import dataclass

import numpy as np

from driftline.config import DriftConfig
from driftline.drift.calibration import LogOdds
from driftline.drift.detectors.contract import State, Step
from driftline.drift.evidence import weigh, weigh_now
from driftline.drift.posterior import recent_onset, restart_posterior
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray, advance


@dataclass(frozen=True)
class Fused:
    """Log odds of drift by the logistic regression of :mod:`driftline.drift.calibration` over the evidence."""

    classifier: LogOdds
    config: DriftConfig
    name: str = "fused"
    version: int = 1

    def start(self) -> State:
        """No restart yet: Λ by restart."""
        return {"ratio_K": np.zeros(0)}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        ratio_K = advance(state["ratio_K"], event.log_p_K)
        log_posterior_K = restart_posterior(ratio_K[:, None], self.config.hazard)[:, 0]
        features_F = weigh_now(log_posterior_K, event.vectors_KD, event.verifier_KD, self.config)
        odds = float(self.classifier.log_odds(features_F[None])[0])
        return Step({"ratio_K": ratio_K}, odds, recent_onset(log_posterior_K, self.config.recent_events))

    def series(self, reading: Reading) -> FloatArray:
        """After every event."""
        return self.classifier.log_odds(weigh(reading, self.config).features_TF)
