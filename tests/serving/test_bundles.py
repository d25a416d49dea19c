"""Other bundles in force while the service answers: promotion, canary, shadow, rollback."""

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from driftline.serving.arms import share_of
from driftline.state.store import ServedList, Store
from tests.serving.conftest import Service, application, deploy, settled, visit
from tests.serving.test_operations import renamed
from tests.waiting import wait_for

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]  # the first test also trains a bundle and starts the service

SWAP_SECONDS = 60.0
WESTERN = [f"i{n}" for n in range(12)]


@pytest.fixture(scope="module")
def other(service: Service) -> Iterator[str]:
    """Id of another bundle under the root, at ``other``."""
    root = service.args.bundle_root
    new = renamed(Path(str(service.args.bundle)), root / "other")
    shutil.copytree(root / "other", root / "broken")
    (root / "broken" / "config.yaml").write_text("nothing: here\n")
    yield new
    shutil.rmtree(root / "other")
    shutil.rmtree(root / "broken")


@pytest.fixture
def admin(service: Service) -> Iterator[httpx.Client]:
    """A client that may promote; what it has promoted is taken back."""
    client = service.client(scopes=("read", "write", "admin"))
    yield client
    while client.post("/v1/bundles:promote", json={"mode": "rollback"}).status_code == 200:
        pass
    wait_for(
        lambda: in_force(client)["Ranker"] == in_force(client)["DriftDetector"] == configured(client), SWAP_SECONDS
    )


def configured(client: httpx.Client) -> list[tuple[str, float]]:
    path = client.get("/v1/bundles").json()["configured"]["champion"]
    return [(path, 1.0)]


def in_force(client: httpx.Client) -> dict[str, list[tuple[str, float]]]:
    """Paths and weights of the arms, by deployment; of one replica, for the service under test has one of each."""
    replicas = client.get("/v1/bundles").json()["replicas"]
    return {r["deployment"]: [(arm["path"], arm["weight"]) for arm in r["arms"]] for r in replicas}


def promote(client: httpx.Client, mode: str, bundle: str | None = None, **more: Any) -> dict[str, Any]:
    body = {"mode": mode, **more} | ({} if bundle is None else {"bundle": bundle})
    response = client.post("/v1/bundles:promote", json=body)
    assert response.status_code == 200, response.text
    promotion: dict[str, Any] = response.json()["promotion"]
    followed = wait_for(lambda: all_follow(client, promotion["number"]), SWAP_SECONDS)
    assert followed, client.get("/v1/bundles").text
    return promotion


def all_follow(client: httpx.Client, number: int) -> bool:
    return {replica["promotion"] for replica in client.get("/v1/bundles").json()["replicas"]} == {number}


class Load:
    """Threads that ask for lists without a pause, and count what comes back."""

    def __init__(self, service: Service, headers: httpx.Headers, users: list[str], threads: int = 3) -> None:
        self.answers: Counter[tuple[int, str]] = Counter()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(service.url, headers, users[n::threads])) for n in range(threads)
        ]

    def _ask(self, url: str, headers: httpx.Headers, users: list[str]) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            while not self._stop.is_set():
                for user in users:
                    response = client.post("/v1/recommend", json={"user_id": user, "k": 5})
                    ok = response.status_code == 200
                    self.answers[response.status_code, response.json()["bundle"] if ok else response.text] += 1

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_bundles_are_promoted_and_rolled_back_under_load_without_a_failed_request(
    service: Service, admin: httpx.Client, other: str
) -> None:
    for user in ("load0", "load1", "load2"):
        visit(admin, user, WESTERN)
    old = settled(admin, "load0")["bundle"]
    with Load(service, admin.headers, ["load0", "load1", "load2"]) as load:
        wait_for(lambda: load.answers[200, old] > 20, SWAP_SECONDS)
        promote(admin, "champion", "other")
        wait_for(lambda: load.answers[200, other] > 20, SWAP_SECONDS)
        assert settled(admin, "load0")["bundle"] == other  # its drift state is worked out again
        promote(admin, "rollback")
        before = load.answers[200, old]
        wait_for(lambda: load.answers[200, old] > before + 20, SWAP_SECONDS)
    assert set(load.answers) == {(200, old), (200, other)}


def test_a_canary_answers_its_share_of_the_users_always_the_same(
    service: Service, admin: httpx.Client, other: str
) -> None:
    users = [f"canary{n}" for n in range(40)]
    old = admin.get("/readyz").json()["bundle"]

    def bundles() -> dict[str, str]:
        return {user: admin.post("/v1/recommend", json={"user_id": user, "k": 3}).json()["bundle"] for user in users}

    chosen: list[set[str]] = []
    for weight in (0.3, 0.6):
        promote(admin, "challenger", "other", weight=weight)
        seen = bundles()
        expected = {user for user in users if share_of(other, "acme", user) < weight}
        assert {user for user, bundle in seen.items() if bundle == other} == expected
        assert {bundle for user, bundle in seen.items() if user not in expected} == {old}
        chosen.append(expected)
    assert bundles() == seen
    assert chosen[0] < chosen[1]
    arms = admin.get("/v1/bundles").json()["replicas"]
    ranker = next(replica for replica in arms if replica["deployment"] == "Ranker")
    assert [(arm["arm"], arm["bundle"], arm["weight"]) for arm in ranker["arms"]] == [
        ("champion", old, 0.4),
        ("challenger", other, 0.6),
    ]
    user = min(chosen[0])
    visit(admin, user, WESTERN)  # the drift state comes from the champion: the challenger works out its own
    answer = admin.post("/v1/recommend", json={"user_id": user, "k": 3}).json()
    assert (answer["bundle"], answer["drift"]["status"]) == (other, "current")
    stored = wait_for(lambda: recorded(service, answer["request_id"]), 10)
    assert (stored.arm, stored.bundle, len(stored.scores or ())) == ("challenger", other, 3)


def test_a_shadow_is_recorded_beside_the_list_and_never_served(
    service: Service, admin: httpx.Client, other: str
) -> None:
    visit(admin, "shadowed", WESTERN)
    old = settled(admin, "shadowed")["bundle"]
    promote(admin, "shadow", "other")
    answer = admin.post("/v1/recommend", json={"user_id": "shadowed", "k": 5}).json()
    assert answer["bundle"] == old
    stored = wait_for(lambda: recorded(service, answer["request_id"], lambda row: row.shadow is not None), 10)
    assert stored.shadow["bundle"] == other
    assert stored.shadow["items"] == [item["item_id"] for item in answer["items"]]  # the same weights under another id
    assert stored.shadow["scores"] == pytest.approx([item["score"] for item in answer["items"]], rel=1e-4)
    assert (stored.arm, stored.bundle) == ("champion", old)


def recorded(
    service: Service, request_id: str, complete: Callable[[ServedList], bool] = lambda row: True
) -> ServedList | None:
    store = Store(service.database)
    found = store.served_list("acme", request_id)
    store.close()
    return found if found is not None and complete(found) else None


def test_a_bundle_that_cannot_be_loaded_leaves_the_one_before_in_force(
    service: Service, admin: httpx.Client, other: str
) -> None:
    broken = service.args.bundle_root / "broken"
    response = admin.post("/v1/bundles:promote", json={"mode": "champion", "bundle": "broken"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/bundle"
    assert "config.yaml has sha256" in response.json()["detail"]
    old = admin.get("/readyz").json()["bundle"]
    good = (service.args.bundle_root / "other" / "config.yaml").read_text()
    (broken / "config.yaml").write_text(good)
    promotion = admin.post("/v1/bundles:promote", json={"mode": "champion", "bundle": "broken"})
    (broken / "config.yaml").write_text("nothing: here\n")  # it breaks after the check
    number = promotion.json()["promotion"]["number"]
    if not all_follow(admin, number):  # unless the replicas were quicker than this test
        fault = wait_for(lambda: admin.get("/readyz").json()["swap_fault"], SWAP_SECONDS)
        assert f"{old} stays in force" in fault
        assert admin.post("/v1/recommend", json={"user_id": "nobody"}).json()["bundle"] == old


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"mode": "champion", "bundle": "../../.."}, 422, "is not under"),
        ({"mode": "champion", "bundle": "/etc"}, 422, "is not under"),
        ({"mode": "champion", "bundle": "no-such"}, 422, "no bundle at"),
        ({"mode": "champion"}, 422, "every other mode names one"),
        ({"mode": "challenger", "bundle": "other"}, 422, "needs a weight"),
        ({"mode": "champion", "bundle": "other", "weight": 0.5}, 422, "takes no weight"),
        ({"mode": "rollback"}, 409, "nothing was promoted"),
    ],
)
def test_a_promotion_that_makes_no_sense_is_refused(
    admin: httpx.Client, other: str, body: dict[str, Any], status: int, reason: str
) -> None:
    response = admin.post("/v1/bundles:promote", json=body)
    assert response.status_code == status
    assert reason in response.text


def test_a_promotion_outlives_the_replicas(service: Service, admin: httpx.Client, other: str) -> None:
    promote(admin, "champion", "other")
    deploy()  # nothing is left
    deploy(application(service.args))
    wait_for(lambda: admin.get("/readyz").status_code == 200, SWAP_SECONDS)
    assert admin.get("/readyz").json() == {"status": "ready", "bundle": other, "swap_fault": None}
