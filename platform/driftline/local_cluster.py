"""A Ray cluster of several nodes on one machine: head and workers as raylets of their own, made by ``ray start``.

What a job meets on a real cluster it meets here: an upload of the working directory, processes on other nodes, objects
that travel between them. Only the machine's cores are shared. Everything is ended by the ids of the processes that were
started here; a cluster of somebody else on this machine is left alone.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from driftline.errors import DriftlineError

START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 15.0
OBJECT_STORE_BYTES = 200_000_000
RAY = str(Path(sys.executable).with_name("ray"))
HIDDEN = ("RAY_ADDRESS", "PYTHONPATH", "RAY_JOB_ID")
"""Variables of this shell that nodes must not inherit: another cluster, and a source tree that is not the upload."""


class ClusterError(DriftlineError, RuntimeError):
    """A local cluster did not come up."""


@dataclass(frozen=True)
class LocalCluster:
    """A running cluster.

    Attributes
    ----------
    dashboard
        Where jobs are submitted.
    environment
        Of a shell that talks to it.
    """

    dashboard: str
    environment: dict[str, str]

    def submit(self, command: Sequence[str], root: Path, hear: Callable[[str], None]) -> int:
        """``ray job submit`` from a repository's root to the end of the job; ``hear`` gets every line of its output.

        Returns
        -------
        int
            0 if the job succeeded.
        """
        with subprocess.Popen(
            [RAY, "job", "submit", "--address", self.dashboard, "--working-dir", ".",
             "--runtime-env", "jobs/runtime_env.yaml", "--", *command],
            cwd=root, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as job:  # fmt: skip
            assert job.stdout is not None
            try:
                for line in job.stdout:
                    hear(line.rstrip("\n"))
            except BaseException:
                _end(job)
                raise
        return job.returncode

    def nodes(self) -> dict[str, str]:
        """Name of every living node by its id: head, worker-1, worker-2 …"""
        found = self._state("nodes")
        return {node["node_id"]: _name(node.get("resources_total")) for node in found if node["state"] == "ALIVE"}

    def placements(self) -> list[dict[str, str]]:
        """Every actor that ever ran here: its job, class and the name of its node."""
        names = self.nodes()
        return [
            {"job": actor["job_id"], "class": actor["class_name"], "node": names.get(actor["node_id"], "none")}
            for actor in self._state("actors")
        ]

    def _state(self, kind: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.dashboard}/api/v0/{kind}", params={"detail": True, "limit": 10_000}, timeout=10)
        answer.raise_for_status()
        listed: list[dict[str, Any]] = answer.json()["data"]["result"]["result"]
        return listed


@contextmanager
def local_cluster(
    workers: int,
    cpus: int,
    head_cpus: int = 0,
    home: Path | None = None,
    logs: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[LocalCluster]:
    """Start a cluster, and end it and everything that runs on it when the block is left, however that is.

    Parameters
    ----------
    workers
        Worker nodes; each also has one unit of a resource of its own name, worker-1 and so on.
    cpus, head_cpus
        Logical CPUs of a worker node and of the head; a head with 0 runs drivers and nothing else.
    home
        ``DRIFTLINE_HOME`` on the nodes, the file system that they share; None leaves the variable as it is.
    logs
        Where Ray's logs of every node are left at the end, one folder a node; None leaves none.
    tell
        Hears what is being waited for.

    Raises
    ------
    ClusterError
        If a node ends while it starts, or takes longer than two minutes.
    """
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment.setdefault("RAY_AUTH_MODE", "disabled")  # it listens on 127.0.0.1 only
    if home is not None:
        environment["DRIFTLINE_HOME"] = str(home)
    gcs, dashboard = free_ports(2)
    cluster = LocalCluster(f"http://127.0.0.1:{dashboard}", environment)
    head = ["--head", f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--ray-client-server-port={free_ports(1)[0]}"]  # fmt: skip
    with ExitStack() as stack:
        tell("starting the head")
        started = [stack.enter_context(_node("head", head_cpus, head, environment, logs))]
        _wait_until(lambda: _names(cluster) == {"head"}, started)
        for number in range(1, workers + 1):
            tell(f"starting worker {number} of {workers}")
            joined = [f"--address=127.0.0.1:{gcs}"]
            started.append(stack.enter_context(_node(f"worker-{number}", cpus, joined, environment, logs)))
        _wait_until(lambda: len(_names(cluster)) == workers + 1, started)
        yield cluster


@contextmanager
def _node(
    name: str, cpus: int, options: list[str], environment: dict[str, str], logs: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """One ``ray start --block``, in a session of its own: Ctrl-C is for us, and we end it."""
    (agent,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary:  # paths of sockets: 107 B
        process = subprocess.Popen(
            [RAY, "start", "--block", *options, "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", "--num-gpus=0",
             f"--resources={json.dumps({name: 1})}", f"--object-store-memory={OBJECT_STORE_BYTES}",
             f"--dashboard-agent-listen-port={agent}", f"--temp-dir={temporary}", "--disable-usage-stats"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            _end(process)
            session = Path(temporary) / "session_latest" / "logs"
            if logs is not None and session.is_dir():
                shutil.copytree(session, logs / name, dirs_exist_ok=True, ignore_dangling_symlinks=True)


def _end(process: "subprocess.Popen[Any]") -> None:
    """Stop a process and everything that it started, by process id."""
    if process.poll() is not None:
        return
    root = psutil.Process(process.pid)
    family = [*root.children(recursive=True), root]
    process.terminate()  # `ray start --block` takes its own with it
    _, left = psutil.wait_procs(family, timeout=END_TIMEOUT_S)
    for survivor in left:
        survivor.kill()
    psutil.wait_procs(left, timeout=END_TIMEOUT_S)
    process.wait()


def _name(resources: dict[str, float] | None) -> str:
    """A node's own resource; a node that has only just registered may not tell its resources yet."""
    return next((name for name in resources or () if name == "head" or name.startswith("worker-")), "none")


def _names(cluster: LocalCluster) -> set[str]:
    """Names of the living nodes; none while the dashboard does not answer yet."""
    try:
        return set(cluster.nodes().values())
    except httpx.HTTPError:
        return set()


def _wait_until(ready: Callable[[], bool], started: Sequence[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not ready():
        ended = [process.args for process in started if process.poll() is not None]
        if ended:
            raise ClusterError(f"a node ended while it started; try it by hand: {' '.join(map(str, ended[0]))}")  # type: ignore[arg-type]
        if time.monotonic() > end:
            raise ClusterError(f"the nodes did not find each other within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.2)


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
