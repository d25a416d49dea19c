"""Jensen-Shannon divergence of the genres of two windows.

Shape legend: T events of a stream, S events with an older window, G genres.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from driftline.drift.detectors.windows import TwoWindows
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class GenreJensenShannon(TwoWindows):
    """Divergence of the genre shares of the newest events and of all before them, nats (Lin 1991)."""

    name: str = "genre Jensen-Shannon"

    def rows(self, read: Event | Reading) -> FloatArray:
        """Genres."""
        return read.genres_KG if isinstance(read, Event) else read.genres_TG

    def compare(self, before_SF: FloatArray, recent_SF: FloatArray) -> FloatArray:
        """Divergence of the shares."""
        return divergence(before_SF, recent_SF)


def divergence(first_SG: FloatArray, second_SG: FloatArray) -> FloatArray:
    """Jensen-Shannon divergence of the shares of two rows of counts: ``divergence_S``."""
    p_SG, q_SG = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) for counts in (first_SG, second_SG))
    middle_SG = (p_SG + q_SG) / 2
    joint_SG = (xlogy(p_SG, p_SG) + xlogy(q_SG, q_SG)) / 2 - xlogy(middle_SG, middle_SG)
    return np.asarray(joint_SG.sum(axis=1))
