"""The way to a real cluster: ``ray start --head``, ``ray job submit``, and a bundle at the end."""

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import driftline
from tests.tiny import ROOT, tiny_overrides

RAY = str(Path(sys.executable).with_name("ray"))


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Of a shell in the virtual environment, that knows of no other Ray and of no source tree."""
    foreign = ("RAY_ADDRESS", "PYTHONPATH")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {name: value for name, value in os.environ.items() if name not in foreign} | {"PATH": path}


@pytest.fixture(scope="module")
def dashboard(environment: dict[str, str]) -> Iterator[str]:
    """A head node of its own beside the suite's; yields the address that jobs are submitted to."""
    gcs, dashboard, client, agent = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="ray-") as temporary:  # short: paths of sockets have at most 107 bytes
        head = subprocess.Popen(
            [RAY, "start", "--head", "--block", "--num-cpus=8", "--object-store-memory=200000000", f"--port={gcs}",
             "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
             f"--dashboard-agent-listen-port={agent}", f"--temp-dir={temporary}", "--disable-usage-stats"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_until_served(dashboard, head)
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            _end(head)


def _wait_until_served(port: int, head: subprocess.Popen[bytes]) -> None:
    import httpx

    from tests.waiting import wait_for

    def served() -> bool:
        assert head.poll() is None, "ray start ended"
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/version", timeout=2).is_success
        except httpx.TransportError:
            return False

    wait_for(served, seconds=90)


def _end(head: subprocess.Popen[bytes]) -> None:
    """Stop the head and everything that it started, by process id."""
    if head.poll() is not None:
        return
    process = psutil.Process(head.pid)
    family = [*process.children(recursive=True), process]
    head.terminate()  # with --block it takes its own with it
    _, left = psutil.wait_procs(family, timeout=10)
    for survivor in left:
        survivor.kill()
    psutil.wait_procs(left, timeout=10)


def submit(dashboard: str, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """``ray job submit`` from the repository's root, to the end of the job."""
    return subprocess.run(
        [RAY, "job", "submit", "--address", dashboard, "--working-dir", ".", "--runtime-env", "jobs/runtime_env.yaml",
         "--", *command],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_submitted_job_leaves_a_bundle(dashboard: str, environment: dict[str, str], tmp_path: Path) -> None:
    overrides = [*tiny_overrides(tmp_path), "text.epochs=0", "training.epochs=2", "drift.epochs=2"]
    options = [argument for override in overrides for argument in ("--set", override)]
    done = submit(dashboard, environment, "python", "jobs/train.py", "--config", "jobs/configs/tiny.yaml", *options)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "succeeded" in done.stdout
    (bundle,) = (tmp_path / "storage/bundles").iterdir()
    assert f"bundle  {bundle}" in done.stdout
    assert len(driftline.load(bundle).recommend(["i1", "i2"], k=5).items) == 5


@pytest.mark.slow
def test_a_job_runs_the_uploaded_library_and_not_an_installed_one(dashboard: str, environment: dict[str, str]) -> None:
    done = submit(dashboard, environment, "python", "-c", "import driftline, uuid; print('from', driftline.__file__)")
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"from /.*/working_dir_files/.*/platform/driftline/__init__\.py", done.stdout)


@pytest.mark.slow
def test_a_job_with_a_wrong_configuration_fails_with_the_reason(dashboard: str, environment: dict[str, str]) -> None:
    wrong = ["--config", "jobs/configs/tiny.yaml", "--set", "training.epocs=2"]
    done = submit(dashboard, environment, "python", "jobs/train.py", *wrong)
    assert done.returncode != 0
    assert "did you mean `epochs`?" in done.stdout
