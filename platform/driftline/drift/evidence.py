"""What P(drift) is computed from: a handful of figures after every event of a history.

Shape legend: K = T = n events of the window, F features, N items, D width.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from driftline.config import DriftConfig
from driftline.drift.discrepancy import measure
from driftline.drift.posterior import map_change_point, recent_log_odds, restart_posterior
from driftline.drift.restart import FloatArray, cusum, restart_ratio, shiryaev_roberts
from driftline.drift.surprise import restart_log_probabilities
from driftline.models.recommender import Recommender

FEATURES: Final = ("restart", "split", "coherence", "length")
"""Log odds of a recent restart; two-sample statistic of the best split; mean similarity; log(1 + events)."""


@dataclass(frozen=True)
class Evidence:
    """Everything about the newest ``n`` events of one history that needs no calibration."""

    surprise_T: FloatArray
    """``-log p`` of each event given everything in the window before it, nats."""
    statistic_T: FloatArray
    """log(1 + Shiryaev-Roberts), nats."""
    cusum_T: FloatArray
    """nats."""
    change_point_T: NDArray[np.int64]
    """Most probable recent restart; -1 where there is none."""
    log_posterior_K: FloatArray
    """Over restarts after the last event; row 0 is 'no change'."""
    features_TF: FloatArray


class EvidenceReader:
    """Reads histories with one model; holds its item table so that it is computed once.

    Parameters
    ----------
    model
        The drift encoder; it is put into evaluation mode.
    config
        Hazard, window, what counts as recent.
    """

    def __init__(self, model: Recommender, config: DriftConfig) -> None:
        self.model = model.eval()
        self.config = config
        with torch.no_grad():
            self.table_ND, self.bias_N = (tensor.detach().clone() for tensor in model.items())
        centred_ND = self.table_ND - self.table_ND.mean(dim=0)
        self._unit_ND = torch.nn.functional.normalize(centred_ND, dim=1).cpu().numpy()

    def read(self, history: NDArray[np.int64]) -> Evidence:
        """Evidence after each of the newest ``window_events`` events of a history of item indices."""
        config = self.config
        window_events = config.encoder.window_events
        log_p_KT = restart_log_probabilities(self.model, self.table_ND, self.bias_N, history, window_events)
        ratio_KT = restart_ratio(log_p_KT)
        log_posterior_KT = restart_posterior(ratio_KT, config.hazard)
        return Evidence(
            surprise_T=-log_p_KT[0] if len(log_p_KT) else np.zeros(0),
            statistic_T=shiryaev_roberts(ratio_KT),
            cusum_T=cusum(ratio_KT),
            change_point_T=map_change_point(log_posterior_KT, config.recent_events),
            log_posterior_K=log_posterior_KT[:, -1] if len(log_posterior_KT) else np.zeros(0),
            features_TF=self._features(history[-window_events:], log_posterior_KT),
        )

    def _features(self, window: NDArray[np.int64], log_posterior_KT: FloatArray) -> FloatArray:
        """Columns in the order of ``FEATURES``; finite everywhere."""
        n = len(window)
        if n == 0:
            return np.zeros((0, len(FEATURES)))
        no_evidence = np.log(self.config.hazard) - np.log1p(-self.config.hazard)
        restart_T = recent_log_odds(log_posterior_KT, self.config.recent_events)
        restart_T[0] = no_evidence  # after one event there is nothing that it could have changed from
        sides = measure(self._unit_ND[window], self.config.recent_events)
        columns = [restart_T, sides.split_T, sides.coherence_T, np.log1p(np.arange(1, n + 1))]
        return np.stack(columns, axis=1)
