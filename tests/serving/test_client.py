"""The client against the running service."""

import asyncio

import pytest

from driftline.client import AsyncClient, Client, Event, Filters, InvalidRequestError, Item, NotFoundError
from tests.serving.conftest import Service

pytestmark = pytest.mark.timeout(900)  # the first test also trains a bundle and starts the service


def key_of(running: Service, tenant: str) -> str:
    return running.client(tenant).headers["Authorization"].removeprefix("Bearer ")


def events(user: str, count: int) -> list[Event]:
    return [Event(user_id=user, item_id=f"i{n}", type="view", timestamp=1e6 + n) for n in range(count)]


def test_every_call_is_answered_in_its_type(service: Service) -> None:
    with Client(service.url, key_of(service, "typed")) as typed:
        history = events("ada", 12)
        assert typed.events.add(history).accepted == 12
        again = typed.events.add(history)
        assert (again.accepted, again.duplicate, list(again.faults())) == (0, 12, [])
        made = typed.recommend("ada", k=3, max_per_category={"Western": 1}, filters=Filters(year_from=1950))
        assert len(made.items) == 3
        assert made.version >= typed.version
        assert typed.rank(["i40", "i300", "nobody"], user_id="ada").unknown_items == ["nobody"]
        assert typed.get_user("ada").history.num_events == 12
        page = typed.get_timeline("ada", limit=10)
        assert page.next_cursor is not None
        rest = typed.get_timeline("ada", limit=10, cursor=page.next_cursor)
        assert [event.event_id for event in (*page.events, *rest.events)] == [event.event_id for event in history]
        assert len(typed.drift(["i1", "i2"]).p_drift_by_event) == 2
        assert typed.rerank("a", ["b", "a"], top_n=1)[0].index == 1
        typed.delete_user("ada")
        with pytest.raises(NotFoundError, match="no such user"):
            typed.get_user("ada")
        with pytest.raises(InvalidRequestError, match="/k: "):
            typed.recommend("ada", k=0)


def test_what_was_written_is_in_the_next_answer(service: Service) -> None:
    async def write_and_read() -> None:
        async with AsyncClient(service.url, key_of(service, "own-writes")) as own:
            for number in range(5):
                await own.put_item(Item(item_id=f"new-{number}", title=f"Quokka {number}", categories=["Nature"]))
                found = await own.search("quokka", k=20, filters=Filters(categories=["nature"]))
                assert {item.item_id for item in found.items} == {f"new-{n}" for n in range(number + 1)}
            assert (await own.similar(item_id="new-1", k=1)).items
            assert (await own.get_item("new-0")).source == "catalogue"
            await own.delete_item("new-0")
            ranked = await own.rank(["new-0", "new-1"], history=["i1"])
            assert [item.item_id for item in ranked.items] == ["new-1"]

    asyncio.run(write_and_read())
