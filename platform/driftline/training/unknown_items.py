"""Known items shown to the fusion gate as if nobody had had them, so that it learns what scores are worth for new ones.

Shape legend: T targets, M items taken for unknown.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from driftline.config import Config
from driftline.models.content import ContentRidge, features
from driftline.models.fusion import GateExamples
from driftline.ranking.gate import MAX_ITEMS, unknown_item_examples
from driftline.ranking.scoring import Scorer
from driftline.sequences.dataset import Dataset, ranking_split
from driftline.training.stages import alignment_items, factor_sequences
from driftline.training.validation import RankingTargets


def as_unknown(
    config: Config, dataset: Dataset, scorer: Scorer, targets: RankingTargets, p_drift_T: NDArray[np.float64]
) -> list[GateExamples]:
    """Those targets whose items neither text tower nor text head have learnt from; none where there are none.

    The regression from content is fitted anew, on events that are not of these items.
    """
    items_M, _ = alignment_items(factor_sequences(dataset, config), len(dataset.catalog), config.seed)
    if len(items_M) > MAX_ITEMS:
        items_M = np.sort(np.random.default_rng(config.seed).choice(items_M, MAX_ITEMS, replace=False))
    chosen = np.flatnonzero(np.isin(targets.targets_T, items_M))
    if not len(chosen):
        return []
    features_NF = features(dataset.catalog.texts, scorer.text_vectors_NT.numpy())
    return [
        unknown_item_examples(
            _without(config, dataset, scorer, items_M, features_NF),
            [targets.histories[int(number)] for number in chosen],
            targets.targets_T[chosen],
            p_drift_T[chosen],
            items_M,
            torch.from_numpy(features_NF[items_M]),
        )
    ]


def _without(
    config: Config, dataset: Dataset, scorer: Scorer, items_M: NDArray[np.int64], features_NF: NDArray[np.float32]
) -> Scorer:
    """The scorer as if nobody had had these items, as far as new items' scores depend on it."""
    if scorer.tables.content is None:
        return scorer
    histories = dataset.histories(ranking_split(dataset, config).fit).values()
    sequences = [history.items[~np.isin(history.items, items_M)] for history in histories]
    content = ContentRidge.fit(sequences, features_NF, config.ranking.dense_tables_up_to)
    tables = replace(scorer.tables, content=content)
    return Scorer(scorer.ranker, tables, scorer.text_vectors_NT, scorer.gate, scorer.mask_seen)
