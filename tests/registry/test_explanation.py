"""Explanations of lists that a trained bundle makes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftline.drift.report import DriftVerdict
from driftline.ranking.requests import Policy, RankRequest
from driftline.registry.explanation import Carrier, GraphPath, explain, graph_paths, sentence
from driftline.registry.model import Model, load

pytestmark = pytest.mark.timeout(600)  # the first test also trains a bundle

MIXED = [*[f"i{n}" for n in range(3, 15)], "unknown", *[f"i{n}" for n in range(262, 272)]]
"""Twelve westerns, an item that nobody knows, ten romances; i3 is the oldest."""


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return load(tiny_bundle)


def drifted(p_drift: float) -> DriftVerdict:
    return DriftVerdict(p_drift, 13, alarm=True)


REQUESTS = {
    "cold-start": RankRequest(["i3", "i4"], drift=drifted(0.0)),
    "steady": RankRequest(MIXED, drift=drifted(0.1), times_s=[40.0 * n for n in range(len(MIXED))]),
    "drifting": RankRequest(MIXED, drift=drifted(0.7), times_s=[40.0 * n for n in range(len(MIXED))], now_s=900.0),
    "reset": RankRequest(MIXED, drift=drifted(0.99)),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_contributions_add_up_to_the_score_as_served_minus_that_of_an_empty_history(model: Model, name: str) -> None:
    """Within 1 %, the mixture of readings included; scores come from the path that serves."""
    request = REQUESTS[name]
    made = model.recommend_batch([request])[0]
    assert made.policy.name == name
    served = {item.item_id: item.score for item in made.items}
    found = explain(model, request, list(served), made.policy)
    assert [one.item_id for one in found] == list(served)
    for one in found:
        total = sum(carrier.contribution for carrier in one.carriers) + one.other_events
        assert one.baseline + total == pytest.approx(served[one.item_id], abs=0.01 * abs(total) + 1e-4)
        assert all(request.history[carrier.position] == carrier.item_id for carrier in one.carriers)
        if name == "reset":
            assert all(carrier.position >= 13 for carrier in one.carriers)


def test_removing_the_top_contributor_lowers_the_score_more_than_removing_another_event(model: Model) -> None:
    """In at least 80 % of cases, the removed event being chosen at random; scores come from the path that serves."""
    rng = np.random.default_rng(0)
    wins: list[float] = []
    for _ in range(12):
        history = [f"i{n}" for n in rng.choice(390, size=25, replace=False)]
        whole = RankRequest(history, k=5, keep_seen=True, drift=replace(drifted(0.0), change_point=None))
        made = model.recommend_batch([whole])[0]
        without = [replace(whole, history=history[:n] + history[n + 1 :]) for n in range(len(history))]
        scores_nN = model.log_probabilities(without)
        for one in explain(model, whole, [item.item_id for item in made.items], made.policy):
            drop_n = one.score - scores_nN[:, model.catalog.index[one.item_id]]
            top = max(one.carriers, key=lambda carrier: carrier.contribution).position
            wins.append(float(np.mean(drop_n[top] > np.delete(drop_n, top))))
    assert len(wins) == 60
    assert np.mean(wins) >= 0.8


def test_a_new_item_is_explained_by_its_text(model: Model) -> None:
    request = RankRequest(MIXED, new_items={"n1": "Silent Kiss (2026). Genres: Romance, Drama."}, drift=drifted(0.1))
    policy = model.recommend_batch([request])[0].policy
    (one,) = explain(model, request, ["n1", "described by nobody"], policy)
    assert one.cold_start is not None
    assert "from its text alone" in one.cold_start
    served = model.log_probabilities([request])[0, -1]
    assert one.score == pytest.approx(served, rel=0.01)


def test_paths_in_the_graph_are_read_from_the_facts_in_the_text(model: Model) -> None:
    catalog = model.catalog
    texts = list(catalog.texts)
    facts = f"sequel: {catalog.titles[5]}; same director as: Not There, {catalog.titles[7]}"
    texts[1] = f"{texts[1]} Made in 1950. {facts}."
    told = model.with_contents(catalog=replace(catalog, texts=texts))
    assert graph_paths(told, "i1", ["i7", "i5", "i9"]) == [
        GraphPath("sequel", "i5", catalog.titles[5]),
        GraphPath("same director as", "i7", catalog.titles[7]),
    ]
    assert graph_paths(told, "i2", ["i7", "i5"]) == []
    assert graph_paths(told, "nobody", ["i7"]) == []


def test_a_sentence_says_no_more_than_the_facts() -> None:
    steady, drifting = Policy("steady", "", 0.0), Policy("drifting", "", 0.7)
    carriers = [Carrier(0, "a", "Alien", 1.5), Carrier(1, "b", "Brazil", -2.0), Carrier(2, "c", "Cube", 0.5)]
    assert sentence("Heat", carriers, [], steady, None) == "Heat is in the list mostly because of Alien and Cube."
    path = [GraphPath("same director as", "a", "Alien")]
    assert sentence("Heat", carriers[:1], path, drifting, None) == (
        "Heat is in the list mostly because of Alien; same director as: Alien; "
        "what came since the change of taste counts more."
    )
    assert sentence("Heat", carriers[1:2], [], steady, "2 known events") == (
        "Heat is in the list for its standing with everybody, not because of anything in the history; 2 known events."
    )
