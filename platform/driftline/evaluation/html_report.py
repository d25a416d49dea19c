"""Evaluation results as one HTML file with plots."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from driftline.evaluation import plots
from driftline.evaluation.bootstrap import Interval
from driftline.evaluation.page import drawn, image, page, table
from driftline.evaluation.protocols import MEASURED, ModelResult, ProtocolResult, Stratum
from driftline.evaluation.ratings import RatingResult
from driftline.evaluation.report import FOOTNOTE, RATING_FOOTNOTE, STRATA, strata

Result = ProtocolResult | RatingResult


def html_report(results: Sequence[Result], notes: Sequence[str], source: Mapping[str, Any], bundle: str) -> str:
    """The whole page.

    Parameters
    ----------
    notes
        What each result was measured with, a sentence or two.
    source
        Hardware, versions, seed and configuration.
    """
    sections = [_section(result, note) for result, note in zip(results, notes, strict=True)]
    measured_with = f"<h2>Measured with</h2><pre>{html.escape(json.dumps(source, indent=1))}</pre>"
    return page(f"Evaluation of {bundle}", "".join([*sections, measured_with]))


def _section(result: Result, note: str) -> str:
    name, footnote = result.protocol, FOOTNOTE if isinstance(result, ProtocolResult) else RATING_FOOTNOTE
    figures = {model.model: model.metrics for model in result.models}
    parts = [
        f"<h2>{html.escape(name)}: {result.targets:,} targets</h2><p>{html.escape(f'{note} {footnote}')}</p>",
        _model_table(result),
        image(drawn(plots.bars(figures)), f"{name}, metrics by model"),
    ]
    if differences := result.comparisons():
        rows = [[other, *(_signed(i) for i in found.values())] for other, found in differences.items()]
        head = ["baseline", *next(iter(differences.values()))]
        parts += [f"<h3>{MEASURED} minus each baseline, paired by target</h3>", table(head, rows)]
        parts.append(image(drawn(plots.differences(differences, MEASURED)), f"{name}, paired differences"))
    if isinstance(result, ProtocolResult):
        for title in STRATA:
            found = strata(result, title)
            if max(map(len, found.values())) > 1:
                parts += [f"<h3>NDCG@10 by {title}</h3>", _strata_table(found)]
                parts.append(image(drawn(plots.by_stratum(found, title)), f"{name}, NDCG@10 by {title}"))
    return "".join(parts)


def _model_table(result: Result) -> str:
    head, rows = ["model", *result.models[0].metrics], []
    if isinstance(result, ProtocolResult):
        head += ["coverage@10", "novelty, bits", "Gini"]
    for model in result.models:
        cells = [model.model, *map(str, model.metrics.values())]
        if isinstance(model, ModelResult):
            cells += [f"{figure:.3f}" for figure in model.beyond.values()]
        rows.append(cells)
    return table(head, rows)


def _strata_table(found: Mapping[str, Mapping[str, Stratum]]) -> str:
    labels = next(iter(found.values()))
    head = ["model", *(f"{label} ({stratum.targets:,} targets)" for label, stratum in labels.items())]
    return table(head, [[name, *(_rounded(s.ndcg) for s in by_label.values())] for name, by_label in found.items()])


def _rounded(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _signed(interval: Interval) -> str:
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
