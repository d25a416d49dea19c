"""User-kNN: what those had whose histories are most like this one.

It keeps the items of every training user, without ids and times. A user who is erased from the store stays in it until
the next training, as in any table fitted on that user's events.

Shape legend: U users, N items, B histories. A name that ends in ``_csr`` has compressed sparse rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from driftline.models.interactions import Items, interactions
from driftline.models.recency import Scores, recency_weights, weighted_rows

NEIGHBOURS = 80
DECAY, READ_EVENTS = 0.98, 200
"""Weight of an event against the one after it, and how many of the newest are read."""


@dataclass(frozen=True)
class UserNeighbours:
    """Training users as sets of items.

    Attributes
    ----------
    users_csr
        U by N, 1 where the user had the item.
    """

    users_csr: csr_array

    @classmethod
    def fit(cls, sequences: Sequence[Items], num_items: int) -> "UserNeighbours":
        """Remember who had what."""
        return cls(interactions(sequences, num_items).astype(np.float32).tocsr())

    def score(self, histories: Sequence[Items]) -> NDArray[np.float32]:
        """Squared cosine similarities of the nearest users, summed over those who had the item: ``scores_BN``.

        Items count by inverse user frequency ``log(U / users of the item)``; recent ones of the history count more.
        """
        scores = [self._score(*recent) for recent in recency_weights(histories, DECAY, READ_EVENTS)]
        return np.stack(scores) if scores else np.empty((0, self.users_csr.shape[1]), dtype=np.float32)

    def _score(self, items: Items, weights: Scores) -> Scores:
        """Of one history, so that memory is one number for each user."""
        weights = weights * self._idf_N[items]
        similarity_U = weighted_rows([(items, weights)], self._by_item_csr)[0]
        similarity_U /= max(float(np.sqrt(np.square(weights).sum())), 1e-9)
        users = _nearest(similarity_U)
        scores_N: Scores = weighted_rows([(users, similarity_U[users] ** 2)], self.users_csr)[0]
        return scores_N

    @cached_property
    def _idf_N(self) -> NDArray[np.float32]:
        num_users, num_items = self.users_csr.shape
        had_N = np.bincount(self.users_csr.indices, minlength=num_items)
        idf_N: NDArray[np.float32] = np.log(num_users / np.maximum(had_N, 1)).astype(np.float32)
        return idf_N

    @cached_property
    def _by_item_csr(self) -> csr_array:
        """N by U: idf of the item over the norm of the user, so that a weighted sum of rows is a cosine."""
        weighted_csr = (self.users_csr * self._idf_N[None, :]).tocsr()
        norm_U = np.sqrt(np.asarray((weighted_csr * weighted_csr).sum(axis=1))).ravel()
        found: csr_array = (weighted_csr.T.tocsr() * (1.0 / np.maximum(norm_U, 1e-9))[None, :]).tocsr()
        return found.astype(np.float32)


def _nearest(similarity_U: NDArray[np.float32]) -> NDArray[np.int64]:
    """Users that are alike at all, the nearest of them, in order of their numbers."""
    if len(similarity_U) > NEIGHBOURS:
        chosen = np.argpartition(-similarity_U, NEIGHBOURS - 1)[:NEIGHBOURS]
    else:
        chosen = np.arange(len(similarity_U))
    return np.sort(chosen[similarity_U[chosen] > 0])
