"""A running service: every deployment, over real HTTP, on a free port of the suite's Ray cluster."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from driftline.serving.app import AppArgs
from driftline.serving.ingress import free_port
from driftline.serving.keys import create_key
from driftline.state.store import Store
from tests.serving.logs import assert_nothing_personal, session_logs
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 60.0
START_SECONDS = 240.0
USERS: set[str] = set()
"""Everybody whose events any test has sent (see :func:`event`)."""


@dataclass
class Service:
    """Where a service listens and what it keeps its state in."""

    url: str
    database: str
    args: AppArgs
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, tenant: str = "acme", scopes: Sequence[str] = ("read", "write")) -> httpx.Client:
        """A client with a key of its own."""
        store = Store(self.database)
        key = create_key(store, tenant, "test", scopes)
        store.close()
        return self.client_with(key)

    def pids(self, deployment: str, application: str = "driftline") -> list[int]:
        """Processes of a deployment's replicas."""
        from ray.serve.context import _get_global_client

        found = _get_global_client().get_serve_details()["applications"][application]["deployments"][deployment]
        return [replica["pid"] for replica in found["replicas"]]

    def rss_mib(self, deployment: str, application: str = "driftline") -> float:
        """Resident memory of a deployment's replicas, in MiB."""
        import psutil

        return sum(psutil.Process(pid).memory_info().rss for pid in self.pids(deployment, application)) / 1024**2

    def client_with(self, key: str | None) -> httpx.Client:
        """A client with a given key, or none."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.clients.append(httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_SECONDS))
        return self.clients[-1]


def application(args: AppArgs, bundle: Path | None = None) -> dict[str, Any]:
    """The application of serve/app.yaml with these arguments; ``bundle`` is swapped in without a restart."""
    configured: dict[str, Any] = yaml.safe_load((ROOT / "serve/app.yaml").read_text())["applications"][0]
    configured["args"] = args.model_dump(mode="json")
    configured["runtime_env"]["env_vars"]["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    if bundle is not None:
        swapped = {"user_config": {"champion": str(bundle)}}
        configured["deployments"] = [{"name": name, **swapped} for name in ("Ranker", "DriftDetector")]
    return configured


def deploy(*applications: dict[str, Any]) -> None:
    """What ``serve deploy`` does: these applications and no others, and wait until they run."""
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    _get_global_client().deploy_apps(ServeDeploySchema(applications=list(applications)), _blocking=False)
    names = {configured["name"] for configured in applications}
    wait_for(lambda: _all_run(names), START_SECONDS)


def _all_run(names: set[str]) -> bool:
    from ray import serve

    found = {name: status.status for name, status in serve.status().applications.items()}
    assert "DEPLOY_FAILED" not in found.values(), serve.status()
    return found.keys() == names and set(found.values()) <= {"RUNNING"}


@pytest.fixture(scope="session")
def service(ray_cluster: str, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole application."""
    from ray import serve

    port = free_port()
    database = f"sqlite:///{tmp_path_factory.mktemp('state')}/driftline.db"
    quiet = {"encoding": "JSON", "enable_access_log": False}
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config=quiet)
    args = AppArgs(
        bundle=tiny_bundle,
        bundle_root=tmp_path_factory.mktemp("bundles"),
        database=database,
        sweep_seconds=1.0,
        max_body_bytes=200_000,
        max_event_rows=500,
        internal_webhooks=True,
        rank_seconds=60.0,  # on a busy machine nobody is to be given popular items instead
    )
    deploy(application(args))
    running = Service(f"http://127.0.0.1:{port}", database, args)
    anyone = running.client_with(None)
    wait_for(lambda: anyone.get("/readyz").status_code == 200, 60)
    yield running
    for client in running.clients:
        client.close()
    serve.shutdown()
    assert_nothing_personal(session_logs(), USERS)  # of all replicas there have been, whatever the tests did to them


@pytest.fixture(scope="session")
def client(service: Service) -> httpx.Client:
    """A client that may read and write."""
    return service.client()


def event(user: str, number: int, item: str, **changes: Any) -> dict[str, Any]:
    """The ``number``-th event of a user, whom no log may name."""
    USERS.add(user)
    row = {
        "event_id": f"{user}-{number}",
        "user_id": user,
        "item_id": item,
        "type": "view",
        "timestamp": 1_000_000.0 + number,
    }
    return row | changes


def visit(client: httpx.Client, user: str, items: Sequence[str], first: int = 0) -> dict[str, Any]:
    """Post one event per item; every one must be accepted."""
    rows = [event(user, first + place, item) for place, item in enumerate(items)]
    response = client.post("/v1/events", json=rows)
    assert response.status_code == 200, response.text
    outcome: dict[str, Any] = response.json()
    assert outcome["accepted"] == len(items), outcome
    return outcome


def settled(client: httpx.Client, user: str, seconds: float = 60.0) -> dict[str, Any]:
    """Profile of a user as soon as the drift state covers every event."""

    def profile() -> dict[str, Any] | None:
        response = client.get(f"/v1/users/{user}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found if found["drift"]["status"] == "current" else None

    settled_profile: dict[str, Any] = wait_for(profile, seconds)
    return settled_profile
