"""How many trials fit wholly: worked out by hand for small clusters."""

from pathlib import Path
from typing import Any

import pytest

from driftline.errors import ConfigError
from driftline.sweep.capacity import fitting, needs, plan
from driftline.sweep.spec import Sweep, parse_sweep

NESTED = [{"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 1.0}]
"""A trial with two CPU workers."""


def sweep(tmp_path: Path, **search: Any) -> Sweep:
    base = {
        "data": {"sample": "ml-100k"},
        "storage": str(tmp_path),
        "training": {"num_workers": 2, "use_gpu": search.pop("use_gpu", False)},
    }
    space = {"training.learning_rate": {"kind": "loguniform", "low": 1e-4, "high": 1e-2}}
    return parse_sweep({"base": base, "space": space, "search": {"trials": 8, **search}})


@pytest.mark.parametrize(
    ("need", "nodes", "most", "expected"),
    [
        (NESTED, [{"CPU": 8.0}], 10, 2),  # 2 x 3 of 8; a third would wait for a worker
        (NESTED, [{"CPU": 8.0}], 1, 1),
        (NESTED, [{"CPU": 2.0}], 10, 0),
        (NESTED, [{"CPU": 2.0}, {"CPU": 2.0}, {"CPU": 2.0}], 10, 2),  # processes of one trial may lie on several nodes
        ([{"CPU": 1.0}, {"GPU": 1.0}], [{"CPU": 4.0}, {"CPU": 1.0, "GPU": 2.0}], 10, 2),  # GPUs run out
        ([{"CPU": 1.0, "GPU": 1.0}], [{"CPU": 4.0}, {"GPU": 2.0}], 10, 0),  # nowhere both on one node
        ([{"CPU": 2.0}], [{"CPU": 3.0}, {"CPU": 3.0}], 10, 2),  # 6 CPUs, but no node has room for two
        ([{"CPU": 1.0}], [], 10, 0),
    ],
)
def test_trials_that_fit_at_once(
    need: list[dict[str, float]], nodes: list[dict[str, float]], most: int, expected: int
) -> None:
    assert fitting(need, nodes, most) == expected


def test_what_a_trial_needs(tmp_path: Path) -> None:
    assert needs(sweep(tmp_path)) == NESTED
    assert needs(sweep(tmp_path, trial_workers=0)) == [{"CPU": 1.0}]
    assert needs(sweep(tmp_path, use_gpu=True, trial_workers=3)) == [{"CPU": 1.0}] + [{"GPU": 1.0}] * 3
    assert needs(sweep(tmp_path, use_gpu=True, trial_workers=0)) == [{"CPU": 1.0, "GPU": 1.0}]


def test_the_plan_says_what_was_lowered_and_why(tmp_path: Path) -> None:
    found = plan(sweep(tmp_path), [{"CPU": 8.0}], trials=8)
    assert found.trials == 2
    assert found.reason == (
        "2 trials at a time, not 8, so that none waits for workers: "
        "a trial needs 3 CPU; the cluster has 8 CPU on 1 node(s)"
    )
    assert plan(sweep(tmp_path, max_concurrent_trials=1), [{"CPU": 8.0}], trials=8).trials == 1
    assert plan(sweep(tmp_path, trial_workers=0), [{"CPU": 8.0}], trials=4).trials == 4


def test_a_trial_that_can_never_be_placed_is_an_error_beforehand(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no trial can ever be placed: a trial needs 1 CPU and 2 GPU; the"):
        plan(sweep(tmp_path, use_gpu=True), [{"CPU": 8.0}], trials=8)
