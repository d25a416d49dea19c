"""The sweep file: all faults at once, before Ray is touched, and a file that round-trips."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from driftline.errors import ConfigError
from driftline.sweep.spec import Sweep, load_sweep, parse_sweep
from tests.tiny import ROOT

RATE = {"kind": "loguniform", "low": 1e-4, "high": 1e-2}
DIM = {"kind": "grid", "values": [32, 64]}


def tree(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """A sound sweep file, parsed, with changes at its top level."""
    sound = {
        "base": {"data": {"sample": "ml-100k"}, "storage": str(tmp_path), "training": {"epochs": 20}},
        "space": {"training.learning_rate": dict(RATE)},
        "search": {"trials": 4},
    }
    return sound | changes


def faults_of(raw: dict[str, Any], *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parse_sweep(raw, overrides)
    return error.value.faults


def test_a_sweep_round_trips(tmp_path: Path) -> None:
    sweep = parse_sweep(tree(tmp_path))
    assert parse_sweep(yaml.safe_load(sweep.to_yaml())) == sweep
    assert Sweep.model_validate(sweep.model_dump(mode="json")) == sweep
    assert (sweep.metric, sweep.stage, sweep.epochs, sweep.trial_workers) == ("ranker/NDCG@10", "ranker", 20, 2)


def test_the_base_is_a_path_relative_to_the_sweep_file(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(tree(tmp_path)["base"]))
    file = tmp_path / "configs" / "sweep.yaml"
    file.write_text(yaml.safe_dump(tree(tmp_path, base="../base.yaml")))
    sweep = load_sweep(file, ["base.training.epochs=7", "search.trials=9", "search.trial_workers=0"])
    assert (sweep.base.training.epochs, sweep.search.trials, sweep.trial_workers) == (7, 9, 0)
    with pytest.raises(ConfigError, match=r"no such file: .*gone.yaml"):
        load_sweep(_written(file, tree(tmp_path, base="gone.yaml")))


def _written(file: Path, raw: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(raw))
    return file


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    raw = tree(
        tmp_path,
        space={"training.learning_rat": dict(RATE), "encoder.kind": {"kind": "choice", "values": ["gru", "rnn"]}},
        search={"searcher": "magic", "trials": 0},
        metrik="x",
    )
    raw["base"]["encoder"] = {"dim": 3}
    raw["base"]["training"]["deepspeed"] = {"precision": "fp16"}
    told = "\n".join(faults_of(raw))
    for part in (
        "encoder.dim",
        "precision=fp16",
        "learning_rat`",
        "'rnn'",
        "search.searcher",
        "search.trials",
        "metrik",
    ):
        assert part in told


@pytest.mark.parametrize(
    ("changes", "overrides", "told"),
    [
        ({"space": {}}, [], "`space` = {}"),
        ({"search": {}}, [], "search.trials is missing"),
        ({"search": {"searcher": "grid"}}, [], "training.learning_rate cannot be listed"),
        ({"search": {"searcher": "grid", "trials": 3}, "space": {"encoder.dim": DIM}}, [], "all of its 2 points"),
        ({"space": {"encoder.dim": DIM}}, [], "give encoder.dim kind choice"),
        ({}, ["search.grace_epochs=21"], "search.grace_epochs=21 is more than base.training.epochs=20"),
        ({"space": {"training.epochs": {"kind": "randint", "low": 1, "high": 3}}}, [], "take training.epochs out"),
        ({"metric": "text/recall@10"}, ["base.text.epochs=0"], "base.text.epochs=0: there would be no figure"),
        ({"metric": "NDCG@10"}, [], "'ranker/NDCG@10'"),
        ({}, ["search.scheduler=pbt"], "needs search.trial_workers=0"),
        ({}, ["search.scheduler=pbt", "search.searcher=optuna", "search.trial_workers=0"], "cannot learn from"),
        (
            {},
            ["search.scheduler=pbt", "search.max_concurrent_trials=2"],
            "pauses those that find no room; leave it out",
        ),
        ({}, ["search.scheduler=pbt", "search.perturb_every_epochs=20"], "must be below base.training.epochs=20"),
        (
            {"space": {"encoder.dim": {"kind": "choice", "values": [32, 64]}}},
            ["search.scheduler=pbt", "search.trial_workers=0"],
            "nothing to perturb: sweep one of training.learning_rate",
        ),
        ({"base": 3}, [], "`base` is missing"),
    ],
)
def test_parts_that_do_not_go_together_are_told(
    tmp_path: Path, changes: dict[str, Any], overrides: list[str], told: str
) -> None:
    found = faults_of(tree(tmp_path, **changes), *overrides)
    assert any(told in fault for fault in found), found


def test_missing_inputs_are_told_before_a_run(tmp_path: Path) -> None:
    raw = tree(tmp_path)
    raw["base"]["text"] = {"base": "/nowhere/model"}
    assert parse_sweep(raw)
    with pytest.raises(ConfigError, match="no such model directory"):
        parse_sweep(raw, for_run=True)


@pytest.mark.parametrize("name", ["sweep-lora", "sweep-tiny"])
def test_the_sweeps_of_the_repository_are_valid(name: str, tmp_path: Path) -> None:
    sweep = load_sweep(ROOT / "jobs/configs" / f"{name}.yaml", [f"base.storage={tmp_path}"])
    assert sweep.search.scheduler == "asha"
    assert "training.learning_rate" in sweep.space


def test_the_job_tells_faults_within_three_seconds_and_without_ray(tmp_path: Path) -> None:
    file = _written(tmp_path / "sweep.yaml", tree(tmp_path, metric="x"))
    command = [sys.executable, "-X", "importtime", str(ROOT / "jobs/sweep.py"), "--config", str(file)]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert time.monotonic() - started < 10  # 3 on a quiet machine
    assert done.returncode == 1
    assert "error:" in done.stderr
    assert "`metric` = 'x'" in done.stderr
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not imported & {"ray", "torch", "deepspeed"}
