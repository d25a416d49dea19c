"""The fusion gate: how much each component's score counts, for this history and this item.

Shape legend: B histories, N items, C components, F history features, G item features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

HISTORY_FEATURES = ("log_length", "p_drift")
ITEM_FEATURES = ("log_popularity", "new")
BATCH_TARGETS = 128


def standardise(scores_BN: Tensor, candidate_BN: Tensor) -> Tensor:
    """z-scores over each row's candidates; other entries are 0. A row that is constant in float32 becomes 0."""
    count_B1 = candidate_BN.sum(dim=1, keepdim=True).clamp(min=1)
    kept_BN = scores_BN.masked_fill(~candidate_BN, 0.0)
    mean_B1 = kept_BN.sum(dim=1, keepdim=True) / count_B1
    centred_BN = (kept_BN - mean_B1).masked_fill(~candidate_BN, 0.0)
    deviation_B1 = (centred_BN.square().sum(dim=1, keepdim=True) / count_B1).sqrt()
    rounding_B1 = 1e-6 * kept_BN.abs().amax(dim=1, keepdim=True)  # of the mean of a constant row
    spread_B1 = deviation_B1 > rounding_B1.clamp(min=1e-9)
    return torch.where(spread_B1, centred_BN / deviation_B1.clamp(min=1e-9), torch.zeros_like(centred_BN))


def history_features(lengths_B: NDArray[np.int64], p_drift_B: NDArray[np.float64]) -> Tensor:
    """``features_BF``: log of the history's length (about 0..1) and P(drift)."""
    return torch.from_numpy(np.stack([np.log1p(lengths_B) / 6.0, p_drift_B], axis=1).astype(np.float32))


def item_features(popularity_N: NDArray[np.float32]) -> Tensor:
    """``features_NG``: log training count (about 0..1) and whether the item is new to the training data."""
    log_count_N = np.log1p(popularity_N) / 6.0
    return torch.from_numpy(np.stack([log_count_N, popularity_N == 0], axis=1).astype(np.float32))


class FusionGate(nn.Module):
    """Log-probabilities from a positive, learned combination of standardised component scores.

    ``score_n = sum_c softplus(a_c + U_c . history + V_c . item_n) z_cn``, then a softmax over the candidates. Linear on
    purpose: it is fitted on a few hundred validation targets.
    """

    def __init__(self, components: tuple[str, ...]) -> None:
        super().__init__()
        self.components = components
        self.base_C = nn.Parameter(torch.zeros(len(components)))
        self.history_FC = nn.Parameter(torch.zeros(len(HISTORY_FEATURES), len(components)))
        self.item_GC = nn.Parameter(torch.zeros(len(ITEM_FEATURES), len(components)))

    def forward(self, z_CBN: Tensor, history_BF: Tensor, item_NG: Tensor, candidate_BN: Tensor) -> Tensor:
        """Log-probabilities over the candidates, ``-inf`` elsewhere: ``log_p_BN``."""
        user_BC, item_NC = history_BF @ self.history_FC + self.base_C, item_NG @ self.item_GC
        scores_BN = torch.zeros_like(z_CBN[0])
        for c in range(len(self.components)):
            weight_BN = nn.functional.softplus(user_BC[:, c].unsqueeze(1) + item_NC[:, c].unsqueeze(0))
            scores_BN = scores_BN + weight_BN * z_CBN[c]
        log_p_BN = torch.log_softmax(scores_BN.masked_fill(~candidate_BN, -torch.inf), dim=-1)
        return log_p_BN.masked_fill(~candidate_BN, -torch.inf)  # a row without any candidate would be NaN


@dataclass(frozen=True)
class GateExamples:
    """Validation targets with all component scores."""

    z_CBN: Tensor
    history_BF: Tensor
    candidate_BN: Tensor
    targets_B: Tensor


def fit_gate(
    gate: FusionGate, examples: GateExamples, item_NG: Tensor, steps: int, weight_decay: float, seed: int
) -> float:
    """Maximise the likelihood of validation targets. Returns the final mean log-likelihood in nats.

    Components fitted on training data only must have made the scores, so that the gate learns their honest worth.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(gate.parameters(), lr=0.05, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    count = len(examples.targets_B)
    for _ in range(steps):
        chosen = torch.randperm(count, generator=generator)[:BATCH_TARGETS]
        log_p = gate(examples.z_CBN[:, chosen], examples.history_BF[chosen], item_NG, examples.candidate_BN[chosen])
        loss = -log_p[torch.arange(len(chosen)), examples.targets_B[chosen]].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        log_p = gate(examples.z_CBN, examples.history_BF, item_NG, examples.candidate_BN)
    return float(log_p[torch.arange(count), examples.targets_B].mean())
