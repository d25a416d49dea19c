"""Online MMD: two moving averages of item vectors.

Shape legend: T events of a stream, D width.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from driftline.drift.detectors.contract import State, Step
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class OnlineMmd:
    """``|| fast mean - slow mean ||`` of item vectors under exponential forgetting (NEWMA, Keriven et al. 2020).

    The distance of two mean embeddings is the MMD of what they average, with the inner product as kernel. Both means
    are divided by the weight they have seen, so that a short stream is not pulled towards zero.
    """

    fast: float = 1 / 8
    slow: float = 1 / 40
    name: str = "online MMD"
    version: int = 1

    def start(self) -> State:
        """Sums of the vectors, and the weights they have: row 0 forgets fast, row 1 slowly."""
        return {"sums_2D": np.zeros((2, 0)), "weights_2": np.zeros(2)}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event."""
        rates_2 = np.array([self.fast, self.slow])
        sums_2D = state["sums_2D"] if state["sums_2D"].size else np.zeros((2, event.vectors_KD.shape[1]))
        sums_2D = (1 - rates_2)[:, None] * sums_2D + rates_2[:, None] * event.vectors_KD[-1]
        weights_2 = (1 - rates_2) * state["weights_2"] + rates_2
        means_2D = sums_2D / weights_2[:, None]
        return Step({"sums_2D": sums_2D, "weights_2": weights_2}, float(np.linalg.norm(means_2D[0] - means_2D[1])))

    def series(self, reading: Reading) -> FloatArray:
        """After every event."""
        fast_TD, slow_TD = (self._mean(reading.vectors_TD.astype(np.float64), rate) for rate in (self.fast, self.slow))
        return np.asarray(np.linalg.norm(fast_TD - slow_TD, axis=1))

    @staticmethod
    def _mean(vectors_TD: FloatArray, rate: float) -> FloatArray:
        ones_T1 = np.ones((len(vectors_TD), 1))
        sums_TD, weights_T1 = (lfilter([rate], [1, rate - 1], x, axis=0) for x in (vectors_TD, ones_T1))
        return np.asarray(sums_TD / weights_T1)
