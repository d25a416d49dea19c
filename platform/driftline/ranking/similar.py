"""Text against items: what a cosine is worth, what shared words are worth, and how a search becomes a user's own.

Shape legend: N items, D width of a text vector.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SAMPLE_ITEMS: Final = 512
"""Items whose pairs say how alike two things are by chance."""
ALIKE_QUANTILE: Final = 0.9
WORD_WEIGHT: Final = 0.5
"""Share of :func:`text_match` that goes to shared words: an aligned tower knows kinds of things, words know names."""
_WORD: Final = re.compile(
    "[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"  # scripts without spaces: each character is a word
    "|[^\\W_\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+"
)


@dataclass(frozen=True)
class Relevance:
    """Cosine ``c`` of two text vectors as a relevance in (0, 1].

    ``logistic((c - centre) / temperature)``, divided by its value for ``c = 1``: strictly increasing, so it never
    changes an order, and 1 for a text and itself.

    Parameters
    ----------
    centre
        Where the logistic is one half: the cosine that the most alike tenth of the catalogue's pairs exceed.
    temperature
        That of the tower's contrastive alignment: a cosine over it is a logit.
    """

    centre: float
    temperature: float

    @classmethod
    def fit(cls, vectors_ND: NDArray[np.float32], temperature: float) -> "Relevance":
        """Take the centre from the pairs of up to ``SAMPLE_ITEMS`` items, evenly spread over the catalogue."""
        chosen = np.unique(np.linspace(0, len(vectors_ND) - 1, SAMPLE_ITEMS).astype(np.int64))
        sample = vectors_ND[chosen].astype(np.float64)
        cosines = (sample @ sample.T)[np.triu_indices(len(sample), k=1)]
        return cls(float(np.quantile(cosines, ALIKE_QUANTILE)) if len(cosines) else 0.0, temperature)

    def __call__(self, cosine: FloatArray) -> FloatArray:
        """Relevance of each cosine."""
        at_one = self._logistic(np.ones(()))
        return np.asarray(self._logistic(np.clip(cosine, -1.0, 1.0)) / at_one, dtype=np.float64)

    def _logistic(self, cosine: FloatArray) -> FloatArray:
        log_odds_against = np.minimum((self.centre - cosine) / self.temperature, 700.0)  # e^700 is where float64 ends
        return 1.0 / (1.0 + np.exp(log_odds_against))


def words(text: str) -> list[str]:
    """Distinct words of a text without regard to case, in order; in scripts without spaces, its characters."""
    return list(dict.fromkeys(_WORD.findall(text.casefold())))


@lru_cache(maxsize=65_536)
def _word_set(text: str) -> frozenset[str]:
    """Words of an item's text: a tenant's new items are asked about again and again."""
    return frozenset(words(text))


class WordIndex:
    """Which of a fixed set of texts hold a word.

    Parameters
    ----------
    texts
        The texts; their order numbers them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.num_texts = len(texts)
        postings: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            for word in words(text):
                postings.setdefault(word, []).append(place)
        self._postings = {word: np.array(places, dtype=np.int32) for word, places in postings.items()}

    def weight(self, word: str) -> float:
        """Inverse document frequency ``log(1 + N / (1 + n))`` (Spärck Jones 1972, smoothed); a rare word says more."""
        holding = len(self._postings.get(word, ()))
        return float(np.log1p(self.num_texts / (1 + holding)))

    def shares(self, query: str, more: Sequence[str] = ()) -> FloatArray:
        """Weighted share of the query's words that each text holds, in 0..1, then that of each text in ``more``."""
        asked = {word: self.weight(word) for word in words(query)}
        found = np.zeros(self.num_texts + len(more))
        for word, weight in asked.items():
            found[self._postings.get(word, np.empty(0, np.int32))] += weight
        for place, text in enumerate(more, start=self.num_texts):
            held = _word_set(text)
            found[place] = sum(weight for word, weight in asked.items() if word in held)
        return found / (sum(asked.values()) or 1.0)


def text_match(relevance_N: FloatArray, shares_N: FloatArray) -> FloatArray:
    """How well items answer a query, in 0..1: the mean of relevance and shared words, by ``WORD_WEIGHT``."""
    return (1 - WORD_WEIGHT) * relevance_N + WORD_WEIGHT * shares_N


def standing(log_p_N: NDArray[np.float32]) -> FloatArray:
    """Place of each item in a user's taste, 1 for the most and 0 for the least probable; ties share the middle."""
    if len(log_p_N) < 2:
        return np.zeros(len(log_p_N))
    _, place_N, counts = np.unique(log_p_N, return_inverse=True, return_counts=True)
    middle = counts.cumsum() - (counts + 1) / 2  # items below, and half of the other ties
    return np.asarray(middle[place_N] / (len(log_p_N) - 1), dtype=np.float64)


def personal_score(match_N: FloatArray, standing_N: FloatArray, weight: float) -> FloatArray:
    """``(1 - weight) match + weight standing``.

    Bounded: taste cannot lift an item over one whose match is better by more than ``weight / (1 - weight)``.
    """
    return (1 - weight) * match_N + weight * standing_N
