"""How long ranking takes in one process, by the size of the catalogue.

python -m benchmarks.ranking_speed --bundle ML-100K --bundle LARGE …    (LARGE: see benchmarks/synthetic_bundle.py)

One thread; CPU time of the process, so that other work on the machine counts little. Each bundle has a process of its
own, whose peak memory is the bundle's. Histories have 50 random items; drift states are given, as in the service.
"""

import json
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console

import driftline
from driftline.cli import run_job
from driftline.drift.report import DriftVerdict
from driftline.evaluation.provenance import provenance
from driftline.ranking.requests import RankRequest
from driftline.registry.model import Model

RESULTS = Path(__file__).resolve().parent / "results" / "ranking-speed.json"
HISTORY, K, CANDIDATES, SECONDS, SEED = 50, 10, 100, 3.0, 7
STEADY, DRIFTING = DriftVerdict(0.1, None, False), DriftVerdict(0.7, 25, True)


def main(
    bundle: Annotated[list[Path], typer.Option(help="Bundles to measure; ratios are to the first.")],
    out: Annotated[Path, typer.Option(help="JSON file with every figure.")] = RESULTS,
) -> None:
    """Measure every bundle and write the figures down."""
    console, found = Console(highlight=False), dict[str, Any]()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for path in bundle:
            found[path.name] = pool.submit(measure, path).result()
            console.print(f"{path.name}: {json.dumps(found[path.name])}")
    first = found[bundle[0].name]
    for name, figures in found.items():
        figures["ratio"] = {case: figures["ms"][case] / first["ms"][case] for case in first["ms"]}
        times = ", ".join(f"{case} {ms:.1f} ({figures['ratio'][case]:.1f} x)" for case, ms in figures["ms"].items())
        console.print(
            f"[bold]{name}[/], {figures['items']:,} items: ms a request: {times}; {figures['peak_gib']:.1f} GiB"
        )
    config = {"history_events": HISTORY, "k": K, "candidates": CANDIDATES, "bundles": list(found), "threads": 1}
    out.write_text(json.dumps({"figures": found, **provenance(config, SEED)}, indent=2) + "\n")
    console.print(f"figures {out}")


def measure(path: Path) -> dict[str, Any]:
    """Load a bundle in this process, and time it."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    model = driftline.load(path)
    loaded = time.perf_counter() - started
    cases = {
        "recommend": lambda history: RankRequest(history, K, drift=STEADY),
        "recommend, drifting": lambda history: RankRequest(history, K, drift=DRIFTING),
        "recommend, diversity": lambda history: RankRequest(history, K, drift=STEADY, diversity=0.3),
        "rank": lambda history: RankRequest(
            history, CANDIDATES, candidates=model.item_ids[:CANDIDATES], keep_seen=True, drift=STEADY
        ),
    }
    rng = np.random.default_rng(SEED)
    histories = [[model.item_ids[n] for n in rng.integers(0, len(model.item_ids), HISTORY)] for _ in range(256)]
    figures = {}
    for name, ask in cases.items():
        requests = [ask(history) for history in histories]
        figures[name] = _median_ms(model, requests, 1)
        figures[f"{name}, 16 at once"] = _median_ms(model, requests, 16)
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"items": len(model.item_ids), "ms": figures, "load_s": loaded, "peak_gib": peak_gib}


def _median_ms(model: Model, requests: Sequence[RankRequest], at_once: int) -> float:
    """Median CPU time of a request in batches of a size, after a few that warm up."""
    spent, stop = [], time.perf_counter() + SECONDS
    batches = [requests[first : first + at_once] for first in range(0, len(requests), at_once)]
    while time.perf_counter() < stop or len(spent) < 8:
        started = time.process_time()
        model.recommend_batch(batches[len(spent) % len(batches)])
        spent.append(time.process_time() - started)
    return 1000 * float(np.median(spent[3:])) / at_once


if __name__ == "__main__":
    run_job(main)
