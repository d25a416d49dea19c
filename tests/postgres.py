"""A PostgreSQL server of the suite's own: in a temporary directory, on a free port, ended by its own process id."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from itertools import count
from pathlib import Path

from tests.waiting import wait_for

INSTALL = "apt-get install -y postgresql"
ACCOUNT = "postgres"
"""The server refuses to run as root: then this account runs it, which Debian's package creates."""
START_SECONDS = 60.0


class PostgresMissingError(Exception):
    """There is no server program on this machine, or nobody who could run it."""


def find_programs() -> Path:
    """Directory of ``initdb`` and ``postgres``; the newest, if Debian has installed several."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresMissingError(f"no PostgreSQL server is installed: {INSTALL}")


class PostgresServer:
    """The server; ``stop`` and ``start`` again keep its data and its port."""

    def __init__(self) -> None:
        self._programs = find_programs()
        self._as_account: list[str] = []
        self._folder = Path(tempfile.mkdtemp(prefix="driftline-postgres-"))
        if os.getuid() == 0:
            self._as_account = _become(ACCOUNT)
            shutil.chown(self._folder, ACCOUNT)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._numbers = count()
        self._process: subprocess.Popen[bytes] | None = None
        initdb = [
            str(self._programs / "initdb"),
            "-D",
            str(self._data),
            "-U",
            "driftline",
            "--auth=trust",
            "-E",
            "UTF8",
        ]
        subprocess.run([*self._as_account, *initdb], cwd="/", check=True, capture_output=True)
        self.start()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert self._process is None
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self._folder), "-c", "fsync=off"]  # no test pulls the plug
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen([*self._as_account, *command], cwd="/", stdout=log, stderr=log)
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            return subprocess.run(ready, check=False).returncode == 0

        wait_for(answers, START_SECONDS)

    def stop(self) -> None:
        """End it as an administrator would who does not wait for clients."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
            self._process = None

    def new_database(self) -> str:
        """URL of an empty database."""
        import psycopg

        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql://driftline@127.0.0.1:{self.port}/{name}"

    def remove(self) -> None:
        """End it and remove its data."""
        self.stop()
        shutil.rmtree(self._folder)


def _become(account: str) -> list[str]:
    """Command prefix that runs a program as ``account``, in the same process and so under the same id."""
    try:
        user = pwd.getpwnam(account)
    except KeyError as error:
        raise PostgresMissingError(f"root may not run PostgreSQL and there is no account {account!r}") from error
    if shutil.which("setpriv") is None:
        raise PostgresMissingError("root may not run PostgreSQL, and setpriv is missing: apt-get install -y util-linux")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
