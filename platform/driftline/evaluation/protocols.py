"""One evaluator for every model: rank each target among its candidates, keep one row per target.

A model is a function from histories to scores over the catalogue, so trained models and baselines are measured by the
same code. The moment of a target is never given to a model.

Shape legend: T targets, B targets of a batch, N items, K = 10.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from driftline.columns import Targets as Columns
from driftline.evaluation.bootstrap import Interval, user_bootstrap
from driftline.evaluation.metrics import METRICS, coverage, gini, mid_ranks, novelty
from driftline.events.splits import Targets
from driftline.models.collaborative import CollaborativeTables
from driftline.sequences.batches import History
from driftline.sequences.dataset import Dataset

BATCH_TARGETS = 256
SCORES_AT_ONCE = 2**24
"""Scores of a batch, at most; one target of a larger catalogue is ranked all the same."""
TOP_K = 10
LENGTH_BINS = {"0": (0, 0), "1-3": (1, 3), "4-10": (4, 10), "11-50": (11, 50), ">50": (51, 10**9)}

ScoreFunction = Callable[[Sequence[History]], NDArray[np.float32]]
"""Histories to ``scores_BN``; higher is better, seen items may hold anything."""


@dataclass(frozen=True)
class ModelResult:
    """One model under one protocol.

    Attributes
    ----------
    metrics
        HR@10, NDCG@10, MRR@10 with 95 % user-level bootstrap intervals.
    beyond
        coverage@10, novelty in bits, Gini of exposure.
    by_length
        NDCG@10 by history length, with the number of targets.
    """

    model: str
    metrics: dict[str, Interval]
    beyond: dict[str, float]
    by_length: dict[str, tuple[int, float]]
    by_popularity: dict[str, tuple[int, float]]


@dataclass(frozen=True)
class ProtocolResult:
    """All models under one protocol; ``rows`` is the dump that every figure can be recomputed from."""

    protocol: str
    models: list[ModelResult]
    rows: pd.DataFrame

    @property
    def targets(self) -> int:
        """T."""
        return len(self.rows) // max(1, len(self.models))

    def paired(self, model: str, baseline: str, metric: str) -> Interval:
        """Difference of two models target by target, with its user-level interval."""
        ranks = {
            name: self.rows.loc[self.rows[Columns.MODEL] == name, Columns.RANK].to_numpy() for name in (model, baseline)
        }
        users = self.rows.loc[self.rows[Columns.MODEL] == model, Columns.USER].to_numpy()
        difference = METRICS[metric](ranks[model]) - METRICS[metric](ranks[baseline])
        return user_bootstrap(difference, users)


def baselines_of(tables: CollaborativeTables) -> dict[str, ScoreFunction]:
    """The untrained models that every table shows, from tables fitted on the training sequences."""

    def scorer(name: str) -> ScoreFunction:
        return lambda histories: tables.score(name, [history.items for history in histories])

    return {name: scorer(name) for name in ("popularity", f"{tables.item_item}-recency", "markov")}


def evaluate(
    dataset: Dataset,
    targets: Targets,
    models: Mapping[str, ScoreFunction],
    popularity_N: NDArray[np.float32],
    seed: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> ProtocolResult:
    """Rank every target with every model.

    Parameters
    ----------
    popularity_N
        Training counts, for novelty and the popularity deciles.
    tell
        Called with (targets done, targets in all).
    """
    answer_T = dataset.indices(targets.item_ids)
    ranks = {name: np.empty(len(targets)) for name in models}
    depth = min(TOP_K, len(popularity_N))
    top = {name: np.empty((len(targets), depth), dtype=np.int64) for name in models}
    batch = min(BATCH_TARGETS, max(1, SCORES_AT_ONCE // len(popularity_N)))
    for start in range(0, len(targets), batch):
        rows = np.arange(start, min(start + batch, len(targets)))
        histories = [dataset.target_history(targets, int(row)) for row in rows]
        excluded = _excluded(histories, len(popularity_N), dataset.catalog.repeat_consumption)
        for name, score in models.items():
            scores = np.asarray(score(histories), dtype=np.float32)
            ranks[name][rows] = mid_ranks(scores, answer_T[rows], excluded.copy())
            masked = np.where(excluded, -np.inf, scores)
            top[name][rows] = np.argsort(-masked, axis=1, kind="stable")[:, :depth]
        tell(len(rows) + start, len(targets))
    users, lengths = targets.user_ids, targets.history_lengths
    results = [_summarise(name, ranks[name], top[name], users, lengths, popularity_N, answer_T) for name in models]
    dump = [
        pd.DataFrame(
            {
                Columns.PROTOCOL: dataset.split.name,
                Columns.USER: users,
                Columns.ITEM: targets.item_ids,
                Columns.HISTORY_LENGTH: lengths,
                Columns.RANK: ranks[name],
                Columns.MODEL: name,
                Columns.SEED: seed,
            }
        )
        for name in models
    ]
    return ProtocolResult(dataset.split.name, results, pd.concat(dump, ignore_index=True))


def _excluded(histories: Sequence[History], num_items: int, repeats: bool) -> NDArray[np.bool_]:
    excluded = np.zeros((len(histories), num_items), dtype=bool)
    if not repeats:
        for row, history in enumerate(histories):
            excluded[row, history.items] = True
    return excluded


def _summarise(
    name: str,
    ranks_T: NDArray[np.float64],
    top_TK: NDArray[np.int64],
    users_T: NDArray[np.object_],
    lengths_T: NDArray[np.int64],
    popularity_N: NDArray[np.float32],
    answer_T: NDArray[np.int64],
) -> ModelResult:
    ndcg_T = METRICS["NDCG@10"](ranks_T)
    by_length = {}
    for label, (low, high) in LENGTH_BINS.items():
        inside = (lengths_T >= low) & (lengths_T <= high)
        if inside.any():
            by_length[label] = (int(inside.sum()), float(ndcg_T[inside].mean()))
    decile_N = (np.argsort(np.argsort(popularity_N, kind="stable"), kind="stable") * 10) // len(popularity_N)
    by_popularity = {}
    for decile in range(10):
        inside = decile_N[answer_T] == decile
        if inside.any():
            by_popularity[f"{decile + 1}"] = (int(inside.sum()), float(ndcg_T[inside].mean()))
    return ModelResult(
        model=name,
        metrics={metric: user_bootstrap(values(ranks_T), users_T) for metric, values in METRICS.items()},
        beyond={
            "coverage@10": coverage(top_TK, len(popularity_N)),
            "novelty": novelty(top_TK, popularity_N),
            "gini": gini(top_TK, len(popularity_N)),
        },
        by_length=by_length,
        by_popularity=by_popularity,
    )
