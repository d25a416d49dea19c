"""Whole sweeps over tiny data: the searchers and schedulers on real trials, failures, restarts, workers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from driftline.config import load_config
from driftline.errors import TrainingError
from driftline.registry.bundle import open_bundle
from driftline.sweep.journal import JOURNAL, Trial, read, trials_of
from driftline.sweep.screen import FORGOTTEN
from driftline.sweep.spec import Sweep, parse_sweep
from driftline.sweep.study import SweepResult, run_sweep, stored_sweep
from tests.tiny import ROOT, tiny_config, tiny_overrides

RATE = "training.learning_rate"


def tiny_sweep(
    folder: Path, storage: Path, space: dict[str, Any], search: dict[str, Any], overrides: tuple[str, ...] = ()
) -> Sweep:
    """A sweep over the tiny data whose text stage is only an encoding."""
    base = tiny_config(folder, [f"storage={storage}", "text.epochs=0", *overrides])
    tree = {"name": "tiny", "base": base.model_dump(mode="json"), "space": space}
    return parse_sweep(tree | {"search": {"trial_workers": 0, **search}})


def run(sweep: Sweep, **options: Any) -> SweepResult:
    return run_sweep(sweep, Console(), **options)


def _most_at_a_time(folder: Path) -> int:
    """The largest number of trials that had begun and not ended."""
    running, most = set(), 0
    for line in read(folder / JOURNAL):
        (running.discard if line["event"] == "end" else running.add)(line["trial"])
        most = max(most, len(running))
    return most


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_ends_with_report_and_challenger_though_a_trial_fails(
    ray_cluster: str, tiny_folder: Path, tmp_path: Path
) -> None:
    """TPE draws six points of which those with 18 dimensions and 4 heads are impossible; ASHA compares at epoch 2."""
    space = {
        RATE: {"kind": "loguniform", "low": 1e-3, "high": 3e-2},
        "encoder.dim": {"kind": "choice", "values": [16, 18]},
        "encoder.heads": {"kind": "choice", "values": [2, 4]},
    }
    search = {"searcher": "optuna", "trials": 6, "seed": 1, "grace_epochs": 2, "max_concurrent_trials": 2}
    overrides = ("training.epochs=4", "drift.epochs=1")
    done = run(tiny_sweep(tiny_folder, tmp_path, space, search, overrides))

    assert len(done.trials) == 6
    for trial in done.trials:
        impossible = (trial.values["encoder.dim"], trial.values["encoder.heads"]) == (18, 4)
        assert (trial.state == "failed") == impossible
        if impossible:
            assert trial.reason.startswith("`encoder`: dim=18 is not a multiple of heads=4")
        else:
            assert trial.epochs == (2 if trial.state == "stopped" else 4)
    assert _most_at_a_time(done.folder) == 2
    states = [trial.state for trial in done.trials]
    assert {"failed", "finished"} <= set(states)
    assert done.best.best == max(trial.best for trial in done.trials)
    assert len(list((done.folder / "text").glob("*/state.json"))) == 1  # one text stage for all

    report = json.loads((done.folder / "report.json").read_text())
    assert report["best"]["id"] == done.best.id
    assert (done.folder / "heat-map.png").is_file()
    best = load_config(done.folder / "best.yaml")
    assert best.training.learning_rate == done.best.best_values[RATE]
    assert done.bundle is not None
    figures = open_bundle(done.bundle)[1].metrics
    # The bundle's ranker is the trial's: same values, seed, and one worker. It ships the epoch of the best likelihood.
    assert figures["ranker/NDCG@10"] in [pytest.approx(figure, abs=1e-6) for _, figure in done.best.curve]
    assert done.alias == "challenger"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pbt_goes_on_from_the_weights_of_the_better_trial(ray_cluster: str, tiny_folder: Path, tmp_path: Path) -> None:
    """With a rate of 1e-9 nothing is learnt. After epoch 4 that trial takes over the other one's weights, and goes on
    from them with whichever rate it then draws: with 1e-9 it stays where the other one was."""
    space = {RATE: {"kind": "grid", "values": [1e-9, 1e-2]}}
    search = {"searcher": "grid", "scheduler": "pbt", "perturb_every_epochs": 4}
    done = run(tiny_sweep(tiny_folder, tmp_path, space, search), bundle=False)

    reports: dict[str, list[dict[str, Any]]] = {}
    for line in read(done.folder / JOURNAL):
        if line["event"] == "report":
            reports.setdefault(line["trial"], []).append(line)
    idle, donor = sorted(reports.values(), key=lambda lines: lines[0]["values"][RATE])
    assert [line["epoch"] for line in idle] == [line["epoch"] for line in donor] == [2, 4, 6]
    assert idle[1]["figure"] < 0.5 * donor[1]["figure"]
    if idle[2]["values"][RATE] == 1e-9:
        assert idle[2]["figure"] == pytest.approx(donor[1]["figure"], abs=1e-6)
    else:
        assert idle[2]["figure"] > 0.9 * donor[1]["figure"]
    assert [trial.state for trial in done.trials] == ["finished", "finished"]


def _job(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "jobs/sweep.py"), *arguments]


def _wait_for(what: Callable[[], bool], process: subprocess.Popen[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline, "the sweep did not come far enough"
        time.sleep(0.1)


def _trials(folder: Path) -> dict[str, Trial]:
    return trials_of(read(folder / JOURNAL))


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_sweep_whose_driver_is_killed_is_resumed(tiny_folder: Path, tmp_path: Path) -> None:
    """Killed after its second trial has ended: those two are not run again, the others are, to the same figures."""
    options = [f"base.{override}" for override in tiny_overrides(tiny_folder) if not override.startswith("storage")]
    options += [f"base.storage={tmp_path}", "base.text.epochs=0", "search.trials=6", "search.max_concurrent_trials=1"]
    settings = [part for option in options for part in ("--set", option)]
    command = _job("--config", str(ROOT / "jobs/configs/sweep-tiny.yaml"), "--no-bundle", *settings)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    sweeps = tmp_path / "sweeps"

    def two_have_ended() -> bool:
        folders = list(sweeps.glob("*"))
        ended = [trial for trial in _trials(folders[0]).values() if trial.has_ended] if folders else []
        return len(ended) >= 2

    try:
        _wait_for(two_have_ended, process, 300)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    (folder,) = sweeps.glob("*")
    before = {id_: trial for id_, trial in _trials(folder).items() if trial.has_ended}

    command = _job("--resume", folder.name, "--storage", str(tmp_path), "--no-bundle")
    resumed = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=400)
    assert resumed.returncode == 0, resumed.stderr[-3000:] + resumed.stdout[-3000:]
    after = _trials(folder)
    assert len([trial for trial in after.values() if trial.reason != FORGOTTEN]) == 6
    assert all(trial.state != "running" for trial in after.values())
    starts = [line["trial"] for line in read(folder / JOURNAL) if line["event"] == "start"]
    for id_, trial in before.items():
        assert starts.count(id_) == 1
        assert after[id_].curve == trial.curve
    assert "best    trial" in resumed.stdout
    assert (folder / "best.yaml").is_file()


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_trials_with_workers_of_their_own(ray_cluster: str, tiny_folder: Path, tmp_path: Path) -> None:
    """A grid of two rates, two Ray Train workers each; the second trial starts from the first one's text stage."""
    space = {RATE: {"kind": "grid", "values": [1e-9, 1e-2]}}
    search = {"searcher": "grid", "scheduler": "none", "trial_workers": 2, "max_concurrent_trials": 1}
    done = run(tiny_sweep(tiny_folder, tmp_path, space, search, ("training.epochs=2",)), bundle=False)

    assert [trial.state for trial in done.trials] == ["finished", "finished"]
    assert _most_at_a_time(done.folder) == 1
    assert [[epoch for epoch, _ in trial.curve] for trial in done.trials] == [[2], [2]]
    assert len({trial.best for trial in done.trials}) == 2
    assert sorted(path.name for path in (done.folder / "runs").iterdir()) == sorted(t.id for t in done.trials)
    assert len(list((done.folder / "text").glob("*/state.json"))) == 1
    assert load_config(done.folder / "best.yaml").training.num_workers == 2


def test_a_sweep_that_is_not_there_cannot_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "sweeps" / "known").mkdir(parents=True)
    (tmp_path / "sweeps" / "known" / "sweep.yaml").touch()
    with pytest.raises(TrainingError, match=r"no sweep 'gone' under .*sweeps; there are: known"):
        stored_sweep(tmp_path, "gone")
