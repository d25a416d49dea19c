"""Measure drift detection of a bundle on spliced streams of users that its drift part never saw.

python jobs/drift_check.py --bundle DIR --splices 400
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

import driftline
from driftline.cli import run_job
from driftline.drift.check import check_drift, classification, table
from driftline.drift.streams import taste_distance
from driftline.errors import BundleError
from driftline.evaluation.provenance import provenance
from driftline.sequences.dataset import load_dataset
from driftline.terminal import counting


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle directory, as printed by jobs/train.py.")],
    splices: Annotated[int, typer.Option(min=2, help="Streams per choice of B; half of them drift.")] = 400,
    track: Annotated[Literal["X", "N"], typer.Option(help="Order of each user's events: X shuffled, N natural.")] = "X",
    seed: Annotated[int, typer.Option(help="Draws users, change points and orders.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file; default under the storage root.")] = None,
) -> None:
    """Stream AUROC of P(drift), detection at the calibrated threshold and achieved run length, on either track."""
    console = Console()
    model = driftline.load(bundle)
    if model.detector is None:
        raise BundleError(f"bundle {model.version} has no drift part: train it with drift.enabled=true")
    dataset = load_dataset(model.config)
    calibration = model.contents.calibration
    assert calibration is not None
    order = "natural" if track == "N" else "shuffled"
    drift = model.config.drift.model_copy(update={"event_order": order})
    # of the track, whatever the bundle's own order; and without a judge, which has a benchmark of its own
    checked = model.with_contents(judge=None, config=model.config.model_copy(update={"drift": drift}))
    with counting(console, "scanning streams") as tell:
        figures = check_drift(
            checked.drift_batch,
            model.item_ids,
            dataset.histories(dataset.events, model.held_out_users),
            taste_distance(dataset),
            calibration.natural if track == "N" else calibration.shuffled,
            splices,
            seed,
            track,
            tell,
        )
    console.print(table(figures, calibration.arl_events, len(model.held_out_users), track))
    console.print(classification(figures), highlight=False)
    target = out or model.config.storage / "evaluations" / f"{model.version}-drift-{track}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    values = {name: one.as_json() for name, one in figures.items()}
    source = provenance(model.config.model_dump(mode="json"), seed)
    target.write_text(json.dumps({"bundle": model.version, "track": track, "figures": values, **source}, indent=2))
    console.print(f"figures {target}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    run_job(main)
