"""Which values a sweep may try: every fault of a space is told beforehand."""

import random
from pathlib import Path
from typing import Any

import pytest

from driftline.config import Config
from driftline.errors import ConfigError
from driftline.sweep.space import (
    configured,
    decode,
    impossible_values,
    key_faults,
    parse_distribution,
    show,
    size,
    with_values,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Config:
    storage: Path = tmp_path_factory.mktemp("storage")
    return Config.model_validate({"data": {"sample": "ml-100k"}, "storage": storage})


def of(**tree: Any) -> Any:
    """A distribution from its mapping."""
    distribution, faults = parse_distribution("key", tree)
    assert not faults
    return distribution


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"kind": "loguniform", "low": 0, "high": 1}, "`low` = 0: Input should be greater than 0"),
        ({"kind": "loguniform", "low": 1e-2, "high": 1e-3}, "low=0.01 must be below high=0.001"),
        ({"kind": "uniform", "low": 1, "high": 1}, "low=1.0 must be below high=1.0"),
        ({"kind": "randint", "low": 1.5, "high": 3}, "`low` = 1.5"),
        ({"kind": "randint", "low": 1, "hihg": 3}, "did you mean `high`?"),
        ({"kind": "choice", "values": []}, "`values` = []"),
        ({"kind": "choice", "values": [[1, 2], [1, 2]]}, "holds a value twice"),
        ({"kind": "normal", "mean": 0}, "one of loguniform, uniform, randint, choice, grid"),
        (3, "give a mapping with `kind`"),
    ],
)
def test_a_distribution_says_what_is_wrong_with_it(tree: Any, told: str) -> None:
    distribution, faults = parse_distribution("training.learning_rate", tree)
    assert distribution is None
    assert any(told in fault for fault in faults), faults
    assert all("space.training.learning_rate" in fault for fault in faults)


@pytest.mark.parametrize(
    ("key", "tree", "told"),
    [
        ("training.learning_rat", {"kind": "uniform", "low": 0.1, "high": 1}, "did you mean `learning_rate`?"),
        ("trainig.epochs", {"kind": "choice", "values": [1]}, "did you mean `training`?"),
        ("training.weight_decay", {"kind": "uniform", "low": -1, "high": 1}, "`training.weight_decay` = -1.0"),
        ("training.epochs", {"kind": "uniform", "low": 1, "high": 3}, "should be a valid integer"),
        ("encoder.kind", {"kind": "choice", "values": ["gru", "rnn"]}, "`encoder.kind` = 'rnn'"),
        ("training.epochs.most", {"kind": "choice", "values": [1]}, "`training.epochs` is a value, not a section"),
        ("text.adapter.targets", {"kind": "choice", "values": ["auto", "some"]}, "'some' is neither auto, nor"),
        ("drift.epochs", {"kind": "randint", "low": 1, "high": 3}, "trials do not train the drift part"),
        ("training.num_workers", {"kind": "choice", "values": [1, 2]}, "set search.trial_workers"),
        ("storage", {"kind": "choice", "values": ["/a", "/b"]}, "all trials of a sweep share one storage"),
    ],
)
def test_a_key_or_value_that_the_configuration_does_not_take_is_told(
    base: Config, key: str, tree: Any, told: str
) -> None:
    faults = key_faults(base, key, of(**tree))
    assert faults
    assert told in faults[0]


@pytest.mark.parametrize(
    ("key", "tree"),
    [
        ("training.learning_rate", {"kind": "loguniform", "low": 1e-4, "high": 1e-2}),
        ("training.epochs", {"kind": "randint", "low": 1, "high": 3}),
        ("text.layers", {"kind": "choice", "values": [1, None]}),
        ("text.adapter.targets", {"kind": "choice", "values": ["auto", ["q_proj", "v_proj"]]}),
        ("text.adapter", {"kind": "choice", "values": [{"kind": "dora", "rank": 4}, {"kind": "ia3"}]}),
        ("encoder.dim", {"kind": "grid", "values": [18, 64]}),  # 18 is wrong with four heads only
    ],
)
def test_values_that_are_valid_on_their_own_pass(base: Config, key: str, tree: Any) -> None:
    assert key_faults(base, key, of(**tree)) == []


def test_a_value_is_impossible_only_if_nothing_beside_it_makes_it_possible(base: Config) -> None:
    """17 is a multiple of neither 2 nor 4 heads; 18 is one of 2."""
    heads = of(kind="choice", values=[2, 4])
    assert impossible_values(base, {"encoder.heads": heads, "encoder.dim": of(kind="choice", values=[18, 64])}) == []
    (told,) = impossible_values(base, {"encoder.heads": heads, "encoder.dim": of(kind="choice", values=[17, 64])})
    assert told.startswith("space.encoder.dim: 17 is impossible with every setting tried: `encoder`: dim=17")


def test_conflicts_between_sections_count_as_impossible(base: Config) -> None:
    space = {"text.adapter.kind": of(kind="choice", values=["lora", "qlora"])}
    (told,) = impossible_values(base, space)
    assert "'qlora' is impossible" in told
    assert "needs training.use_gpu=true" in told


def test_checking_leaves_the_process_wide_generator_alone(base: Config) -> None:
    random.seed(5)
    expected = random.Random(5).random()
    impossible_values(base, {"encoder.dim": of(kind="choice", values=[32, 64])})
    assert random.random() == expected


def test_configured_sets_values_and_tells_impossible_ones(base: Config) -> None:
    config = configured(base, {"training.learning_rate": 0.01, "encoder.heads": 4})
    assert (config.training.learning_rate, config.encoder.heads, config.encoder.dim) == (0.01, 4, 64)
    with pytest.raises(ConfigError, match="dim=18 is not a multiple of heads=4"):
        configured(base, {"encoder.dim": 18, "encoder.heads": 4})


def test_with_values_changes_a_copy() -> None:
    tree = {"a": {"b": 1}}
    assert with_values(tree, {"a.b": 2, "a.c.d": 3}) == {"a": {"b": 2, "c": {"d": 3}}}
    assert tree == {"a": {"b": 1}}


def test_listed_values_are_known_by_their_position() -> None:
    space = {"a": of(kind="choice", values=["x", ["y", "z"]]), "b": of(kind="uniform", low=0, high=1)}
    assert decode(space, {"a": 1, "b": 0.25}) == {"a": ["y", "z"], "b": 0.25}


def test_a_grid_has_as_many_points_as_combinations() -> None:
    assert size({"a": of(kind="grid", values=[1, 2, 3]), "b": of(kind="choice", values=[1, 2])}) == 6


def test_values_are_shown_short() -> None:
    assert [show(v) for v in (0.0012345, 8, "auto", ["q", "v"], None)] == ["0.00123", "8", "auto", '["q", "v"]', "null"]
