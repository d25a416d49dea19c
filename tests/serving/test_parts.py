"""Parts of the service that need no server."""

import asyncio
import json

import pytest

from driftline.drift.report import DriftVerdict
from driftline.errors import DatabaseError
from driftline.ranking.profile import interest_tags
from driftline.serving.assessments import Assessments, UserKey
from driftline.serving.catalogue import CatalogueFollower
from driftline.serving.http.ingestion import NDJSON, merge_statuses, parse_events
from driftline.serving.http.messages.events import EventStatus
from driftline.serving.http.problems import Problem, json_pointer
from driftline.serving.served_lists import MAX_WAITING, ServedLists
from driftline.serving.user_views import view_of
from driftline.state.store import (
    CatalogueItem,
    HistoryEvent,
    ServedList,
    ShadowList,
    StoredDrift,
    StoredEvent,
    UserSnapshot,
)

GOOD = {"event_id": "e1", "user_id": "u", "item_id": "i", "type": "view", "timestamp": 1}


def a_list(user: str, version: int) -> ServedList:
    return ServedList("acme", "r", user, ("i",), "steady", "b", 0.0, version)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"user_id": None}, "/user_id: Input should be a valid string"),
        ({"user_id": ""}, "/user_id: String should have at least 1 character"),
        ({"user_id": "a\0b"}, "/user_id: must not hold a NUL byte"),
        ({"user_id": "a/timeline"}, "/user_id: must not end in '/timeline'"),
        ({"type": "stare"}, "/type: Input should be 'view'"),
        ({"timestamp": "yesterday"}, "/timestamp: Input should be a valid number"),
        ({"timestamp": 1_700_000_000_000}, "/timestamp: Input should be less than 100000000000"),
        ({"timestamp": True}, "/timestamp: Input should be a valid number"),
        ({"value": 10**400}, "/value:"),
        ({"colour": "red"}, "/colour: Extra inputs are not permitted"),
    ],
)
def test_a_bad_row_is_rejected_with_the_place_and_the_reason(change: dict[str, object], reason: str) -> None:
    body = json.dumps([GOOD | change, GOOD]).encode()
    bad, good = parse_events(body, "application/json", 10)
    assert isinstance(bad, EventStatus)
    assert bad.status == "rejected"
    assert reason in (bad.reason or "")
    assert good == StoredEvent("e1", "u", "i", "view", 1.0)


def test_lines_are_read_one_by_one() -> None:
    body = b"\n".join([json.dumps(GOOD).encode(), b"", b"{broken", b"\xff\xfe", b"7", b"[" * 100_000])
    rows = parse_events(body, NDJSON, 10)
    assert isinstance(rows[0], StoredEvent)
    reasons = [row.reason for row in rows[1:] if isinstance(row, EventStatus)]
    assert [reason.split(":")[0] for reason in reasons if reason] == [
        "not JSON",
        "not JSON",
        "an event must be a JSON object",
        "not JSON",
    ]


@pytest.mark.parametrize(("body", "status"), [(b"{}", 422), (b"[", 400), (b"\xff", 400), (b"[1,2,3]", 413)])
def test_a_body_that_is_no_array_of_events_is_a_problem(body: bytes, status: int) -> None:
    with pytest.raises(Problem) as caught:
        parse_events(body, "application/json", 2)
    assert caught.value.status == status


def test_statuses_stay_in_the_order_of_the_rows() -> None:
    rejected = EventStatus(event_id=None, status="rejected", reason="why")
    event = StoredEvent("e1", "u", "i", "view", 1.0)
    merged = merge_statuses([event, rejected, event], ["accepted", "conflict"])
    assert [row.status for row in merged] == ["accepted", "rejected", "rejected"]
    assert "different event" in (merged[2].reason or "")


def test_json_pointers_are_escaped() -> None:
    assert json_pointer(["a/b", 0, "m~n"]) == "/a~1b/0/m~0n"


def test_interest_tags_share_one_vote_per_event() -> None:
    tags = interest_tags([("Drama", "War"), ("Drama",), (), ("War",), ("Comedy",)])
    assert tags == [("Drama", 1.5 / 4), ("War", 1.5 / 4), ("Comedy", 1 / 4)]
    assert interest_tags([(), ()]) == []


def test_a_change_point_keeps_its_event_when_older_events_arrive_late() -> None:
    history = [HistoryEvent(name, "i", "view", float(n)) for n, name in enumerate(["late", "a", "b"])]
    stored = StoredDrift(revision=1, bundle="b1", change_event_id="b", report={"p_drift": 0.9, "alarm": True})
    view = view_of(UserSnapshot(2, 0, 2, 3, history, stored))
    assert view.drift_status == "stale"
    assert view.drift == DriftVerdict(0.9, 2, alarm=True)
    assert view_of(UserSnapshot(1, 0, 1, 3, history, stored)).drift_status == "current"
    assert view_of(UserSnapshot(1, 0, None, 0, [], None)).drift_status == "none"


async def no_shadows(rows: list[ShadowList]) -> None:
    assert not rows


def test_served_lists_wait_in_their_order_until_the_database_can_be_reached() -> None:
    written: list[ServedList] = []
    failures = iter([True, False])

    async def write(rows: list[ServedList]) -> None:
        if next(failures):
            queue.add(a_list("bob", 2))  # while the write is under way
            raise DatabaseError("restarting")
        written.extend(rows)

    queue = ServedLists(write, no_shadows)
    queue.add(a_list("ada", 1))
    with pytest.raises(DatabaseError):
        asyncio.run(queue.flush())
    asyncio.run(queue.flush())
    assert [(row.user_id, row.version) for row in written] == [("ada", 1), ("bob", 2)]


def test_the_queue_of_served_lists_is_bounded_and_counts_what_it_drops() -> None:
    async def write(rows: list[ServedList]) -> None:
        assert len(rows) == MAX_WAITING

    queue = ServedLists(write, no_shadows)
    for _ in range(MAX_WAITING + 3):
        queue.add(a_list("ada", 1))
    assert queue.num_dropped == 3
    asyncio.run(queue.flush())


def test_assessments_go_on_after_a_failure_and_take_up_what_the_sweep_finds() -> None:
    done: list[UserKey] = []
    failures = iter([True, False])

    async def assess(user: UserKey) -> None:
        if user[1] == "fragile" and next(failures):
            raise ConnectionError("the detector is gone")
        done.append(user)

    async def find() -> list[UserKey]:
        return [user for user in [("acme", "fragile"), ("acme", "left-by-a-crash")] if user not in done]

    async def work() -> None:
        running = asyncio.ensure_future(Assessments(assess, find, sweep_seconds=0.01).run())
        async with asyncio.timeout(5):
            while len(done) < 2:
                await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(work())
    assert sorted(done) == [("acme", "fragile"), ("acme", "left-by-a-crash")]


def test_a_follower_fetches_only_what_it_lacks_and_once_for_all_who_wait() -> None:
    log = [
        CatalogueItem("n1", "Letter, The", "1999", ("Drama",)),
        CatalogueItem("i1", "Known"),
        CatalogueItem("n1", "", deleted=True),
    ]
    asked: list[int] = []

    async def fetch(tenant: str, version: int) -> tuple[int, list[CatalogueItem]]:
        asked.append(version)
        await asyncio.sleep(0)
        return (2, log[:2]) if version < 2 else (3, log[2:])

    async def follow() -> None:
        follower = CatalogueFollower(fetch)
        await asyncio.gather(*(follower.at_least("acme", 2) for _ in range(5)))
        catalogue = await follower.at_least("acme", 1)
        assert asked == [0]
        assert catalogue.new_texts({"i1": 0}) == {"n1": "The Letter (1999). Genres: Drama."}
        assert catalogue.title("n1") == "The Letter"
        await follower.at_least("acme", 3)
        assert asked == [0, 2]
        assert catalogue.new_texts({"i1": 0}) == {}
        assert catalogue.deleted == {"n1"}

    asyncio.run(follow())
