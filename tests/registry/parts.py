"""A model of ten items from random parts: nothing is trained, everything is real."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from driftline.catalog.items import Catalog
from driftline.config import Config, parse_config
from driftline.drift.calibration import DriftCalibration, OrderCalibration
from driftline.drift.evidence import FEATURES
from driftline.evaluation.provenance import versions
from driftline.models.adapters import adapter_state
from driftline.models.build import TEXT_VECTOR_DIM, build_drift_model, build_ranker, build_text_tower
from driftline.models.collaborative import CollaborativeTables
from driftline.models.fusion import FusionGate
from driftline.models.text_tower import TextEncoder, Tokenizer
from driftline.registry.bundle import Manifest, now
from driftline.registry.contents import Contents

ITEMS = [f"i{number}" for number in range(10)]
TITLES = ["镖客", "Dusty Ranch", "Lonesome Saloon", "Silent Orbit", "Burning Comet", "Tender Letter", *"GHIJ"]
SEQUENCES = [np.array(items) for items in ([0, 1, 2, 3], [2, 1, 0], [4, 5, 6], [6, 4, 7, 8], [1, 2, 8])]
"""Nobody had item 9."""


def config_of(base: Path, storage: Path, **sections: object) -> Config:
    small = {"kind": "gru", "dim": 8, "layers": 1, "window_events": 6}
    return parse_config(
        {
            "storage": str(storage),
            "data": {"interactions": "events.csv"},
            "text": {"base": str(base), "layers": 1, "adapter": {"rank": 2}},
            "encoder": small,
            "drift": {"encoder": small | {"kind": "mean", "window_events": 12, "mask_seen": True}},
            **sections,
        }
    )


def contents_of(config: Config, drift: bool = True, repeats: bool = False, p_drift_log_odds: float = -2.0) -> Contents:
    """Random parts; P(drift) is the same whatever the history, at the given log-odds."""
    torch.manual_seed(4)
    texts = [f"{title} ({1950 + place})." for place, title in enumerate(TITLES)]
    catalog = Catalog(ITEMS, TITLES, ["1950"] * 10, [("Western", "Science Fiction"), *[()] * 9], texts, repeats)
    tower = build_text_tower(config)
    vectors = TextEncoder(tower, Tokenizer(config.text.base, config.text.max_tokens)).encode(texts)
    known_N = torch.tensor([True] * 9 + [False])
    ranker, drift_model = build_ranker(config, vectors, known_N), build_drift_model(config, vectors, known_N)
    gate = FusionGate(config.fusion.components, config.encoder.target_gap)
    for module in (ranker, drift_model, gate):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    flat = {"means": (0.0,) * len(FEATURES), "scales": (1.0,) * len(FEATURES), "weights": (0.0,) * len(FEATURES)}
    natural = OrderCalibration(FEATURES, **flat, intercept=p_drift_log_odds, prevalence=0.5, threshold=9)
    calibration = DriftCalibration(200, natural, replace(natural, threshold=5))
    assert vectors.shape[1] == TEXT_VECTOR_DIM
    whole = Contents(
        config=config,
        catalog=catalog,
        text_vectors_NT=vectors,
        text={f"tower.{name}": tensor for name, tensor in adapter_state(tower).items()},
        ranker=adapter_state(ranker),
        known_N=known_N,
        tables=CollaborativeTables.fit(SEQUENCES, len(ITEMS), config.ranking.dense_tables_up_to),
        gate=gate,
        drift=adapter_state(drift_model),
        drift_known_N=known_N,
        calibration=calibration,
        held_out_users=["u7", "用户"],
        verifier_ND=torch.randn(10, config.drift.encoder.dim),
    )
    return whole if drift else replace(whole, drift=None, drift_known_N=None, calibration=None, verifier_ND=None)


def manifest_of(name: str) -> Manifest:
    return Manifest(
        id=name,
        protocol="leave-one-out",
        seed=4,
        data_fingerprint="f" * 64,
        base_model="tiny",
        base_sha256="",
        metrics={"validation/NDCG@10": 0.25},
        versions=versions(),
        created=now(),
    )
