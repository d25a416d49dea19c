"""An acknowledged event survives whatever happens to the processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from driftline.serving.ingress import free_port
from driftline.serving.keys import create_key
from driftline.state.store import Store
from tests.serving.conftest import event, settled
from tests.serving.logs import assert_nothing_personal
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240


class Server:
    """``serve run`` with a Ray cluster of its own, in processes of its own."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.database = f"sqlite:///{folder / 'driftline.db'}"
        self.port = free_port()
        self.ray_folder = Path(tempfile.mkdtemp(prefix="driftline-", dir="/tmp"))  # short, for it holds Unix sockets
        config = yaml.safe_load((ROOT / "serve/app.yaml").read_text())
        config["http_options"]["port"] = self.port
        application = config["applications"][0]
        application["args"] = {"bundle": str(bundle), "database": self.database, "sweep_seconds": 1.0}
        application["runtime_env"]["env_vars"]["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self._config = folder / "app.yaml"
        self._config.write_text(yaml.safe_dump(config))
        self._log = folder / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # not the cluster that the suite may be running
        environment = os.environ | {"RAY_ADDRESS": "local", "RAY_TMPDIR": str(self.ray_folder)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ray.serve.scripts", "run", str(self._config)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30) as client:
            wait_for(lambda: self._is_ready(client), START_SECONDS)

    def _is_ready(self, client: httpx.Client) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def processes(self) -> list[psutil.Process]:
        """The server and all that it has started."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL to every process, by its id."""
        if self._process is None:
            return
        for process in self.processes():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        self._process.wait()
        self._process = None


@pytest.fixture
def server(tiny_bundle: Path, tmp_path: Path) -> Iterator[Server]:
    running = Server(tiny_bundle, tmp_path)
    yield running
    running.kill()
    shutil.rmtree(running.ray_folder)


@pytest.mark.slow
@pytest.mark.timeout(2 * START_SECONDS + 120)
def test_no_acknowledged_event_is_lost_when_every_process_is_killed(server: Server) -> None:
    store = Store(server.database)
    key = create_key(store, "acme", "durability", ["read", "write"])
    store.close()
    server.start()
    names = {process.name() for process in server.processes()}
    assert "raylet" in names, names
    url, headers = f"http://127.0.0.1:{server.port}", {"Authorization": f"Bearer {key}"}
    rows = [event("survivor", number, f"i{number}") for number in range(30)]
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        response = client.post("/v1/events", json=rows)
        server.kill()
    assert response.status_code == 200, response.text
    assert response.json()["accepted"] == 30
    version = response.json()["version"]

    server.start()
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        profile = settled(client, "survivor")  # the pending drift assessment has survived as well
        assert profile["history"]["num_events"] == 30
        again = client.post("/v1/events", json=rows).json()
        assert (again["duplicate"], again["version"]) == (30, version)
        assert client.post("/v1/recommend", json={"user_id": "survivor", "min_version": version}).status_code == 200
    json.dumps(profile, allow_nan=False)
    assert_nothing_personal(server.ray_folder, ["survivor"])
