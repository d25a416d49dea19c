"""Component scores of histories over the catalogue, and their fusion.

Shape legend: B histories, N items of the bundle, M new items known by text only, C components, T text-vector width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftline.models.collaborative import CollaborativeTables, recency_weights
from driftline.models.fusion import FusionGate, history_features, item_features, standardise
from driftline.models.recommender import Recommender
from driftline.sequences.batches import History, collate, window

ATTENTION_DECAY = 0.9
ATTENTION_TEMPERATURE = 0.1


class Scorer:
    """Everything that turns a history into log-probabilities of the next item.

    Parameters
    ----------
    ranker
        The trained ranking model; used in evaluation mode.
    tables
        Collaborative tables fitted on the same training events.
    text_vectors_NT
        Vectors of the text tower.
    gate
        Fitted on validation targets.
    mask_seen
        Items of the history are no candidates (catalogues without repeat consumption).
    """

    def __init__(
        self,
        ranker: Recommender,
        tables: CollaborativeTables,
        text_vectors_NT: Tensor,
        gate: FusionGate,
        mask_seen: bool,
    ) -> None:
        self.ranker, self.tables, self.gate, self.mask_seen = ranker.eval(), tables, gate.eval(), mask_seen
        self.text_vectors_NT = text_vectors_NT
        with torch.no_grad():
            self.table_ND, self.bias_N = (t.clone() for t in ranker.items())

    @torch.no_grad()
    def log_probabilities(
        self,
        histories: Sequence[History],
        seen: Sequence[NDArray[np.int64]],
        p_drift_B: NDArray[np.float64],
        new_vectors_MT: Tensor | None = None,
        new_offered_BM: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Fused log-probabilities, ``-inf`` for items that cannot be recommended: ``log_p_B(N+M)``.

        Parameters
        ----------
        histories
            What is read; may be empty histories.
        seen
            Item indices that each user already has, masked where ``mask_seen`` (a policy may read less than was seen).
        p_drift_B
            P(drift) of each user, a feature of the gate.
        new_vectors_MT
            Text vectors of items that are not in the bundle; they take columns N to N+M-1.
        new_offered_BM
            Which of them are candidates of which history; None = all of all. A list must not depend on what the
            other lists of its batch were offered.
        """
        z_CBN, candidate_BN = self.components(histories, seen, new_vectors_MT, new_offered_BM)
        lengths = np.array([len(history) for history in histories])
        popularity = np.pad(self.tables.popularity_N, (0, 0 if new_vectors_MT is None else len(new_vectors_MT)))
        log_p = self.gate(z_CBN, history_features(lengths, p_drift_B), item_features(popularity), candidate_BN)
        return log_p.numpy()  # type: ignore[no-any-return]

    @torch.no_grad()
    def components(
        self,
        histories: Sequence[History],
        seen: Sequence[NDArray[np.int64]],
        new_vectors_MT: Tensor | None = None,
        new_offered_BM: NDArray[np.bool_] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Standardised component scores ``z_CB(N+M)`` and the candidate mask."""
        extra = 0 if new_vectors_MT is None else len(new_vectors_MT)
        candidate_BN = torch.ones(len(histories), len(self.bias_N) + extra, dtype=torch.bool)
        if self.mask_seen:
            for row, items in enumerate(seen):
                candidate_BN[row, torch.from_numpy(items)] = False
        if new_offered_BM is not None:
            candidate_BN[:, len(self.bias_N) :] = torch.from_numpy(new_offered_BM)
        rows = [self._component(name, histories, new_vectors_MT) for name in self.gate.components]
        return torch.stack([standardise(scores, candidate_BN) for scores in rows]), candidate_BN

    def neural(self, histories: Sequence[History], new_vectors_MT: Tensor | None = None) -> Tensor:
        """The ranking model alone: ``logits_B(N+M)``."""
        batch = collate([window(history, self.ranker.encoder.config.window_events) for history in histories])
        interests_BD = self.ranker.last_interests(batch, self.table_ND)
        logits_BN: Tensor = interests_BD @ self.table_ND.T + self.bias_N
        if new_vectors_MT is None:
            return logits_BN
        return torch.cat([logits_BN, interests_BD @ self.ranker.items.from_text(new_vectors_MT).T], dim=1)

    def attention(self, histories: Sequence[History], new_vectors_MT: Tensor | None = None) -> Tensor:
        """``softmax(X_u V^T)`` over text vectors, ``X_u`` pooled from the user's newest items: ``weights_B(N+M)``."""
        vectors = self.text_vectors_NT if new_vectors_MT is None else torch.cat([self.text_vectors_NT, new_vectors_MT])
        weights_BN = recency_weights([h.items for h in histories], len(self.text_vectors_NT), ATTENTION_DECAY)
        pooled_BT = torch.nn.functional.normalize(torch.from_numpy(weights_BN) @ self.text_vectors_NT, dim=-1)
        return torch.softmax(pooled_BT @ vectors.T / ATTENTION_TEMPERATURE, dim=-1)

    def _component(self, name: str, histories: Sequence[History], new_vectors_MT: Tensor | None) -> Tensor:
        if name == "neural":
            return self.neural(histories, new_vectors_MT)
        if name == "attention":
            return self.attention(histories, new_vectors_MT)
        scores = torch.from_numpy(np.array(self.tables.score(name, [h.items for h in histories])))
        if name == "popularity":
            scores = torch.log1p(scores)
        extra = 0 if new_vectors_MT is None else len(new_vectors_MT)
        return torch.nn.functional.pad(scores, (0, extra))
