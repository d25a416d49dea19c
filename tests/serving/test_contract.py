"""The HTTP contract, on the running service. In the tiny catalogue i0 is western, i130 space and i260 romance."""

import json
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from driftline.state.store import Store
from driftline.state.tables import served
from tests.serving.conftest import Service, event, settled, visit
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)  # the first test also trains a bundle and starts the service

WESTERN = [f"i{n}" for n in range(12)]
ROMANCE = [f"i{n}" for n in range(260, 272)]


def test_probes_and_documents_are_open(service: Service) -> None:
    anyone = service.client_with(None)
    assert anyone.get("/livez").json() == {"status": "alive"}
    ready = anyone.get("/readyz")
    assert ready.status_code == 200
    manifest = json.loads((Path(str(service.args.bundle)) / "manifest.json").read_text())
    assert ready.json() == {"status": "ready", "bundle": manifest["id"], "swap_fault": None}
    assert {"/v1/events", "/v1/recommend", "/v1/rank", "/v1/drift"} <= set(anyone.get("/openapi.json").json()["paths"])
    assert anyone.get("/docs").status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/v1/users/nobody", 404), ("/nowhere", 404)])
def test_the_request_id_comes_back_once(client: httpx.Client, path: str, status: int) -> None:
    given = client.get(path, headers={"X-Request-ID": "order-66"})
    assert given.status_code == status
    assert set(given.headers.get_list("x-request-id")) == {"order-66"}
    assert client.get(path).headers["x-request-id"]


def test_an_error_is_a_problem_document(client: httpx.Client) -> None:
    response = client.post("/v1/recommend", json={"user_id": "u", "k": 0, "colour": 1, "exclude": ["i1", 5]})
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code == 422
    assert problem["type"] == "urn:driftline:problem:invalid-request"
    assert problem["instance"] == "/v1/recommend"
    assert sorted(fault["pointer"] for fault in problem["errors"]) == ["/colour", "/exclude/1", "/k"]


def test_each_row_of_an_ingestion_has_a_status_and_a_retry_is_harmless(client: httpx.Client) -> None:
    rows = [event("rows", 0, "i1"), event("rows", 1, "i2"), event("rows", 0, "i1"), {"event_id": "half"}, 7]
    first, again = (client.post("/v1/events", json=rows).json() for _ in range(2))
    assert [row["status"] for row in first["events"]] == ["accepted", "accepted", "duplicate", "rejected", "rejected"]
    assert [row["status"] for row in again["events"]] == ["duplicate", "duplicate", "duplicate", "rejected", "rejected"]
    assert "/item_id: Field required" in first["events"][3]["reason"]
    assert (first["accepted"], first["duplicate"], first["rejected"]) == (2, 1, 2)
    assert again["version"] >= first["version"]
    assert client.get("/v1/users/rows").json()["history"]["num_events"] == 2


def test_another_event_under_a_used_id_is_rejected_not_lost_in_silence(client: httpx.Client) -> None:
    client.post("/v1/events", json=[event("reuse", 0, "i1")])
    outcome = client.post("/v1/events", json=[event("reuse", 0, "i2")]).json()["events"][0]
    assert outcome["status"] == "rejected"
    assert "different event" in outcome["reason"]


def test_events_come_as_lines_too(client: httpx.Client) -> None:
    lines = "\n".join([json.dumps(event("lines", 0, "i1", type="purchase", value=3)), "{broken", ""])
    response = client.post("/v1/events", content=lines, headers={"content-type": "application/x-ndjson"})
    assert [row["status"] for row in response.json()["events"]] == ["accepted", "rejected"]


def test_a_late_event_takes_its_place_by_its_timestamp(client: httpx.Client) -> None:
    visit(client, "late", ["i1", "i2"], first=10)
    visit(client, "late", ["i3"], first=5)
    assert client.get("/v1/users/late").json()["history"]["newest_items"] == ["i2", "i1", "i3"]


def test_a_profile_describes_history_drift_and_policy(client: httpx.Client) -> None:
    visit(client, "profile", WESTERN)
    profile = settled(client, "profile")
    assert {tag["tag"]: tag["weight"] for tag in profile["interests"]} == {"Western": 0.5, "Action": 0.5}
    history = profile["history"]
    assert (history["num_events"], history["num_items"]) == (12, 12)
    assert (history["first_timestamp"], history["last_timestamp"]) == (1_000_000.0, 1_000_011.0)
    assert profile["drift"]["status"] == "current"
    assert 0 <= profile["drift"]["p_drift"] <= 1
    assert profile["policy"]["name"] in {"steady", "drifting", "reset"}
    assert profile["policy"]["reason"]


def test_an_unknown_user_has_no_profile_but_gets_a_list(client: httpx.Client) -> None:
    assert client.get("/v1/users/stranger").status_code == 404
    answer = client.post("/v1/recommend", json={"user_id": "stranger", "k": 7}).json()
    assert len(answer["items"]) == 7
    assert answer["policy"]["name"] == "cold-start"
    assert answer["drift"]["status"] == "none"


def test_a_list_is_ordered_leaves_out_what_it_must_and_names_its_reasons(client: httpx.Client) -> None:
    version = visit(client, "list", WESTERN)["version"]
    question = {"user_id": "list", "k": 20, "exclude": ["i20", "i21"], "min_version": version, "diversity": 0.0}
    response = client.post("/v1/recommend", json=question, headers={"X-Request-ID": "list-1"})
    answer = response.json()
    assert response.status_code == 200, answer
    ids = [item["item_id"] for item in answer["items"]]
    scores = [item["score"] for item in answer["items"]]
    assert len(set(ids)) == 20
    assert scores == sorted(scores, reverse=True)
    assert not set(ids) & {"i20", "i21", *WESTERN}
    assert all(item["title"] for item in answer["items"])
    assert answer["request_id"] == "list-1"
    assert answer["bundle"] == client.get("/readyz").json()["bundle"]
    assert answer["version"] >= version


def test_filters_keep_a_list_within_categories(client: httpx.Client) -> None:
    visit(client, "filtered", WESTERN)
    answer = client.post("/v1/recommend", json={"user_id": "filtered", "filters": {"categories": ["romance"]}}).json()
    assert len(answer["items"]) == 10
    assert all(260 <= int(item["item_id"][1:]) < 390 for item in answer["items"])


def test_what_was_served_is_recorded(client: httpx.Client, service: Service) -> None:
    visit(client, "audience", WESTERN)
    answer = client.post("/v1/recommend", json={"user_id": "audience"}, headers={"X-Request-ID": "audience-1"}).json()
    store = Store(service.database)

    def recorded() -> object:
        with store.engine.begin() as connection:
            return connection.execute(select(served).where(served.c.request_id == "audience-1")).one_or_none()

    row = wait_for(recorded, 10)
    store.close()
    assert json.loads(row.items) == [item["item_id"] for item in answer["items"]]
    assert (row.user_id, row.policy, row.bundle) == ("audience", answer["policy"]["name"], answer["bundle"])


def test_ranking_orders_every_candidate_for_a_user_or_a_history(client: httpx.Client) -> None:
    visit(client, "ranked", WESTERN)
    candidates = ["i300", "i0", "i40", "nobody-knows-this"]
    for subject in ({"user_id": "ranked"}, {"history": WESTERN}):
        answer = client.post("/v1/rank", json={**subject, "candidates": candidates}).json()
        assert {item["item_id"] for item in answer["items"]} == {"i300", "i0", "i40"}
        assert "nobody-knows-this" in answer["unknown_items"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"candidates": ["i1"]}, ""),
        ({"user_id": "u", "history": ["i1"], "candidates": ["i1"]}, ""),
        ({"user_id": "u", "candidates": ["i1", "i1"]}, ""),
        ({"user_id": "u", "candidates": []}, "/candidates"),
        ({"user_id": "u", "candidates": [f"i{n}" for n in range(1001)]}, "/candidates"),
    ],
)
def test_a_ranking_request_that_makes_no_sense_is_refused(
    client: httpx.Client, body: dict[str, object], pointer: str
) -> None:
    response = client.post("/v1/rank", json=body)
    assert response.status_code == 422
    assert [fault["pointer"] for fault in response.json()["errors"]] == [pointer]


def test_the_drift_of_a_history_is_told_event_by_event(client: httpx.Client) -> None:
    history = [*WESTERN, *ROMANCE]
    verdict = client.post("/v1/drift", json={"history": history}).json()
    assert len(verdict["statistic"]) == len(verdict["p_drift_by_event"]) == 24
    assert verdict["p_drift"] == verdict["p_drift_by_event"][-1]
    assert verdict["verdict"] in {"changed", "unchanged"}
    assert verdict["unknown_items"] == []
    assert verdict["evidence"]["before"]


def test_drift_follows_the_events_and_ends_the_same_as_for_an_inline_history(client: httpx.Client) -> None:
    visit(client, "turncoat", WESTERN)
    before = settled(client, "turncoat")["drift"]
    visit(client, "turncoat", ROMANCE, first=12)
    after = settled(client, "turncoat")["drift"]
    inline = client.post("/v1/drift", json={"history": [*WESTERN, *ROMANCE]}).json()
    assert after["p_drift"] == pytest.approx(inline["p_drift"], abs=1e-5)  # gone on from a state in float32
    assert after["change_point"] == inline["change_point"]
    assert after["p_drift"] != before["p_drift"]


def test_a_new_item_can_be_ranked_on_the_next_request_from_its_text(client: httpx.Client) -> None:
    item = {"title": "Ranch of the Lost, The", "year": "2026", "categories": ["Western", "Action"]}
    written = client.put("/v1/items/new-ranch", json=item)
    assert written.status_code == 200, written.text
    question = {"history": WESTERN, "candidates": ["i30", "new-ranch"], "min_version": written.json()["version"]}
    answer = client.post("/v1/rank", json=question).json()
    titles = {found["item_id"]: found["title"] for found in answer["items"]}
    assert titles["new-ranch"] == "The Ranch of the Lost"
    assert answer["unknown_items"] == []
    whole = client.post("/v1/recommend", json={"user_id": "stranger", "k": 1000}).json()
    assert "new-ranch" in {found["item_id"] for found in whole["items"]}
    assert client.get("/v1/items/new-ranch").json() == {
        **item,
        "item_id": "new-ranch",
        "description": "",
        "available": True,
        "source": "catalogue",
    }


def test_a_deleted_item_is_in_no_list_and_can_come_back(client: httpx.Client) -> None:
    batch = {
        "items": [
            {"item_id": "gone", "title": "Gone"},
            {"item_id": "stays", "title": "霸王别姬", "categories": ["剧情"]},
        ]
    }
    assert client.post("/v1/items:batch", json=batch).status_code == 200
    question = {"history": ["i1"], "candidates": ["gone", "stays", "i131"]}

    def ranked() -> set[str]:
        return {item["item_id"] for item in client.post("/v1/rank", json=question).json()["items"]}

    assert ranked() == {"gone", "stays", "i131"}
    for item in ("gone", "gone", "i131"):  # twice is harmless; an item of the bundle can go too
        assert client.delete(f"/v1/items/{item}").status_code == 200
    assert ranked() == {"stays"}
    assert client.get("/v1/items/gone").status_code == client.get("/v1/items/i131").status_code == 404
    client.put("/v1/items/i131", json={"title": "Back"})
    assert ranked() == {"stays", "i131"}


def test_an_item_of_the_bundle_can_be_read(client: httpx.Client) -> None:
    item = client.get("/v1/items/i5").json()
    assert (item["source"], item["categories"]) == ("bundle", ["Western", "Action"])
    assert client.get("/v1/items/nothing").status_code == 404


def test_a_version_that_was_never_acknowledged_cannot_be_demanded(client: httpx.Client) -> None:
    for path, body in [("/v1/recommend", {"user_id": "u"}), ("/v1/rank", {"history": ["i1"], "candidates": ["i2"]})]:
        response = client.post(path, json={**body, "min_version": 10**9})
        assert response.status_code == 409
        assert "never acknowledged" in response.json()["detail"]


def test_an_erased_user_is_nowhere_and_erasing_again_is_harmless(client: httpx.Client, service: Service) -> None:
    name = "user-who-wants-to-be-forgotten"
    visit(client, name, WESTERN)
    settled(client, name)
    client.post("/v1/recommend", json={"user_id": name})
    for _ in range(2):
        assert client.delete(f"/v1/users/{name}").status_code == 200
    assert client.get(f"/v1/users/{name}").status_code == 404
    folder = Path(service.database.removeprefix("sqlite:///")).parent
    for file in folder.iterdir():
        assert name.encode() not in file.read_bytes(), file
    assert client.post("/v1/recommend", json={"user_id": name}).json()["policy"]["name"] == "cold-start"


def test_ids_may_hold_slashes_spaces_and_any_script(client: httpx.Client) -> None:
    name = "families/王 五"
    visit(client, name, ["i1"])
    assert client.get("/v1/users/families%2F王%20五").json()["user_id"] == name
    assert client.delete("/v1/users/families%2F王%20五").status_code == 200
    assert client.get("/v1/users/families%2F王%20五").status_code == 404


def test_events_of_items_that_nobody_described_are_kept_and_named(client: httpx.Client) -> None:
    visit(client, "explorer", ["i1", "from-the-future", "i2"])
    answer = client.post("/v1/recommend", json={"user_id": "explorer"}).json()
    assert answer["unknown_items"] == ["from-the-future"]
