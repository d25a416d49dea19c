"""``GET /v1/explanations/{request_id}`` on the running service."""

from typing import Any

import httpx
import pytest

from tests.serving.conftest import Service, event, settled, visit

pytestmark = pytest.mark.timeout(900)  # the first test also trains a bundle and starts the service

WESTERN = [f"i{n}" for n in range(12)]


def explained(client: httpx.Client, user: str) -> dict[str, Any]:
    """A list that can be explained."""
    response = client.post("/v1/recommend", json={"user_id": user, "k": 4, "explain": True})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_contributions_add_up_to_what_was_served_also_after_late_events(client: httpx.Client) -> None:
    visit(client, "explained", WESTERN, first=10)
    settled(client, "explained")
    answer = explained(client, "explained")
    client.post("/v1/events", json=[event("explained", 5, "i300"), event("explained", 99, "i301")])
    response = client.get(f"/v1/explanations/{answer['request_id']}", params={"items": 3})
    assert response.status_code == 200, response.text
    found = response.json()
    assert (found["user_id"], found["bundle"], found["version"]) == ("explained", answer["bundle"], answer["version"])
    assert found["policy"] == answer["policy"]
    assert found["note"] is None  # the history is that of the list's version
    assert [one["item_id"] for one in found["items"]] == [item["item_id"] for item in answer["items"][:3]]
    for one, item in zip(found["items"], answer["items"], strict=False):
        assert one["served_score"] == item["score"]
        total = sum(carrier["contribution"] for carrier in one["carriers"]) + one["other_events"]
        assert one["baseline"] + total == pytest.approx(item["score"], abs=0.01 * abs(total) + 1e-4)
        assert {carrier["item_id"] for carrier in one["carriers"]} <= set(WESTERN)
        assert one["sentence"].startswith(f"{item['title']} is in the list ")


def test_a_new_user_and_a_new_item_are_explained_as_such(client: httpx.Client) -> None:
    client.put("/v1/items/explained-new", json={"title": "Dusty Ranch Nine", "categories": ["Western"]})
    body = {"user_id": "explained-cold", "explain": True, "filters": {"items": ["explained-new"]}}
    answer = client.post("/v1/recommend", json=body).json()
    found = client.get(f"/v1/explanations/{answer['request_id']}").json()
    (one,) = found["items"]
    assert one["carriers"] == []
    assert "from its text alone" in one["cold_start"]
    assert "not because of anything in the history" in one["sentence"]


def test_what_was_not_kept_or_was_erased_or_is_of_another_tenant_is_not_there(
    service: Service, client: httpx.Client
) -> None:
    visit(client, "gone", WESTERN)
    plain = client.post("/v1/recommend", json={"user_id": "gone"}).json()
    kept = explained(client, "gone")
    refused = client.get(f"/v1/explanations/{plain['request_id']}")
    assert refused.status_code == 404
    assert "without explain: true" in refused.json()["detail"]
    assert client.get(f"/v1/explanations/{kept['request_id']}").status_code == 200
    assert service.client(tenant="beta").get(f"/v1/explanations/{kept['request_id']}").status_code == 404
    client.delete("/v1/users/gone")
    assert client.get(f"/v1/explanations/{kept['request_id']}").status_code == 404
    assert client.get("/v1/explanations/no-such-list").status_code == 404
