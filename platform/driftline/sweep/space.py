"""Which values a sweep tries: a distribution for any key of the configuration, checked before anything runs."""

import copy
import json
import math
import random
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from driftline.config import Config, Section
from driftline.config.conflicts import find_conflicts
from driftline.config.parsing import fault_sentence, parse_config, validated
from driftline.errors import ConfigError

TRIES = 64
"""Random settings of the other keys that are tried before a value is said to be impossible."""

NOT_SWEPT = {
    "name": "trials are named by the sweep",
    "storage": "all trials of a sweep share one storage",
    "data": "figures on different data do not compare; make one sweep per data set",
    "protocol": "figures of different protocols do not compare; make one sweep per protocol",
    "ranking": "it changes what is learnt from, or nothing that a trial measures",
    "fusion": "trials measure the neural score, before it is fused with others",
    "drift": "trials do not train the drift part; the bundle of the best one does",
    "tracking": "it changes nothing that a trial measures",
    "training.num_workers": "concurrency is planned for trials of equal size; set search.trial_workers",
    "training.use_gpu": "concurrency is planned for trials of equal size; set it in the base",
    "training.checkpoints": "it changes nothing that a trial measures",
    "training.max_failures": "it changes nothing that a trial measures",
    "training.threads_per_worker": "it changes nothing that a trial measures",
}


class _Range(Section):
    @model_validator(mode="after")
    def _rising(self) -> "_Range":
        low, high = self.ends()
        if not low < high:
            raise ValueError(f"low={low} must be below high={high}")
        return self

    def ends(self) -> tuple[Any, ...]:
        """Values that are checked against the configuration beforehand, in combination."""
        return self.low, self.high  # type: ignore[attr-defined]

    def samples(self) -> tuple[Any, ...]:
        """Values that are checked on their own: a fraction between the ends tells where whole numbers are wanted."""
        low, high = self.ends()
        return (low, high) if isinstance(low, int) else (low, low + (high - low) / math.pi, high)


class LogUniform(_Range):
    """Uniform in the logarithm: for learning rates and penalties."""

    kind: Literal["loguniform"]
    low: float = Field(gt=0)
    high: float = Field(gt=0)


class Uniform(_Range):
    """Uniform between two ends."""

    kind: Literal["uniform"]
    low: float
    high: float


class RandInt(_Range):
    """Whole numbers from low to high, both included."""

    kind: Literal["randint"]
    low: int
    high: int


class _Values(Section):
    values: tuple[Any, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> "_Values":
        if len({json.dumps(value, sort_keys=True, default=str) for value in self.values}) < len(self.values):
            raise ValueError(f"values={list(self.values)} holds a value twice")
        return self

    def ends(self) -> tuple[Any, ...]:
        """Values that are checked against the configuration beforehand, in combination."""
        return self.values

    def samples(self) -> tuple[Any, ...]:
        """Values that are checked on their own."""
        return self.values


class Choice(_Values):
    """One of the listed values, each as likely."""

    kind: Literal["choice"]


class Grid(_Values):
    """Every listed value, in all combinations with those of the other keys."""

    kind: Literal["grid"]


Distribution = Annotated[LogUniform | Uniform | RandInt | Choice | Grid, Field(discriminator="kind")]
KINDS: dict[str, type[LogUniform | Uniform | RandInt | Choice | Grid]] = {
    "loguniform": LogUniform,
    "uniform": Uniform,
    "randint": RandInt,
    "choice": Choice,
    "grid": Grid,
}
Point = dict[str, Any]
"""A value for each key of a space."""


def parse_distribution(key: str, tree: Any) -> tuple[Any, list[str]]:
    """The distribution of one key, or None, and its faults."""
    kind = tree.get("kind") if isinstance(tree, dict) else None
    if kind not in KINDS:
        return None, [f"`space.{key}` = {tree!r}: give a mapping with `kind`, one of {', '.join(KINDS)}"]
    distribution, faults = validated(dict(tree), KINDS[kind])
    return (None if faults else distribution), [f"space.{key}: {fault}" for fault in faults]


def key_faults(base: Config, key: str, distribution: Any) -> list[str]:
    """Faults of a key, or of the values at its ends, each on its own."""
    for prefix, why in NOT_SWEPT.items():
        if key == prefix or key.startswith(f"{prefix}."):
            return [f"`space.{key}` cannot be swept: {why}"]
    path = tuple(key.split("."))
    tree = base.model_dump(mode="json")
    faults: list[str] = []
    for value in distribution.samples():
        try:
            Config.model_validate(with_values(tree, {key: value}))
        except ConfigError as error:
            return error.faults
        except ValidationError as error:
            found = [fault for fault in error.errors() if _is_of_value(fault, path)]
            faults += [f"space: {fault_sentence(fault, Config)}" for fault in found]
            if any(fault["type"] == "extra_forbidden" for fault in found):
                break  # the key is unknown, whatever its value
    return faults


def _is_of_value(fault: Any, path: tuple[str, ...]) -> bool:
    """Whether a fault is of the value at ``path`` itself, not of its company in a section."""
    at = fault["loc"]
    return bool(at[: len(path)] == path or (path[: len(at)] == at and fault["type"] != "value_error"))


def impossible_values(base: Config, space: Mapping[str, Any]) -> list[str]:
    """End points that no setting of the other keys that was tried makes possible; each with a reason.

    Combinations that are impossible beside possible ones are left to their trials, which fail with the reason.
    """
    chance = random.Random(0)
    tree = base.model_dump(mode="json")
    faults = []
    for key, distribution in space.items():
        for value in distribution.ends():
            reasons: list[str] = []
            for _ in range(TRIES):
                others = {other: chance.choice(found.ends()) for other, found in space.items()}
                reasons = _reasons(with_values(tree, {**others, key: value}))
                if not reasons:
                    break
            if reasons:
                faults.append(f"space.{key}: {value!r} is impossible with every setting tried: {reasons[0]}")
    return faults


def _reasons(tree: dict[str, Any]) -> list[str]:
    config, faults = validated(tree, Config)
    return faults + (find_conflicts(config) if config is not None else [])


def with_values(tree: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration tree with ``a.b.c`` keys set.

    Raises
    ------
    ConfigError
        If a key leads through a value that is no section.
    """
    tree = copy.deepcopy(tree)
    for key, value in values.items():
        *parents, last = key.split(".")
        node = tree
        for number, parent in enumerate(parents, start=1):
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError([f"`space.{key}`: `{'.'.join(parents[:number])}` is a value, not a section"])
            node = child
        node[last] = value
    return tree


def configured(base: Config, values: Mapping[str, Any]) -> Config:
    """The base with the values of a trial.

    Raises
    ------
    ConfigError
        If they are impossible together.
    """
    return parse_config(with_values(base.model_dump(mode="json"), values), source="this combination")


def size(space: Mapping[str, Any]) -> int:
    """Points of a grid."""
    count = 1
    for distribution in space.values():
        count *= len(distribution.ends())
    return count


def continuous(space: Mapping[str, Any]) -> Iterator[str]:
    """Keys whose values cannot be listed."""
    return (key for key, distribution in space.items() if isinstance(distribution, _Range))


def decode(space: Mapping[str, Any], point: Mapping[str, Any]) -> Point:
    """Values of a point as Tune knows it: listed values are known by their position."""
    return {
        key: distribution.values[int(point[key])] if isinstance(distribution, _Values) else point[key]
        for key, distribution in space.items()
    }


def show(value: Any) -> str:
    """A value, short: for tables and axes."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
