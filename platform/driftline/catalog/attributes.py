"""Year and categories of an item as numbers, which stand beside the vector of its text.

They are read from the text (:func:`~driftline.catalog.text.compose` puts them at its front), so an item that the
catalogue lacks has them too. A language model is told the same, but learns what a year means from a few thousand items
only slowly.

Shape legend: N texts, A attributes, C categories, Y centres of years.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftline.catalog.text import clean

Floats = NDArray[np.float32]

YEAR_CENTRES: Final = 16
"""At most; years that many items share leave fewer."""
MAX_CATEGORIES: Final = 128
"""The most frequent ones."""
WEIGHT: Final = 2.0
"""Of an attribute that an item has: learnt faster and penalised less than a text vector, which has length 1."""

_YEAR: Final = re.compile(r"\((\d{4})\)(?:\.|$)")
_CATEGORIES: Final = re.compile(r"Genres: ([^.]*)(?:\.|$)")


def year_and_categories(text: str) -> tuple[int | None, tuple[str, ...]]:
    """What :func:`~driftline.catalog.text.compose` was told, as far as its text shows it.

    Examples
    --------
    >>> year_and_categories("The Usual Suspects (1995). Genres: Crime, Thriller. Who is Keyser Soze?")
    (1995, ('Crime', 'Thriller'))
    """
    text = clean(text)
    year, categories = _YEAR.search(text), _CATEGORIES.search(text)
    return (int(year[1]) if year else None), tuple(categories[1].split(", ")) if categories else ()


@dataclass(frozen=True)
class Attributes:
    """How a catalogue's years and categories become numbers.

    Attributes
    ----------
    categories
        Names with a column each.
    centres_Y
        Years with a column each: a Gaussian bump, as wide as the distance to the neighbours, so that one column is of
        a decade where items are rare and of a year where they are many.
    """

    categories: tuple[str, ...]
    centres_Y: Floats

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Attributes":
        """Columns for the texts of a catalogue."""
        read = [year_and_categories(text) for text in texts]
        names, counts = np.unique([name for _, categories in read for name in categories], return_counts=True)
        frequent = names[np.argsort(-counts, kind="stable")[:MAX_CATEGORIES]]
        years = [year for year, _ in read if year is not None]
        centres_Y = np.quantile(years, np.linspace(0, 1, YEAR_CENTRES)).round() if years else np.empty(0)
        return cls(tuple(sorted(frequent.tolist())), np.unique(centres_Y).astype(np.float32))

    @property
    def width(self) -> int:
        """A."""
        return len(self.categories) + len(self.centres_Y)

    def __call__(self, texts: Sequence[str]) -> Floats:
        """``vectors_NA``: 1 for each category that an item has, 0 to 1 for each centre that its year is near, all times
        :data:`WEIGHT`."""
        column = {name: place for place, name in enumerate(self.categories)}
        vectors_NA = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, (year, categories) in zip(vectors_NA, map(year_and_categories, texts), strict=True):
            row[[column[name] for name in categories if name in column]] = 1.0
            if year is not None:
                row[len(column) :] = np.exp(-(((year - self.centres_Y) / self._widths_Y) ** 2) / 2)
        return WEIGHT * vectors_NA

    @property
    def _widths_Y(self) -> Floats:
        if len(self.centres_Y) < 2:
            return np.ones_like(self.centres_Y)
        gaps = np.diff(self.centres_Y)
        widths_Y: Floats = np.maximum(np.append(gaps, gaps[-1]), np.append(gaps[0], gaps)) / 2
        return np.maximum(widths_Y, 0.7)
