"""What a scorer's fusion gate is fitted on: targets that its tables and its ranker have not seen.

Shape legend: T targets, N items, M items taken for unknown, C components, F features.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftline.models.fusion import GateExamples
from driftline.ranking.scoring import Scorer, parts
from driftline.sequences.batches import History

MAX_ITEMS = 20_000
"""Items that the gate is fitted over; beyond, the targets and a seeded sample of the others."""


def gate_examples(
    scorer: Scorer,
    histories: Sequence[History],
    targets_T: NDArray[np.int64],
    p_drift_T: NDArray[np.float64],
    seed: int,
) -> GateExamples:
    """Targets among the items of the catalogue.

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
    features = scorer.features()
    return GateExamples(
        torch.cat(z, dim=1),
        scorer.history_features(histories, p_drift_T),
        torch.cat(candidates).index_put((torch.arange(len(histories)), own_T), torch.tensor(True)),
        own_T,
        features._replace(row_N=features.row_N[columns]),
        torch.from_numpy(np.log(stands_for)),
    )


def unknown_item_examples(
    scorer: Scorer,
    histories: Sequence[History],
    targets_T: NDArray[np.int64],
    p_drift_T: NDArray[np.float64],
    items_M: NDArray[np.int64],
    features_MF: Tensor,
) -> GateExamples:
    """Targets among items that are taken for unknown, and ranked among these alone.

    It shows what components are worth between two new items. Had they other candidates, the gate would learn that a new
    item is what comes next. They are offered as items that the bundle lacks, and no history has an event of theirs.

    Parameters
    ----------
    scorer
        What it knows of new items must not have been learnt from these.
    targets_T
        Items that came next, all of them in ``items_M``.
    items_M
        Distinct indices of the catalogue, ascending.
    features_MF
        As :meth:`~driftline.ranking.scoring.Scorer.log_probabilities` takes them.
    """
    is_unknown_N = np.zeros(scorer.num_items, dtype=bool)
    is_unknown_N[items_M] = True
    own_T = np.searchsorted(items_M, targets_T)
    left = [history.at(~is_unknown_N[history.items]) for history in histories]
    seen = [np.concatenate([history.items, items_M]) for history in histories]
    offered_TM = ~np.stack([np.isin(items_M, history.items) for history in histories])
    offered_TM[np.arange(len(own_T)), own_T] = True
    z = [
        scorer.components(left[part], seen[part], features_MF, offered_TM[part])[0][..., scorer.num_items :].clone()
        for part in parts(len(histories), scorer.num_items)
    ]
    features = scorer.features(len(items_M))
    return GateExamples(
        torch.cat(z, dim=1),
        scorer.history_features(left, p_drift_T),
        torch.from_numpy(offered_TM),
        torch.from_numpy(own_T),
        features._replace(row_N=features.row_N[scorer.num_items :]),
    )


def _columns(num_items: int, targets_T: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Items that the gate is fitted over, ascending, and how many items each stands for."""
    if num_items <= MAX_ITEMS:
        return np.arange(num_items), np.ones(num_items, dtype=np.float32)
    own = np.unique(targets_T)
    others = np.setdiff1d(np.arange(num_items), own)
    sample = np.random.default_rng(seed).permutation(others)[: MAX_ITEMS - len(own)]
    columns = np.sort(np.concatenate([own, sample]))
    return columns, np.where(np.isin(columns, own), 1.0, len(others) / len(sample)).astype(np.float32)
