"""The journal, the arithmetic of the figures, and the files of the report, on four trials made by hand."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from driftline.config import load_config
from driftline.sweep.axes import axis, heat_cells, heat_keys
from driftline.sweep.journal import Trial, best_of, read, trials_of, write
from driftline.sweep.report import write_report
from driftline.sweep.spec import Sweep, parse_sweep

RATE, RANK = "training.learning_rate", "text.adapter.rank"


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    space = {RATE: {"kind": "loguniform", "low": 1e-4, "high": 1e-1}, RANK: {"kind": "choice", "values": [2, 4, 8]}}
    base = {"data": {"sample": "ml-100k"}, "storage": str(tmp_path), "training": {"num_workers": 2}}
    return parse_sweep({"name": "made", "base": base, "space": space, "search": {"trials": 4, "trial_workers": 0}})


def lines() -> list[dict[str, Any]]:
    """Trial a rises and falls, b is stopped, c fails at once, d is in the cell of b and better."""

    def report(trial: str, time: float, epoch: int, figure: float, rate: float, rank: int) -> dict[str, Any]:
        values = {RATE: rate, RANK: rank}
        figures = {"ranker/NDCG@10": figure, "ranker/HR@10": 2 * figure}
        told = {"trial": trial, "event": "report", "time": time, "epoch": epoch, "figure": figure}
        return told | {"values": values, "figures": figures}

    return [
        {"trial": "a", "event": "start", "time": 10.0, "values": {RATE: 2e-4, RANK: 2}},
        {"trial": "b", "event": "start", "time": 11.0, "values": {RATE: 0.05, RANK: 8}},
        report("a", 20.0, 1, 0.10, 2e-4, 2),
        report("b", 21.0, 1, 0.05, 0.05, 8),
        {"trial": "b", "event": "end", "time": 22.0, "state": "stopped"},
        {"trial": "c", "event": "start", "time": 23.0, "values": {RATE: 1e-3, RANK: 4}},
        {"trial": "c", "event": "end", "time": 24.0, "state": "failed", "reason": "TrainingError: loss is nan <b>"},
        report("a", 30.0, 2, 0.30, 2e-4, 2),
        report("a", 40.0, 3, 0.20, 2e-4, 2),
        {"trial": "a", "event": "end", "time": 41.5, "state": "finished"},
        report("d", 50.0, 1, 0.07, 0.04, 8),
    ]


def test_trials_are_what_their_lines_add_up_to() -> None:
    trials = trials_of(lines())
    assert list(trials) == ["a", "b", "c", "d"]
    a = trials["a"]
    assert (a.state, a.best, a.best_epoch, a.epochs, a.seconds) == ("finished", 0.30, 2, 3, 31.5)
    assert a.best_figures == {"ranker/NDCG@10": 0.30, "ranker/HR@10": 0.60}
    assert [trial.state for trial in trials.values()] == ["finished", "stopped", "failed", "running"]
    assert (trials["c"].best, trials["c"].epochs) == (-math.inf, 0)
    best = best_of(trials.values())
    assert best is not None
    assert best.id == "a"


def test_pbt_values_are_those_of_the_best_report() -> None:
    start = {"trial": "p", "event": "report", "time": 0.0, "epoch": 1, "figure": 0.2, "values": {RATE: 0.1}}
    (trial,) = trials_of([start, start | {"epoch": 2, "figure": 0.1, "values": {RATE: 0.2}}]).values()
    assert (trial.values, trial.best_values) == ({RATE: 0.2}, {RATE: 0.1})


def test_a_trial_that_is_restarted_runs_again() -> None:
    again = {"trial": "c", "event": "start", "time": 25.0}
    trial = trials_of([*lines(), again])["c"]
    assert (trial.state, trial.reason) == ("running", "")


def test_a_torn_line_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert list(read(path)) == []
    write(path, {"trial": "a"})
    with path.open("a") as file:
        file.write('{"trial": "b", "ev')
    write(path, {"trial": "c"})
    assert [line["trial"] for line in read(path)] == ["a", "c"]


def test_axes_have_a_cell_for_every_listed_value_and_bins_for_a_range(sweep: Sweep) -> None:
    """The range is three decades in six bins: half a decade each."""
    rate, rank = axis(RATE, sweep.space[RATE]), axis(RANK, sweep.space[RANK])
    assert rank.labels == ("2", "4", "8")
    assert [rank.cell(value) for value in (2, 4, 8)] == [0, 1, 2]
    assert [rank.position(value) for value in (2, 4, 8)] == [0.0, 0.5, 1.0]
    assert len(rate.labels) == 6
    assert rate.labels[0] == "0.0001–0.00032"
    assert [rate.cell(value) for value in (1e-4, 3.1e-4, 3.2e-4, 0.05, 0.1)] == [0, 0, 1, 5, 5]
    assert rate.position(1e-2) == pytest.approx(2 / 3)


def test_the_heat_map_holds_the_best_figure_of_each_cell(sweep: Sweep) -> None:
    assert heat_keys(sweep.space) == (RATE, RANK)
    trials = list(trials_of(lines()).values())
    cells = heat_cells(trials, axis(RATE, sweep.space[RATE]), axis(RANK, sweep.space[RANK]))
    assert cells[0][0] == 0.30  # a: rank 2, first half decade
    assert cells[2][5] == 0.07  # b and d share it; d is better
    assert sum(math.isnan(value) for row in cells for value in row) == 3 * 6 - 2  # c has no figure


def test_heat_keys_prefer_rate_and_rank_and_take_what_there_is() -> None:
    assert heat_keys({"encoder.dim": 0, RANK: 0, RATE: 0}) == (RATE, RANK)
    assert heat_keys({"encoder.dim": 0, RATE: 0}) == (RATE, "encoder.dim")
    assert heat_keys({"encoder.dim": 0, "encoder.layers": 0}) == ("encoder.dim", "encoder.layers")
    assert heat_keys({RATE: 0}) is None


def test_every_file_of_the_report_parses(sweep: Sweep, tmp_path: Path) -> None:
    best = write_report(sweep, list(trials_of(lines()).values()), tmp_path, note="one at a time")
    assert best is not None
    assert best.id == "a"
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["a", "d", "b", "c"]  # the best first, without a figure last
    assert (float(rows[0]["ranker/NDCG@10"]), rows[0][RANK], rows[0]["epochs"]) == (0.30, "2", "3")
    assert rows[3]["reason"] == "TrainingError: loss is nan <b>"
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["best"]["values"] == {RATE: 2e-4, RANK: 2}
    assert figures["epochs_trained"] == 3 + 1 + 0 + 1
    assert figures["trials"][2]["figure"] is None
    assert figures["hardware"]["cores"]
    page = (tmp_path / "report.html").read_text()
    assert "loss is nan &lt;b&gt;" in page
    assert page.count("data:image/png;base64,") == 2
    for name in ("heat-map.png", "parallel-coordinates.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 200


def test_the_best_configuration_is_one_that_can_be_trained(sweep: Sweep, tmp_path: Path) -> None:
    write_report(sweep, list(trials_of(lines()).values()), tmp_path)
    config = load_config(tmp_path / "best.yaml")
    assert (config.training.learning_rate, config.text.adapter.rank) == (2e-4, 2)
    assert config.training.num_workers == 1  # a trial in one process took steps of one worker
    assert config.drift.enabled


def test_a_sweep_without_any_figure_has_a_report_too(sweep: Sweep, tmp_path: Path) -> None:
    trials: list[Trial] = [trials_of(lines())["c"]]
    assert write_report(sweep, trials, tmp_path) is None
    assert "no trial has a figure" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "best.yaml").exists()
