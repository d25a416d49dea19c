"""Training and a sweep on a head and two workers, raylets of their own, by ``ray job submit``; and how they all end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import driftline
from driftline.local_cluster import LocalCluster, local_cluster
from tests.tiny import ROOT, tiny_overrides
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the nodes share."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[LocalCluster]:
    with local_cluster(workers=2, cpus=2, home=folder / "storage") as running:
        yield running


def options(overrides: list[str]) -> list[str]:
    return [argument for override in overrides for argument in ("--set", override)]


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_training_spreads_over_both_workers_and_leaves_a_bundle(cluster: LocalCluster, folder: Path) -> None:
    overrides = [*tiny_overrides(folder), "text.epochs=0", "training.epochs=2", "drift.epochs=2"]
    lines: list[str] = []
    command = ["python", "jobs/train.py", "--config", "jobs/configs/tiny.yaml", *options(overrides)]
    assert cluster.submit(command, ROOT, lines.append) == 0, "\n".join(lines[-60:])
    assert sorted(cluster.nodes().values()) == ["head", "worker-1", "worker-2"]
    trained = [placed["node"] for placed in cluster.placements() if "RayTrainWorker" in placed["class"]]
    assert sorted(trained) == ["worker-1", "worker-2"]
    (bundle,) = (folder / "storage/bundles").iterdir()
    assert f"bundle  {bundle}" in lines
    assert len(driftline.load(bundle).recommend(["i1", "i2"], k=5).items) == 5


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_sweep_leaves_report_and_challenger(cluster: LocalCluster, folder: Path) -> None:
    overrides = [f"base.{override}" for override in tiny_overrides(folder)]
    overrides += ["search.trials=3", "base.text.epochs=0", "base.training.epochs=2", "base.drift.epochs=2"]
    lines: list[str] = []
    command = ["python", "jobs/sweep.py", "--config", "jobs/configs/sweep-tiny.yaml", *options(overrides)]
    assert cluster.submit(command, ROOT, lines.append) == 0, "\n".join(lines[-60:])
    said = {line.split("  ")[0]: Path(line.split("  ")[-1]) for line in lines if line.startswith(("report", "bundle"))}
    assert said["report"].is_file()
    assert {"trials.csv", "report.json", "best.yaml"} <= {path.name for path in said["report"].parent.iterdir()}
    assert len(driftline.load(said["bundle"]).recommend(["i1", "i2"], k=5).items) == 5


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_ends_every_node_and_keeps_the_logs(tmp_path: Path) -> None:
    """The job sleeps; the script is interrupted as a terminal does it."""
    script = subprocess.Popen(
        [sys.executable, "jobs/local_cluster.py", "--workers", "1", "--out", str(tmp_path), "--",
         "python", "-c", "import time; print('asleep', flush=True); time.sleep(600)"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": "platform"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  nohup would ignore it
    )  # fmt: skip
    log = tmp_path / "logs/job.log"
    wait_for(lambda: log.is_file() and "asleep" in log.read_text().splitlines(), seconds=150)
    family = psutil.Process(script.pid).children(recursive=True)
    assert len([process for process in family if process.name() == "raylet"]) == 2
    script.send_signal(signal.SIGINT)
    script.wait(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert {path.name for path in (tmp_path / "logs").iterdir() if path.is_dir()} == {"head", "worker-1"}
    assert (tmp_path / "logs/worker-1/raylet.out").is_file()
