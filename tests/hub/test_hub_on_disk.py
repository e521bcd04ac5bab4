"""A hub whose store outlives it: what a client finds after a restart on the same store."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.engine.database import Database
from qubix_tui.hub.engine.local import LocalEngine
from qubix_tui.protocol.tokens import Role, new_token
from tests.hub.conftest import MakeStore
from tests.hub.manual_clock import ManualClock
from tests.hub.wire import Client, Running, running

TOKEN = new_token(Role.PROVIDER)

Start = Callable[[], AbstractAsyncContextManager[Running]]


@pytest.fixture
def clock() -> ManualClock:
    """Time, which stands still."""
    return ManualClock()


@pytest.fixture
def start(make_store: MakeStore, clock: ManualClock) -> Start:
    """What starts a hub on one and the same store."""
    return lambda: running(clock=clock, engine=make_store(clock=clock))


async def agent_of(hub: Running) -> Client:
    """The agent of a hub's own machine: its token is in a file there, and outlives the hub."""
    hub.access.add_token(TOKEN, Role.PROVIDER, "agent")
    return await hub.client(token=TOKEN)


async def registered_when_the_hub_stopped(start: Start) -> str:
    """The id of a provider whose agent was connected to the last."""
    async with AsyncExitStack() as leaves_last, start() as hub:
        agent = await leaves_last.enter_async_context(await agent_of(hub))
        registered = await agent.register("w")
    provider_id: str = registered["data"]["providerId"]
    return provider_id


async def test_a_watcher_gets_what_it_missed_while_the_hub_was_away(start: Start) -> None:
    """With ``since`` and ``epoch`` of before: ``recovered``, each event once, offsets without a gap."""
    async with start() as hub, await hub.agent() as agent:
        await agent.register("first")
        async with await hub.client() as watcher:
            seen = await watcher.ask("subscribe:marketplace")
        await agent.send("provider:status", {"paused": True}, id=1)
        await agent.until("ok")
    async with start() as hub, await hub.client() as watcher:
        epoch, since = seen["data"]["epoch"], seen["data"]["offset"]
        back = await watcher.ask("subscribe:marketplace", {"epoch": epoch, "since": since})
        assert (back["data"]["recovered"], back["data"]["epoch"]) == (True, epoch)
        async with await hub.agent() as agent:
            await agent.register("second")
            missed = await watcher.heard()
        assert [message["offset"] for message in missed] == list(range(since + 1, since + len(missed) + 1))
        assert [message["type"] for message in missed][-1] == "PROVIDER_REGISTERED"
        assert [message["type"] for message in missed].count("PROVIDER_STATUS_CHANGED") >= 1
        assert missed[-1]["offset"] > back["data"]["offset"]


async def test_a_provider_keeps_its_stored_state_and_its_return_is_no_event(
    start: Start, clock: ManualClock
) -> None:
    """The hub's absence is nobody's silence, however long it was."""
    provider_id = await registered_when_the_hub_stopped(start)
    clock.advance(600)
    async with start() as hub:
        provider = hub.hub.provider(provider_id)
        assert provider is not None
        assert provider.is_online
        await hub.hub.caretaker.sweep()
        async with await hub.client() as watcher, await agent_of(hub) as agent:
            await watcher.subscribe("marketplace", f"provider:{provider_id}")
            again = await agent.register("w")
            assert (again["data"]["providerId"], again["data"]["session"]) == (provider_id, 2)
            assert await watcher.heard() == []


async def test_a_provider_that_does_not_come_back_goes_in_its_own_time(
    start: Start, clock: ManualClock
) -> None:
    """Its deadlines count from the hub's start."""
    provider_id = await registered_when_the_hub_stopped(start)
    async with start() as hub:
        for seconds, state in ((14.0, "available"), (1.0, "unreachable"), (30.0, "offline")):
            clock.advance(seconds)
            await hub.hub.caretaker.sweep()
            provider = hub.hub.provider(provider_id)
            assert provider is not None
            assert provider.state == state


async def test_simulated_providers_of_before_are_taken_back(start: Start) -> None:
    """A watcher that recovers hears that they are gone; who looks anew does not find them."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        await operator.register("a", simulated=True)
        async with await hub.client() as watcher:
            seen = await watcher.ask("subscribe:marketplace")
    async with start() as hub, await hub.client() as watcher:
        since = {"epoch": seen["data"]["epoch"], "since": seen["data"]["offset"]}
        assert (await watcher.ask("subscribe:marketplace", since))["data"]["recovered"] is True
        (removed,) = await watcher.heard()
        assert removed["data"] == {"kind": "provider_removed", "providerId": "sim-a"}
        assert hub.hub.providers() == []
    async with start() as hub, await hub.client() as watcher:
        await watcher.ask("subscribe:marketplace", since)
        assert len(await watcher.heard()) == 1, "they are taken back once"


@pytest.mark.parametrize("make_store", ["local"], indirect=True)
async def test_a_registration_is_on_the_disk_before_it_is_acknowledged(start: Start, tmp_path: Path) -> None:
    """Another reader of the file finds it as soon as the agent has its answer."""
    async with start() as hub, await hub.agent() as agent:
        provider_id = (await agent.register("w"))["data"]["providerId"]
        other = LocalEngine(tmp_path / "hub.sqlite3")
        await other.open()
        try:
            assert list(await other.load("providers")) == [provider_id]
            assert other.offset("marketplace") == hub.hub.services.engine.offset("marketplace")
        finally:
            await other.close()


def is_ready(hub: Running) -> bool:
    """Whether it says that it serves."""
    return hub.hub.ready


@pytest.mark.parametrize("make_store", ["local"], indirect=True)
async def test_a_hub_whose_store_fails_is_not_ready_until_it_works_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be stored is refused and not told; the sweep finds out when the store is back."""
    async with start() as hub, await hub.client() as watcher, await hub.agent() as agent:
        await watcher.subscribe("marketplace")
        with monkeypatch.context() as failing:

            def refuse(*_: object) -> None:
                raise EngineUnavailable("hub.sqlite3 can't grow, its disk is full: free some space there")

            failing.setattr(Database, "write", refuse)
            refused = await agent.register("w")
            assert refused["data"]["code"] == "unavailable"
            assert "its disk is full" in refused["data"]["message"]
            assert not is_ready(hub)
            picture = hub.hub.picture()
            assert (picture.ready, picture.stores) == (False, False)
            await hub.hub.caretaker.sweep()
            assert not is_ready(hub)
        await hub.hub.caretaker.sweep()
        assert is_ready(hub)
        picture = hub.hub.picture()
        assert (picture.ready, picture.stores) == (True, True)
        assert await watcher.heard() == []
        assert (await agent.register("w"))["type"] == "registered"
        assert [message["type"] for message in await watcher.heard()] == ["PROVIDER_REGISTERED"]
