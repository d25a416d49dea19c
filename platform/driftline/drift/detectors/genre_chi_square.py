"""Chi-square of the genres of two windows.

Shape legend: T events of a stream, S events with an older window, G genres.
"""

from dataclasses import dataclass

import numpy as np

from driftline.drift.detectors.windows import TwoWindows
from driftline.drift.reading import Event, Reading
from driftline.drift.restart import FloatArray


@dataclass(frozen=True)
class GenreChiSquare(TwoWindows):
    """Pearson's chi-square of the 2 by G table of genre counts: newest events against all before them."""

    name: str = "genre chi-square"

    def rows(self, read: Event | Reading) -> FloatArray:
        """Genres."""
        return read.genres_KG if isinstance(read, Event) else read.genres_TG

    def compare(self, before_SF: FloatArray, recent_SF: FloatArray) -> FloatArray:
        """Chi-square of the counts."""
        return chi_square(before_SF, recent_SF)


def chi_square(first_SG: FloatArray, second_SG: FloatArray) -> FloatArray:
    """Pearson's statistic of 2 by G tables; 0 where a row is empty: ``chi_square_S``."""
    both_SG = first_SG + second_SG
    total_S1 = both_SG.sum(axis=1, keepdims=True)
    statistic_S = np.zeros(len(both_SG))
    for row_SG in (first_SG, second_SG):
        expected_SG = both_SG * row_SG.sum(axis=1, keepdims=True) / np.maximum(total_S1, 1)
        deviation_SG = (row_SG - expected_SG) ** 2 / np.where(expected_SG > 0, expected_SG, 1)
        statistic_S += deviation_SG.sum(axis=1)
    return statistic_S
