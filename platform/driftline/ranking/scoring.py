"""Component scores of histories over the catalogue, and their fusion.

Shape legend: B histories, N items of the bundle, M new items known by text only, C components, T text-vector width.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftline.models.collaborative import CollaborativeTables
from driftline.models.fusion import FusionGate, ItemFeatures, history_features, item_features, standardise
from driftline.models.recency import recency_weights, weighted_rows
from driftline.models.recommender import Recommender
from driftline.ranking.interests import Interests
from driftline.sequences.batches import History, target_gaps

Part = TypeVar("Part")

ATTENTION_DECAY = 0.9
ATTENTION_TEMPERATURE = 0.1
LEAST_SHARES = 0.02
"""What all items together have of a row beyond what was counted."""
SCORES_AT_ONCE = 2**20
"""Histories times items of one pass: bounds its memory, and keeps it where the allocator uses it again and again."""
SLOW_PRODUCTS = (2, 3)
"""Numbers of histories whose product with a large table takes longer at once than one by one (MKL, 200,000 rows)."""


def parts(count: int, num_items: int) -> list[slice]:
    """So many histories in passes whose scores over the catalogue fit into memory."""
    step = max(1, SCORES_AT_ONCE // max(num_items, 1))
    return [slice(first, first + step) for first in range(0, count, step)]


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
        with torch.no_grad():
            (table_ND, _), (output_ND, self.bias_N) = ranker.items(), ranker.outputs()
        # laid out by column: a product with a single history is a third faster
        self.table_ND, self.text_vectors_NT = _by_column(table_ND), _by_column(text_vectors_NT)
        self.output_ND = self.table_ND if ranker.text_head is None else _by_column(output_ND)
        self.interests = Interests(self.ranker, self.table_ND)
        self._log_popularity_N = torch.from_numpy(np.log1p(tables.popularity_N))
        self._features = item_features(np.append(tables.popularity_N, np.float32(0)))  # the last one is a new item's

    @property
    def num_items(self) -> int:
        """Items of the bundle."""
        return len(self.bias_N)

    @torch.inference_mode()
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
            Attributes and text vectors of items that are not in the bundle, as :meth:`Model.read` gives them; they take
            columns N to N+M-1.
        new_offered_BM
            Which of them are candidates of which history; None = all of all. A list must not depend on what the
            other lists of its batch were offered.
        """
        items = self.features(0 if new_vectors_MT is None else len(new_vectors_MT))
        features_BF = self.history_features(histories, p_drift_B)
        log_p_BN = np.empty((len(histories), len(items.row_N)), dtype=np.float32)
        for part in parts(len(histories), len(items.row_N)):
            offered = None if new_offered_BM is None else new_offered_BM[part]
            z_CBN, candidate_BN = self.components(histories[part], seen[part], new_vectors_MT, offered)
            log_p_BN[part] = self.gate(z_CBN, features_BF[part], items, candidate_BN).numpy()
        return log_p_BN

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
        return standardise(torch.stack(rows), candidate_BN), candidate_BN

    def history_features(self, histories: Sequence[History], p_drift_B: NDArray[np.float64]) -> Tensor:
        """What the gate sees of histories: ``features_BF``."""
        lengths_B = np.array([len(history) for history in histories])
        return history_features(lengths_B, p_drift_B, target_gaps(histories) if self.gate.target_gap else None)

    def features(self, new_items: int = 0) -> ItemFeatures:
        """What the gate sees of the bundle's items, and of so many new ones."""
        row_N, new_row = self._features.row_N[:-1], self._features.row_N[-1:]
        return self._features._replace(row_N=torch.cat([row_N, new_row.expand(new_items)]) if new_items else row_N)

    def neural(self, histories: Sequence[History], new_vectors_MT: Tensor | None = None) -> Tensor:
        """The ranking model alone: ``logits_B(N+M)``."""
        interests_BD = self.interests(histories)
        logits_BN: Tensor = _product(interests_BD, self.output_ND) + self.bias_N
        if new_vectors_MT is None:
            return logits_BN
        read = new_vectors_MT if self.ranker.text_head is not None else self._text_vectors(new_vectors_MT)
        new_MD, new_bias_M = self.ranker.outputs_of(read)
        return torch.cat([logits_BN, interests_BD @ new_MD.T + new_bias_M], dim=1)

    def attention(self, histories: Sequence[History], new_vectors_MT: Tensor | None = None) -> Tensor:
        """``softmax(X_u V^T)`` over text vectors, ``X_u`` pooled from the user's newest items: ``weights_B(N+M)``."""
        weights = recency_weights([history.items for history in histories], ATTENTION_DECAY)
        pooled_BT = torch.from_numpy(weighted_rows(weights, self.text_vectors_NT.numpy()))
        pooled_BT = nn.functional.normalize(pooled_BT, dim=-1) / ATTENTION_TEMPERATURE
        logits_BN = _product(pooled_BT, self.text_vectors_NT)
        if new_vectors_MT is not None:
            logits_BN = torch.cat([logits_BN, pooled_BT @ self._text_vectors(new_vectors_MT).T], dim=1)
        return torch.softmax(logits_BN, dim=-1)

    def content(self, histories: Sequence[History], new_vectors_MT: Tensor | None = None) -> Tensor:
        """Collaborative factors, those of unknown items predicted from content: ``scores_B(N+M)``."""
        new = None if new_vectors_MT is None else new_vectors_MT.numpy()
        ridge = _fitted(self.tables.content, "content")
        return torch.from_numpy(ridge.score([history.items for history in histories], new))

    def _text_vectors(self, new_vectors_MT: Tensor) -> Tensor:
        return new_vectors_MT[:, -self.text_vectors_NT.shape[1] :]

    def _component(self, name: str, histories: Sequence[History], new_vectors_MT: Tensor | None) -> Tensor:
        if name == "neural":
            return self.neural(histories, new_vectors_MT)
        if name == "attention":
            return self.attention(histories, new_vectors_MT)
        if name == "content":
            return self.content(histories, new_vectors_MT)
        if name == "popularity":
            scores = self._log_popularity_N.expand(len(histories), -1)
        elif name == "trend":
            scores = torch.from_numpy(_fitted(self.tables.trend, name).score(histories))
        elif name == "user-knn":
            scores = torch.from_numpy(_fitted(self.tables.user_knn, name).score([h.items for h in histories]))
        else:
            scores = torch.from_numpy(self.tables.score(name, [h.items for h in histories]))
        if new_vectors_MT is not None:
            scores = nn.functional.pad(scores, (0, len(new_vectors_MT)))
        return _log_share(scores, self.num_items) if name == "co-occurrence" else scores


def _fitted(part: Part | None, name: str) -> Part:
    if part is None:
        raise ValueError(f"fusion.components has {name}, but the bundle's collaborative tables do not")
    return part


def _log_share(scores_BN: Tensor, num_items: int) -> Tensor:
    """Log of each item's share of the row, every item having a little: counts of pairs have long tails."""
    total_B1 = scores_BN.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return torch.log(scores_BN / total_B1 + LEAST_SHARES / num_items)


def _product(rows_BD: Tensor, table_ND: Tensor) -> Tensor:
    """``rows_BD @ table_ND.T``."""
    if len(rows_BD) in SLOW_PRODUCTS:
        return torch.cat([rows_BD[row : row + 1] @ table_ND.T for row in range(len(rows_BD))])
    return rows_BD @ table_ND.T


def _by_column(table_ND: Tensor) -> Tensor:
    """The same table, its memory laid out by column."""
    return table_ND.detach().T.contiguous().T
