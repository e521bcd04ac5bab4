"""A store that goes away: clients are told, and stay; and so is whoever comes meanwhile."""

from collections.abc import AsyncIterator

import pytest

from qubix_tui.hub.store_watch import TOLD_SECONDS
from tests.hub.manual_clock import ManualClock
from tests.hub.shared_store import SharedEngine, SharedStore
from tests.hub.wire import Client, Message, Running, eventually, running


class Shaky(SharedEngine):
    """A store that goes away when a test says so."""

    def __init__(self) -> None:
        super().__init__(SharedStore(), "a")


@pytest.fixture
def engine() -> Shaky:
    """The store, which is there."""
    return Shaky()


@pytest.fixture
async def hub(engine: Shaky) -> AsyncIterator[Running]:
    """A hub on it, whose clock stands still."""
    async with running(engine=engine, clock=ManualClock()) as hub:
        yield hub


async def store_state(client: Client) -> Message:
    """The next word about the store."""
    while True:
        message = await client.until("MARKETPLACE_UPDATE")
        if message["data"]["kind"] == "store":
            assert message["channel"] == "marketplace"
            assert "offset" not in message
            data: Message = message["data"]
            return data


def kinds(messages: list[Message]) -> list[str]:
    """What some messages are: their kinds, or types."""
    return [message["data"].get("kind", message["type"]) for message in messages]


async def gone(hub: Running, engine: Shaky) -> None:
    """Have the store go away, and the hub notice."""
    engine.away = True
    async with await hub.client() as witness:
        await witness.subscribe("marketplace")
        assert not (await store_state(witness))["up"]


async def test_clients_hear_that_the_store_is_away_and_that_it_is_back(hub: Running, engine: Shaky) -> None:
    """With the reason and the time; only those that have subscribed to the marketplace, and all stay."""
    async with await hub.client() as viewer, await hub.client() as other:
        await viewer.subscribe("marketplace")
        await other.subscribe("provider:rig-1")
        engine.away = True
        assert await store_state(viewer) == {
            "kind": "store",
            "up": False,
            "reason": "the store is away",
            "since": "2027-01-15T08:00:00.000Z",
        }
        engine.away = False
        assert await store_state(viewer) == {
            "kind": "store",
            "up": True,
            "reason": None,
            "since": "2027-01-15T08:00:00.000Z",
        }
        assert "store" not in kinds(await other.heard())


async def test_who_subscribes_while_the_store_is_away_is_told(hub: Running, engine: Shaky) -> None:
    """After the confirmation and the snapshot."""
    await gone(hub, engine)
    async with await hub.client() as late:
        await late.send("subscribe:marketplace", {"snapshot": True})
        assert kinds(await late.heard()) == ["subscribed", "snapshot", "store"]
        await late.send("subscribe:provider", subscriptionId="rig-1")
        assert "store" not in kinds(await late.heard())


async def test_who_is_refused_for_want_of_the_store_hears_why(hub: Running, engine: Shaky) -> None:
    """What it missed can't be read now; and when it asks again, it hears that the store is back."""
    async with await hub.client() as viewer:
        first = await viewer.ask("subscribe:marketplace")
        await viewer.ask("unsubscribe", subscriptionId="marketplace")
        since = {"since": first["data"]["offset"], "epoch": first["data"]["epoch"]}
        await gone(hub, engine)
        await viewer.heard()
        await viewer.send("subscribe:marketplace", since)
        words, error = await viewer.heard()
        assert (words["data"]["kind"], words["data"]["up"]) == ("store", False)
        assert (error["data"]["code"], error["data"]["message"]) == ("unavailable", "the store is away")
        engine.away = False
        await eventually(lambda: hub.hub.services.store_watch._up)
        await viewer.send("subscribe:marketplace", since)
        reply, words = await viewer.heard()
        assert reply["data"]["recovered"] is True
        assert (words["data"]["kind"], words["data"]["up"]) == ("store", True)


async def test_in_ordinary_times_nothing_is_said(hub: Running, engine: Shaky) -> None:
    """Neither at first, nor when the store has been back for long."""
    clock = hub.hub.services.clock
    assert isinstance(clock, ManualClock)
    async with await hub.client() as early:
        await early.send("subscribe:marketplace", {"snapshot": True})
        assert kinds(await early.heard()) == ["subscribed", "snapshot"]
    await gone(hub, engine)
    engine.away = False
    await eventually(lambda: hub.hub.services.store_watch._up)
    clock.advance(TOLD_SECONDS + 1)
    async with await hub.client() as late:
        await late.send("subscribe:marketplace", {"snapshot": True})
        assert kinds(await late.heard()) == ["subscribed", "snapshot"]


async def test_who_missed_nothing_comes_back_while_the_store_is_away(hub: Running, engine: Shaky) -> None:
    """It is not asked for what is known here; who did miss something is refused, and can't be told less."""
    async with await hub.client() as viewer, await hub.agent() as agent:
        await viewer.subscribe("marketplace")
        await agent.register("w1", name="rig")
        await agent.ask("provider:status", {"paused": True})
        offset = (await viewer.until("PROVIDER_STATUS_CHANGED"))["offset"]
        await gone(hub, engine)
        members = {"epoch": engine.epoch, "digest": 1}
        async with await hub.client() as client:
            back = await client.ask("subscribe:marketplace", {"since": offset, **members})
            assert (back["type"], back["data"]["recovered"]) == ("subscribed", True)
            missed = await client.ask("subscribe:marketplace", {"since": offset - 1, **members})
            assert missed["data"]["code"] == "unavailable"
