"""river's KSWIN on a signal.

Shape legend: T events of a stream.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import ks_2samp

from driftline.drift.detectors.contract import State, Step
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray

WINDOW, NEWEST = 30, 10
SEED = 0
SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Kswin:
    """``-log p`` of ``river.drift.KSWIN``: alarming where it is above ``-log α`` is river's alarm with that α.

    The state is what river's object has read: a wrapper for benchmarks, not for serving.
    """

    signal: str
    version: int = 1

    @property
    def name(self) -> str:
        """Unique among the statistics."""
        return f"KSWIN ({self.signal})"

    def start(self) -> State:
        """The signal so far."""
        return {"values_T": np.zeros(0)}

    def step(self, state: State, event: Event) -> Step:
        """Take in one event: river's own object, with a level that no sample reaches."""
        from river.drift import KSWIN as River

        values_T = np.append(state["values_T"], event.signals[self.signal])
        test = River(alpha=0.0, window_size=WINDOW, stat_size=NEWEST, seed=SEED)
        for value in values_T.tolist():
            test.update(value)
        return Step({"values_T": values_T}, _strictness(test.p_value) if len(values_T) >= WINDOW else 0.0)

    def series(self, reading: Reading) -> FloatArray:
        """After every event; the samples that river draws, and p-values from a table: both windows have ten values."""
        import random

        values_T = reading.signal(self.signal)
        statistic_T = np.zeros(len(values_T))
        rng = random.Random(SEED)
        for t in range(WINDOW - 1, len(values_T)):
            window = values_T[t + 1 - WINDOW : t + 1]
            drawn = np.sort(window[rng.sample(range(WINDOW - NEWEST), NEWEST)])
            newest = np.sort(window[-NEWEST:])
            both = np.concatenate([drawn, newest])
            apart = np.searchsorted(drawn, both, side="right") - np.searchsorted(newest, both, side="right")
            statistic_T[t] = _strictness(_p_values()[int(np.abs(apart).max())])
        return statistic_T


def _strictness(p_value: float) -> float:
    return float(-np.log(max(p_value, SMALLEST_P)))


@cache
def _p_values() -> list[float]:
    """Of the two-sample Kolmogorov-Smirnov test, ten values each, by the largest difference in tenths."""
    base = np.arange(NEWEST, dtype=float)
    # d of the second sample's values moved above all of the first: the distribution functions differ by d tenths
    moved = [np.where(np.arange(NEWEST) < d, base + 100, base) for d in range(NEWEST + 1)]
    return [float(ks_2samp(base, sample).pvalue) for sample in moved]
