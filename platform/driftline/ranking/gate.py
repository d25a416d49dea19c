"""Fit a scorer's fusion gate on targets that its tables and its ranker have not seen.

Shape legend: T targets, N items, C components.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from driftline.config import FusionConfig
from driftline.models.fusion import GateExamples, fit_gate
from driftline.ranking.scoring import Scorer, parts
from driftline.sequences.batches import History

MAX_ITEMS = 20_000
"""Items that the gate is fitted over; beyond, the targets and a seeded sample of the others."""


def fit_scorer_gate(
    scorer: Scorer,
    histories: Sequence[History],
    targets_T: NDArray[np.int64],
    p_drift_T: NDArray[np.float64],
    config: FusionConfig,
    seed: int,
) -> float:
    """Fit the gate in place. Returns the final mean log-likelihood in nats.

    Component scores are standardised over the whole catalogue, also where the gate is fitted over a sample of it.

    Parameters
    ----------
    histories
        What came before each target.
    targets_T
        Items that came next.
    p_drift_T
        P(drift) after each history.
    """
    columns, stands_for = _columns(scorer.num_items, targets_T, seed)
    z, candidates = [], []
    for part in parts(len(histories), scorer.num_items):
        z_CBN, candidate_BN = scorer.components(histories[part], [history.items for history in histories[part]])
        z.append(z_CBN[..., columns])
        candidates.append(candidate_BN[:, columns])
    own_T = torch.from_numpy(np.searchsorted(columns, targets_T))
    examples = GateExamples(
        torch.cat(z, dim=1),
        scorer.history_features(histories, p_drift_T),
        torch.cat(candidates).index_put((torch.arange(len(histories)), own_T), torch.tensor(True)),
        own_T,
        torch.from_numpy(np.log(stands_for)),
    )
    features = scorer.features()
    features = features._replace(row_N=features.row_N[columns])
    return fit_gate(scorer.gate, examples, features, config.steps, config.weight_decay, seed)


def _columns(num_items: int, targets_T: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Items that the gate is fitted over, ascending, and how many items each stands for."""
    if num_items <= MAX_ITEMS:
        return np.arange(num_items), np.ones(num_items, dtype=np.float32)
    own = np.unique(targets_T)
    others = np.setdiff1d(np.arange(num_items), own)
    sample = np.random.default_rng(seed).permutation(others)[: MAX_ITEMS - len(own)]
    columns = np.sort(np.concatenate([own, sample]))
    return columns, np.where(np.isin(columns, own), 1.0, len(others) / len(sample)).astype(np.float32)
