"""Similar items, search, rerank, timeline and business rules, on the running service.

In the tiny catalogue i0-i129 are western, i130-i259 space and i260-i389 romance; see ``tests/tiny.py``.
"""

from typing import Any

import cohere
import httpx
import pytest

from tests.serving.conftest import Service, settled, visit


@pytest.fixture
def client(service: Service) -> httpx.Client:
    """Of a tenant whose catalogue no other test has added to."""
    return service.client("lookups")


pytestmark = pytest.mark.timeout(900)  # the first test also trains a bundle and starts the service

WESTERN = [f"i{n}" for n in range(12)]
ROMANCE = [f"i{n}" for n in range(260, 272)]


def ask(client: httpx.Client, path: str, **body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def ids(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_similar_items_are_in_order_and_leave_out_the_item_itself(client: httpx.Client) -> None:
    answer = ask(client, "/v1/similar", item_id="i5", k=20)
    scores = [item["score"] for item in answer["items"]]
    assert len(scores) == 20
    assert scores == sorted(scores, reverse=True)
    assert "i5" not in ids(answer)
    assert all(item["taste"] is None and item["title"] for item in answer["items"])
    by_text = ask(
        client, "/v1/similar", text="A tender kiss. Genres: Romance.", k=5, filters={"categories": ["Romance"]}
    )
    assert all(260 <= int(item[1:]) < 390 for item in ids(by_text))
    assert client.post("/v1/similar", json={"item_id": "nobody"}).status_code == 404
    for wrong in ({}, {"item_id": "i1", "text": "x"}, {"text": ""}, {"text": "x", "k": 0}):
        assert client.post("/v1/similar", json=wrong).status_code == 422


def test_a_new_item_is_found_on_the_next_request(service: Service) -> None:
    client = service.client("finders")
    written = client.put("/v1/items/heist", json={"title": "Zebra Heist, The", "year": "1971", "categories": ["Crime"]})
    version = written.json()["version"]
    found = ask(client, "/v1/search", query="zebra heist", k=1, min_version=version)
    assert (ids(found), found["items"][0]["title"]) == (["heist"], "The Zebra Heist")
    assert "heist" not in ids(ask(client, "/v1/similar", item_id="heist", k=5, min_version=version))
    assert ids(
        ask(client, "/v1/search", query="x", filters={"year_from": 1971, "year_to": 1971, "categories": ["crime"]})
    ) == ["heist"]
    client.put("/v1/items/heist", json={"title": "Zebra Heist, The", "available": False})
    assert "heist" not in ids(ask(client, "/v1/search", query="zebra heist", k=5))
    assert client.get("/v1/items/heist").json()["available"] is False
    ranked = ask(client, "/v1/rank", history=["i1"], candidates=["heist", "i2"])
    assert (ids(ranked), ranked["unavailable_items"]) == (["i2"], ["heist"])
    client.delete("/v1/items/heist")
    assert client.post("/v1/similar", json={"item_id": "heist"}).status_code == 404
    assert service.client("others").post("/v1/similar", json={"item_id": "heist"}).status_code == 404


def test_a_search_follows_the_users_taste_within_its_bound(client: httpx.Client) -> None:
    visit(client, "searcher", WESTERN)
    plain = ask(client, "/v1/search", query="Lonesome", k=1000)
    personal = ask(client, "/v1/search", query="Lonesome", k=1000, user_id="searcher", personalisation=0.5)
    match = {item["item_id"]: item["match"] for item in plain["items"]}
    for item in personal["items"]:
        assert item["match"] == pytest.approx(match[item["item_id"]], abs=1e-4)
        assert item["score"] == pytest.approx(0.5 * item["match"] + 0.5 * item["taste"])
    assert set(ids(personal)) >= set(WESTERN)
    without = ask(client, "/v1/search", query="Lonesome", k=1000, user_id="searcher", seen="exclude")
    assert not set(ids(without)) & set(WESTERN)
    assert set(ids(ask(client, "/v1/search", query="x", k=50, user_id="searcher", seen="only"))) == set(WESTERN)


def test_the_public_cohere_client_works_against_the_service(service: Service) -> None:
    key = service.client().headers["Authorization"].removeprefix("Bearer ")
    cohere_client = cohere.ClientV2(api_key=key, base_url=service.url)
    documents = ["Tender Kiss (1950). Genres: Romance.", "Dusty Ranch (1950). Genres: Western, Action.", ""]
    answer = cohere_client.rerank(model="driftline", query=documents[1], documents=documents, top_n=2)
    assert answer.results[0].index == 1
    assert answer.results[0].relevance_score == pytest.approx(1.0)
    assert len(answer.results) == 2
    assert 0 < answer.results[1].relevance_score <= answer.results[0].relevance_score
    assert answer.id
    assert answer.meta is not None
    assert answer.meta.warnings == ["no more than 32 tokens of a document are read"]
    named = cohere_client.rerank(model="rerank-v3.5", query="x", documents=documents, max_tokens_per_doc=3, priority=1)
    assert len(named.results) == 3
    assert named.meta is not None
    assert [warning.split()[0] for warning in named.meta.warnings or []] == ["model", "priority"]
    with pytest.raises(cohere.errors.UnprocessableEntityError, match="documents"):
        cohere_client.rerank(model="driftline", query="x", documents=[])
    with pytest.raises(cohere.errors.UnauthorizedError):
        cohere.ClientV2(api_key="dl_wrong", base_url=service.url).rerank(model="x", query="x", documents=["y"])


def test_documents_may_be_objects(client: httpx.Client) -> None:
    answer = ask(client, "/v2/rerank", query="a", documents=["b", {"text": "a"}])
    assert [result["index"] for result in answer["results"]] == [1, 0]
    assert client.post("/v2/rerank", json={"query": "a", "documents": [{"title": "a"}]}).status_code == 422


def test_business_rules_shape_a_list(client: httpx.Client) -> None:
    visit(client, "ruled", WESTERN)
    assert set(ids(ask(client, "/v1/recommend", user_id="ruled", k=50, seen="only"))) == set(WESTERN)
    assert "i0" in ids(ask(client, "/v1/recommend", user_id="ruled", k=1000, seen="include"))
    capped = ask(client, "/v1/recommend", user_id="ruled", k=9, max_per_category={"western": 2, "Romance": 3})
    assert len(capped["items"]) == 9
    numbers = [int(item[1:]) for item in ids(capped)]
    assert sum(n < 130 for n in numbers) <= 2
    assert sum(n >= 260 for n in numbers) <= 3
    for diversity in (0.0, 0.5):
        answer = ask(client, "/v1/recommend", user_id="ruled", k=9, max_per_category=1, diversity=diversity)
        assert sorted(int(item[1:]) // 130 for item in ids(answer)) == [0, 1, 2]  # one of each taste, and no more
    years = ask(client, "/v1/recommend", user_id="ruled", k=5, filters={"year_from": 1960, "year_to": 1961})
    assert all((int(item[1:]) % 70) in (10, 11) for item in ids(years))
    outside = {"categories_none": ["western", "Romance"], "items": ["i1", "i140", "i300"]}
    assert ids(ask(client, "/v1/recommend", user_id="ruled", filters=outside)) == ["i140"]
    for wrong in ({"seen": "maybe"}, {"max_per_category": -1}, {"max_per_category": {"a": "b"}}, {"filters": {"x": 1}}):
        assert client.post("/v1/recommend", json={"user_id": "ruled", **wrong}).status_code == 422


def test_a_timeline_pages_through_a_history_that_grows(client: httpx.Client) -> None:
    name = "story/of ada"
    path = "/v1/users/story%2Fof%20ada/timeline"
    visit(client, name, [*WESTERN, *ROMANCE])
    settled(client, "story%2Fof%20ada")
    client.post("/v1/recommend", json={"user_id": name})
    first = client.get(path, params={"limit": 20}).json()
    assert [event["event_id"] for event in first["events"]] == [f"{name}-{n}" for n in range(20)]
    visit(client, name, ["i300"], first=24)
    second = client.get(path, params={"limit": 20, "cursor": first["next_cursor"]}).json()
    assert [event["event_id"] for event in second["events"]] == [f"{name}-{n}" for n in range(20, 25)]
    assert second["next_cursor"] is None
    events = [*first["events"], *second["events"]]
    inline = client.post("/v1/drift", json={"history": [event["item_id"] for event in events]}).json()
    told = [event["p_drift"] for event in client.get(path).json()["events"]]
    assert told == pytest.approx(inline["p_drift_by_event"], abs=1e-6)
    assert all(event["surprise"] > 0 for event in events)
    assert client.get(f"/v1/users/{'story%2Fof%20ada'}").json()["user_id"] == name
    assert client.get("/v1/users/stranger/timeline").status_code == 404
    for wrong in ({"cursor": "x"}, {"cursor": "A" * 23}, {"limit": 0}, {"limit": 1001}, {"limit": "x"}):
        response = client.get(path, params=wrong)
        assert response.status_code == 422, response.text
        assert response.json()["errors"][0]["parameter"] == next(iter(wrong))
