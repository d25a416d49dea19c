"""What the driver hears from Tune: a line per finished trial, a journal, and the reason of a failure."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle

from driftline.errors import ConfigError, TrainingError
from driftline.sweep.journal import read, trials_of
from driftline.sweep.screen import FORGOTTEN, Screen, reason
from driftline.sweep.spec import Sweep, parse_sweep

RATE, RANK = "training.learning_rate", "text.adapter.rank"


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    space = {RATE: {"kind": "uniform", "low": 0.1, "high": 1}, RANK: {"kind": "choice", "values": [4, 8]}}
    base = {"data": {"sample": "ml-100k"}, "storage": str(tmp_path), "training": {"epochs": 4}}
    return parse_sweep({"base": base, "space": space, "search": {"trials": 3}})


def a_trial(name: str, error: Path | None = None) -> Any:
    """What a callback reads of one of Tune's trials."""
    return SimpleNamespace(trial_id=name, config={RATE: 0.5, RANK: 1}, pickled_error_file=error and str(error))


def result(epoch: int, figure: float, **more: Any) -> dict[str, Any]:
    values, figures = {RATE: 0.5, RANK: 8}, {"ranker/NDCG@10": figure}
    return {"epoch": epoch, "figure": figure, "values": json.dumps(values), "figures": json.dumps(figures), **more}


def test_every_end_of_a_trial_is_a_line_and_is_in_the_journal(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen(sweep, tmp_path / "journal.jsonl")
    screen.setup()
    for name in ("a", "b", "c"):
        screen.on_trial_start(0, [], a_trial(name))
    screen.on_trial_result(0, [], a_trial("a"), result(2, 0.3))
    screen.on_trial_result(0, [], a_trial("b"), result(2, 0.1, done=True))  # the scheduler says so
    screen.on_trial_complete(0, [], a_trial("b"))
    screen.on_trial_result(0, [], a_trial("a"), result(4, 0.25, done=True))  # at its last epoch
    screen.on_trial_complete(0, [], a_trial("a"))
    screen.on_trial_error(0, [], a_trial("c"))
    screen.on_experiment_end([a_trial(name) for name in ("a", "b", "c")])
    trials = trials_of(read(tmp_path / "journal.jsonl"))
    assert {name: trial.state for name, trial in trials.items()} == {"a": "finished", "b": "stopped", "c": "failed"}
    assert trials["c"].values == {RATE: 0.5, RANK: 8}  # position 1 of the listed values
    assert trials["c"].reason == "its process died"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[1:4]] == [
        "trial b stopped after 2 epochs",
        "trial a finished after 4 epochs",
        "trial c failed after 0 epochs",
    ]
    assert "ranker/NDCG@10 0.3000 at epoch 2" in lines[2]
    assert lines[4] == "1 finished, 1 stopped, 1 failed; best ranker/NDCG@10 0.3000 (learning_rate 0.5, rank 8)"


def test_a_trial_that_ended_before_a_restart_does_not_begin_again(sweep: Sweep, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    first = Screen(sweep, journal)
    first.setup()
    first.on_trial_start(0, [], a_trial("a"))
    first.on_trial_result(0, [], a_trial("a"), result(2, 0.1, done=True))
    second: Screen = pickle.loads(pickle.dumps(first))  # as Tune keeps it over a restart
    second.setup()
    second.on_trial_start(0, [], a_trial("a"))
    second.on_trial_result(0, [], a_trial("a"), result(2, 0.1))
    second.on_trial_complete(0, [], a_trial("a"))
    assert [line["event"] for line in read(journal)] == ["start", "report", "end"]


def test_a_trial_that_the_restart_forgot_is_not_left_running(sweep: Sweep, tmp_path: Path) -> None:
    screen = Screen(sweep, tmp_path / "journal.jsonl")
    screen.setup()
    screen.on_trial_start(0, [], a_trial("lost"))
    screen.on_experiment_end([a_trial("another")])
    trial = trials_of(read(tmp_path / "journal.jsonl"))["lost"]
    assert (trial.state, trial.reason) == ("failed", FORGOTTEN)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigError(["first fault", "second"], "this combination"), "first fault"),
        (TrainingError("loss is nan\nGo on with: --resume x"), "TrainingError: loss is nan"),
        (
            TrainingError("worker 0 failed first:\nTraceback\n  a line\nValueError: x\nGo on with: --resume x"),
            "TrainingError: worker 0 failed first: ValueError: x",
        ),
        (KeyError(), "KeyError"),
    ],
)
def test_the_reason_of_a_failure_is_one_line_of_its_own_error(tmp_path: Path, error: Exception, told: str) -> None:
    path = tmp_path / "error.pkl"
    path.write_bytes(cloudpickle.dumps(error))
    assert reason(a_trial("a", path)) == told
