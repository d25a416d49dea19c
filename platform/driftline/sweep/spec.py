"""The sweep file: a base configuration, a space over its keys, and how the space is searched."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from driftline.config import Config, Section
from driftline.config.conflicts import find_conflicts, missing_paths
from driftline.config.parsing import apply_override, read_tree, validated
from driftline.errors import ConfigError
from driftline.sweep.space import (
    Distribution,
    Grid,
    continuous,
    impossible_values,
    key_faults,
    parse_distribution,
    size,
)

Metric = Literal["ranker/NDCG@10", "ranker/HR@10", "ranker/log-likelihood", "text/recall@10"]

CHANGED_WHILE_TRAINING = (
    "training.learning_rate",
    "training.weight_decay",
    "encoder.dropout",
    "encoder.id_dropout",
    "heads.rating",
)
"""What PBT can change between two epochs: nothing of this alters the shape of a weight or the steps of an epoch."""


class SearchConfig(Section):
    """Who chooses the points, who stops trials, and how many run at a time."""

    searcher: Literal["random", "grid", "optuna"] = "random"
    """random; every point of a grid; or TPE (Bergstra et al. 2011) by Optuna."""
    scheduler: Literal["asha", "pbt", "none"] = "asha"
    """asha stops trials early (Li et al. 2020); pbt lets bad trials go on from good ones (Jaderberg et al. 2017)."""
    trials: int | None = Field(None, ge=1)
    """Points that are tried; a grid tries all of its points."""
    seed: int = 0
    """Of the searcher; the seed of training is the base's."""
    max_concurrent_trials: int | None = Field(None, ge=1)
    """At most this many trials at a time; null = as many as fit the cluster wholly."""
    trial_workers: int | None = Field(None, ge=0)
    """Training workers of a trial; 0 = the trial's own process (small models: no start-up of workers);
    null = training.num_workers of the base."""
    grace_epochs: int = Field(1, ge=1)
    """asha stops no trial before."""
    reduction_factor: float = Field(3.0, gt=1)
    """asha lets the best 1/this of the trials go on at each rung."""
    perturb_every_epochs: int = Field(5, ge=1)
    """pbt: epochs between two comparisons of all trials."""
    max_failures: int = Field(0, ge=0)
    """Restarts of a failed trial from its newest checkpoint, before it is given up and the sweep goes on."""
    timeout_s: float | None = Field(None, gt=0)
    """No trial starts or goes on after this time."""


class Sweep(Section):
    """A whole sweep. The base is part of it, so that it can be stored and resumed."""

    name: str = Field("sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    base: Config
    space: dict[str, Distribution]
    metric: Metric = "ranker/NDCG@10"
    """On validation targets; higher is better."""
    search: SearchConfig = SearchConfig()

    @property
    def stage(self) -> str:
        """The stage of training that the metric is of."""
        return self.metric.split("/")[0]

    @property
    def epochs(self) -> int:
        """Upper bound of that stage in the base."""
        return self.base.text.epochs if self.stage == "text" else self.base.training.epochs

    @property
    def trial_workers(self) -> int:
        """Training workers of a trial; 0 = its own process."""
        chosen = self.search.trial_workers
        return self.base.training.most_workers if chosen is None else chosen

    def to_yaml(self) -> str:
        """Serialise so that :func:`parse_sweep` gives back an equal sweep."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


class _Head(Section):
    """A sweep file without its base and its space, which are read on their own."""

    name: str = "sweep"
    base: Any
    space: dict[str, Any] = Field(min_length=1)
    metric: Metric = "ranker/NDCG@10"
    search: SearchConfig = SearchConfig()


def load_sweep(path: Path | str, overrides: Sequence[str] = (), for_run: bool = False) -> Sweep:
    """Read a sweep file, apply ``base.training.epochs=2`` or ``search.trials=4``, validate.

    ``base`` is a configuration, or the path of one relative to the sweep file.

    Raises
    ------
    ConfigError
        With every fault at once: of the file, of the base, of each key of the space and of each of its end points.
    """
    path = Path(path)
    tree = read_tree(path)
    if isinstance(tree, dict) and isinstance(tree.get("base"), str):
        tree["base"] = read_tree(path.parent / tree["base"])
    return parse_sweep(tree, overrides, str(path), for_run)


def parse_sweep(tree: Any, overrides: Sequence[str] = (), source: str = "sweep", for_run: bool = False) -> Sweep:
    """Validate an already parsed tree with overrides applied on top; see :func:`load_sweep`."""
    if not isinstance(tree, dict) or not isinstance(tree.get("base"), dict):
        raise ConfigError(["`base` is missing: give the path of a configuration, or a configuration"], source)
    faults = [fault for override in overrides if (fault := apply_override(tree, override))]
    base, found = validated(tree["base"], Config)
    faults += [f"base: {fault}" for fault in found]
    if base is not None:
        faults += [f"base: {fault}" for fault in [*find_conflicts(base), *(missing_paths(base) if for_run else [])]]
    head, found = validated(tree, _Head)
    faults += found
    parsed = {key: parse_distribution(key, raw) for key, raw in (head.space if head is not None else {}).items()}
    faults += [fault for _, found in parsed.values() for fault in found]
    space = {key: distribution for key, (distribution, _) in parsed.items() if distribution is not None}
    if base is not None:
        of_keys = [fault for key, distribution in space.items() for fault in key_faults(base, key, distribution)]
        faults += of_keys or ([] if faults else impossible_values(base, space))
    if head is not None and base is not None:
        faults += _search_faults(head, base, space)
    if faults or head is None or base is None:
        raise ConfigError(faults, source)
    return Sweep(name=head.name, base=base, space=space, metric=head.metric, search=head.search)


def _search_faults(head: _Head, base: Config, space: Mapping[str, Any]) -> Iterator[str]:
    """What the parts of a sweep cannot be together."""
    search = head.search
    endless = list(continuous(space))
    if search.searcher == "grid":
        if endless:
            yield f"search.searcher=grid: {', '.join(endless)} cannot be listed; use kind grid, or searcher random"
        if search.trials is not None:
            yield f"search.trials={search.trials}: a grid tries all of its {size(space)} points; leave it out"
    else:
        listed = [key for key, distribution in space.items() if isinstance(distribution, Grid)]
        if listed:
            yield (
                f"search.searcher={search.searcher} draws points: give {', '.join(listed)} kind choice, "
                "or set search.searcher to grid"
            )
        if search.trials is None:
            yield f"search.trials is missing: searcher {search.searcher} needs the number of points to try"
    yield from _scheduler_faults(head, base, space)


def _scheduler_faults(head: _Head, base: Config, space: Mapping[str, Any]) -> Iterator[str]:
    search, stage = head.search, head.metric.split("/")[0]
    key = "text.epochs" if stage == "text" else "training.epochs"
    epochs = base.text.epochs if stage == "text" else base.training.epochs
    if epochs == 0 and key not in space:
        yield f"metric={head.metric} with base.{key}=0: there would be no figure; set it to 1 or more"
    if search.scheduler != "none" and key in space:
        yield f"search.scheduler={search.scheduler} decides how long a trial runs: take {key} out of the space"
    if search.scheduler == "asha" and search.grace_epochs > epochs > 0:
        yield f"search.grace_epochs={search.grace_epochs} is more than base.{key}={epochs}: no trial would be stopped"
    if search.scheduler != "pbt":
        return
    if search.searcher == "optuna":
        yield "search.scheduler=pbt changes points while they are tried, which optuna cannot learn from: choose random"
    if search.trial_workers != 0:
        yield (
            "search.scheduler=pbt needs search.trial_workers=0: a trial goes on from another one's checkpoint, which "
            "is handed over between processes of Ray Tune, not between runs of Ray Train"
        )
    if search.max_concurrent_trials is not None:
        yield (
            f"search.max_concurrent_trials={search.max_concurrent_trials}: pbt keeps all trials alive and pauses those "
            "that find no room; leave it out"
        )
    if stage == "text":
        yield f"search.scheduler=pbt works on the ranking stage: choose a metric of it instead of {head.metric}"
    if not set(space) & set(CHANGED_WHILE_TRAINING):
        yield f"search.scheduler=pbt has nothing to perturb: sweep one of {', '.join(CHANGED_WHILE_TRAINING)}"
    if search.perturb_every_epochs >= epochs:
        yield (
            f"search.perturb_every_epochs={search.perturb_every_epochs} must be below base.{key}={epochs}: "
            "trials would never be compared"
        )
