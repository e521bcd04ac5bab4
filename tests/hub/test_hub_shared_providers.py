"""Providers of several hubs that share a store: seen by all, looked after by one, connected once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qubix_tui.hub.registry import OFFLINE_SECONDS, UNREACHABLE_SECONDS
from qubix_tui.protocol.tokens import Role, new_token
from tests.hub.manual_clock import ManualClock
from tests.hub.shared_store import SharedEngine, SharedStore
from tests.hub.sharing import sharing
from tests.hub.wire import Client, Message, Running, eventually, running


class Hubs:
    """Two hubs on one store, and one token of a provider that both know."""

    def __init__(
        self, store: SharedStore, hubs: dict[str, Running], engines: dict[str, SharedEngine]
    ) -> None:
        self.store = store
        self.hubs = hubs
        self.engines = engines
        self.token = new_token(Role.PROVIDER)
        for hub in hubs.values():
            hub.access.add_token(self.token, Role.PROVIDER, "agent")

    async def agent(self, hub: str) -> Client:
        """A client of a hub with that token."""
        return await self.hubs[hub].client(token=self.token)

    async def watcher(self, hub: str) -> Client:
        """A client of a hub that hears of all providers."""
        client = await self.hubs[hub].client()
        await client.subscribe("marketplace", "provider:*")
        return client

    def state(self, hub: str, provider_id: str) -> str | None:
        """What a hub says of a provider."""
        provider = self.hubs[hub].hub.provider(provider_id)
        return None if provider is None else provider.state.value

    def kill(self, hub: str) -> None:
        """The others take a hub for gone; what it does is lost."""
        self.store.alive.remove(hub)
        self.engines[hub].away = self.engines[hub].held = True

    async def sweep(self, hub: str) -> None:
        """Have a hub look at its providers."""
        await self.hubs[hub].hub.services.providers.sweep()


@pytest.fixture
def clock() -> ManualClock:
    """The clock of both hubs."""
    return ManualClock()


@pytest.fixture
async def hubs(clock: ManualClock) -> AsyncIterator[Hubs]:
    """Two hubs, a and b; a is the older one."""
    async with sharing("ab", clock=clock) as made:
        yield Hubs(made.store, made.hubs, made.engines)


def told(messages: list[Message]) -> list[tuple[str, str, int]]:
    """Type, channel and offset of events."""
    return [(one["type"], one["channel"], one["offset"]) for one in messages if "offset" in one]


async def test_all_hubs_tell_of_a_provider_alike(hubs: Hubs) -> None:
    """Its registration, its states, its end: the same events, under the same offsets, in the same order."""
    watchers = [await hubs.watcher(name) for name in "ab"]
    agent = await hubs.agent("a")
    provider_id = (await agent.register("w1", name="rig"))["data"]["providerId"]
    await agent.ask("provider:status", {"paused": True})
    await agent.socket.close()
    await eventually(lambda: hubs.state("b", provider_id) == "offline")
    operator = await hubs.hubs["b"].client(Role.OPERATOR)
    assert (await operator.ask("provider:remove", {"providerId": provider_id}))["type"] == "ok"
    await eventually(lambda: hubs.state("a", provider_id) is None)
    heard = [told(await watcher.heard()) for watcher in watchers]
    assert heard[0] == heard[1]
    assert [kind for kind, *_ in heard[0]] == [
        "PROVIDER_REGISTERED",
        *["PROVIDER_STATUS_CHANGED"] * 4,
        "MARKETPLACE_UPDATE",
    ]


async def test_a_hub_that_starts_knows_what_the_others_know(hubs: Hubs) -> None:
    """And a replay gives on one what was heard on another."""
    watcher, agent = await hubs.watcher("a"), await hubs.agent("a")
    await agent.register("w1", name="rig")
    seen = told(await watcher.heard())
    async with running(engine=SharedEngine(hubs.store, "c")) as third, await third.client() as client:
        assert [provider.name for provider in third.hub.providers()] == ["rig"]
        epoch = hubs.store.memory.epoch
        await client.send("subscribe:marketplace", {"since": 0, "epoch": epoch})
        reply = await client.until("subscribed")
        assert reply["data"]["offset"] == seen[-1][2]
        assert told(await client.heard()) == seen


async def test_who_registers_elsewhere_is_connected_once(hubs: Hubs) -> None:
    """The older connection is closed with 4009 wherever it is, and changes nothing any more."""
    first = await hubs.agent("a")
    registered = await first.register("w1", name="rig")
    second = await hubs.agent("b")
    again = await second.register("w1", name="rig")
    assert again["data"]["providerId"] == registered["data"]["providerId"]
    assert again["data"]["session"] == registered["data"]["session"] + 1
    assert (await first.closed())[0] == 4009
    provider_id = again["data"]["providerId"]
    assert hubs.state("a", provider_id) == hubs.state("b", provider_id) == "available"
    third = await hubs.agent("a")
    assert (await third.register("w1", name="rig"))["data"]["session"] == again["data"]["session"] + 1
    assert (await second.closed())[0] == 4009


async def test_who_has_left_a_held_up_hub_is_not_taken_back_by_it(
    hubs: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its registration is still to be stored there when its agent gives that up, and registers elsewhere.

    The connection over which it came is gone by then. Else the agent's own would end it, for a minute.
    """
    late, commit = hubs.engines["a"], hubs.engines["a"].commit
    asked, goes_on = asyncio.Event(), asyncio.Event()

    async def held_up(*args: Any, **options: Any) -> list[int]:
        decided_at = late.position
        asked.set()
        await goes_on.wait()
        return await commit(*args, **options | {"decided_at": decided_at})

    first = await hubs.agent("a")
    registering = asyncio.create_task(first.register("w1", name="rig"))
    monkeypatch.setattr(late, "commit", held_up)
    await asked.wait()
    late.held = True
    first.socket.transport.abort()
    registering.cancel()
    second = await hubs.agent("b")
    provider_id = (await second.register("w1", name="rig"))["data"]["providerId"]
    await eventually(lambda: not hubs.hubs["a"].hub.caretaker.clients)
    late.held = False
    goes_on.set()
    assert (await second.ask("provider:status", {"paused": True}))["type"] == "ok"
    await eventually(lambda: hubs.state("a", provider_id) == "paused")
    registry = hubs.hubs["a"].hub.services.providers.registry
    entry = registry.get(provider_id)
    assert entry is not None
    assert (entry.stored.node, entry.stored.session) == ("b", 1)


async def test_a_wish_from_a_connection_that_was_replaced_elsewhere_is_none(hubs: Hubs) -> None:
    """Its hub hears of that when it has the wish stored: what the agent says at the other hub counts."""
    first = await hubs.agent("a")
    provider_id = (await first.register("w1", name="rig"))["data"]["providerId"]
    await eventually(lambda: hubs.state("b", provider_id) == "available")
    hubs.engines["a"].held = True
    second = await hubs.agent("b")
    assert (await second.register("w1", name="rig"))["type"] == "registered"
    await first.send("provider:status", {"paused": True})
    assert (await first.closed())[0] == 4009
    hubs.engines["a"].held = False
    assert (await second.ask("provider:status", {"paused": True, "reason": "mine"}))["type"] == "ok"
    await eventually(lambda: hubs.state("a", provider_id) == "paused")
    entry = hubs.hubs["a"].hub.services.providers.registry.get(provider_id)
    assert entry is not None
    assert entry.stored.reason == "mine"
    told_of = [one for one in hubs.store.log if any(event.channel == "marketplace" for event in one.events)]
    assert [entry.node for entry in told_of] == ["a", "b"]


async def test_another_agent_with_its_identity_is_refused_at_any_hub(hubs: Hubs) -> None:
    """While its own is connected at one; not once that has gone, however it went."""
    first = await hubs.agent("a")
    await first.register("w1", name="rig")
    second = await hubs.agent("b")
    refused = await second.register("w1", name="rig", instance="i2")
    assert refused["data"]["code"] == "conflict"
    assert "at another hub" in refused["data"]["message"]
    first.socket.transport.abort()
    entry = next(iter(hubs.hubs["b"].hub.services.providers.registry))
    await eventually(lambda: entry.stored.node is None)
    assert (await second.register("w1", name="rig", instance="i2"))["type"] == "registered"


async def test_an_end_that_could_not_be_stored_is_told_later(hubs: Hubs) -> None:
    """A hub whose store is away when a connection ends says so with a later sweep: no agent is locked out."""
    first = await hubs.agent("a")
    await first.register("w1", name="rig")
    hubs.engines["a"].away = True
    first.socket.transport.abort()
    there = next(iter(hubs.hubs["a"].hub.services.providers.registry))
    await eventually(lambda: not there.session_open)
    second = await hubs.agent("b")
    assert (await second.register("w1", name="rig", instance="i2"))["data"]["code"] == "conflict"
    hubs.engines["a"].away = False
    await hubs.sweep("a")
    assert (await second.register("w1", name="rig", instance="i2"))["type"] == "registered"


async def test_two_hubs_that_decide_at_once_do_it_one_after_the_other(hubs: Hubs) -> None:
    """The one that the store takes second decides anew: no session number is given twice."""
    first, second = await hubs.agent("a"), await hubs.agent("b")
    await first.register("w1", name="rig")
    hubs.engines["b"].held = True
    await first.ask("provider:status", {"paused": True, "reason": "cleaning"})
    entries = len(hubs.store.log)
    registering = asyncio.create_task(second.register("w1", name="rig"))
    await eventually(lambda: len(hubs.store.log) > entries)
    hubs.engines["b"].held = False
    hubs.engines["b"].hear()
    again = await registering
    assert again["data"]["session"] == 2
    provider_id = again["data"]["providerId"]
    assert hubs.state("b", provider_id) == "paused"
    await eventually(lambda: hubs.state("a", provider_id) == "paused")


async def test_each_hub_looks_after_its_own(hubs: Hubs, clock: ManualClock) -> None:
    """Another hub that hears nothing of a provider does not take it for silent."""
    agent = await hubs.agent("a")
    provider_id = (await agent.register("w1", name="rig"))["data"]["providerId"]
    clock.advance(UNREACHABLE_SECONDS + 1)
    await agent.ask("ping")
    await hubs.sweep("b")
    await hubs.sweep("a")
    assert hubs.state("a", provider_id) == hubs.state("b", provider_id) == "available"
    clock.advance(UNREACHABLE_SECONDS + 1)
    await hubs.sweep("b")
    assert hubs.state("b", provider_id) == "available"
    await hubs.sweep("a")
    assert hubs.state("b", provider_id) == "unreachable"


async def test_the_leader_looks_after_the_providers_of_a_hub_that_is_gone(
    hubs: Hubs, clock: ManualClock
) -> None:
    """Their silence counts from when it was found gone; who comes back elsewhere was never away."""
    lost = await hubs.agent("a")
    lost_id = (await lost.register("w1", name="rig"))["data"]["providerId"]
    clock.advance(100)
    await hubs.sweep("b")
    hubs.kill("a")
    await hubs.sweep("b")
    assert hubs.state("b", lost_id) == "available"
    clock.advance(UNREACHABLE_SECONDS - 1)
    await hubs.sweep("b")
    assert hubs.state("b", lost_id) == "available"
    clock.advance(2)
    await hubs.sweep("b")
    assert hubs.state("b", lost_id) == "unreachable"
    clock.advance(OFFLINE_SECONDS)
    await hubs.sweep("b")
    assert hubs.state("b", lost_id) == "offline"
    back = await hubs.agent("b")
    await back.register("w1", name="rig")
    assert hubs.state("b", lost_id) == "available"


async def test_simulated_providers_are_seen_by_all_and_gone_with_their_hub(
    hubs: Hubs, clock: ManualClock
) -> None:
    """At once where their connection ends; where their hub does, when nobody has heard them for long."""
    operators = [await hubs.hubs["a"].client(Role.OPERATOR) for _ in range(2)]
    ids = [
        (await operator.register(f"s{number}", simulated=True))["data"]["providerId"]
        for number, operator in enumerate(operators)
    ]
    assert [hubs.state("b", one) for one in ids] == ["available", "available"]
    await operators[0].socket.close()
    await eventually(lambda: hubs.state("b", ids[0]) is None)
    hubs.kill("a")
    await hubs.sweep("b")
    clock.advance(OFFLINE_SECONDS + 1)
    await hubs.sweep("b")
    assert hubs.state("b", ids[1]) is None


async def test_a_hub_that_leaves_hands_its_providers_over(hubs: Hubs) -> None:
    """From the moment at which it drains another agent may have them, and nobody is told that they left."""
    watcher, agent = await hubs.watcher("b"), await hubs.agent("a")
    provider_id = (await agent.register("w1", name="rig"))["data"]["providerId"]
    await watcher.heard()
    await hubs.hubs["a"].hub.drain(0.5)
    assert (await agent.closed())[0] == 1012
    assert told(await watcher.heard()) == []
    back = await hubs.agent("b")
    assert (await back.register("w1", name="rig", instance="i2"))["data"]["providerId"] == provider_id
