"""The service as processes of this machine: started, awaited, and ended by their own process ids."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import httpx
import yaml

from driftline.errors import DriftlineError

READY_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 30.0


class ServiceError(DriftlineError, RuntimeError):
    """The service did not start."""


@dataclass
class LocalService:
    """``serve run serve/app.yaml`` on a free port, with an SQLite database of its own; a context manager.

    Parameters
    ----------
    bundle
        What is served.
    folder
        Where database and log go.
    root
        The repository's root, where ``serve/app.yaml`` lies.
    tell
        Called about once a second while the service starts, with seconds passed.
    """

    bundle: Path
    folder: Path
    root: Path
    tell: Callable[[float], None] = lambda seconds: None
    url: str = field(init=False, default="")
    process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the state."""
        return f"sqlite:///{self.folder / 'state.db'}"

    @property
    def log(self) -> Path:
        """What the processes print."""
        return self.folder / "serve.log"

    def __enter__(self) -> "LocalService":
        self.folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with self.log.open("wb") as log:
            self.process = self._start(self._config(port), log)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask the service to end; what is left of it after a while is killed, by process id."""
        if self.process is None:
            return
        family = _family(self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for process in family:
            if process.is_running():
                process.kill()
        self.process = None

    def _config(self, port: int) -> Path:
        """``serve/app.yaml`` with this service's port, bundle and database."""
        config: dict[str, Any] = yaml.safe_load((self.root / "serve" / "app.yaml").read_text(encoding="utf-8"))
        config["http_options"]["port"] = port
        config["applications"][0]["args"] = {"bundle": str(self.bundle), "database": self.database}
        path = self.folder / "app.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def _start(self, config: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": "local"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, ["platform", environment.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "ray.serve.scripts", "run", str(config)]
        return subprocess.Popen(
            command, cwd=self.root, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def _wait(self) -> None:
        started = time.monotonic()
        while time.monotonic() - started < READY_TIMEOUT_S:
            assert self.process is not None
            if self.process.poll() is not None:
                raise ServiceError(f"the service ended at once; the last lines of {self.log}:\n{self._last_lines()}")
            if self._ready():
                return
            self.tell(time.monotonic() - started)
            time.sleep(1.0)
        raise ServiceError(
            f"the service was not ready after {READY_TIMEOUT_S:.0f} s; see {self.log}\n{self._last_lines()}"
        )

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5.0).status_code == 200
        except httpx.TransportError:  # nobody listens yet
            return False

    def _last_lines(self, count: int = 15) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _family(pid: int) -> list[Any]:
    """The process and everything it started, as psutil processes (they know a reused pid from their own)."""
    import psutil

    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return []
    return [process, *process.children(recursive=True)]
