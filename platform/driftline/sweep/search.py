"""Who chooses the points and who ends trials: a sweep's space, searcher and scheduler as objects of Ray Tune.

Tune knows listed values by their position (:func:`~driftline.sweep.space.decode`), so that values may be lists or
sections, and every searcher can hash them.
"""

import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray.tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter

from driftline.sweep.journal import read
from driftline.sweep.space import LogUniform, RandInt, Uniform
from driftline.sweep.spec import CHANGED_WHILE_TRAINING, Sweep

PERTURBATIONS = (1.25, 0.8)
"""PBT multiplies a number by one of these."""


def tune_space(sweep: Sweep) -> dict[str, Any]:
    """What Tune draws points from.

    A grid's values come in an order that the seed shuffles: ASHA compares a trial with those before it, and along a
    sorted axis, from bad to good, every trial would look worth going on with.
    """
    domains = {key: _domain(distribution) for key, distribution in sweep.space.items()}
    if sweep.search.searcher != "grid":
        return domains
    return {key: ray.tune.grid_search(_shuffled(domains[key].categories, key, sweep.search.seed)) for key in domains}


def _shuffled(positions: list[int], key: str, seed: int) -> list[int]:
    return random.Random(f"{seed}/{key}").sample(positions, len(positions))


def _domain(distribution: Any) -> Any:
    match distribution:
        case LogUniform():
            return ray.tune.loguniform(distribution.low, distribution.high)
        case Uniform():
            return ray.tune.uniform(distribution.low, distribution.high)
        case RandInt():
            return ray.tune.randint(distribution.low, distribution.high + 1)
    return ray.tune.choice(list(range(len(distribution.values))))


def searcher(sweep: Sweep, at_a_time: int) -> Any:
    """Random or grid search, or TPE by Optuna, that hands out a point only while fewer trials than ``at_a_time`` live.

    The bound is the searcher's own, because Tune ignores ``TuneConfig.max_concurrent_trials`` beside a given
    ``BasicVariantGenerator``. Under PBT there is none: it compares all trials and pauses those that find no room, and
    trials in a process of their own cannot wait for one another's workers.
    """
    if sweep.search.searcher == "optuna":
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return ConcurrencyLimiter(OptunaSearch(seed=sweep.search.seed), max_concurrent=at_a_time)
    bound = 0 if sweep.search.scheduler == "pbt" else at_a_time
    return BasicVariantGenerator(random_state=sweep.search.seed, max_concurrent=bound)


def scheduler(sweep: Sweep, journal: Path) -> TrialScheduler:
    """ASHA, PBT, or first in, first out."""
    search = sweep.search
    if search.scheduler == "asha":
        return RememberingASHA(
            journal,
            time_attr="epoch",
            max_t=sweep.epochs,
            grace_period=search.grace_epochs,
            reduction_factor=search.reduction_factor,
        )
    if search.scheduler == "none":
        return FIFOScheduler()
    random.seed(search.seed)  # PBT draws from the process's own generator
    changed = {key: d for key, d in sweep.space.items() if key in CHANGED_WHILE_TRAINING}
    positions = {key: list(range(len(d.values))) for key, d in changed.items() if hasattr(d, "values")}
    return PopulationBasedTraining(
        time_attr="epoch",
        perturbation_interval=search.perturb_every_epochs,
        hyperparam_mutations={key: positions.get(key) or _domain(d) for key, d in changed.items()},
        perturbation_factors=PERTURBATIONS,
        custom_explore_fn=partial(within, {key: d.ends() for key, d in changed.items() if key not in positions}),
        synch=True,  # few trials run at a time: without, the first would be compared with nobody
        log_config=False,
    )


def within(bounds: Mapping[str, tuple[Any, Any]], point: dict[str, Any]) -> dict[str, Any]:
    """A point with its numbers moved back into their ranges: PBT multiplies without asking."""
    return point | {key: min(max(point[key], low), high) for key, (low, high) in bounds.items()}


class RememberingASHA(ASHAScheduler):
    """ASHA that knows, after a restart, what trials of the journal have reached; Tune stores no scheduler."""

    def __init__(self, journal: Path, **options: Any) -> None:
        super().__init__(**options)
        self._journal = journal

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Place a trial in a bracket, and fill in the rungs that it passed before."""
        super().on_trial_add(tune_controller, trial)
        for line in read(self._journal):
            if line["trial"] == trial.trial_id and line["event"] == "report":
                self._trial_info[trial.trial_id].on_result(trial, line["epoch"], self._metric_op * line["figure"])
