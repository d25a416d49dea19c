"""Evaluation results as a table for people and as JSON for machines."""

from dataclasses import asdict
from typing import Any

from rich.table import Table

from driftline.evaluation.metrics import METRICS
from driftline.evaluation.protocols import ProtocolResult

FOOTNOTE = (
    "Order: (timestamp, position in the file), stable. Candidates: the whole catalogue minus the history; ties get the "
    "middle of their ranks. The target's moment is not given to any model. Intervals: 95 %, bootstrap over users. "
    "cov. = coverage@10."
)


def table(result: ProtocolResult, note: str = "") -> Table:
    """One row per model, best figure of a column in bold."""
    sheet = Table(title=f"{result.protocol}: {result.targets:,} targets", caption=f"{note} {FOOTNOTE}".strip())
    sheet.add_column("model", no_wrap=True)
    for metric in METRICS:
        sheet.add_column(metric, justify="right", no_wrap=True)
    sheet.add_column("cov.", justify="right", no_wrap=True)
    best = {metric: max(m.metrics[metric].mean for m in result.models) for metric in METRICS}
    for model in result.models:
        cells = []
        for metric in METRICS:
            interval = model.metrics[metric]
            text = f"{_short(interval.mean)} {_short(interval.low)}-{_short(interval.high)}"
            cells.append(f"[bold]{text}[/bold]" if interval.mean == best[metric] else text)
        sheet.add_row(model.model, *cells, f"{model.beyond['coverage@10']:.2f}")
    return sheet


def _short(figure: float) -> str:
    """Three decimals without a leading zero, so that the table fits 80 columns."""
    return f"{figure:.3f}".removeprefix("0")


def as_json(result: ProtocolResult) -> dict[str, Any]:
    """Every figure of a protocol."""
    return {
        "protocol": result.protocol,
        "targets": result.targets,
        "models": [asdict(model) for model in result.models],
    }
