"""A whole sweep: plan, trials, report, and the best configuration's bundle."""

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from driftline.errors import TrainingError
from driftline.sweep.capacity import cluster_nodes, needs, plan
from driftline.sweep.journal import JOURNAL, Trial, read, trials_of
from driftline.sweep.report import best_config, write_report
from driftline.sweep.space import size
from driftline.sweep.spec import Sweep, load_sweep

SNAPSHOT_EVERY_S = 2
"""Of Tune's own state: what a killed driver forgets at most."""
KEPT_CHECKPOINTS = 3
"""Per trial: its newest, and those that PBT may still hand to another one."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves behind."""

    name: str
    folder: Path
    trials: list[Trial]
    best: Trial
    bundle: Path | None
    alias: str
    reason: str


def stored_sweep(storage: Path, name: str) -> Sweep:
    """The sweep that a folder under ``storage/sweeps`` holds.

    Raises
    ------
    TrainingError
        If there is none; the message lists what there is.
    """
    path = storage / "sweeps" / name / "sweep.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in path.parent.parent.glob("*/sweep.yaml"))) or "none"
        raise TrainingError(f"no sweep {name!r} under {path.parent.parent}; there are: {known}")
    return load_sweep(path, for_run=True)


def run_sweep(sweep: Sweep, console: Console, resume: str | None = None, bundle: bool = True) -> SweepResult:
    """Run a sweep's trials, write its report, and train the best configuration to a bundle.

    Parameters
    ----------
    resume
        Name of an interrupted sweep to go on with; ``sweep`` is then what :func:`stored_sweep` gave. Finished trials
        are not run again, interrupted ones go on from their newest checkpoint.
    bundle
        Whether the best configuration is trained once more, with its drift part, and registered as challenger.

    Raises
    ------
    ConfigError
        If no trial can ever be placed on this cluster.
    TrainingError
        If no trial has a figure.
    """
    from driftline.models.build import base_model
    from driftline.training.trainer import connect, prepared_dataset, train

    name = resume or f"{sweep.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder = sweep.base.storage / "sweeps" / name
    base_model(sweep.base)
    prepared_dataset(sweep.base, console)  # a fault of the data is told once, and not by every trial
    connect()
    trials = size(sweep.space) if sweep.search.searcher == "grid" else sweep.search.trials or 0
    concurrency = plan(sweep, cluster_nodes(), trials)
    console.print(f"sweep [bold]{name}[/bold]  {trials} trials  {folder}", highlight=False, soft_wrap=True)
    console.print(concurrency.reason, highlight=False, soft_wrap=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.yaml").write_text(sweep.to_yaml(), encoding="utf-8")
    journal = folder / JOURNAL
    try:
        _fit(sweep, folder, journal, concurrency.trials, trials)
    except (KeyboardInterrupt, SystemExit) as stop:
        console.print(f"\nstopped; go on with: {resume_command(sweep, name)}", markup=False, soft_wrap=True)
        raise KeyboardInterrupt from stop
    found = list(trials_of(read(journal)).values())
    best = write_report(sweep, found, folder, concurrency.reason)
    console.print(f"report {folder / 'report.html'}", highlight=False, soft_wrap=True)
    if best is None:
        failed = "; ".join(f"{trial.id}: {trial.reason}" for trial in found[:5])
        raise TrainingError(f"no trial of sweep {name} has a figure: {failed}")
    if not bundle:
        return SweepResult(name, folder, found, best, None, "none", "no bundle was asked for")
    console.print("training the best configuration, with its drift part, to a bundle", highlight=False)
    done = train(best_config(sweep, best), console, as_challenger=True)
    return SweepResult(name, folder, found, best, done.bundle, done.alias, done.reason)


def resume_command(sweep: Sweep, name: str) -> str:
    """What to type to go on with an interrupted sweep."""
    return f"python jobs/sweep.py --resume {name} --storage {sweep.base.storage}"


def _fit(sweep: Sweep, folder: Path, journal: Path, at_a_time: int, trials: int) -> None:
    """Run the trials that have not ended yet."""
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(SNAPSHOT_EVERY_S)
    os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Tune would swallow Ctrl-C and hand back half a result
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Tune's own table; the screen is ours
    for name in ("ray.tune.execution.tune_controller", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # tracebacks of trials; they are stored beside each trial
    import ray.tune

    from driftline.sweep.screen import Screen
    from driftline.sweep.search import scheduler, searcher, tune_space
    from driftline.sweep.trial import run_trial

    own = needs(sweep)[0]
    parameters: dict[str, Any] = {"sweep": sweep.model_dump(mode="json"), "folder": str(folder)}
    trainable = ray.tune.with_resources(ray.tune.with_parameters(run_trial, **parameters), own)
    place = folder / "trials"
    if ray.tune.Tuner.can_restore(str(place)):
        tuner = ray.tune.Tuner.restore(str(place), trainable, param_space=tune_space(sweep))
    else:
        grid = sweep.search.searcher == "grid"
        tuner = ray.tune.Tuner(
            trainable,
            param_space=tune_space(sweep),
            tune_config=ray.tune.TuneConfig(
                metric="figure",
                mode="max",
                search_alg=searcher(sweep, at_a_time),
                scheduler=scheduler(sweep, journal),
                num_samples=1 if grid else trials,
                time_budget_s=sweep.search.timeout_s,
                reuse_actors=sweep.trial_workers == 0,
            ),
            run_config=ray.tune.RunConfig(
                name=place.name,
                storage_path=str(folder),
                failure_config=ray.tune.FailureConfig(max_failures=sweep.search.max_failures),
                checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
                callbacks=[Screen(sweep, journal)],
                verbose=0,
            ),
        )
    tuner.fit()
