"""Cosine of the mean item vectors of two windows.

Shape legend: T events of a stream, S events with an older window, D width.
"""

from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.windows import TwoWindows
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class Cosine(TwoWindows):
    """``1 - cos`` between the mean vectors of the newest events and of all before them."""

    name: str = "cosine"

    def rows(self, read: Event | Reading) -> FloatArray:
        """Item vectors."""
        return (read.vectors_KD if isinstance(read, Event) else read.vectors_TD).astype(np.float64)

    def compare(self, before_SF: FloatArray, recent_SF: FloatArray) -> FloatArray:
        """One minus the cosine of the sums, which is that of the means."""
        lengths_S = np.linalg.norm(before_SF, axis=1) * np.linalg.norm(recent_SF, axis=1)
        cosine_S = (before_SF * recent_SF).sum(axis=1) / np.maximum(lengths_S, 1e-12)
        return np.asarray(1 - cosine_S)
