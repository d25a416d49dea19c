"""Bundles measured under the protocols of ``evaluation``: the right bundle for each, in one process or on Ray.

Targets are ranked batch by batch, and nothing that a batch leaves behind reaches the next one, so every figure is the
same to the last digit however many processes share the batches.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console

from driftline.config import Config
from driftline.errors import ConfigError
from driftline.evaluation.cold import content_baselines
from driftline.evaluation.protocols import (
    TRAINED_UNDER,
    Measured,
    ProtocolResult,
    Ranked,
    Ranking,
    ScoreFunction,
    baselines_of,
    batches,
    rank_batch,
    rankings,
    summarise,
)
from driftline.evaluation.ratings import RatingResult, rate, rating_baselines
from driftline.registry.model import Model, load
from driftline.registry.ratings import value_function
from driftline.registry.served import score_functions
from driftline.sequences.dataset import Dataset, load_dataset
from driftline.terminal import counting, working
from driftline.training.sibling import for_protocol
from driftline.training.trainer import connect

DRIFT_EVERY_EVENTS = {"temporal-successive": 10}
"""How far drift states lag where a user has many targets in a row; 1 elsewhere."""

Result = ProtocolResult | RatingResult
Place = tuple[int, slice]
"""Number of a table, and the targets of a batch in it."""


@dataclass(frozen=True)
class Bench:
    """A bundle over the data of a protocol that it was trained under."""

    model: Model
    protocol: Measured

    @cached_property
    def dataset(self) -> Dataset:
        """What the bundle was trained on, split as it was."""
        return load_dataset(self.model.config)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """The protocol's tables."""
        assert self.protocol != "rating"
        return rankings(self.protocol, self.dataset, self.model.config.encoder.target_gap)

    @cached_property
    def _baselines(self) -> dict[str, ScoreFunction]:
        untrained = baselines_of(self.model.contents.tables)
        if self.protocol != "cold-item":
            return untrained
        return untrained | content_baselines(self.dataset, self.model.contents.text_vectors_NT.numpy())

    def rank(self, place: Place) -> Ranked:
        """Rank a batch of one of the tables, with nothing in memory from the batches before."""
        number, batch = place
        self.model.scorer.interests.forget()
        trained = score_functions(self.model, DRIFT_EVERY_EVENTS.get(self.protocol, 1))
        return rank_batch(self.dataset, self.rankings[number], batch, {**self._baselines, **trained})

    def rate(self, console: Console) -> RatingResult:
        """Predict the values of all targets."""
        predict = value_function(self.model, self.dataset.value_range)
        with counting(console, "fitting biased matrix factorisation") as tell:
            baselines = rating_baselines(self.dataset, tell)
        with counting(console, "predicting ratings") as tell:
            models = {**baselines, "driftline": predict}
            return rate(self.dataset, self.dataset.split.test, models, self.model.config.seed, tell)


@lru_cache(maxsize=1)
def bench(bundle: Path, protocol: Measured) -> Bench:
    """A bundle on its data; the newest is kept, so a worker reads it once for all its batches."""
    return Bench(load(bundle), protocol)


def measure(bundle: Path, model: Model, protocol: Measured, console: Console, workers: int = 1) -> list[Result]:
    """Every table of a protocol for a bundle, or for its sibling where the bundle was trained under another one.

    Parameters
    ----------
    model
        What is in ``bundle``.
    workers
        Ray tasks at once; 1 = everything in this process. A cluster's nodes must see the storage of the bundle.

    Raises
    ------
    ConfigError
        If the bundle's configuration cannot be trained under this protocol.
    """
    place = for_protocol(bundle, model, TRAINED_UNDER[protocol], console)
    with working(console, f"opening {place}"):
        opened = bench(place, protocol)
    if protocol == "rating":
        return [opened.rate(console)]
    with working(console, "reading the data and fitting the baselines"):
        tables = opened.rankings
    num_items = len(opened.dataset.catalog)
    every = [(number, batch) for number, table in enumerate(tables) for batch in batches(table.targets, num_items)]
    ranked: list[list[Ranked]] = [[] for _ in tables]
    with counting(console, f"ranking {protocol}, batches of targets") as tell:
        for (number, _), found in zip(every, _ranked(opened, place, every, workers, tell), strict=True):
            ranked[number].append(found)
    popularity_N, config = opened.model.contents.tables.popularity_N, opened.model.config
    learnt = opened.dataset.before_test if config.training.refit_epochs else opened.dataset
    with working(console, "resampling users"):
        return [
            summarise(learnt, table, parts, popularity_N, config.seed)
            for table, parts in zip(tables, ranked, strict=True)
        ]


def protocols(asked: Sequence[str], config: Config, console: Console) -> list[Measured]:
    """The named protocols; ``all`` stands for every one that a bundle of this configuration can be measured under.

    Raises
    ------
    ConfigError
        If a name is unknown, or the bundle cannot be measured under it.
    """
    reasons = _inapplicable(config)
    every = [name for name in TRAINED_UNDER if name not in reasons]
    faults = [
        f"--protocol {name}: {reasons.get(name, 'unknown')}; valid: {', '.join(every)}, all"
        for name in asked
        if name not in (*every, "all")
    ]
    if faults:
        raise ConfigError(faults, "evaluate.py")
    if "all" in asked:
        for name, reason in reasons.items():
            console.print(f"{name} is left out: {reason}", highlight=False)
    return [name for name in every if name in asked or "all" in asked]


def _inapplicable(config: Config) -> dict[str, str]:
    """Protocols that a bundle of this configuration cannot be measured under, and why."""
    reasons: dict[str, str] = {}
    if config.data.ingest == "ray-data":
        others: list[str] = [name for name, needed in TRAINED_UNDER.items() if needed != "leave-one-out"]
        reasons |= dict.fromkeys(others, "data.ingest=ray-data splits by user, which only leave-one-out does")
    if config.heads.rating == 0:
        reasons["rating"] = "heads.rating=0, so there is no rating head"
    return reasons


def note(protocol: Measured, config: Config) -> str:
    """What a reader must know of how a protocol's figures came about."""
    said = [f"All models learnt from the same events; seed {config.seed}."]
    if (lag := DRIFT_EVERY_EVENTS.get(protocol, 1)) > 1:
        said.append(f"Drift states are worked out every {lag} events of a user.")
    if protocol == "cold-user":
        said.append("The users' earlier events are in the training data; the models are shown the newest only.")
    if protocol == "cold-item":
        said.append("No event of a cold item is in the training data; test histories are whole.")
    return " ".join(said)


def _ranked(
    opened: Bench, bundle: Path, every: Sequence[Place], workers: int, tell: Callable[[int, int], None]
) -> Iterator[Ranked]:
    """Every batch, in order."""
    ranked = map(opened.rank, every) if workers == 1 else _on_ray(bundle, opened.protocol, every, workers)
    for done, found in enumerate(ranked, start=1):
        tell(done, len(every))
        yield found


def _on_ray(bundle: Path, protocol: Measured, every: Sequence[Place], workers: int) -> Iterator[Ranked]:
    """The same from Ray tasks, so many at a time, in order."""
    import ray

    connect()
    task: Any = ray.remote(num_cpus=1)(_rank)
    waiting: list[Any] = []
    for place in every:
        if len(waiting) == workers:
            yield ray.get(waiting.pop(0))
        waiting.append(task.remote(bundle.absolute(), protocol, place))
    yield from map(ray.get, waiting)


def _rank(bundle: Path, protocol: Measured, place: Place) -> Ranked:
    return bench(bundle, protocol).rank(place)
