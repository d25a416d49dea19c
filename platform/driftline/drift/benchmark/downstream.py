"""What detection is worth to the lists: gains over reading the whole history, as difference-in-differences.

Natural order rewards any truncation of a history, drifted or not. So the gain on drifted streams is stated less the
gain on the undrifted streams of the same pairs at the same ages, with the latter, the harm, beside it.

Shape legend: R resamples, P streams, A = up to 39 events since the change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from driftline.drift.benchmark.figures import RESAMPLES, Sample
from driftline.drift.benchmark.resampling import Estimate, Resamples, estimate, weighted_mean
from driftline.drift.benchmark.trial import Trial
from driftline.drift.restart import FloatArray
from driftline.drift.streams import SEVERITIES, Track
from driftline.evaluation.metrics import hit_rate, ndcg

REPLAYED: tuple[Track, ...] = ("X", "N")
"""Tracks that are replayed."""
STEADY, MIXTURE, ALWAYS_RECENCY = "steady", "mixture", "always-recency"
"""The whole history; the product's policy; the last n events."""
RANDOM_ALARMS, ORACLE_ALARMS = "random alarms", "oracle alarms"
"""What the mixture does, at random events; what it would do if it were told the truth."""
AGAINST_STEADY = (MIXTURE, ALWAYS_RECENCY, RANDOM_ALARMS, ORACLE_ALARMS)
ACTED = "acted"
MEASURES = {"NDCG@10": ndcg, "HR@10": hit_rate}
LABELS = ("drifted", "undrifted")
ALL_AGES = "all"
AGES = {ALL_AGES: slice(None)} | {f"{first + 1}-{first + 5}": slice(first, first + 5) for first in range(0, 40, 5)}
"""Events since the change that a list was made after."""


@dataclass(frozen=True)
class Ranked:
    """Ranks on the drifted or on the undrifted streams of one seed."""

    rows: pd.DataFrame
    weights_RP: FloatArray

    def mean(self, values_PA: FloatArray) -> FloatArray:
        """Over the ranked events of all streams, nan where a stream has ended: ``mean_R``."""
        count_P = (~np.isnan(values_PA)).sum(axis=1)
        return weighted_mean(self.weights_RP * count_P, np.nansum(values_PA, axis=1) / np.maximum(count_P, 1))

    def measured(self, measure: str, policy: str) -> FloatArray:
        """HR@10 or NDCG@10 of every list: ``values_PA``."""
        ranks_PA = self.by_age(f"rank {policy}")
        return np.where(np.isnan(ranks_PA), np.nan, MEASURES[measure](ranks_PA))

    def by_age(self, column: str) -> FloatArray:
        """A column of series as one array, nan where a stream has ended."""
        values_PA = np.full((len(self.rows), max(map(len, self.rows[column]), default=0)), np.nan)
        for row_A, series in zip(values_PA, self.rows[column], strict=True):
            row_A[: len(series)] = series
        return values_PA


Seed = dict[str, Ranked]
"""By label."""


def downstream_figures(replays: Sequence[Trial]) -> dict[str, Any]:
    """All figures of one track's replays, of all its seeds."""
    users = {str(user) for replay in replays for column in ("user", "other") for user in replay.rows[column].dropna()}
    resamples = Resamples(sorted(users), RESAMPLES)

    def seeds(severity: str | None = None) -> list[Seed]:
        samples = [Sample.of(replay, resamples, "sudden", severity) for replay in replays]
        both = [((s.drifted, s.weights_RP), (s.steady, s.weights_RQ)) for s in samples]
        return [{label: Ranked(*side) for label, side in zip(LABELS, sides, strict=True)} for sides in both]

    every = seeds()
    return {
        "lists": sum(map(len, (series for replay in replays for series in replay.rows[ACTED]))),
        "acted_per_1000": {
            label: estimate([1000 * seed[label].mean(seed[label].by_age(ACTED)) for seed in every]) for label in LABELS
        },
        "whole_history": {
            measure: {
                label: estimate([seed[label].mean(seed[label].measured(measure, STEADY)) for seed in every])
                for label in LABELS
            }
            for measure in MEASURES
        },
        "gain": gains(every),
        "gain_by_severity": {severity: gains(seeds(severity)) for severity in SEVERITIES},
    }


def gains(seeds: Sequence[Seed]) -> dict[str, dict[str, dict[str, dict[str, Estimate]]]]:
    """Over the steady policy, by measure, policy and events since the change: drifted, undrifted, their difference."""
    found: dict[str, dict[str, dict[str, dict[str, Estimate]]]] = {}
    for measure in MEASURES:
        for policy in AGAINST_STEADY:
            gain_PA = [
                {label: own.measured(measure, policy) - own.measured(measure, STEADY) for label, own in seed.items()}
                for seed in seeds
            ]
            by_age = {
                name: _difference(
                    [
                        {label: own.mean(gain[label][:, ages]) for label, own in seed.items()}
                        for seed, gain in zip(seeds, gain_PA, strict=True)
                    ]
                )
                for name, ages in AGES.items()
            }
            found.setdefault(measure, {})[policy] = by_age
    return found


def _difference(gain_SR: Sequence[dict[str, FloatArray]]) -> dict[str, Estimate]:
    """Of the seeds' resampled gains: each, and that on drifted streams less that on undrifted ones."""
    drifted, undrifted = ([gain[label] for gain in gain_SR] for label in LABELS)
    differences = [one - other for one, other in zip(drifted, undrifted, strict=True)]
    return {"drifted": estimate(drifted), "undrifted": estimate(undrifted), "difference": estimate(differences)}
