"""A catalogue of a million items: indexed, and ranked exactly and by FAISS, in bounded memory.

python -m benchmarks.synthetic_bundle --items 1000000 --events-per-item 5 --out LARGE
python -m benchmarks.million_items --bundle LARGE

One thread. Histories have 50 items of one taste. ``recommend`` is the whole list as the service makes it: all
components over all items, seen ones left out. Below it the ranking model alone, for which there is an approximate
index: exactly by chunks, then by FAISS with more and more cells read. Recall is of the exact 100 best. The networks are
untrained (see synthetic_bundle.py): times and memory do not depend on it; recall does, and other bundles have theirs.
"""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from benchmarks.synthetic_bundle import ITEMS_PER_TASTE
from numpy.typing import NDArray
from rich.console import Console

import driftline
from driftline.cli import run_job
from driftline.drift.report import DriftVerdict
from driftline.evaluation.provenance import provenance
from driftline.ranking.requests import RankRequest
from driftline.ranking.retrieval import FaissIndex, exact_top_k
from driftline.sequences.batches import History

RESULTS = Path(__file__).resolve().parent / "results" / "million-items.json"
HISTORY, K, HISTORIES, AT_ONCE, SEED = 50, 100, 256, 128, 7
PROBES = (4, 16, 64, 256)
STEADY = DriftVerdict(0.1, None, False)


def main(
    bundle: Annotated[Path, typer.Option(help="A bundle with a large catalogue.")],
    out: Annotated[Path, typer.Option(help="JSON file with every figure.")] = RESULTS,
) -> None:
    """Load, index, rank, and write the figures down."""
    torch.set_num_threads(1)
    import faiss

    faiss.omp_set_num_threads(1)
    console, found = Console(highlight=False), dict[str, Any]()

    def note(name: str, figures: dict[str, Any]) -> None:
        found[name] = figures | {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
        shown = ", ".join(f"{key} {value:,.4g}" for key, value in found[name].items() if isinstance(value, float | int))
        console.print(f"[bold]{name}[/]: {shown}")

    model, load_s = timed(lambda: driftline.load(bundle))
    names = {"components": list(model.scorer.gate.components)}
    note("load", {"s": load_s, "items": len(model.item_ids)} | names)
    histories = _histories(len(model.item_ids))
    requests = [RankRequest([model.item_ids[n] for n in items], K, drift=STEADY) for items in histories[:AT_ONCE]]
    lists, recommend_s = timed(lambda: model.recommend_batch(requests))
    assert all(len(made.items) == K for made in lists)
    note(f"recommend, {AT_ONCE} at once", {"ms": 1000 * recommend_s / AT_ONCE})

    scorer = model.scorer
    interests = scorer.interests([History(items) for items in histories]).clone()
    exact, exact_s = timed(lambda: exact_top_k(interests, scorer.table_ND, scorer.bias_N, K, histories))
    note("exact, chunk by chunk", {"ms": 1000 * exact_s / HISTORIES})
    index, build_s = timed(lambda: FaissIndex(scorer.table_ND, scorer.bias_N))
    note("FAISS, built", {"s": build_s})
    for probes in PROBES:
        index.probes = probes
        near, near_s = timed(lambda: index.top_k(interests, K, histories))
        pairs = zip(near.items_BK, exact.items_BK, strict=True)
        recall = float(np.mean([len(np.intersect1d(a, b)) / K for a, b in pairs]))
        note(f"FAISS, {probes} cells", {"ms": 1000 * near_s / HISTORIES, f"recall@{K}": recall})
    config = {"bundle": bundle.name, "history_events": HISTORY, "k": K, "histories": HISTORIES, "threads": 1}
    out.write_text(json.dumps({"figures": found, **provenance(config, SEED)}, indent=2) + "\n")
    console.print(f"figures {out}")


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and the CPU seconds of this process in it."""
    started = time.process_time()
    returned = call()
    return returned, time.process_time() - started


def _histories(num_items: int) -> list[NDArray[np.int64]]:
    """Items of a random taste each, those that come first in it more often."""
    rng = np.random.default_rng(SEED)
    tastes = rng.integers(0, num_items // ITEMS_PER_TASTE, HISTORIES)
    inside = rng.integers(0, ITEMS_PER_TASTE, (HISTORIES, HISTORY)) * rng.random((HISTORIES, HISTORY))
    return list(tastes[:, None] * ITEMS_PER_TASTE + inside.astype(np.int64))


if __name__ == "__main__":
    run_job(main)
