"""Where the values of trials lie on an axis: the arithmetic behind the report's figures, without a plot."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from driftline.sweep.journal import Trial
from driftline.sweep.space import Choice, Grid, LogUniform, show

BINS = 6
"""Cells along a key whose values cannot be listed."""


@dataclass(frozen=True)
class Axis:
    """One key of the space as a row of cells.

    Attributes
    ----------
    labels
        One per cell: a listed value, or the ends of a bin.
    """

    key: str
    distribution: Any
    labels: tuple[str, ...]

    def cell(self, value: Any) -> int:
        """Number of the cell that holds a value."""
        if isinstance(self.distribution, Choice | Grid):
            return [_same(known) for known in self.distribution.values].index(_same(value))
        return min(int(self.position(value) * len(self.labels)), len(self.labels) - 1)

    def position(self, value: Any) -> float:
        """Where a value lies between the ends of the key, from 0 to 1."""
        if isinstance(self.distribution, Choice | Grid):
            return self.cell(value) / max(len(self.labels) - 1, 1)
        low, high = self.distribution.ends()
        if isinstance(self.distribution, LogUniform):
            low, high, value = math.log(low), math.log(high), math.log(value)
        return float((value - low) / (high - low))


def _same(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=list)


def axis(key: str, distribution: Any) -> Axis:
    """Listed values get a cell each, ranges are cut into :data:`BINS` cells of equal width (in the logarithm)."""
    if isinstance(distribution, Choice | Grid):
        return Axis(key, distribution, tuple(show(value) for value in distribution.values))
    low, high = distribution.ends()
    if isinstance(distribution, LogUniform):
        edges = [low * (high / low) ** (n / BINS) for n in range(BINS + 1)]
    else:
        edges = [low + (high - low) * n / BINS for n in range(BINS + 1)]
    return Axis(key, distribution, tuple(f"{a:.2g}–{b:.2g}" for a, b in pairwise(edges)))


def heat_keys(space: Mapping[str, Any]) -> tuple[str, str] | None:
    """The two keys of the heat map: a learning rate along x and a rank along y where there are such, or the first two
    keys of the space; None if it has only one."""
    if len(space) < 2:
        return None
    keys = list(space)
    x = next((key for key in keys if key.endswith("learning_rate")), None)
    y = next((key for key in keys if key.endswith("rank") and key != x), None)
    x = x or next(key for key in keys if key != y)
    return x, y or next(key for key in keys if key != x)


def heat_cells(trials: Sequence[Trial], x: Axis, y: Axis) -> list[list[float]]:
    """The best figure of the trials in each cell, ``cells[y][x]``; nan where there was none."""
    cells = [[math.nan] * len(x.labels) for _ in y.labels]
    for trial in trials:
        if trial.curve:
            row, column = y.cell(trial.best_values[y.key]), x.cell(trial.best_values[x.key])
            known = cells[row][column]
            cells[row][column] = trial.best if math.isnan(known) else max(trial.best, known)
    return cells
