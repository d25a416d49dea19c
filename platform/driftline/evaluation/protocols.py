"""One evaluator for every model: rank each target among its candidates, keep one row per target.

A model is a function from histories to scores over the catalogue, so trained models and baselines are measured by the
same code. The moment of a target is given to models in tables of their own only.

Shape legend: T targets, B targets of a batch, N items, K = 10.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from driftline.columns import Events
from driftline.columns import Targets as Columns
from driftline.config import Protocol
from driftline.evaluation.bootstrap import Interval, user_bootstraps
from driftline.evaluation.metrics import METRICS, coverage, gini, mid_ranks, novelty
from driftline.events.splits import Targets, is_cold_item
from driftline.models.collaborative import CollaborativeTables
from driftline.sequences.batches import History
from driftline.sequences.dataset import Dataset

BATCH_TARGETS = 256
SCORES_AT_ONCE = 2**24
"""Scores of a batch, at most; one target of a larger catalogue is ranked all the same."""
TOP_K = 10
LENGTH_BINS = {"0": (0, 0), "1-3": (1, 3), "4-10": (4, 10), "11-50": (11, 50), ">50": (51, 10**9)}
COLD_USER_EVENTS = (0, 1, 2, 3, 5)
MEASURED = "driftline"
"""The model that is compared with all others, where it is among them."""

RankingProtocol = Literal["leave-one-out", "temporal-successive", "cold-item", "cold-user"]
Measured = RankingProtocol | Literal["rating"]
TRAINED_UNDER: Final[Mapping[Measured, Protocol]] = {
    "leave-one-out": "leave-one-out",
    "cold-user": "leave-one-out",
    "temporal-successive": "temporal-successive",
    "cold-item": "cold-item",
    "rating": "rating",
}
"""What a bundle must have been trained under to be measured honestly."""

ScoreFunction = Callable[[Sequence[History]], NDArray[np.float32]]
"""Histories to ``scores_BN``; higher is better, seen items may hold anything."""


@dataclass(frozen=True)
class Ranking:
    """What one table is about: targets, and the items that they are ranked among.

    Attributes
    ----------
    candidate_N
        The items that are candidates if they are not in the history; None = all.
    with_moment
        The models are told when each target happened.
    """

    name: str
    targets: Targets
    candidate_N: NDArray[np.bool_] | None = None
    with_moment: bool = False


@dataclass(frozen=True)
class Ranked:
    """Some targets ranked by every model: by model, ``ranks_B`` and the list ``top_BK``."""

    ranks: dict[str, NDArray[np.float64]]
    top: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Stratum:
    """NDCG@10 of some of the targets."""

    targets: int
    ndcg: Interval


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
        By history length.
    by_popularity
        By the target's decile among all items in training events: 1 = the least popular items.
    by_age
        By the target's decile among all items in the moment of the first training event: 1 = the oldest items,
        ``new`` = no training event. Empty where times are unknown.
    """

    model: str
    metrics: dict[str, Interval]
    beyond: dict[str, float]
    by_length: dict[str, Stratum]
    by_popularity: dict[str, Stratum]
    by_age: dict[str, Stratum]


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

    def comparisons(self) -> dict[str, dict[str, Interval]]:
        """By baseline and metric: :data:`MEASURED` minus the baseline. Empty where there is no such model."""
        by_model = {str(name): rows for name, rows in self.rows.groupby(Columns.MODEL, sort=False)}
        ranks = {name: rows[Columns.RANK].to_numpy() for name, rows in by_model.items()}
        others = [name for name in ranks if name != MEASURED]
        if MEASURED not in ranks or not others:
            return {}
        columns = [METRICS[m](ranks[MEASURED]) - METRICS[m](ranks[other]) for other in others for m in METRICS]
        found = iter(user_bootstraps(np.column_stack(columns), by_model[MEASURED][Columns.USER].to_numpy()))
        return {other: {m: next(found) for m in METRICS} for other in others}


def rankings(protocol: RankingProtocol, dataset: Dataset, with_moment: bool = False) -> list[Ranking]:
    """The tables of a protocol over a data set that was split for it (:data:`TRAINED_UNDER`).

    Parameters
    ----------
    with_moment
        One more, where models are told the moment of every target: for those that can read it.
    """
    test = dataset.split.test
    if protocol == "cold-user":
        return [Ranking(f"cold-user, {events} events", test.truncated(events)) for events in COLD_USER_EVENTS]
    if protocol == "cold-item":
        cold_N = np.array([is_cold_item(item) for item in dataset.catalog.ids], dtype=bool)
        return [Ranking("cold-item, cold items", test, cold_N), Ranking("cold-item, all items", test)]
    told = [Ranking(f"{protocol}, given the target's time gap", test, with_moment=True)]
    return [Ranking(protocol, test), *(told if with_moment else ())]


def baselines_of(tables: CollaborativeTables) -> dict[str, ScoreFunction]:
    """The untrained models that every table shows, from tables fitted on the training sequences."""

    def scorer(name: str) -> ScoreFunction:
        return lambda histories: tables.score(name, [history.items for history in histories])

    return {name: scorer(name) for name in ("popularity", f"{tables.item_item}-recency", "markov")}


def batches(targets: Targets, num_items: int) -> list[slice]:
    """Targets that are ranked at a time: the figures do not depend on which process ranks which batch."""
    size = min(BATCH_TARGETS, max(1, SCORES_AT_ONCE // num_items))
    return [slice(first, first + size) for first in range(0, len(targets), size)]


def rank_batch(dataset: Dataset, ranking: Ranking, batch: slice, models: Mapping[str, ScoreFunction]) -> Ranked:
    """Rank some targets with every model."""
    targets, num_items = ranking.targets, len(dataset.catalog)
    numbers = range(*batch.indices(len(targets)))
    histories = [dataset.target_history(targets, number, ranking.with_moment) for number in numbers]
    answer_B = dataset.indices(targets.item_ids[batch])
    excluded_BN = excluded_items(histories, num_items, not dataset.catalog.repeat_consumption)
    if ranking.candidate_N is not None:
        excluded_BN |= ~ranking.candidate_N
    ranked = Ranked({}, {})
    for name, score in models.items():
        scores_BN = np.asarray(score(histories), dtype=np.float32)
        ranked.ranks[name] = mid_ranks(scores_BN, answer_B, excluded_BN.copy())
        masked_BN = np.where(excluded_BN, -np.inf, scores_BN)
        ranked.top[name] = np.argsort(-masked_BN, axis=1, kind="stable")[:, : min(TOP_K, num_items)]
    return ranked


def summarise(
    dataset: Dataset, ranking: Ranking, ranked: Sequence[Ranked], popularity_N: NDArray[np.float32], seed: int
) -> ProtocolResult:
    """Every figure of a table from its ranked batches, which are in order."""
    targets = ranking.targets
    names = list(ranked[0].ranks)
    ranks = {name: np.concatenate([part.ranks[name] for part in ranked]) for name in names}
    top = {name: np.concatenate([part.top[name] for part in ranked]) for name in names}
    strata = list(_strata(dataset, targets, popularity_N))
    values, among, everybody = [], [], np.ones(len(targets), dtype=bool)
    for name in names:
        values += [metric(ranks[name]) for metric in METRICS.values()]
        values += [METRICS["NDCG@10"](ranks[name])] * len(strata)
        among += [everybody] * len(METRICS) + [inside_T for _, _, inside_T in strata]
    found = iter(user_bootstraps(np.column_stack(values), targets.user_ids, np.column_stack(among)))
    candidate_N = np.ones(len(popularity_N), dtype=bool) if ranking.candidate_N is None else ranking.candidate_N
    models = [_result(name, _beyond(top[name], popularity_N, candidate_N), strata, found) for name in names]
    return ProtocolResult(ranking.name, models, _dump(ranking, ranks, seed))


def _result(
    name: str,
    beyond: dict[str, float],
    strata: Sequence[tuple[str, str, NDArray[np.bool_]]],
    found: Iterator[Interval],
) -> ModelResult:
    metrics = {metric: next(found) for metric in METRICS}
    by: dict[str, dict[str, Stratum]] = {kind: {} for kind in ("length", "popularity", "age")}
    for kind, label, inside_T in strata:
        by[kind][label] = Stratum(int(inside_T.sum()), next(found))
    return ModelResult(name, metrics, beyond, by["length"], by["popularity"], by["age"])


def _beyond(
    top_TK: NDArray[np.int64], popularity_N: NDArray[np.float32], candidate_N: NDArray[np.bool_]
) -> dict[str, float]:
    """Coverage and Gini are over the candidates."""
    place_N, num_candidates = np.cumsum(candidate_N) - 1, int(candidate_N.sum())
    listed = place_N[top_TK[candidate_N[top_TK]]]
    return {
        "coverage@10": coverage(listed, num_candidates),
        "novelty": novelty(top_TK, popularity_N),
        "gini": gini(listed, num_candidates),
    }


def _strata(
    dataset: Dataset, targets: Targets, popularity_N: NDArray[np.float32]
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Kind, label and bool ``inside_T`` of every stratum that has a target."""
    lengths_T, answer_T = targets.history_lengths, dataset.indices(targets.item_ids)
    for label, (low, high) in LENGTH_BINS.items():
        if (inside_T := (lengths_T >= low) & (lengths_T <= high)).any():
            yield "length", label, inside_T
    first_seen_N = _first_seen(dataset)
    deciles = {"popularity": _deciles(popularity_N)}
    if np.isfinite(first_seen_N).any():
        deciles["age"] = np.where(np.isnan(first_seen_N), 10, _deciles(first_seen_N))
    for (kind, decile_N), decile in product(deciles.items(), range(11)):
        if (inside_T := decile_N[answer_T] == decile).any():
            yield kind, "new" if decile == 10 else str(decile + 1), inside_T


def _deciles(values_N: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """0 to 9 in ascending order of the values that are known; equal ones in the catalogue's order."""
    known = int(np.isfinite(values_N).sum())
    place_N = np.argsort(np.argsort(values_N, kind="stable"), kind="stable")
    return np.minimum(place_N * 10 // max(known, 1), 9)


def _first_seen(dataset: Dataset) -> NDArray[np.float64]:
    """Seconds since the epoch of each item's first training event; NaN where there is none: ``moment_N``."""
    first = dataset.split.fit.groupby(Events.ITEM, sort=False)[Events.TIME].min()
    return first.reindex(dataset.catalog.ids).to_numpy(dtype=np.float64)


def excluded_items(histories: Sequence[History], num_items: int, mask_seen: bool) -> NDArray[np.bool_]:
    """Items that are no candidates after each history, its own where seen ones are masked: ``excluded_BN``."""
    excluded_BN = np.zeros((len(histories), num_items), dtype=bool)
    if mask_seen:
        for row, history in enumerate(histories):
            excluded_BN[row, history.items] = True
    return excluded_BN


def _dump(ranking: Ranking, ranks: Mapping[str, NDArray[np.float64]], seed: int) -> pd.DataFrame:
    targets = ranking.targets
    parts = [
        pd.DataFrame(
            {
                Columns.PROTOCOL: ranking.name,
                Columns.USER: targets.user_ids,
                Columns.ITEM: targets.item_ids,
                Columns.HISTORY_LENGTH: targets.history_lengths,
                Columns.RANK: ranks_T,
                Columns.MODEL: name,
                Columns.SEED: seed,
            }
        )
        for name, ranks_T in ranks.items()
    ]
    return pd.concat(parts, ignore_index=True)
