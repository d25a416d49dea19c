"""The service as processes of this machine: started, awaited, and ended by their own process ids."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import httpx

import driftline
from driftline.errors import DriftlineError
from driftline.serving.ingress import Ingress, free_port

READY_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 30.0


class ServiceError(DriftlineError, RuntimeError):
    """The service did not start."""


@dataclass
class LocalService:
    """``driftline serve`` on a free port, with an SQLite database of its own; a context manager.

    Parameters
    ----------
    bundle
        What is served.
    folder
        Where database and log go.
    tell
        Called about once a second while the service starts, with seconds passed.
    ingress
        See :mod:`driftline.serving.ingress`.
    settings
        Of the service, by name.
    """

    bundle: Path
    folder: Path
    tell: Callable[[float], None] = lambda seconds: None
    ingress: Ingress = "haproxy"
    settings: Mapping[str, Any] = field(default_factory=dict)
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
            self.process = self._start(port, log)
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

    def _command(self, port: int) -> list[str]:
        command = [sys.executable, "-m", "driftline.cli", "serve", "--bundle", str(self.bundle), "--port", str(port)]
        command += ["--ingress", self.ingress]
        for name, value in {"database": self.database, **self.settings}.items():
            command += ["--set", f"{name}={json.dumps(value)}"]
        return command

    def _start(self, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        source = str(Path(driftline.__file__).resolve().parents[1])
        paths = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": "local", "PYTHONPATH": paths}
        return subprocess.Popen(
            self._command(port), env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
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


def _family(pid: int) -> list[Any]:
    """The process and everything it started, as psutil processes (they know a reused pid from their own)."""
    import psutil

    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return []
    return [process, *process.children(recursive=True)]
