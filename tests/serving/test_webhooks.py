"""Webhooks: what is told, to whom it may be sent, and that it arrives, over real sockets and a real database."""

import asyncio
import json
import time
from collections.abc import Iterator

import httpx
import pytest

from driftline.client import verify_webhook
from driftline.drift.report import DriftVerdict
from driftline.serving.notices import Population, PopulationBand, drift_notice
from driftline.serving.webhooks import Deliveries, WebhookUrlError, check_url, pinned, signature
from driftline.state.outbox import (
    Message,
    add_message,
    claim_messages,
    delete_webhook,
    find_webhook,
    postpone_message,
    remove_messages,
    set_webhook,
)
from driftline.state.records import HistoryEvent, StoredDrift, StoredEvent
from driftline.state.store import Store
from tests.client.flaky import flaky, reply
from tests.serving.conftest import Service, settled, visit
from tests.waiting import wait_for

SECRET = "a secret of the test"
HISTORY = [HistoryEvent(f"e{n}", "i", "view", float(n)) for n in range(40)]


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


def report(alarm: bool) -> DriftVerdict:
    return DriftVerdict(0.9, 5, alarm)


def state(alarm: bool, change: str | None = "e5", bundle: str = "b1") -> StoredDrift:
    return StoredDrift(1, bundle, change, {"p_drift": 0.9, "alarm": alarm})


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (None, state(False), None),
        (None, state(True), "alarm"),
        (state(False), state(True), "alarm"),
        (state(True), state(True), None),
        (state(True), state(False), None),
        (state(True, "e5"), state(True, "e14"), None),  # 9 events: the same change
        (state(True, "e5"), state(True, "e15"), "new-regime"),
        (state(True, "e15"), state(True, "e5"), None),
        (state(True, "e5"), state(True, "e30", bundle="b2"), None),  # another bundle's opinion
        (state(True, "forgotten"), state(True, "e30"), None),
        (state(True, None), state(True, "e30"), None),
    ],
)
def test_a_tenant_is_told_when_an_alarm_rises_or_moves_on(
    before: StoredDrift | None, after: StoredDrift, reason: str | None
) -> None:
    notice = drift_notice("ada", before, after, report(after.report["alarm"]), HISTORY)
    assert (notice is None) == (reason is None)
    if notice is not None:
        body = json.loads(notice.body)
        assert (body["id"], body["type"]) == (notice.event_id, "user.interests_changed")
        assert (body["data"]["user_id"], body["data"]["reason"]) == ("ada", reason)


def test_the_share_of_drifting_users_is_told_when_it_leaves_its_band() -> None:
    population = Population(PopulationBand(low=0.25, high=0.5, window=4))
    told = []
    for user, alarm in [("a", True), ("b", True), ("c", False), ("d", False), ("c", True), ("e", True), ("f", False)]:
        share, message = population.observe("acme", user, alarm)
        told.append((share, None if message is None else json.loads(message.body)["data"]["side"]))
    assert told == [
        (1.0, None),  # the window is not full
        (1.0, None),
        (2 / 3, None),
        (0.5, None),  # a b c d: on the border is inside
        (0.75, "above"),  # a b d c
        (0.75, None),  # b d c e: it is still outside
        (0.5, None),  # d c e f: back inside
    ]
    for user in "dcef":
        share, message = population.observe("acme", user, False)
    assert share == 0.0
    assert population.observe("beta", "a", True) == (1.0, None)
    population.forget("acme", "f")
    assert population.observe("acme", "g", True)[0] == 0.25


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://user:secret@example.com/",
        "https://localhost/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/",
        "https://[fd00::1]/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https:///path",
        "example.com",
        "https://[::1",
    ],
)
def test_nothing_is_sent_where_it_must_not_go(url: str) -> None:
    with pytest.raises(WebhookUrlError):
        check_url(url, internal=False)


def test_plain_http_goes_to_this_machine_only_and_only_if_allowed() -> None:
    assert check_url("https://example.com/hook", internal=False).host == "example.com"
    assert check_url("http://127.0.0.1:9000/", internal=True).port == 9000
    assert check_url("https://10.1.2.3/", internal=True).host == "10.1.2.3"
    with pytest.raises(WebhookUrlError, match="only https"):
        check_url("http://10.1.2.3/", internal=True)


def test_a_name_is_resolved_once_and_must_not_lead_inside() -> None:
    url = httpx.URL("https://localhost:8443/hook")
    with pytest.raises(WebhookUrlError, match="not public"):
        asyncio.run(pinned(url, internal=False))
    there, host = asyncio.run(pinned(url, internal=True))
    assert there.host in ("127.0.0.1", "::1")
    assert host == {"Host": "localhost:8443", "sni_hostname": "localhost"}
    with pytest.raises(WebhookUrlError, match="resolved"):
        asyncio.run(pinned(httpx.URL("https://nowhere.invalid/"), internal=False))


def test_a_signature_holds_for_this_body_this_secret_and_a_while() -> None:
    now = int(time.time())
    good = signature(SECRET, b"{}", now)
    assert verify_webhook(SECRET, good, b"{}")
    assert not verify_webhook(SECRET, good, b"{ }")
    assert not verify_webhook("another", good, b"{}")
    assert not verify_webhook(SECRET, good.replace(f"t={now}", f"t={now - 1}"), b"{}")
    assert not verify_webhook(SECRET, signature(SECRET, b"{}", now - 301), b"{}")
    for nonsense in ("", "t=,v1=", "t=x,v1=y", "v1", "t=²,v1=é"):
        assert not verify_webhook(SECRET, nonsense, b"{}")


def deliver_until_empty(store: Store, seconds: float = 20.0) -> None:
    """Run the sender until nothing waits."""

    async def run() -> None:
        async def claim() -> list[object]:
            return list(await asyncio.to_thread(claim_messages, store, 60.0, 16))

        sender = Deliveries(
            claim,  # type: ignore[arg-type]
            lambda seqs: asyncio.to_thread(remove_messages, store, seqs),
            lambda *failed: asyncio.to_thread(postpone_message, store, *failed),
            internal=True,
        )
        running = asyncio.ensure_future(sender.run())
        async with asyncio.timeout(seconds):
            while (found := find_webhook(store, "acme")) is not None and found.num_waiting:
                await asyncio.sleep(0.05)
        running.cancel()

    asyncio.run(run())


def test_a_message_arrives_although_the_receiver_fails_at_first(store: Store) -> None:
    with flaky("drop", reply("500 Oops"), reply("302 Found", b"", "Location: http://127.0.0.1:1/")) as receiver:
        set_webhook(store, "acme", f"{receiver.url}/hook", SECRET)
        assert add_message(store, "acme", Message("evt_1", '{"id": "evt_1"}', "ada"))
        deliver_until_empty(store)
        assert len(receiver.requests) == 4
        last = receiver.requests[-1]
        assert last.line == "POST /hook HTTP/1.1"
        assert {request.headers["driftline-event-id"] for request in receiver.requests} == {"evt_1"}
        assert verify_webhook(SECRET, last.headers["driftline-signature"], last.body)
        assert json.loads(last.body) == {"id": "evt_1"}


def test_what_one_process_did_not_get_through_another_sends(store: Store, database_url: str) -> None:
    with flaky() as receiver:
        set_webhook(store, "acme", receiver.url, SECRET)
        for number in range(3):
            add_message(store, "acme", Message(f"evt_{number}", "{}"))
        claimed = claim_messages(store, 0.5, 2)  # a sender takes two messages, and dies
        assert [delivery.event_id for delivery in claimed] == ["evt_0", "evt_1"]
        assert [delivery.event_id for delivery in claim_messages(store, 0.0, 9)] == ["evt_2"]
        again = Store(database_url)
        deliver_until_empty(again)
        again.close()
        assert sorted(request.headers["driftline-event-id"] for request in receiver.requests) == [
            "evt_0",
            "evt_1",
            "evt_2",
        ]


def test_the_outbox_goes_with_the_drift_state_the_user_and_the_webhook(store: Store) -> None:
    notice = Message("evt_1", "{}", "ada")
    store.append_events("acme", [StoredEvent("e1", "ada", "i1", "view", 1.0)])
    assert store.save_drift("acme", "ada", state(True), notice)
    assert find_webhook(store, "acme") is None  # nobody wants to be told: nothing is kept
    set_webhook(store, "acme", "https://example.com", SECRET)
    assert not store.save_drift("acme", "nobody", state(True), notice)
    assert waiting(store) == 0
    assert store.save_drift("acme", "ada", state(True), notice)
    assert waiting(store) == 1
    store.erase_user("acme", "ada")
    assert waiting(store) == 0
    add_message(store, "acme", Message("evt_2", "{}"))
    delete_webhook(store, "acme")
    set_webhook(store, "acme", "https://example.com", SECRET)
    assert waiting(store) == 0


def waiting(store: Store) -> int:
    found = find_webhook(store, "acme")
    assert found is not None
    return found.num_waiting


@pytest.mark.timeout(900)  # the first test of the service also trains a bundle and starts it
def test_a_change_of_interests_is_told_to_the_tenants_receiver(service: Service) -> None:
    client, admin = service.client("told"), service.client("told", ["admin"])
    assert admin.get("/v1/webhook").status_code == 404
    refused = admin.put("/v1/webhook", json={"url": "http://10.0.0.1/", "secret": SECRET})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/url")
    with flaky("drop", reply("500 Oops")) as receiver:
        written = admin.put("/v1/webhook", json={"url": f"{receiver.url}/hook", "secret": SECRET})
        assert written.status_code == 200, written.text
        assert "secret" not in written.json()
        visit(client, "ada", [f"i{n}" for n in range(60)])
        settled(client, "ada")
        visit(client, "ada", [f"i{n}" for n in range(260, 290)], first=60)  # P(drift) is of the last 40 events
        profile = settled(client, "ada")
        assert profile["drift"]["alarm"], profile["drift"]
        wait_for(lambda: len(receiver.requests) >= 3, 30)
        wait_for(lambda: admin.get("/v1/webhook").json()["waiting"] == 0, 10)
        last = receiver.requests[-1]
        assert verify_webhook(SECRET, last.headers["driftline-signature"], last.body)
        told = json.loads(last.body)
        assert (told["type"], told["data"]["user_id"], told["data"]["reason"]) == (
            "user.interests_changed",
            "ada",
            "alarm",
        )
        assert service.client("others", ["admin"]).get("/v1/webhook").status_code == 404
        assert admin.delete("/v1/webhook").status_code == 200
        assert admin.get("/v1/webhook").status_code == 404
