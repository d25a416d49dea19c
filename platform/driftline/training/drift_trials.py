"""The drift benchmark's trials as Ray tasks: encoders by seed, then every seed of every track."""

import os
from collections.abc import Callable, Sequence

import ray

from driftline.drift.benchmark.judged import judge_trial
from driftline.drift.benchmark.storage import Storage
from driftline.drift.benchmark.trial import Size
from driftline.drift.benchmark.world import World
from driftline.drift.judge.judge import Judge
from driftline.drift.streams import Track
from driftline.ranking.replay import replay


def run_trials(
    storage: Storage,
    world: World,
    judge: Judge | None,
    todo: Sequence[tuple[Track, int]],
    size: Size,
    parallel: int,
    tell: Callable[[int, int], None],
) -> None:
    """Run what is not finished: trials, their replays, and what the judge says of them.

    Parameters
    ----------
    todo
        Tracks and seeds.
    parallel
        Tasks at once on this machine; a cluster (``RAY_ADDRESS``) has its own number.
    tell
        Hears how many of ``todo`` are done.
    """
    ray.init(num_cpus=None if os.environ.get("RAY_ADDRESS") else parallel, log_to_driver=False)
    shared, asked = ray.put(world), ray.put(judge)
    encoders = {seed: _train.remote(storage, shared, seed) for seed in sorted({seed for _, seed in todo})}
    waiting = [_run.remote(storage, shared, asked, track, seed, size, encoders[seed]) for track, seed in todo]
    while waiting:
        tell(len(todo) - len(waiting), len(todo))
        finished, waiting = ray.wait(waiting)
        ray.get(finished)


@ray.remote(num_cpus=1)
def _train(storage: Storage, world: World, seed: int) -> None:
    if not storage.trained(seed):
        storage.train(world, seed)


@ray.remote(num_cpus=1)
def _run(
    storage: Storage, world: World, judge: Judge | None, track: Track, seed: int, size: Size, trained: None
) -> None:
    """``trained`` is what the training task returns: Ray waits for it."""
    if not storage.finished(track, seed):
        storage.run(world, track, seed, size)
    if not storage.replayed(track, seed):
        storage.keep_replay(replay(world, storage.model(world, seed), storage.trial(track, seed)))
    if judge is not None and not storage.judged(track, seed):
        storage.keep_opinions(judge_trial(world, storage.model(world, seed), judge, storage.trial(track, seed)))
