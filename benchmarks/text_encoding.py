"""What a lower precision of the text tower gains on a CPU when new texts are read, and what it changes.

python -m benchmarks.text_encoding --bundle ML-100K

One thread; CPU time of the process, so that other work on the machine counts little. Precisions take turns. Agreement
is with fp32, on every text of the catalogue: cosine of the vectors; the share of the ten most similar items of the
catalogue that stay; the share of a recommended list of ten that stays when it is made of items known by text alone.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor

import driftline
from driftline.cli import run_job
from driftline.drift.report import DriftVerdict
from driftline.errors import ConfigError
from driftline.evaluation.provenance import provenance
from driftline.models.text_precision import INSTRUCTIONS, TextPrecision, check_text_precision
from driftline.models.text_tower import TextEncoder
from driftline.ranking.requests import RankRequest
from driftline.registry.model import Model

RESULTS = Path(__file__).resolve().parent / "results" / "text-encoding.json"
TEXTS = {64: 192, 1: 24}
"""Texts of one turn, by how many are read at once."""
TURNS, K, HISTORIES, HISTORY, NEW_ITEMS, SEED = 5, 10, 200, 50, 400, 7


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle whose catalogue is read again.")],
    out: Annotated[Path, typer.Option(help="JSON file with every figure.")] = RESULTS,
) -> None:
    """Read the catalogue in every precision that this CPU has, and write the figures down."""
    torch.set_num_threads(1)
    console = Console(highlight=False)
    models = {precision: driftline.load(bundle, precision) for precision in _precisions(console)}
    figures: dict[str, Any] = {precision: {} for precision in models}
    for at_once in TEXTS:
        for precision, ms in _times(models, at_once).items():
            figures[precision][f"ms a text, {at_once} at once"] = ms
    for precision, agreement in _agreements(models).items():
        figures[precision] |= agreement
    for found in figures.values():
        for n in TEXTS:
            found[f"x fp32, {n} at once"] = (
                figures["fp32"][f"ms a text, {n} at once"] / found[f"ms a text, {n} at once"]
            )
    for precision, found in figures.items():
        console.print(f"[bold]{precision}[/]: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()))
    config: dict[str, Any] = {"bundle": bundle.name, "texts": len(models["fp32"].item_ids), "threads": 1}
    config |= {"turns": TURNS, "texts_of_a_turn": TEXTS, "k": K}
    config |= {"histories": HISTORIES, "history_events": HISTORY, "new_items": NEW_ITEMS}
    capabilities = torch.cpu.get_capabilities()
    cpu = {name: bool(capabilities.get(name)) for names in INSTRUCTIONS.values() for name in names}
    out.write_text(json.dumps({"figures": figures, "cpu": cpu, **provenance(config, SEED)}, indent=2) + "\n")
    console.print(f"figures {out}")


def _precisions(console: Console) -> list[TextPrecision]:
    found = list[TextPrecision]()
    for precision in get_args(TextPrecision):
        try:
            check_text_precision(precision)
            found.append(precision)
        except ConfigError as error:
            console.print(f"{precision} is left out: {error}")
    return found


def _times(models: dict[TextPrecision, Model], at_once: int) -> dict[TextPrecision, float]:
    """Median CPU milliseconds a text; the first turn warms up."""
    texts = models["fp32"].catalog.texts[: TEXTS[at_once]]
    spent: dict[TextPrecision, list[float]] = {precision: [] for precision in models}
    for _ in range(TURNS + 1):
        for precision, model in models.items():
            encoder = TextEncoder(model.text_encoder.tower, model.text_encoder.tokenizer)  # with nothing in its cache
            started = time.process_time()
            for first in range(0, len(texts), at_once):
                encoder.encode(texts[first : first + at_once])
            spent[precision].append(time.process_time() - started)
    return {precision: 1000 * float(np.median(times[1:])) / len(texts) for precision, times in spent.items()}


def _agreements(models: dict[TextPrecision, Model]) -> dict[TextPrecision, dict[str, float]]:
    vectors = {precision: model.text_encoder.encode(model.catalog.texts) for precision, model in models.items()}
    similar = {precision: _similar(model, vectors[precision]) for precision, model in models.items()}
    lists = {precision: _lists(model) for precision, model in models.items()}
    found = {}
    for precision in models:
        cosine_N = (vectors[precision] * vectors["fp32"]).sum(dim=1)
        found[precision] = {
            "cosine, mean": float(cosine_N.mean()),
            "cosine, least": float(cosine_N.min()),
            "similar items that stay": _overlap(similar[precision], similar["fp32"]),
            "recommended items that stay": _overlap(lists[precision], lists["fp32"]),
        }
    return found


def _similar(model: Model, vectors_NT: Tensor) -> list[set[Any]]:
    """The items of the catalogue that are most like each text, itself left out."""
    cosine_NN = (vectors_NT @ model.scorer.text_vectors_NT.T).fill_diagonal_(-torch.inf)
    return [set(row) for row in cosine_NN.topk(K).indices.tolist()]


def _lists(model: Model) -> list[set[Any]]:
    """Lists for random histories out of a part of the catalogue, as if its texts had been added just now."""
    rng = np.random.default_rng(SEED)
    chosen = rng.choice(len(model.item_ids), NEW_ITEMS, replace=False)
    texts = {f"new {n}": model.catalog.texts[n] for n in chosen.tolist()}
    steady = DriftVerdict(0.1, None, False)
    requests = [
        RankRequest(
            [model.item_ids[n] for n in rng.integers(0, len(model.item_ids), HISTORY)],
            K,
            candidates=list(texts),
            new_items=texts,
            drift=steady,
        )
        for _ in range(HISTORIES)
    ]
    return [{item.item_id for item in made.items} for made in model.recommend_batch(requests)]


def _overlap(found: list[set[Any]], expected: list[set[Any]]) -> float:
    return float(np.mean([len(a & b) / K for a, b in zip(found, expected, strict=True)]))


if __name__ == "__main__":
    run_job(main)
