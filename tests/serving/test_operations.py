"""What happens while the service runs: a bundle swap, overload, slowness."""

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from driftline.client import Client, Event, RankedList, RetryPolicy
from driftline.serving.app import AppArgs
from tests.serving.conftest import Service, application, deploy, event, settled, visit
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)  # the first test also trains a bundle and starts the service


def renamed(bundle: Path, target: Path) -> str:
    """Copy a bundle under another id; returns the id."""
    shutil.copytree(bundle, target)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["id"] = f"{manifest['id']}-renamed"
    (target / "manifest.json").write_text(json.dumps(manifest))
    return str(manifest["id"])


@pytest.mark.slow
def test_a_bundle_is_swapped_without_a_failed_request(service: Service, client: httpx.Client, tmp_path: Path) -> None:
    visit(client, "swapped", [f"i{n}" for n in range(12)])
    old = settled(client, "swapped")["bundle"]
    new = renamed(Path(str(service.args.bundle)), tmp_path / "renamed")
    answers: Counter[tuple[int, str | None]] = Counter()
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=service.url, headers=client.headers, timeout=60) as asking:
            while not stop.is_set():
                response = asking.post("/v1/recommend", json={"user_id": "swapped"})
                bundle = response.json()["bundle"] if response.status_code == 200 else response.text
                answers[response.status_code, bundle] += 1

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        deploy(application(service.args, bundle=tmp_path / "renamed"))
        wait_for(lambda: client.get("/readyz").json().get("bundle") == new, 60)
        wait_for(lambda: answers[200, new], 60)
        # the drift state comes from the old bundle until the sweep has found it
        assert wait_for(lambda: client.get("/v1/users/swapped").json()["drift"]["status"] == "current", 60)
        deploy(application(service.args, bundle=tmp_path / "no-such-bundle"))
        ready = wait_for(lambda: _with_swap_fault(client.get("/readyz")), 60)
        assert ready["bundle"] == new
        assert "no bundle at" in ready["swap_fault"]
    finally:
        stop.set()
        asker.join()
        deploy(application(service.args))
    assert set(answers) == {(200, old), (200, new)}
    wait_for(lambda: client.get("/readyz").json().get("bundle") == old, 60)


def _with_swap_fault(response: httpx.Response) -> dict[str, str] | None:
    found: dict[str, str] = response.json()
    return found if found.get("swap_fault") else None


@pytest.fixture(scope="module")
def narrow(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A second application, which can do two things at a time and let one more wait.

    Two, because replicas ask UserState for promotions every second: one that a test stops in the middle of its question
    keeps the place.
    """
    database = f"sqlite:///{tmp_path_factory.mktemp('narrow')}/driftline.db"
    narrow_args = {"database": database, "max_ongoing_requests": 2, "max_queued_requests": 1, "max_model_replicas": 1}
    narrow_args["rank_seconds"] = 2.0
    args = service.args.model_copy(update=narrow_args)
    deploy(application(service.args), _narrow(args))
    running = Service(f"{service.url}/narrow", database, args)
    yield running
    for client in running.clients:
        client.close()
    deploy(application(service.args))


def _narrow(args: AppArgs) -> dict[str, Any]:
    return application(args) | {"name": "narrow", "route_prefix": "/narrow"}


@pytest.mark.slow
def test_overload_is_a_503_that_says_when_to_come_back(narrow: Service) -> None:
    client = narrow.client()
    assert client.post("/v1/drift", json={"history": ["i1", "i2"]}).status_code == 200

    def ask(_: int) -> httpx.Response:
        return client.post("/v1/drift", json={"history": [f"i{n}" for n in range(200)]})

    with ThreadPoolExecutor(24) as pool:
        responses = list(pool.map(ask, range(96)))
    refused = [response for response in responses if response.status_code != 200]
    assert refused
    assert len(refused) < len(responses)
    for response in refused:
        assert response.status_code == 503, response.text
        assert response.headers["retry-after"] == "1"
        assert response.headers["content-type"] == "application/problem+json"


@pytest.fixture
def patient(narrow: Service) -> Iterator[Client]:
    """A client that comes again: ``narrow`` refuses whatever comes while it has something to do."""
    key = narrow.client().headers["Authorization"].removeprefix("Bearer ")
    with Client(narrow.url, key, retries=RetryPolicy(deadline_seconds=60, max_attempts=100)) as client:
        yield client


def _watch(client: Client, user: str, first: int, last: int) -> None:
    client.events.add([Event(**event(user, n, f"i{n}")) for n in range(first, last)])


@pytest.mark.slow
def test_while_the_drift_detector_is_late_lists_say_that_their_drift_state_is_stale(
    narrow: Service, patient: Client
) -> None:
    _watch(patient, "left-alone", 0, 12)
    wait_for(lambda: patient.get_user("left-alone").drift.status == "current", 60)
    (detector,) = narrow.pids("DriftDetector", "narrow")
    os.kill(detector, signal.SIGSTOP)
    try:
        _watch(patient, "left-alone", 12, 15)
        made = _ranked(patient, "left-alone")
        assert (made.drift.status, len(made.items)) == ("stale", 5)
    finally:
        os.kill(detector, signal.SIGCONT)
    wait_for(lambda: patient.recommend("left-alone").drift.status == "current", 60)


@pytest.mark.slow
def test_while_no_ranker_lives_popular_items_are_served_and_the_list_says_so(narrow: Service, patient: Client) -> None:
    _watch(patient, "left-alone", 0, 12)
    for _ in range(3):  # behind a list the Router asks for popular items
        _ranked(patient, "left-alone")
        time.sleep(1.5)
    (ranker,) = narrow.pids("Ranker", "narrow")
    os.kill(ranker, signal.SIGKILL)
    made = wait_for(lambda: _if(patient.recommend("left-alone", k=5), degraded="popularity"), 20)
    assert (made.policy.name, len(made.items)) == ("popular", 5)
    assert not {item.item_id for item in made.items} & {f"i{n}" for n in range(12)}  # the rules hold
    assert _ranked(patient, "left-alone").policy.name != "popular"
    assert narrow.pids("Ranker", "narrow") != [ranker]


def _ranked(client: Client, user: str) -> RankedList:
    """A list that a Ranker made; on a busy machine the first may come too late, and a killed one has to start."""
    made: RankedList = wait_for(lambda: _if(client.recommend(user, k=5), degraded=None), 120)
    return made


def _if(made: RankedList, degraded: str | None) -> RankedList | None:
    return made if made.degraded == degraded else None


@pytest.mark.slow
def test_what_takes_too_long_is_a_504(service: Service, narrow: Service) -> None:
    deploy(application(service.args), _narrow(narrow.args.model_copy(update={"timeout_seconds": 1e-6})))
    response = wait_for(lambda: _answer_other_than(narrow.client(), 503), 30)
    assert response.status_code == 504
    assert response.headers["content-type"] == "application/problem+json"


def _answer_other_than(client: httpx.Client, status: int) -> httpx.Response | None:
    response = client.post("/v1/drift", json={"history": ["i1"]})
    return None if response.status_code == status else response
