"""Jensen-Shannon divergence of the genres of two windows.

Shape legend: T events of a stream, S events with an older window, G genres.
"""

from dataclasses import dataclass

from driftline.drift.detectors.windows import TwoWindows
from driftline.drift.divergence import jensen_shannon
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
        return jensen_shannon(before_SF, recent_SF)
