"""Measure drift detection of a bundle on spliced streams of users that its drift part never saw.

python jobs/drift_check.py --bundle DIR --splices 400
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import driftline
from driftline.cli import run_job
from driftline.drift.benchmark import AGES, DriftFigures, check_drift
from driftline.drift.streams import TasteDistance
from driftline.errors import BundleError
from driftline.sequences.dataset import Dataset, load_dataset


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle directory, as printed by jobs/train.py.")],
    splices: Annotated[int, typer.Option(min=2, help="Streams per choice of B; half of them drift.")] = 400,
    seed: Annotated[int, typer.Option(help="Draws users, change points and orders.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file; default under the storage root.")] = None,
) -> None:
    """Stream AUROC of P(drift), detection at the calibrated threshold and achieved run length, on track X."""
    console = Console()
    model = driftline.load(bundle)
    if model.detector is None:
        raise BundleError(f"bundle {model.version} has no drift part: train it with drift.enabled=true")
    dataset = load_dataset(model.config)
    calibration = model.detector.calibration
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("scanning streams", total=None)
        figures = check_drift(
            model.drift_batch,
            model.item_ids,
            dataset.histories(dataset.events, model.held_out_users),
            _taste(dataset),
            calibration.threshold_shuffled,
            splices,
            seed,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console.print(_table(figures, calibration.arl_events, len(model.held_out_users)))
    target = out or model.config.storage / "evaluations" / f"{model.version}-drift.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    values = {name: one.as_json() for name, one in figures.items()}
    target.write_text(json.dumps({"bundle": model.version, "track": "X", "seed": seed, "figures": values}, indent=2))
    console.print(f"figures {target}", soft_wrap=True, highlight=False)


def _taste(dataset: Dataset) -> TasteDistance:
    """Genres of the catalogue and popularity among the training users."""
    names = sorted({name for categories in dataset.catalog.categories for name in categories})
    genres_NG = np.array([[name in held for name in names] for held in dataset.catalog.categories], dtype=np.float64)
    trained = dataset.histories(dataset.events, dataset.users_of("train")).values()
    items = np.concatenate([history.items for history in trained])
    return TasteDistance(genres_NG, np.bincount(items, minlength=len(genres_NG)))


def _table(figures: dict[str, DriftFigures], arl_events: int, users: int) -> Table:
    """One row per choice of B."""
    sheet = Table(title=f"Drift on track X: {users} held-out users, alarms at ARL {arl_events}")
    for name in ("B", *(f"AUROC W={w}" for w in AGES), *(f"≤{w}" for w in AGES), "median delay", "achieved ARL"):
        sheet.add_column(name, justify="right", no_wrap=True)
    for name, one in figures.items():
        auroc = [f"{one.auroc[w].mean:.3f} ({one.auroc[w].low:.3f}-{one.auroc[w].high:.3f})" for w in AGES]
        detected = [f"{one.detected[w]:.2f}" for w in AGES]
        sheet.add_row(name, *auroc, *detected, f"{one.median_delay_events:.0f}", f"{one.achieved_arl_events:.0f}")
    return sheet


if __name__ == "__main__":
    run_job(main)
