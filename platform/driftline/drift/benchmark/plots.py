"""The report's figures: delay against ARL, ROC, reliability, robustness, example timelines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from driftline.drift.benchmark.bars import FUSED
from driftline.drift.benchmark.downstream import AGAINST_STEADY, AGES, ALL_AGES
from driftline.drift.benchmark.figures import BINS, Sample, probabilities
from driftline.drift.benchmark.trial import ORACLE
from driftline.drift.calibration import run_length
from driftline.drift.detectors.contract import WARM_UP_EVENTS
from driftline.drift.restart import FloatArray

SHOWN = (FUSED, ORACLE, "restart Shiryaev-Roberts", "restart CUSUM", "MMD", "cosine", "genre run length")
LEVELS = 60
DPI = 110


def delay_against_arl(samples: Sequence[Sample], names: Sequence[str], path: Path) -> None:
    """Share of changes found within 20 events, over the run length that the same threshold has on steady streams."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in names:
        steady = [np.asarray(run) for sample in samples for run in sample.steady[name]]
        levels = np.quantile(np.concatenate([run[WARM_UP_EVENTS:] for run in steady]), np.linspace(0.8, 0.9995, LEVELS))
        arls = [run_length(steady, float(level)).arl_events for level in levels]
        axes.plot(arls, [_found(samples, name, float(level)) for level in levels], label=name)
    axes.axvline(200, color="0.7", linewidth=0.8)
    axes.set(xscale="log", xlim=(20, 3000), ylim=(0, 1))
    axes.set(xlabel="average run length between false alarms, events", ylabel="found within 20 events")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=DPI)


def _found(samples: Sequence[Sample], name: str, threshold: float) -> float:
    delays = np.concatenate([sample.delays(name, threshold)[0] for sample in samples])
    counted = delays >= 1
    return float((delays[counted] <= 20).mean()) if counted.any() else float("nan")


def roc(samples: Sequence[Sample], names: Sequence[str], path: Path) -> None:
    """Receiver operating characteristic 20 events after the change, first seed."""
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in names:
        drifted, steady = samples[0].values_at(name, 20)
        levels = np.unique(np.concatenate([drifted, steady, [np.inf]]))[::-1]
        axes.plot([(steady >= level).mean() for level in levels], [(drifted >= level).mean() for level in levels],
                  label=name)  # fmt: skip
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    axes.set(xlabel="steady streams above", ylabel="drifted streams above", title="20 events after the change")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=DPI)


def reliability(samples: Sequence[Sample], path: Path) -> None:
    """Share that drifted among streams of like P(drift), all seeds."""
    p, labels = (np.concatenate(parts) for parts in zip(*(probabilities(s, 0.5)[:2] for s in samples), strict=True))
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    bins = [n for n in range(BINS) if (place == n).any()]
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    axes.plot([p[place == n].mean() for n in bins], [labels[place == n].mean() for n in bins], "o-")
    axes.set(xlabel="P(drift)", ylabel="share that drifted", xlim=(0, 1), ylim=(0, 1))
    figure.savefig(path, dpi=DPI)


def robustness(variants: Mapping[str, Any], clean: Mapping[str, Any], path: Path) -> None:
    """Stream AUROC with some events replaced by random items."""
    shares = {0.0: clean} | {float(k.split()[1].strip("%")): v for k, v in variants.items() if k.startswith("noise")}
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    for age in ("10", "20", "40"):
        axes.plot(list(shares), [found["stream_auroc"][age].mean for found in shares.values()], "o-", label=f"W={age}")
    axes.set(xlabel="events replaced, %", ylabel="stream AUROC", ylim=(0.5, 1))
    axes.legend()
    figure.savefig(path, dpi=DPI)


def timelines(sample: Sample, path: Path) -> None:
    """P(drift) of the first drifted and steady streams, event by event."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    for row, (kind, rows) in enumerate((("drifted", sample.drifted), ("steady", sample.steady))):
        for axes, (_, stream) in zip(grid[row], rows.head(3).iterrows(), strict=False):
            p_T: FloatArray = np.asarray(stream["p_drift"])
            axes.plot(np.arange(1, len(p_T) + 1), p_T)
            axes.axvline(stream["k"], color="tab:red" if row == 0 else "0.7", linestyle="--", linewidth=0.9)
            axes.set(title=f"{kind}: {stream['stream_id']}", ylim=(0, 1))
    grid[1][1].set_xlabel("event")
    figure.supylabel("P(drift)")
    figure.savefig(path, dpi=DPI)


def gains(figures: Mapping[str, Any], path: Path) -> None:
    """Gain over the steady policy by events since the change: on drifted and undrifted streams, and the difference."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    grid = figure.subplots(len(figures), 3, sharex=True, sharey="row", squeeze=False)
    ages = [name for name in AGES if name != ALL_AGES]
    for row, (measure, by_policy) in zip(grid, figures.items(), strict=True):
        for axes, part in zip(row, ("drifted", "undrifted", "difference"), strict=True):
            for number, policy in enumerate(AGAINST_STEADY):
                found = [by_policy[policy][name][part] for name in ages]
                mean = np.array([value.mean for value in found])
                ends = np.abs(np.array([[value.low, value.high] for value in found]).T - mean)
                places = np.arange(len(ages)) + (number - 1.5) * 0.12
                axes.errorbar(places, mean, ends, fmt="o-", markersize=3, linewidth=1, capsize=2, label=policy)
            axes.axhline(0, color="0.7", linewidth=0.8)
            axes.set(title=f"{measure}, {part}")
            axes.set_xticks(range(len(ages)), ages, rotation=45, fontsize=8)
    grid[0][0].legend(fontsize=8)
    figure.supxlabel("events since the change")
    figure.savefig(path, dpi=DPI)
