"""Where the service runs and keeps its state: on SQLite, on a small file system of its own, on a PostgreSQL server."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from driftline.errors import DriftlineError
from driftline.serving.keys import create_key
from driftline.serving.local_service import LocalService
from driftline.state.store import Store
from tests.postgres import PostgresServer

Kind = Literal["sqlite", "small disk", "postgresql"]
TENANTS = ("acme", "other")
DISK = "24m"


@dataclass
class Place:
    """A running service, and what can be broken in it."""

    service: LocalService
    database: str
    keys: dict[str, str]
    disk: Path | None = None
    postgres: PostgresServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.service.url

    def replicas(self, deployment: str) -> list[int]:
        """Process ids of a deployment's replicas."""
        assert self.service.process is not None
        family = psutil.Process(self.service.process.pid).children(recursive=True)
        return [process.pid for process in family if f":{deployment}" in _title(process)]


@contextmanager
def opened(kind: Kind, bundle: Path, folder: Path) -> Iterator[Place]:
    """Start everything; at the end nothing of it is left."""
    if kind == "small disk":
        with _small_disk(folder / "disk") as disk:
            yield from _served(bundle, folder, f"sqlite:///{disk / 'state.db'}", disk=disk)
    elif kind == "postgresql":
        server = PostgresServer()
        try:
            yield from _served(bundle, folder, server.new_database(), postgres=server)
        finally:
            server.remove()
    else:
        yield from _served(bundle, folder, f"sqlite:///{folder / 'state.db'}")


def _served(
    bundle: Path, folder: Path, database: str, disk: Path | None = None, postgres: PostgresServer | None = None
) -> Iterator[Place]:
    settings = {"database": database, "bundle_root": str(bundle.parent), "user_state_replicas": 2 if postgres else 1}
    store = Store(database)
    keys = {tenant: create_key(store, tenant, "chaos", ["read", "write", "admin"]) for tenant in TENANTS}
    store.close()
    with LocalService(bundle, folder, settings=settings) as service:
        yield Place(service, database, keys, disk, postgres)


@contextmanager
def _small_disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DriftlineError(f"a disk that can be filled needs the right to mount one: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _title(process: psutil.Process) -> str:
    try:
        title = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
    return title.replace("#", ":") if title.startswith("ray::") else ""
