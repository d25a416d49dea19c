"""The report's figures: parallel coordinates, and a heat map of two keys."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from driftline.sweep.axes import Axis, axis, heat_cells
from driftline.sweep.journal import Trial

COLOURS = "viridis"


def heat_map(trials: Sequence[Trial], x: Axis, y: Axis, metric: str, path: Path) -> None:
    """Draw the best figure of each cell; empty cells stay white."""
    cells = heat_cells(trials, x, y)
    figure = Figure(figsize=(1.6 + 0.95 * len(x.labels), 1.6 + 0.55 * len(y.labels)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(cells, cmap=COLOURS, aspect="auto", origin="lower")
    axes.set_xticks(range(len(x.labels)), x.labels, rotation=30, ha="right")
    axes.set_yticks(range(len(y.labels)), y.labels)
    axes.set_xlabel(x.key)
    axes.set_ylabel(y.key)
    known = [value for row in cells for value in row if not math.isnan(value)]
    middle = (min(known) + max(known)) / 2 if known else 0.0
    for row, values in enumerate(cells):
        for column, value in enumerate(values):
            if not math.isnan(value):
                colour = "black" if value > middle else "white"
                axes.text(column, row, f"{value:.4f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, label=f"best {metric}")
    figure.savefig(path, dpi=130)


def parallel_coordinates(trials: Sequence[Trial], space: Mapping[str, Any], metric: str, path: Path) -> None:
    """Draw a line per trial through its values, coloured by its best figure; the last axis is that figure."""
    drawn = sorted((trial for trial in trials if trial.curve), key=lambda trial: trial.best)
    bests = [trial.best for trial in drawn] or [0.0, 1.0]
    scale = Normalize(min(bests), max(bests))
    keys = [axis(key, distribution) for key, distribution in space.items()]
    figure = Figure(figsize=(2.2 * (len(keys) + 1), 4.5), layout="constrained")
    axes = figure.subplots()
    for trial in drawn:
        heights = [key.position(trial.best_values[key.key]) for key in keys] + [float(scale(trial.best))]
        axes.plot(range(len(heights)), heights, color=colormaps[COLOURS](scale(trial.best)), alpha=0.8)
    for number, key in enumerate(keys):
        axes.axvline(number, color="0.6", linewidth=0.8)
        _label(axes, number, key)
    axes.axvline(len(keys), color="0.6", linewidth=0.8)
    axes.set_xticks(range(len(keys) + 1), [*(key.key for key in keys), metric], rotation=15, ha="right")
    axes.set_yticks([])
    figure.colorbar(ScalarMappable(scale, COLOURS), ax=axes, label=f"best {metric}")
    figure.savefig(path, dpi=130)


def _label(axes: Any, number: int, key: Axis) -> None:
    """Values beside an axis: every listed one, or both ends."""
    for value in key.distribution.ends():
        label = key.labels[key.cell(value)] if len(key.labels) == len(key.distribution.ends()) else f"{value:.3g}"
        axes.text(number + 0.03, key.position(value), label, fontsize=7, va="center")
