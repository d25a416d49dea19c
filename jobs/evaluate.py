"""Measure a bundle beside honest baselines.

python jobs/evaluate.py --bundle DIR --protocol leave-one-out --protocol temporal-successive --dump ranks.parquet
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

import driftline
from driftline.cli import run_job
from driftline.evaluation.html_report import html_report
from driftline.evaluation.provenance import provenance
from driftline.evaluation.report import as_json, sheets
from driftline.registry.model import Model
from driftline.training.measurement import Result, measure, note, protocols


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle directory, as printed by jobs/train.py.")],
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="leave-one-out, temporal-successive, cold-item, cold-user, rating, or all; repeatable. Default: what "
            "the bundle was trained under."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Ray tasks at once; 1 = no Ray. Same figures.")] = 1,
    dump: Annotated[Path | None, typer.Option(help="Parquet file: one row per target and model.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file with every figure; default under the storage.")] = None,
    report: Annotated[Path | None, typer.Option(help="HTML file with plots; default beside the JSON.")] = None,
) -> None:
    """Rank every held-out target with the model and with untrained baselines, and compare them target by target.

    leave-one-out: each user's last event. The usual figure.

    temporal-successive: everything after a moment. The honest figure for a model that goes live.

    cold-item: one item in five is taken out of training; they are ranked among themselves and among all items.

    cold-user: leave-one-out as if the user had only just come, with 0, 1, 2, 3 or 5 events.

    rating: the explicit value of each user's last tenth of events, by the rating head.

    Each needs a bundle that was trained without its targets. Where this one was not, a sibling is trained from the
    same configuration (as long as the first training) and kept; cold-user shares leave-one-out's.

    Example: python jobs/evaluate.py --bundle ~/.driftline/bundles/NAME --protocol all --workers 4
    """
    console = Console()
    model = driftline.load(bundle)
    target = out or model.config.storage / "evaluations" / f"{model.version}.json"
    page = report or target.with_suffix(".html")
    results, notes = [], []
    for name in protocols(protocol or [model.config.protocol], model.config, console):
        for result in measure(bundle, model, name, console, workers):
            results.append(result)
            notes.append(note(name, model.config))
            for sheet in sheets(result, notes[-1]):
                console.print(sheet)
        write(model, results, notes, target, page, dump)  # after each: the next one may take hours, or fail
    console.print(f"figures {target}\nreport  {page}", soft_wrap=True, highlight=False)
    if dump is not None:
        console.print(f"ranks   {dump}", soft_wrap=True, highlight=False)


def write(
    model: Model, results: Sequence[Result], notes: Sequence[str], target: Path, page: Path, dump: Path | None
) -> None:
    """Everything measured so far, as JSON, as a page, and where wanted as rows."""
    source = provenance(model.config.model_dump(mode="json"), model.config.seed)
    figures = {"bundle": model.version, "results": [as_json(r) for r in results], **source}
    for path, text in (
        (target, json.dumps(figures, indent=2)),
        (page, html_report(results, notes, source, model.version)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if dump is not None:
        pd.concat([result.rows for result in results]).to_parquet(dump, index=False)


if __name__ == "__main__":
    run_job(main)
