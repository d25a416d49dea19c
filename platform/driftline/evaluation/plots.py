"""The evaluation report's figures: metrics, strata and paired differences, each with its 95 % interval."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from driftline.evaluation.bootstrap import Interval
from driftline.evaluation.protocols import Stratum


def bars(by_model: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """One panel per metric, one bar per model."""
    metrics = list(next(iter(by_model.values())))
    figure = Figure(figsize=(3.4 * len(metrics) + 1.5, 0.32 * len(by_model) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        found = [intervals[metric] for intervals in by_model.values()]
        axes.barh(list(by_model), [i.mean for i in found], xerr=ends(found), capsize=2, color="tab:blue", alpha=0.75)
        axes.set(title=metric)
        axes.invert_yaxis()
    return figure


def by_stratum(found: Mapping[str, Mapping[str, Stratum]], title: str) -> Figure:
    """NDCG@10 of every model over the strata; under each label how many targets are in it."""
    labels = {label: stratum.targets for label, stratum in next(iter(found.values())).items()}
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, by_label) in enumerate(found.items()):
        places = np.arange(len(labels)) + (number - (len(found) - 1) / 2) * 0.8 / len(found)
        intervals = [stratum.ndcg for stratum in by_label.values()]
        means = [interval.mean for interval in intervals]
        axes.errorbar(places, means, ends(intervals), fmt="o", markersize=3, linewidth=1, capsize=2, label=name)
    axes.set_xticks(range(len(labels)), [f"{label}\n{count:,}" for label, count in labels.items()])
    axes.set(ylabel="NDCG@10", xlabel=f"{title}; number of targets", ylim=(0, None))
    axes.legend(fontsize=8)
    return figure


def differences(found: Mapping[str, Mapping[str, Interval]], measured: str) -> Figure:
    """The measured model minus each other one: one panel per metric."""
    metrics = list(next(iter(found.values())))
    figure = Figure(figsize=(3.4 * len(metrics) + 1.5, 0.32 * len(found) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        intervals = [by_metric[metric] for by_metric in found.values()]
        axes.errorbar([i.mean for i in intervals], list(found), xerr=ends(intervals), fmt="o", capsize=3)
        axes.axvline(0, color="0.7", linewidth=0.8)
        axes.set(title=f"{metric}, {measured} minus")
        axes.invert_yaxis()
    return figure


def ends(intervals: Sequence[Interval]) -> NDArray[np.float64]:
    """Lengths of the error bars below and above the means, as matplotlib takes them: 2 by intervals."""
    low, mean, high = (np.array([getattr(i, end) for i in intervals]) for end in ("low", "mean", "high"))
    lengths: NDArray[np.float64] = np.maximum(np.stack([mean - low, high - mean]), 0.0)
    return lengths
