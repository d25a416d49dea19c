"""Workers that are killed in the middle of a run cost time and nothing else."""

import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from driftline.config import Config
from driftline.errors import TrainingError
from driftline.registry.bundle import open_bundle
from tests.tiny import tiny_config

TOLERANCE = 1e-6
"""On one machine the same seed gives the same figures; gloo adds up two ranks in either order to the same float."""


@contextmanager
def killing_a_worker_of(stages: list[str], runs: Path, cluster: str) -> Iterator[list[str]]:
    """SIGKILL one training worker as soon as a checkpoint in the middle of a stage lies in ``runs``; for each stage in
    turn. Yields the stages that came to it."""
    killed: list[str] = []
    stop = threading.Event()

    def kill() -> None:
        for stage in stages:
            while not _reached(stage, runs):
                if stop.wait(0.02):
                    return
            os.kill(_worker_pid(cluster), signal.SIGKILL)
            killed.append(stage)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def _reached(stage: str, runs: Path) -> bool:
    """Whether some checkpoint was written in this stage."""
    for state in runs.glob("*/checkpoint_*/state.json"):
        try:
            if json.loads(state.read_text())["stage"] == stage:
                return True
        except (OSError, ValueError):
            continue  # still being copied, or superseded
    return False


def _worker_pid(cluster: str) -> int:
    """Process id of some living training worker."""
    from ray.util.state import list_actors

    while True:
        actors = list_actors(cluster, [("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")])
        if actors:
            return max(actor.pid for actor in actors)
        time.sleep(0.1)


def run(config: Config, resume: str | None = None) -> tuple[dict[str, float], str]:
    """Train; returns the figures of the bundle and what was on the screen."""
    from driftline.training.trainer import train

    screen = io.StringIO()
    result = train(config, Console(file=screen, width=200), resume)
    assert open_bundle(result.bundle)[1].metrics == result.metrics
    return result.metrics, screen.getvalue()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_ends_with_the_figures_of_an_uninterrupted_one(
    ray_cluster: str, tiny_bundle: Path, tiny_folder: Path
) -> None:
    """Killed in the ranking stage, Ray Train restarts the workers; killed once more, the run is given up and resumed
    by name. ``tiny_bundle`` is the same run, undisturbed."""
    expected = open_bundle(tiny_bundle)[1].metrics
    storage = tiny_folder / "killed"
    config = tiny_config(tiny_folder, [f"storage={storage}", "training.max_failures=1"])
    with (
        killing_a_worker_of(["ranker", "drift"], storage / "runs", ray_cluster) as killed,
        pytest.raises(TrainingError, match="Go on with: --resume tiny-") as given_up,
    ):
        run(config)
    assert killed == ["ranker", "drift"]
    name = str(given_up.value).rsplit(maxsplit=1)[-1]
    figures, screen = run(config, resume=name)
    assert figures == pytest.approx(expected, abs=TOLERANCE)
    assert "resuming after epoch" in screen
    assert "text " not in screen  # what was finished is not done again
    assert [path.name for path in (storage / "bundles").iterdir()] == [name]
