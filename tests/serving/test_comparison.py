"""``driftline compare``: lists, the events that came of them, and shadow lists."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from driftline.cli import app
from driftline.serving.comparison import Period, compare
from driftline.state.store import ServedList, ShadowList, Store, StoredEvent


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    """Four users of the champion with two lists each, two of which take an item from both; one of the challenger."""
    opened = Store(database)
    for user in range(4):
        opened.add_served([a_list(f"u{user}", f"r{user}-{n}", at=100.0 + n) for n in range(2)])
    opened.add_served([a_list("c", "rc", "challenger", "b", at=150.0)])
    taken = [an_event(f"u{user}", f"r{user}-{n}") for user in range(2) for n in range(2)]
    opened.append_events("acme", [*taken, an_event("c", "rc", kind="click")])
    yield opened
    opened.close()


def a_list(user: str, request_id: str, arm: str = "champion", bundle: str = "a", at: float = 100.0) -> ServedList:
    return ServedList("acme", request_id, user, ("i1", "i2", "i3"), "steady", bundle, at, 0, arm)


def an_event(user: str, request_id: str, item: str = "i1", kind: str = "view") -> StoredEvent:
    return StoredEvent(f"{user}-{request_id}-{item}", user, item, kind, 1.0, request_id=request_id)


def test_rates_are_counted_by_arm_and_bundle(store: Store) -> None:
    found = compare(store, Period())
    counted = {(arm.arm, arm.bundle): (arm.rate.trials, arm.rate.hits, arm.rate.clusters) for arm in found.arms}
    assert counted == {("champion", "a"): (8, 4, 4), ("challenger", "b"): (1, 1, 1)}
    champion = next(arm for arm in found.arms if arm.arm == "champion")
    assert champion.rate.effective_trials == pytest.approx(3)  # see tests/evaluation/test_proportions.py
    assert (champion.first_served_at, champion.last_served_at) == (100.0, 101.0)
    gap = found.gaps[0]
    assert (gap.challenger, gap.champion, gap.difference.mean) == ("b", "a", 0.5)
    # challenger 1 of 1: Wilson low = 1 / (1 + 3.8415) = .2065; champion .5 of 3: .1255 to .8745
    # low = .5 - hypot(1 - .2065, .8745 - .5) = .5 - .8774; high = .5 + hypot(0, .5 - .1255) = .8745
    assert (gap.difference.low, gap.difference.high) == pytest.approx((-0.3774, 0.8745), abs=0.001)


def test_only_what_is_certain_is_attributed(store: Store) -> None:
    store.append_events(
        "acme",
        [
            an_event("u2", "r2-0", item="not-in-the-list"),
            an_event("stranger", "r3-0"),  # another user with the request id
            StoredEvent("no-request", "u2", "i1", "view", 1.0),
        ],
    )
    store.append_events("beta", [an_event("u2", "r2-1")])
    assert {arm.arm: arm.rate.hits for arm in compare(store, Period()).arms} == {"champion": 4, "challenger": 1}


def test_lists_that_no_model_made_count_for_no_bundle(store: Store) -> None:
    before = compare(store, Period())
    store.add_served([replace(a_list("u0", "degraded"), policy="popular")])
    store.append_events("acme", [an_event("u0", "degraded")])
    assert compare(store, Period()) == before


def test_a_period_narrows_tenant_time_and_type(store: Store) -> None:
    assert compare(store, Period(tenant="beta")).arms == []
    assert [arm.rate.trials for arm in compare(store, Period(since=101.0)).arms] == [1, 4]
    assert [arm.rate.trials for arm in compare(store, Period(until=101.0)).arms] == [4]
    clicks = compare(store, Period(event_types=("click",)))
    assert {arm.arm: arm.rate.hits for arm in clicks.arms} == {"champion": 0, "challenger": 1}


def test_shadow_lists_are_compared_with_what_was_served(store: Store) -> None:
    shadow = {"bundle": "b", "items": ["i1", "i3", "i2"], "scores": [0, 0, 0], "policy": "steady"}
    same = {**shadow, "items": ["i1", "i2", "i3"]}
    store.add_shadows([ShadowList("acme", "r0-0", shadow), ShadowList("acme", "r1-0", same)])
    (found,) = compare(store, Period()).shadows
    assert (found.shadow, found.champion, found.lists, found.overlap.mean) == ("b", "a", 2, 1.0)
    assert found.rank_correlation is not None
    assert found.rank_correlation.mean == pytest.approx((1 / 3 + 1) / 2)  # of three pairs, two agree; then all


def test_the_command_prints_tables_or_json(store: Store, database: str) -> None:
    run = CliRunner().invoke(app, ["compare", "--database", database, "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.output)["arms"][1]["rate"]["hits"] == 4
    table = CliRunner().invoke(app, ["compare", "--database", database], env={"COLUMNS": "160"})
    assert "Challenger minus champion" in table.output
    assert "0.500 [-0.377, 0.875]" in table.output
    none = CliRunner().invoke(app, ["compare", "--database", database, "--since", "2030-01-01"])
    assert "no lists" in none.output
