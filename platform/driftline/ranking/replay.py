"""Prequential replay: after each event every policy ranks the same next item from the same prefix.

What detection is worth to the lists. It stands beside the policy that it measures; its input and its output are trials
of the drift benchmark. No inverse-propensity claim is made: a log of ratings has no propensities.

Shape legend: E ranked events of all streams, B events of one pass, N items.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from driftline.config import PolicyConfig
from driftline.drift.benchmark.downstream import ACTED, ALWAYS_RECENCY, MIXTURE, ORACLE_ALARMS, RANDOM_ALARMS, STEADY
from driftline.drift.benchmark.trial import Trial
from driftline.drift.benchmark.world import World
from driftline.drift.detector import BELIEVED_ABOVE
from driftline.drift.detectors.contract import WARM_UP_EVENTS
from driftline.drift.report import DriftVerdict
from driftline.drift.streams import Recipe, Track, draw_steady
from driftline.evaluation.metrics import mid_ranks
from driftline.models.collaborative import CollaborativeTables
from driftline.models.fusion import FusionGate, fit_gate
from driftline.models.recommender import Recommender
from driftline.ranking.gate import gate_examples
from driftline.ranking.policy import decide, mixture
from driftline.ranking.scoring import Scorer, parts
from driftline.sequences.batches import History

DETECTOR, RUN_LENGTH = "fused", "200"
"""The operating point: whose alarms, and at which calibrated run length."""
RECENT_EVENTS = 20
"""What always-recency reads."""
GATE_TARGETS = 2000
GATE_STREAMS_PER_USER = 4
IDENTITY = ["stream_id", "user", "other", "track", "kind", "severity", "seed", "label", "k", "reach"]


@dataclass(frozen=True)
class Prefixes:
    """Every event that is ranked: what came before it, and what came."""

    before: Sequence[NDArray[np.int64]]
    targets_E: NDArray[np.int64]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Prefixes":
        """After each event past the change, as far as both streams of a pair reach."""
        ends = [(items, t) for items, ages in zip(rows["items"], _ages(rows), strict=True) for t in ages]
        return cls([np.array(items[:t]) for items, t in ends], np.array([items[t] for items, t in ends]))


@dataclass(frozen=True)
class Acts:
    """What a policy does with each prefix: it reads a mixture of all of it and of its newest events."""

    weight_E: NDArray[np.float64]
    """Of the newest events; 0 = the whole history alone."""
    newest_E: NDArray[np.int64]
    """How many of them are read."""


def replay(world: World, model: Recommender, trial: Trial) -> Trial:
    """Rank what came after the change points of a trial's streams, with every policy.

    Parameters
    ----------
    world, model
        The data, and the encoder behind the trial: it ranks, fused with tables of the same training users.
    trial
        Its sudden changes, with what the classifier said after every event.

    Returns
    -------
    Trial
        A row per stream: ``rank POLICY`` after 1, 2, … events since the change, and whether the mixture acted.
    """
    track, seed = trial.summary["track"], trial.summary["seed"]
    rows = trial.rows[trial.rows["kind"] == "sudden"].reset_index(drop=True)
    prefixes = Prefixes.of(rows)
    threshold = trial.summary["thresholds"][DETECTOR][RUN_LENGTH]
    acts = policies(rows, threshold, world.config.ranking.policy, seed)
    ranks = rank(fit_scorer(world, model, track, seed), prefixes, acts)
    ends = np.cumsum([len(ages) for ages in _ages(rows)])[:-1]
    found = rows[IDENTITY].copy()
    for name, ranks_E in ranks.items():
        found[f"rank {name}"] = pd.Series(np.split(ranks_E, ends))
    found[ACTED] = pd.Series(np.split(acts[MIXTURE].weight_E > 0, ends))
    return Trial(found, trial.summary)


def fit_scorer(world: World, model: Recommender, track: Track, seed: int) -> Scorer:
    """What ranks: the encoder and collaborative tables of the training users, fused as in a bundle.

    The gate is fitted on steady streams of calibration users. It is shown no P(drift), so that policies differ in what
    they read and in nothing else.
    """
    config = world.config
    sequences = [history.items for history in world.histories["train"].values()]
    asked = config.fusion.components
    tables = CollaborativeTables.fit(
        sequences, len(world.popularity_N), config.ranking.dense_tables_up_to, "co-occurrence" in asked
    )
    gate = FusionGate(asked)
    scorer = Scorer(model, tables, world.text_vectors_NT, gate, mask_seen=not config.data.repeat_consumption)
    rng = np.random.default_rng([seed, 5000])
    steady = draw_steady(world.histories["calibration"], world.taste, Recipe(track), GATE_STREAMS_PER_USER, seed + 5000)
    chosen = [steady[n].items for n in rng.integers(len(steady), size=GATE_TARGETS)]
    places = [int(rng.integers(1, len(items))) for items in chosen]
    histories = [History(items[:t]) for items, t in zip(chosen, places, strict=True)]
    targets_T = np.array([items[t] for items, t in zip(chosen, places, strict=True)])
    examples = gate_examples(scorer, histories, targets_T, np.zeros(len(histories)), seed)
    fit_gate(scorer.gate, [examples], config.fusion.steps, config.fusion.weight_decay, seed)
    return scorer


def policies(rows: pd.DataFrame, threshold: float, config: PolicyConfig, seed: int) -> dict[str, Acts]:
    """What each policy does with the prefixes of :class:`Prefixes`, by name.

    Parameters
    ----------
    rows
        Streams with the classifier's series.
    threshold
        Of its alarms, log odds.
    """
    places = [(row, t) for (_, row), ages in zip(rows.iterrows(), _ages(rows), strict=True) for t in ages]
    count = len(places)

    def acts(verdicts: Iterable[DriftVerdict]) -> Acts:
        decided = [(decide(config, t, v), v, t) for v, (_, t) in zip(verdicts, places, strict=True)]
        newest = [t - (v.change_point or 0) for _, v, t in decided]
        return Acts(np.array([policy.weight_recent for policy, _, _ in decided]), np.array(newest))

    told = acts(_verdict(row, t, threshold) for row, t in places)
    at_random = np.random.default_rng([seed, 6000]).permutation(count)
    return {
        STEADY: Acts(np.zeros(count), np.zeros(count, dtype=np.int64)),
        MIXTURE: told,
        ALWAYS_RECENCY: Acts(np.ones(count), np.full(count, RECENT_EVENTS)),
        # the same acts, as many in all, each at an event drawn at random
        RANDOM_ALARMS: Acts(told.weight_E[at_random], told.newest_E[at_random]),
        ORACLE_ALARMS: acts(DriftVerdict(float(row["label"]), int(row["k"]), bool(row["label"])) for row, _ in places),
    }


def rank(scorer: Scorer, prefixes: Prefixes, acts: Mapping[str, Acts]) -> dict[str, NDArray[np.float64]]:
    """Mid-ranks of the targets among all that each user has not had yet: ``ranks_E`` by policy."""
    ranks = {name: np.empty(len(prefixes.targets_E)) for name in acts}
    for part in parts(len(prefixes.targets_E), scorer.num_items):
        before, targets_B = prefixes.before[part], prefixes.targets_E[part]
        whole_BN = _log_probabilities(scorer, before, before)
        closed_BN = np.isneginf(whole_BN)
        for name, own in acts.items():
            weight_B, newest_B = own.weight_E[part], own.newest_E[part]
            scores_BN, acting = whole_BN.copy(), np.flatnonzero(weight_B).tolist()
            newest = [before[b][-newest_B[b] :] for b in acting]
            recent = _log_probabilities(scorer, newest, [before[b] for b in acting])
            for b, recent_N in zip(acting, recent, strict=True):
                scores_BN[b] = mixture(whole_BN[b], recent_N, float(weight_B[b]))
            ranks[name][part] = mid_ranks(scores_BN, targets_B, closed_BN)
    return ranks


def _log_probabilities(
    scorer: Scorer, read: Sequence[NDArray[np.int64]], seen: Sequence[NDArray[np.int64]]
) -> NDArray[np.float32]:
    return scorer.log_probabilities([History(items) for items in read], seen, np.zeros(len(read)))


def _ages(rows: pd.DataFrame) -> list[range]:
    """Lengths of the prefixes of each stream that are ranked from."""
    return [range(k + 1, k + reach) for k, reach in zip(rows["k"], rows["reach"], strict=True)]


def _verdict(row: pd.Series, t: int, threshold: float) -> DriftVerdict:
    """What the classifier says after ``t`` events; only what came by then is read."""
    p_drift, change_point = float(row["p_drift"][t - 1]), int(row["change_point"][t - 1])
    believed = change_point > 0 and p_drift > BELIEVED_ABOVE
    alarm = t > WARM_UP_EVENTS and bool(row[DETECTOR][t - 1] >= threshold)
    return DriftVerdict(p_drift, change_point if believed else None, alarm)
