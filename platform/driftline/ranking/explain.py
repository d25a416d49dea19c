"""What each event of a history contributed to the score of an item.

Explained is the score as served: the item's log-probability among the candidates of that request, under the policy's
mixture of 'the whole history' and 'since the change point'. The baseline is the same request with an empty history:
same candidates (what was masked stays masked, for standardised scores depend on them), same P(drift), same weights of
the mixture. An event is removed from both readings at once.

Contributions are Shapley values (Shapley 1953; as explanations: Strumbelj & Kononenko 2010, JMLR 11), estimated over
random orders in antithetic pairs, an order and its reverse (Mitchell et al. 2022, JMLR 23). Within an order the
marginal contributions telescope, so they add up to ``score(history) - score(empty)`` however few orders are drawn; more
orders only share out the interactions between events more evenly.

Shape legend: n events, P players, K items, S subsets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from driftline.ranking.policy import mixture
from driftline.ranking.scoring import Scorer
from driftline.sequences.batches import History

EVALUATIONS: Final = 600
"""Subsets of a history that are scored at most, unless a single pair of orders needs more."""
MOST_PAIRS: Final = 16
SCORES_AT_ONCE: Final = 2**18
"""Bounds the memory of one batch: subsets times items."""


@dataclass(frozen=True)
class Reading:
    """How a history was read when a list was made.

    Parameters
    ----------
    items_n
        Item indices of the known events, oldest first.
    recent_from
        The reading 'since the change point' begins at this event of ``items_n``.
    weight_recent
        Its weight in the mixture, in [0, 1].
    p_drift
        What the fusion gate saw.
    seen
        Item indices that were masked.
    times_n, types_n
        When the events happened, in seconds, and the numbers of their types; ``None`` = unknown.
    attributes
        Of the user, as in ``History``: known of the empty history too.
    now_s
        When the list was asked for, where the bundle reads that.
    """

    items_n: NDArray[np.int64]
    recent_from: int
    weight_recent: float
    p_drift: float
    seen: NDArray[np.int64]
    times_n: NDArray[np.float64] | None = None
    types_n: NDArray[np.int64] | None = None
    attributes: NDArray[np.int64] | None = None
    now_s: float | None = None

    def history(self, kept_n: NDArray[np.bool_]) -> History:
        """What is left of it when only these events are kept."""
        times = None if self.times_n is None else self.times_n[kept_n]
        types = None if self.types_n is None else self.types_n[kept_n]
        return History(self.items_n[kept_n], times, types=types, attributes=self.attributes, now_s=self.now_s)


@dataclass(frozen=True)
class Contributions:
    """Contributions in nats, which add up to ``score_K - baseline_K``.

    Parameters
    ----------
    players
        Events ``(first, last + 1)`` of each player: one event, or all those before the window together.
    contribution_PK
        By player and item; events that no reading holds are no players.
    """

    players: list[tuple[int, int]]
    contribution_PK: NDArray[np.float64]
    score_K: NDArray[np.float64]
    baseline_K: NDArray[np.float64]


class SubsetScores:
    """Scores of a few items for parts of one history.

    Parameters
    ----------
    targets_K
        Columns of the score matrix: catalogue indices, and N to N+M-1 for new items.
    new_vectors_MT
        See :meth:`~driftline.ranking.scoring.Scorer.log_probabilities`; all of them are candidates.
    """

    def __init__(
        self, scorer: Scorer, reading: Reading, targets_K: NDArray[np.int64], new_vectors_MT: Tensor | None = None
    ) -> None:
        self._scorer, self._reading, self._targets_K, self._new_vectors_MT = scorer, reading, targets_K, new_vectors_MT
        self._batch = max(1, SCORES_AT_ONCE // len(scorer.bias_N))

    def __call__(self, kept_Sn: NDArray[np.bool_]) -> NDArray[np.float64]:
        """``score_SK`` of the histories that keep these events."""
        rows = [self._score(kept_Sn[first : first + self._batch]) for first in range(0, len(kept_Sn), self._batch)]
        return np.concatenate(rows).astype(np.float64)

    def _score(self, kept_Sn: NDArray[np.bool_]) -> NDArray[np.float32]:
        weight = self._reading.weight_recent
        if not weight:
            return self._log_p(kept_Sn)
        recent_n = np.arange(len(self._reading.items_n)) >= self._reading.recent_from
        recent_SK = self._log_p(kept_Sn & recent_n)
        return recent_SK if weight >= 1 else mixture(self._log_p(kept_Sn), recent_SK, weight)

    def _log_p(self, kept_Sn: NDArray[np.bool_]) -> NDArray[np.float32]:
        log_p = self._scorer.log_probabilities(
            [self._reading.history(kept_n) for kept_n in kept_Sn],
            [self._reading.seen] * len(kept_Sn),
            np.full(len(kept_Sn), self._reading.p_drift),
            self._new_vectors_MT,
        )
        chosen: NDArray[np.float32] = log_p[:, self._targets_K]
        return chosen


def contributions(
    scores: Callable[[NDArray[np.bool_]], NDArray[np.float64]],
    reading: Reading,
    window_events: int,
    evaluations: int = EVALUATIONS,
    seed: int = 0,
) -> Contributions:
    """Share out each item's score among the events.

    Parameters
    ----------
    scores
        :class:`SubsetScores`, or any function of ``kept_Sn`` that returns ``score_SK``.
    window_events
        Newest events that are told apart; those before are one player.
    evaluations
        Bounds the cost: subsets to score.
    """
    n = len(reading.items_n)
    players = _players(reading, window_events)
    ends_SK = scores(np.stack([np.zeros(n, dtype=bool), np.ones(n, dtype=bool)]))
    if not players:
        nothing = np.zeros((0, ends_SK.shape[1]))
        return Contributions([], nothing, ends_SK[1], ends_SK[0])
    pairs = min(max(1, evaluations // (2 * len(players))), MOST_PAIRS)
    rng = np.random.default_rng(seed)
    total_PK = np.zeros((len(players), ends_SK.shape[1]))
    for _ in range(pairs):
        order = rng.permutation(len(players))
        for one in (order, order[::-1]):
            inner_SK = scores(_growing(players, one, n)) if len(players) > 1 else ends_SK[:0]
            total_PK[one] += np.diff(np.concatenate([ends_SK[:1], inner_SK, ends_SK[1:]]), axis=0)
    return Contributions(players, total_PK / (2 * pairs), ends_SK[1], ends_SK[0])


def _players(reading: Reading, window_events: int) -> list[tuple[int, int]]:
    n = len(reading.items_n)
    first = reading.recent_from if reading.weight_recent >= 1 else 0  # what no reading holds contributes nothing
    border = max(first, n - window_events)
    earlier = [(first, border)] if border > first else []
    return earlier + [(event, event + 1) for event in range(border, n)]


def _growing(players: Sequence[tuple[int, int]], order: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Events of the first 1, 2, ... but not all players in the given order: ``kept_(P-1)n``."""
    kept_Sn = np.zeros((len(order) - 1, n), dtype=bool)
    for place, player in enumerate(order[:-1].tolist()):
        first, stop = players[player]
        kept_Sn[place:, first:stop] = True
    return kept_Sn
