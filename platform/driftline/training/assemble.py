"""From trained weights to a bundle: collaborative tables, drift calibration, fusion gate, validation figures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from driftline.config import Config
from driftline.drift.calibration import DriftCalibration, calibrate
from driftline.drift.streams import Track
from driftline.drift.verifier import verifier_table
from driftline.evaluation.metrics import METRICS, mid_ranks
from driftline.evaluation.protocols import excluded_items
from driftline.evaluation.provenance import versions
from driftline.models.adapters import load_adapter_state
from driftline.models.build import base_model, build_drift_model
from driftline.models.collaborative import CollaborativeTables, popularity
from driftline.models.content import ContentRidge, features
from driftline.models.fusion import FusionGate, fit_gate
from driftline.models.trend import Trend
from driftline.models.user_knn import UserNeighbours
from driftline.ranking.gate import gate_examples
from driftline.ranking.scoring import parts
from driftline.registry.bundle import Manifest, now, sha256_of, write_bundle
from driftline.registry.contents import Contents
from driftline.registry.model import Model
from driftline.sequences.batches import window
from driftline.sequences.dataset import Dataset, ranking_split
from driftline.sequences.stream import ranking_counts
from driftline.training.checkpoints import Snapshot
from driftline.training.stages import ranking_targets
from driftline.training.unknown_items import as_unknown
from driftline.training.validation import RankingTargets

MAX_GATE_TARGETS, MAX_GATE_SCORES = 4000, 2**24
"""Validation targets that the gate is fitted on, and targets times items of the catalogue (though not fewer than 1,000
targets); a seeded sample beyond."""
SHORT_EVENTS = 18
"""Longest history that the gate is shown as a new user's."""


def assemble(
    config: Config, dataset: Dataset, snapshot: Snapshot, target: Path, tell: Callable[[str], None]
) -> tuple[Path, dict[str, float]]:
    """Fit what is not trained by gradient over the network, and write the bundle.

    Returns
    -------
    Path, dict
        The bundle's directory and its validation figures.
    """
    torch.manual_seed(config.seed)
    tables = _fit_tables(config, dataset, snapshot)
    tell(_what_was_fitted(config, tables))
    config = _named_as_fitted(config, tables)
    contents = Contents(
        config=config,
        catalog=dataset.catalog,
        text_vectors_NT=snapshot.done["text_vectors"]["vectors"],
        text=snapshot.done["text"],
        ranker=snapshot.done["ranker"],
        known_N=torch.from_numpy(tables.popularity_N > 0),
        tables=tables,
        gate=FusionGate(config.fusion.components, config.encoder.target_gap),
        drift=None,
        drift_known_N=None,
        calibration=None,
        held_out_users=dataset.users_of("test"),
        judge=snapshot.done["judge"] if config.drift.judge.enabled else None,
        user_attributes=dataset.user_attributes,
        item_vectors_NV=None if dataset.item_vectors_NV is None else torch.from_numpy(dataset.item_vectors_NV),
    )
    model = Model(contents)
    if config.drift.enabled:
        tell("training the verifier; calibrating P(drift) and the alarm threshold on calibration users")
        model = model.with_contents(**_drift_parts(config, dataset, snapshot, model.contents))
    tell("fitting the fusion gate on validation targets")
    metrics = _fit_gate(config, dataset, model)
    if "refit" in snapshot.done:
        tell("fitting the tables again, on everything before the test")
        model = model.with_contents(**refitted(config, dataset.before_test, snapshot))
    metrics |= {f"{stage}/{k}": v for stage, f in snapshot.progress.finished.items() for k, v in f.items()}
    base = base_model(config)
    manifest = Manifest(
        id=target.name,
        protocol=config.protocol,
        seed=config.seed,
        data_fingerprint=dataset.fingerprint,
        base_model=config.text.base,
        base_sha256=sha256_of(base / "model.safetensors") if (base / "model.safetensors").is_file() else "",
        metrics=metrics,
        versions=versions(),
        created=now(),
    )
    return write_bundle(target, model.contents.save, lambda: manifest), metrics


def _drift_parts(config: Config, dataset: Dataset, snapshot: Snapshot, contents: Contents) -> dict[str, object]:
    """Weights, known items, verifier and calibration of the drift part."""
    events = dataset.split.fit
    fitted = list(dataset.histories(events, dataset.users_of("train")).values())
    known_N = torch.from_numpy(popularity([history.items for history in fitted], len(dataset.catalog.ids)) > 0)
    model = build_drift_model(config, contents.text_vectors_NT, known_N)
    load_adapter_state(model, snapshot.done["drift"])
    track: Track = "N" if config.drift.event_order == "natural" else "X"
    verifier_ND = verifier_table(
        fitted,
        len(known_N),
        config.drift.encoder.dim,
        track,
        config.seed,
        dense_up_to=config.ranking.dense_tables_up_to,
    )
    held_back = dataset.histories(events, dataset.users_of("calibration"))
    calibration: DriftCalibration = calibrate(
        model.eval(),
        {user: history.items for user, history in held_back.items()},
        config.drift,
        config.seed,
        verifier_ND=verifier_ND,
    )
    return {
        "drift": snapshot.done["drift"],
        "drift_known_N": known_N,
        "calibration": calibration,
        "verifier_ND": torch.from_numpy(verifier_ND),
    }


def _fit_gate(config: Config, dataset: Dataset, model: Model) -> dict[str, float]:
    """Fit the gate in place; returns validation figures of the fused score, which is not told the targets' moments.

    The figures are in-sample for the gate's few parameters and out of sample for everything else.
    """
    validation = ranking_split(dataset, config).validation
    with_moments = (False, True) if config.encoder.target_gap else (False,)
    every = [
        _sampled(ranking_targets(dataset, validation, told), len(model.item_ids), config.seed, len(with_moments))
        for told in with_moments
    ]
    shown = [_short_too(targets, config.seed) for targets in every]
    p_drift = _p_drift(model, shown[0])
    scorer, groups = model.scorer, []
    histories, targets_T = [h for part in shown for h in part.histories], [part.targets_T for part in shown]
    groups.append(
        gate_examples(scorer, histories, np.concatenate(targets_T), np.tile(p_drift, len(shown)), config.seed)
    )
    if scorer.ranker.text_head is not None:
        groups += as_unknown(config, dataset, scorer, shown[0], p_drift)
    fit_gate(scorer.gate, groups, config.fusion.steps, config.fusion.weight_decay, config.seed)
    return _figures(model, every[0], p_drift[: len(every[0])])


def _short_too(targets: RankingTargets, seed: int) -> RankingTargets:
    """Every target once more, after the newest few events alone: validation histories are long, those of new users not.

    Lengths are log-uniform up to :data:`SHORT_EVENTS`; about a fifth are empty.
    """
    lengths = np.exp(np.random.default_rng(seed).uniform(np.log(0.5), np.log(SHORT_EVENTS + 1), len(targets)))
    short = [window(h, int(length)) for h, length in zip(targets.histories, lengths, strict=True)]
    return RankingTargets([*targets.histories, *short], np.concatenate([targets.targets_T, targets.targets_T]))


def _figures(model: Model, targets: RankingTargets, p_drift: NDArray[np.float64]) -> dict[str, float]:
    ranks = []
    for part in parts(len(targets), len(model.item_ids)):
        histories = targets.histories[part]
        scores = model.scorer.log_probabilities(histories, [h.items for h in histories], p_drift[part])
        excluded = excluded_items(histories, scores.shape[1], model.scorer.mask_seen)
        ranks.append(mid_ranks(scores, targets.targets_T[part], excluded))
    return {f"validation/{name}": float(metric(np.concatenate(ranks)).mean()) for name, metric in METRICS.items()}


def _what_was_fitted(config: Config, tables: CollaborativeTables) -> str:
    limit, items = config.ranking.dense_tables_up_to, tables.num_items
    optional = {"co-occurrence": tables.co_occurrence_NN, "trend": tables.trend, "user-kNN": tables.user_knn}
    asked = "".join(f", {name}" for name, table in optional.items() if table is not None)
    if tables.item_item == "ease":
        return f"fitted popularity, EASE, Markov{asked}; all pairs of {items:,} items"
    return (
        f"fitted popularity, item-kNN, Markov{asked}; sparse: {items:,} items are more than "
        f"ranking.dense_tables_up_to={limit:,}, so item-knn-recency stands in the place of ease-recency"
    )


def _fit_tables(config: Config, dataset: Dataset, snapshot: Snapshot) -> CollaborativeTables:
    """The tables of the ranking stage's training events, with those that only some configurations want."""
    histories = list(dataset.histories(ranking_split(dataset, config).fit).values())
    sequences, num_items = [history.items for history in histories], len(dataset.catalog.ids)
    asked, content = config.fusion.components, None
    tables = CollaborativeTables.fit(
        sequences, num_items, config.ranking.dense_tables_up_to, with_co_occurrence="co-occurrence" in asked
    )
    if "content" in asked:
        described_NF = features(dataset.catalog.texts, snapshot.done["text_vectors"]["vectors"].numpy())
        content = ContentRidge.fit(sequences, described_NF, config.ranking.dense_tables_up_to)
    return replace(
        tables,
        # of an ingested log, the histories are those of a sample; popularity is known of everybody
        popularity_N=ranking_counts(dataset, config).astype(np.float32),
        trend=Trend.fit(histories, num_items) if "trend" in asked else None,
        user_knn=UserNeighbours.fit(sequences, num_items) if "user-knn" in asked else None,
        content=content,
    )


def refitted(config: Config, dataset: Dataset, snapshot: Snapshot) -> dict[str, object]:
    """What the validation events are in too, now that the gate has been fitted on them."""
    tables = _fit_tables(config, dataset, snapshot)
    return {
        "ranker": snapshot.done["refit"],
        "known_N": torch.from_numpy(tables.popularity_N > 0),
        "tables": tables,
    }


def _named_as_fitted(config: Config, tables: CollaborativeTables) -> Config:
    """The configuration with the item-item component under the name of what was fitted."""
    names = dict.fromkeys(("ease-recency", "item-knn-recency"), f"{tables.item_item}-recency")
    components = tuple(dict.fromkeys(names.get(name, name) for name in config.fusion.components))
    return config.model_copy(update={"fusion": config.fusion.model_copy(update={"components": components})})


def _p_drift(model: Model, targets: RankingTargets) -> NDArray[np.float64]:
    """P(drift) after each history; zeros where drift is off."""
    if model.detector is None:
        return np.zeros(len(targets))
    scans = model.detector.scan([history.items for history in targets.histories])
    return np.array([scan.p_drift[-1] if len(scan.p_drift) else 0.0 for scan in scans])


def _sampled(targets: RankingTargets, num_items: int, seed: int, times_shown: int) -> RankingTargets:
    most = min(MAX_GATE_TARGETS, max(1000, MAX_GATE_SCORES // num_items)) // times_shown
    if len(targets) <= most:
        return targets
    chosen = np.sort(np.random.default_rng(seed).permutation(len(targets))[:most])
    return RankingTargets([targets.histories[i] for i in chosen], targets.targets_T[chosen])
