"""How much of a full grid's training ASHA needs to find (nearly) its best point.

PYTHONPATH=platform python -m benchmarks.sweep_efficiency

A grid of learning rates x LoRA ranks is trained twice by the same code and seeds: every point to its end, and under
ASHA. The claim: ASHA's best NDCG@10 is within 1 % of the grid's best, for at most 40 % of its epochs.

What is trained is small, so that 2 x 24 trials take half an hour on two cores: MovieLens-100K (943 validation
targets), read by the frozen layers of a tiny random Llama (tests/tiny.py) through LoRA (`encoder.kind: llm`), so that
the rank decides how much of the reader can be learnt. Figures of such a model say nothing about recommendation; they
say how ASHA spends epochs. (Synthetic users will not do: once their three tastes are learnt, all that is left to tell
24 trials apart is noise.)
"""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from driftline.cli import run_job
from driftline.config import default_storage
from driftline.evaluation.provenance import provenance
from driftline.samples import fetch_movielens
from driftline.sweep.journal import Trial
from driftline.sweep.spec import Sweep, parse_sweep
from driftline.sweep.study import run_sweep
from tests.tiny import tiny_config

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
RANKS = (1, 4, 8, 16)
CLAIMED_LOSS, CLAIMED_SHARE = 0.01, 0.40
RESULTS = Path(__file__).resolve().parent / "results"


def main(
    epochs: Annotated[int, typer.Option(help="Of every point of the full grid.", min=4)] = 12,
    seed: Annotated[int, typer.Option(help="Of training; the grid is the same for all.")] = 7,
    out: Annotated[Path | None, typer.Option(help="JSON file; default under benchmarks/results/.")] = None,
) -> None:
    """Train the grid in full and under ASHA, and compare."""
    console = Console()
    with TemporaryDirectory(prefix="driftline-sweep-efficiency-") as folder:
        full = _measured(_sweep(Path(folder), epochs, seed, "none"), console)
        asha = _measured(_sweep(Path(folder), epochs, seed, "asha"), console)
        config = _sweep(Path(folder), epochs, seed, "asha").model_dump(mode="json")
    loss, share = 1 - asha["best"] / full["best"], asha["epochs"] / full["epochs"]
    holds = loss <= CLAIMED_LOSS and share <= CLAIMED_SHARE
    _print(console, full, asha)
    console.print(
        f"ASHA: {share:.1%} of the epochs (claim: at most {CLAIMED_SHARE:.0%}), best NDCG@10 {loss:.2%} below that of "
        f"the grid (claim: at most {CLAIMED_LOSS:.0%}): the claim {'holds' if holds else 'does not hold'}",
        highlight=False,
    )
    result = {"claim_holds": holds, "loss": loss, "share_of_epochs": share, "full": full, "asha": asha}
    target = out or RESULTS / f"sweep-efficiency-seed{seed}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result | provenance(config, seed), indent=2))
    console.print(f"figures {target}", soft_wrap=True, highlight=False)


def _sweep(folder: Path, epochs: int, seed: int, scheduler: str) -> Sweep:
    """The grid; ASHA compares after 2 and after 6 epochs, and lets the best third go on."""
    movielens = fetch_movielens(default_storage())
    base = tiny_config(
        folder,
        [
            f"seed={seed}",
            f"data.interactions={movielens / 'ml-100k.inter'}",
            f"data.items={movielens / 'ml-100k.item'}",
            "text.epochs=0",
            "text.adapter={kind: lora, rank: 4, alpha: 8, targets: all-linear}",
            "encoder={kind: llm, dim: 16, layers: 2, dropout: 0.1, window_events: 60}",
            f"training.epochs={epochs}",
            "training.validate_every_epochs=1",
            f"training.patience={epochs}",  # every point of the full grid is trained to its end
        ],
    )
    space = {
        "training.learning_rate": {"kind": "grid", "values": list(RATES)},
        "text.adapter.rank": {"kind": "grid", "values": list(RANKS)},
    }
    search = {"searcher": "grid", "scheduler": scheduler, "trial_workers": 0, "max_concurrent_trials": 2}
    if scheduler == "asha":
        search |= {"grace_epochs": 2, "reduction_factor": 3}
    return parse_sweep({"name": scheduler, "base": base.model_dump(mode="json"), "space": space, "search": search})


def _measured(sweep: Sweep, console: Console) -> dict[str, Any]:
    """Run a sweep; its best figure and what it cost."""
    started = time.monotonic()
    done = run_sweep(sweep, console, bundle=False)
    failed = [trial.reason for trial in done.trials if trial.state == "failed"]
    if failed:
        raise RuntimeError(f"a point of the grid failed: {failed[0]}")
    return {
        "best": done.best.best,
        "values": done.best.best_values,
        "epochs": sum(trial.epochs for trial in done.trials),
        "trials": len(done.trials),
        "stopped": sum(trial.state == "stopped" for trial in done.trials),
        "seconds": round(time.monotonic() - started, 1),
        "figures": [_row(trial) for trial in done.trials],
    }


def _row(trial: Trial) -> dict[str, Any]:
    return {"values": trial.values, "best": trial.best, "epochs": trial.epochs, "state": trial.state}


def _print(console: Console, full: dict[str, Any], asha: dict[str, Any]) -> None:
    table = Table()
    for name in ("", "trials", "epochs", "best NDCG@10", "learning rate", "rank", "seconds"):
        table.add_column(name)
    for name, run in (("full grid", full), ("ASHA", asha)):
        rate, rank = run["values"]["training.learning_rate"], run["values"]["text.adapter.rank"]
        cells = (run["trials"], run["epochs"], f"{run['best']:.4f}", f"{rate:g}", rank, run["seconds"])
        table.add_row(name, *(str(cell) for cell in cells))
    console.print(table)


if __name__ == "__main__":
    run_job(main)
