"""The fusion gate: how much each component's score counts, for this history and this item.

Shape legend: B histories, N items, C components, F history features, G item features, V distinct rows of those.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftline.sequences.gaps import GAP_BUCKETS

HISTORY_FEATURES = ("log_length", "p_drift")
GAP_FEATURES = {"same moment": (1, 1), "same minute": (2, 4), "same hour": (5, 7), "later": (8, GAP_BUCKETS - 1)}
"""First and last bucket (:mod:`driftline.sequences.gaps`) of the time since the last event; none of them = unknown."""
ITEM_FEATURES = ("log_popularity", "new")
BATCH_TARGETS = 128
START = -1.5
"""Softplus of it, .2, is every component's weight before fitting: together they say less than one that is sure."""


def standardise(scores_CBN: Tensor, candidate_BN: Tensor) -> Tensor:
    """z-scores over each row's candidates, in place; other entries are 0. A row that is constant in float32 becomes 0.

    Few passes over memory, and none that picks by a mask (ten times slower): a catalogue is long, what is closed short.
    """
    row, column = (~candidate_BN).nonzero(as_tuple=True)
    closed_B = torch.bincount(row, minlength=len(candidate_BN))
    count_B1 = (candidate_BN.shape[1] - closed_B).clamp(min=1).unsqueeze(1)
    z_CBN = scores_CBN
    z_CBN[..., row, column] = 0.0
    most_CB1 = torch.maximum(z_CBN.amax(dim=-1, keepdim=True), -z_CBN.amin(dim=-1, keepdim=True))
    z_CBN -= z_CBN.sum(dim=-1, keepdim=True) / count_B1
    z_CBN[..., row, column] = 0.0
    deviation_CB1 = torch.linalg.vector_norm(z_CBN, dim=-1, keepdim=True) / count_B1.sqrt()
    rounding_CB1 = 1e-6 * most_CB1  # of the mean of a constant row
    is_spread_CB1 = deviation_CB1 > rounding_CB1.clamp(min=1e-9)
    return z_CBN.mul_(is_spread_CB1 / deviation_CB1.clamp(min=1e-9))


def history_features(
    lengths_B: NDArray[np.int64], p_drift_B: NDArray[np.float64], gaps_B: NDArray[np.int64] | None = None
) -> Tensor:
    """``features_BF``: log of the history's length (about 0..1) and P(drift); given gaps, also ``GAP_FEATURES``."""
    features = [np.log1p(lengths_B) / 6.0, p_drift_B]
    if gaps_B is not None:
        features += [((gaps_B >= first) & (gaps_B <= last)).astype(float) for first, last in GAP_FEATURES.values()]
    return torch.from_numpy(np.stack(features, axis=1).astype(np.float32))


class ItemFeatures(NamedTuple):
    """Features of every item, each distinct row once: a catalogue has few distinct training counts.

    Attributes
    ----------
    distinct_VG
        Log training count (about 0..1) and whether the item is new to the training data; V rows.
    row_N
        int32, row of each item.
    """

    distinct_VG: Tensor
    row_N: Tensor


def item_features(popularity_N: NDArray[np.float32]) -> ItemFeatures:
    """Features of items by their training counts."""
    counts_V, row_N = np.unique(popularity_N, return_inverse=True)
    distinct_VG = np.stack([np.log1p(counts_V) / 6.0, counts_V == 0], axis=1).astype(np.float32)
    return ItemFeatures(torch.from_numpy(distinct_VG), torch.from_numpy(row_N.astype(np.int32)))


class FusionGate(nn.Module):
    """Log-probabilities from a positive, learned combination of standardised component scores.

    ``score_n = sum_c softplus(a_c + U_c . history + V_c . item_n) z_cn``, then a softmax over the candidates. Linear on
    purpose: it is fitted on a few hundred validation targets.

    Parameters
    ----------
    components
        Whose scores it weighs.
    target_gap
        The time since the last event (:data:`GAP_FEATURES`) has a say.
    """

    def __init__(self, components: tuple[str, ...], target_gap: bool = False) -> None:
        super().__init__()
        self.components, self.target_gap = components, target_gap
        num_features = len(HISTORY_FEATURES) + (len(GAP_FEATURES) if target_gap else 0)
        self.base_C = nn.Parameter(torch.full((len(components),), START))
        self.history_FC = nn.Parameter(torch.zeros(num_features, len(components)))
        self.item_GC = nn.Parameter(torch.zeros(len(ITEM_FEATURES), len(components)))

    def forward(
        self,
        z_CBN: Tensor,
        history_BF: Tensor,
        items: ItemFeatures,
        candidate_BN: Tensor,
        log_stands_for_N: Tensor | None = None,
    ) -> Tensor:
        """Log-probabilities over the candidates, ``-inf`` elsewhere: ``log_p_BN``.

        Parameters
        ----------
        log_stands_for_N
            Where the columns are a sample: log of how many items each stands for in the softmax.
        """
        closed, impossible = (~candidate_BN).nonzero(as_tuple=True), z_CBN.new_tensor(-torch.inf)
        scores_BN = self._scores(z_CBN, history_BF, items)
        if log_stands_for_N is not None:
            scores_BN = scores_BN + log_stands_for_N
        log_p_BN = torch.log_softmax(scores_BN.index_put(closed, impossible), dim=-1)
        return log_p_BN.index_put(closed, impossible)  # a row without any candidate would be NaN

    def _scores(self, z_CBN: Tensor, history_BF: Tensor, items: ItemFeatures) -> Tensor:
        user_CB1 = (history_BF @ self.history_FC + self.base_C).T.unsqueeze(-1)
        item_C1V = (items.distinct_VG @ self.item_GC).T.unsqueeze(1)
        weight_CBV = nn.functional.softplus(user_CB1 + item_C1V)
        scores_BN = weight_CBV[0].index_select(-1, items.row_N) * z_CBN[0]
        for c in range(1, len(self.components)):
            scores_BN = torch.addcmul(scores_BN, weight_CBV[c].index_select(-1, items.row_N), z_CBN[c])
        return scores_BN


@dataclass(frozen=True)
class GateExamples:
    """Validation targets with all component scores.

    Attributes
    ----------
    targets_B
        Columns of the targets.
    items
        Features of the columns.
    log_stands_for_N
        See :meth:`FusionGate.forward`.
    """

    z_CBN: Tensor
    history_BF: Tensor
    candidate_BN: Tensor
    targets_B: Tensor
    items: ItemFeatures
    log_stands_for_N: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets_B)


def fit_gate(gate: FusionGate, groups: Sequence[GateExamples], steps: int, weight_decay: float, seed: int) -> float:
    """Maximise the likelihood of validation targets. Returns the final mean log-likelihood in nats.

    Components fitted on training data only must have made the scores, so that the gate learns their honest worth.

    Parameters
    ----------
    groups
        Targets whose candidates are different items; each target counts the same.
    """
    generator = torch.Generator().manual_seed(seed)
    slopes = [gate.history_FC, gate.item_GC]
    parameters = [{"params": slopes, "weight_decay": weight_decay}, {"params": [gate.base_C], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(parameters, lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    counts_G = torch.tensor([len(group) for group in groups])
    shares_G = counts_G / counts_G.sum()
    for _ in range(steps):
        drawn = [torch.randperm(len(group), generator=generator)[:BATCH_TARGETS] for group in groups]
        likelihoods = [_log_likelihood(gate, group, chosen) for group, chosen in zip(groups, drawn, strict=True)]
        loss = -(shares_G * torch.stack(likelihoods)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        likelihoods = [_log_likelihood(gate, group, torch.arange(len(group))) for group in groups]
    return float((shares_G * torch.stack(likelihoods)).sum())


def _log_likelihood(gate: FusionGate, group: GateExamples, chosen: Tensor) -> Tensor:
    """Mean over some of the targets."""
    candidate_BN, history_BF = group.candidate_BN[chosen], group.history_BF[chosen]
    log_p_BN = gate(group.z_CBN[:, chosen], history_BF, group.items, candidate_BN, group.log_stands_for_N)
    likelihood: Tensor = log_p_BN[torch.arange(len(chosen)), group.targets_B[chosen]].mean()
    return likelihood
