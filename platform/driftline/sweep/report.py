"""What a sweep leaves behind: trials.csv, report.json, report.html with its figures, best.yaml.

Everything is worked out from the sweep and its journal, so that a report can be written again at any time.
"""

import base64
import csv
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driftline.config import Config
from driftline.evaluation.provenance import provenance
from driftline.sweep.axes import axis, heat_keys
from driftline.sweep.journal import STATES, Trial, best_of
from driftline.sweep.space import configured, show
from driftline.sweep.spec import Sweep

HEAT_MAP, PARALLEL = "heat-map.png", "parallel-coordinates.png"


def best_config(sweep: Sweep, best: Trial) -> Config:
    """The base with the best trial's values, and its number of workers: a learning rate goes with a size of step."""
    values = {"name": f"{sweep.name}-best", "training.num_workers": max(sweep.trial_workers, 1), **best.best_values}
    return configured(sweep.base, values)


def write_report(sweep: Sweep, trials: Sequence[Trial], folder: Path, note: str = "") -> Trial | None:
    """Write every file of the report; returns the best trial, or None if no trial has a figure."""
    from driftline.sweep.figures import heat_map, parallel_coordinates

    best = best_of(trials)
    _write_csv(sweep, trials, folder / "trials.csv")
    (folder / "report.json").write_text(json.dumps(as_json(sweep, trials, note), indent=2))
    parallel_coordinates(trials, sweep.space, sweep.metric, folder / PARALLEL)
    keys = heat_keys(sweep.space)
    if keys is not None:
        x, y = (axis(key, sweep.space[key]) for key in keys)
        heat_map(trials, x, y, sweep.metric, folder / HEAT_MAP)
    (folder / "report.html").write_text(_html(sweep, trials, folder, note), encoding="utf-8")
    if best is not None:
        (folder / "best.yaml").write_text(best_config(sweep, best).to_yaml(), encoding="utf-8")
    return best


def as_json(sweep: Sweep, trials: Sequence[Trial], note: str = "") -> dict[str, Any]:
    """Every figure, with what it was measured on."""
    best = best_of(trials)
    return {
        "metric": sweep.metric,
        "best": _trial_json(best) if best is not None else None,
        "epochs_trained": sum(trial.epochs for trial in trials),
        "trials": [_trial_json(trial) for trial in trials],
        "note": note,
        **provenance(sweep.model_dump(mode="json"), sweep.search.seed),
    }


def _trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "id": trial.id,
        "state": trial.state,
        "reason": trial.reason,
        "values": trial.best_values if trial.curve else trial.values,
        "figure": trial.best if trial.curve else None,
        "epoch": trial.best_epoch,
        "figures": trial.best_figures,
        "epochs": trial.epochs,
        "seconds": round(trial.seconds, 1),
        "curve": trial.curve,
    }


def _columns(sweep: Sweep) -> list[str]:
    return ["trial", "state", sweep.metric, "best_epoch", "epochs", "seconds", *sweep.space, "reason"]


def _rows(sweep: Sweep, trials: Sequence[Trial]) -> list[list[str]]:
    """Trials, the best first."""
    rows = []
    for trial in sorted(trials, key=lambda trial: -trial.best):
        values = trial.best_values if trial.curve else trial.values
        figure, at = (repr(trial.best), str(trial.best_epoch)) if trial.curve else ("", "")
        shown = [_exact(values[key]) if key in values else "" for key in sweep.space]
        rows.append(
            [trial.id, trial.state, figure, at, str(trial.epochs), f"{trial.seconds:.1f}", *shown, trial.reason]
        )
    return rows


def _exact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _write_csv(sweep: Sweep, trials: Sequence[Trial], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_columns(sweep))
        writer.writerows(_rows(sweep, trials))


def _html(sweep: Sweep, trials: Sequence[Trial], folder: Path, note: str) -> str:
    """One page with the figures inside it."""
    best = best_of(trials)
    answer = "no trial has a figure"
    if best is not None:
        values = ", ".join(f"{key} = {show(value)}" for key, value in best.best_values.items())
        answer = f"trial {best.id}: {sweep.metric} {best.best:.4f} at epoch {best.best_epoch} with {values}"
    images = "".join(_image(folder / name) for name in (HEAT_MAP, PARALLEL) if (folder / name).is_file())
    head = "".join(f"<th>{html.escape(name)}</th>" for name in _columns(sweep))
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in _rows(sweep, trials)
    )
    states = "; ".join(f"{name}: {meaning}" for name, meaning in STATES.items())
    epochs = sum(trial.epochs for trial in trials)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(sweep.name)}</title>
<style>body{{font:15px/1.5 sans-serif;margin:2em auto;max-width:75em}} table{{border-collapse:collapse}}
td,th{{border:1px solid #ccc;padding:.2em .5em;text-align:left}} img{{max-width:100%}}</style></head><body>
<h1>Sweep {html.escape(sweep.name)}</h1>
<p><b>Best</b> {html.escape(answer)}</p>
<p>{len(trials)} trials, {epochs} epochs trained; searcher {sweep.search.searcher}, scheduler {sweep.search.scheduler},
seed {sweep.search.seed}. {html.escape(note)}</p>
{images}
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
<p>{html.escape(states)}.</p>
<h2>Sweep file</h2><pre>{html.escape(sweep.to_yaml())}</pre>
</body></html>
"""


def _image(path: Path) -> str:
    return (
        f'<p><img alt="{path.stem}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"></p>\n'
    )
