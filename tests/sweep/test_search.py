"""A sweep's space, searcher and scheduler as Tune sees them; ASHA after a restart."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from driftline.sweep.journal import write
from driftline.sweep.search import RememberingASHA, searcher, tune_space, within
from driftline.sweep.spec import Sweep, parse_sweep
from driftline.sweep.trial import text_key, told, trial_config

RATE = "training.learning_rate"


def sweep(tmp_path: Path, space: dict[str, Any], **search: Any) -> Sweep:
    base = {"data": {"sample": "ml-100k"}, "storage": str(tmp_path)}
    return parse_sweep({"base": base, "space": space, "search": {"trial_workers": 0, **search}})


def test_a_grid_comes_in_an_order_that_the_seed_shuffles(tmp_path: Path) -> None:
    space = {"encoder.dim": {"kind": "grid", "values": [8, 16, 32, 64, 128, 256]}}

    def order(seed: int) -> list[int]:
        return list(tune_space(sweep(tmp_path, space, searcher="grid", seed=seed))["encoder.dim"]["grid_search"])

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == [0, 1, 2, 3, 4, 5] != order(1)


@pytest.mark.parametrize("name", ["random", "optuna"])
def test_the_searcher_bounds_the_trials_that_live_at_a_time(tmp_path: Path, name: str) -> None:
    space = {RATE: {"kind": "uniform", "low": 0.1, "high": 1}}
    assert searcher(sweep(tmp_path, space, searcher=name, trials=8), 3).max_concurrent == 3
    pbt = sweep(tmp_path, space, trials=8, scheduler="pbt")
    assert searcher(pbt, 3).max_concurrent == 0  # all are compared


def test_both_ends_of_a_range_of_whole_numbers_are_drawn(tmp_path: Path) -> None:
    space = {"encoder.layers": {"kind": "randint", "low": 1, "high": 3}}
    domain = tune_space(sweep(tmp_path, space, trials=4))["encoder.layers"]
    assert {domain.sample() for _ in range(100)} == {1, 2, 3}


def test_perturbed_numbers_stay_in_their_range() -> None:
    bounds = {RATE: (1e-4, 1e-2)}
    assert within(bounds, {RATE: 1.25e-2, "encoder.dim": 3}) == {RATE: 1e-2, "encoder.dim": 3}
    assert within(bounds, {RATE: 0.8e-4})[RATE] == 1e-4


def test_asha_knows_after_a_restart_what_earlier_trials_reached(tmp_path: Path) -> None:
    """Rungs at epochs 1, 3 and 9. Three trials of the journal had 0.1, 0.2 and 0.3 after the first epoch: with a
    reduction factor of 3 the next one must reach their upper third, (2/3 of the way from 0.1 to 0.3 =) 0.2333."""
    journal = tmp_path / "journal.jsonl"
    for number, figure in enumerate((0.1, 0.2, 0.3)):
        line = {"trial": f"old{number}", "event": "report", "time": 0.0, "epoch": 1, "figure": figure}
        write(journal, line)
    asha = RememberingASHA(journal, time_attr="epoch", max_t=9, grace_period=1, reduction_factor=3)
    asha.set_search_properties("figure", "max")
    controller: Any = SimpleNamespace()
    for name in ("old0", "old1", "old2", "bad", "good"):
        asha.on_trial_add(controller, SimpleNamespace(trial_id=name))
    decide = {
        name: asha.on_trial_result(controller, SimpleNamespace(trial_id=name), {"epoch": 1, "figure": figure})
        for name, figure in (("bad", 0.23), ("good", 0.24))
    }
    assert decide == {"bad": "STOP", "good": "CONTINUE"}


def test_a_trial_trains_what_its_metric_needs_on_workers_of_its_own(tmp_path: Path) -> None:
    plan = sweep(tmp_path, {RATE: {"kind": "uniform", "low": 0.1, "high": 1}}, trials=2, trial_workers=3)
    config = trial_config(plan, {RATE: 0.5}, tmp_path / "sweeps" / "s")
    assert (config.training.learning_rate, config.training.num_workers, config.drift.enabled) == (0.5, 3, False)
    assert config.training.checkpoints.storage == str(tmp_path / "sweeps" / "s" / "runs")


@pytest.mark.parametrize(
    ("key", "value", "shared"),
    [
        (RATE, 0.5, True),
        ("encoder.dim", 32, True),
        ("training.batch_users", 8, True),
        ("training.weight_decay", 0.1, False),
        ("text.adapter.rank", 2, False),
        ("seed", 3, False),
    ],
)
def test_trials_share_a_text_stage_unless_something_behind_it_differs(
    tmp_path: Path, key: str, value: Any, shared: bool
) -> None:
    plan = sweep(tmp_path, {key: {"kind": "choice", "values": [value]}}, trials=2)
    other = trial_config(plan, {key: value}, tmp_path)
    assert (text_key(other) == text_key(trial_config(plan, {}, tmp_path))) == shared


def test_a_report_holds_the_figure_that_is_searched_for(tmp_path: Path) -> None:
    plan = sweep(tmp_path, {RATE: {"kind": "uniform", "low": 0.1, "high": 1}}, trials=2)
    metrics = {"ranker/NDCG@10": 0.25, "ranker/HR@10": 0.5, "text/recall@10": 0.1, "epoch": 4.0}
    assert told(plan, {RATE: 0.5}, 4.0, metrics) == {
        "figure": 0.25,
        "epoch": 4,
        "figures": '{"ranker/NDCG@10": 0.25, "ranker/HR@10": 0.5}',
        "values": '{"training.learning_rate": 0.5}',
    }
