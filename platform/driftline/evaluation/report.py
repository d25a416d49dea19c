"""Evaluation results as tables for people and as JSON for machines."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from driftline.evaluation.bootstrap import Interval
from driftline.evaluation.metrics import METRICS
from driftline.evaluation.protocols import MEASURED, ProtocolResult, Stratum
from driftline.evaluation.ratings import ERRORS, RatingResult

FOOTNOTE = (
    "Order: (timestamp, position in the file), stable. Candidates: the whole catalogue minus the history; ties get the "
    "middle of their ranks. No model is given the target's moment, unless the title says so. Intervals: 95 %, "
    "bootstrap over users."
)
RATING_FOOTNOTE = (
    "Order: (timestamp, position in the file), stable; each user's last tenth tests, the tenth before validates. No "
    "model is trained on a value of either; biased MF's settings are chosen on the validation values. Lower is better. "
    "Intervals: 95 %, bootstrap over users."
)
STRATA = {
    "history length": lambda model: model.by_length,
    "popularity decile of the target (1 = least popular)": lambda model: model.by_popularity,
    "age decile of the target (1 = oldest, new = no training event)": lambda model: model.by_age,
}


def sheets(result: ProtocolResult | RatingResult, note: str = "") -> Iterator[Table]:
    """Everything about a protocol, one after another: figures, strata, and the paired comparison; 80 columns wide."""
    yield table(result, note)
    if isinstance(result, ProtocolResult):
        yield _beyond_table(result)
        for title in STRATA:
            found = strata(result, title)
            if max(map(len, found.values())) > 1:
                yield _strata_table(title, found)
    if differences := result.comparisons():
        yield _paired_table(differences)


def table(result: ProtocolResult | RatingResult, note: str = "") -> Table:
    """One row per model, best figure of a column in bold."""
    ranked = isinstance(result, ProtocolResult)
    caption = f"{note} {FOOTNOTE if ranked else RATING_FOOTNOTE}".strip()
    sheet = Table(title=f"{result.protocol}: {result.targets:,} targets", caption=caption)
    sheet.add_column("model", no_wrap=True)
    metrics = list(METRICS if ranked else ERRORS)
    for name in metrics:
        sheet.add_column(name, justify="right", no_wrap=True)
    best = {m: (max if ranked else min)(model.metrics[m].mean for model in result.models) for m in metrics}
    for model in result.models:
        cells = []
        for metric in metrics:
            interval = model.metrics[metric]
            text = f"{short(interval.mean)} {short(interval.low)}-{short(interval.high)}"
            cells.append(f"[bold]{text}[/bold]" if interval.mean == best[metric] else text)
        sheet.add_row(model.model, *cells)
    return sheet


def _beyond_table(result: ProtocolResult) -> Table:
    sheet = _slim("What the lists hold")
    for name in ("coverage@10", "novelty, bits", "Gini (0 = all items equally often)"):
        sheet.add_column(name, justify="right")
    for model in result.models:
        sheet.add_row(model.model, *(f"{figure:.3f}" for figure in model.beyond.values()))
    return sheet


def strata(result: ProtocolResult, title: str) -> dict[str, dict[str, Stratum]]:
    """NDCG@10 by model and label of one of :data:`STRATA`."""
    return {model.model: STRATA[title](model) for model in result.models}


def _strata_table(title: str, found: Mapping[str, Mapping[str, Stratum]]) -> Table:
    sheet = _slim(f"NDCG@10 by {title}")
    labels = next(iter(found.values()))
    for label in labels:
        sheet.add_column(label, justify="right", no_wrap=True)
    for name, by_label in found.items():
        sheet.add_row(name, *(short(stratum.ndcg.mean) for stratum in by_label.values()))
    sheet.add_row("targets", *(f"{stratum.targets:,}" for stratum in labels.values()), style="dim")
    return sheet


def _paired_table(differences: Mapping[str, Mapping[str, Interval]]) -> Table:
    sheet = _slim(f"{MEASURED} minus each baseline, paired by target")
    for metric in next(iter(differences.values())):
        sheet.add_column(metric, justify="right", no_wrap=True)
    for name, by_metric in differences.items():
        cells = (
            [f"{figure:+.3f}".replace("0.", ".", 1) for figure in (i.mean, i.low, i.high)] for i in by_metric.values()
        )
        sheet.add_row(name, *(f"{mean} [{low} {high}]" for mean, low, high in cells))
    return sheet


def _slim(title: str) -> Table:
    """A table without lines between its columns, the first of which is the model's."""
    sheet = Table(title=title, box=SIMPLE, padding=0)
    sheet.add_column("", no_wrap=True)
    return sheet


def short(figure: float) -> str:
    """Three decimals without a leading zero, so that the table fits 80 columns."""
    return f"{figure:.3f}".removeprefix("0")


def as_json(result: ProtocolResult | RatingResult) -> dict[str, Any]:
    """Every figure of a protocol."""
    paired = {name: {m: asdict(i) for m, i in found.items()} for name, found in result.comparisons().items()}
    return {
        "protocol": result.protocol,
        "targets": result.targets,
        "models": [asdict(model) for model in result.models],
        f"{MEASURED} minus": paired,
    }
