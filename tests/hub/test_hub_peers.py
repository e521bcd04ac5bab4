"""Hubs that share a store: a client of any sees live what clients of all see."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qubix_tui.hub import peer_questions
from qubix_tui.hub.peers import Peers
from qubix_tui.protocol.tokens import Role, new_token
from qubix_tui.protocol.types import from_timestamp
from tests.hub.manual_clock import ManualClock
from tests.hub.shared_store import SharedEngine, SharedStore
from tests.hub.sharing import sharing
from tests.hub.wire import Client, Message, Running, eventually, running


class Hubs:
    """Some hubs on one store, and one token of a provider that all know."""

    def __init__(self, store: SharedStore, hubs: dict[str, Running]) -> None:
        self.store = store
        self.hubs = hubs
        self.token = new_token(Role.PROVIDER)
        for hub in hubs.values():
            hub.access.add_token(self.token, Role.PROVIDER, "agent")

    def peers(self, hub: str) -> Peers:
        return self.hubs[hub].hub.services.providers.peers

    async def agent(self, hub: str) -> tuple[Client, str]:
        """A provider at a hub, and its id."""
        client = await self.hubs[hub].client(token=self.token)
        return client, (await client.register("w1", name="rig"))["data"]["providerId"]

    async def viewer(self, hub: str, *channels: str) -> Client:
        """A client of a hub that hears some channels."""
        client = await self.hubs[hub].client()
        await client.subscribe(*channels)
        return client

    async def wanted(self, hub: str, provider_id: str, by: set[str]) -> None:
        """Wait until some other hubs want a provider's samples of a hub."""
        await eventually(lambda: set(self.peers(hub).wanting(provider_id)) == by)


@pytest.fixture
async def hubs() -> AsyncIterator[Hubs]:
    """Three hubs: a, b and c."""
    async with sharing("abc") as made:
        yield Hubs(made.store, made.hubs)


async def publish(agent: Client, seq: int, **members: Any) -> None:
    """Send a sample."""
    metrics = {"cpuPercent": 42.5, "seq": seq, "gpus": [{"index": 0, "tempC": 61}], **members}
    await agent.send("GPU_METRICS_UPDATE", {"metrics": metrics})


async def seqs(client: Client, count: int) -> list[int]:
    """The numbers of the next samples that a client gets."""
    return [(await client.until("GPU_METRICS_UPDATE"))["data"]["metrics"]["seq"] for _ in range(count)]


async def headline(client: Client, seq: int) -> Message:
    """The line of a provider in the digest, once it is that of a sample."""
    while True:
        update = await client.until("MARKETPLACE_UPDATE")
        if update["data"]["kind"] == "metrics":
            for line in update["data"]["providers"]:
                if line["seq"] == seq:
                    found: Message = line
                    return found


async def test_samples_reach_the_clients_of_every_hub(hubs: Hubs) -> None:
    """By the provider's channel and by the wildcard: the very same bytes as at the provider's own hub."""
    agent, provider_id = await hubs.agent("b")
    channel = f"provider:{provider_id}"
    at_home = await hubs.viewer("b", channel)
    watcher, all_seeing = await hubs.viewer("a", channel), await hubs.viewer("c", "provider:*")
    await hubs.wanted("b", provider_id, {"a", "c"})
    await publish(agent, 1)
    raw = [await client.socket.recv() for client in (at_home, watcher, all_seeing)]
    assert raw[0] == raw[1] == raw[2]
    assert json.loads(raw[0])["channel"] == channel
    for seq in range(2, 30):
        await publish(agent, seq)
    heard = await seqs(watcher, 1)
    while heard[-1] < 29:
        heard += await seqs(watcher, 1)
    assert heard == sorted(set(heard))


async def test_nothing_is_sent_that_nobody_wants(hubs: Hubs) -> None:
    """Not before anybody hears it, nor after the last one has left."""
    agent, provider_id = await hubs.agent("b")
    await publish(agent, 1)
    await agent.ask("ping")
    assert not hubs.peers("b").wanting(provider_id)
    viewer = await hubs.viewer("a", f"provider:{provider_id}")
    await hubs.wanted("b", provider_id, {"a"})
    await viewer.ask("unsubscribe", subscriptionId=f"provider:{provider_id}")
    await hubs.wanted("b", provider_id, set())
    await viewer.subscribe("provider:*")
    await hubs.wanted("b", provider_id, {"a"})
    await viewer.socket.close()
    await hubs.wanted("b", provider_id, set())


async def test_the_digest_shows_the_providers_of_all_hubs(hubs: Hubs) -> None:
    """Within about a second, whoever came first; and when each was heard."""
    agent, provider_id = await hubs.agent("b")
    early = await hubs.hubs["a"].client()
    await early.ask("subscribe:marketplace", {"digest": 0.1})
    await publish(agent, 1)
    line = await headline(early, 1)
    assert (line["providerId"], line["cpuPercent"], line["gpuTemp"]) == (provider_id, 42.5, None)
    late = await hubs.hubs["c"].client()
    await late.ask("subscribe:marketplace", {"digest": 0.1})
    assert await headline(late, 1) == line
    at_home = hubs.hubs["b"].hub.provider(provider_id)
    elsewhere = hubs.hubs["a"].hub.provider(provider_id)
    assert at_home is not None
    assert elsewhere is not None
    assert at_home.last_heartbeat is not None
    assert elsewhere.last_heartbeat is not None
    assert abs(from_timestamp(at_home.last_heartbeat) - from_timestamp(elsewhere.last_heartbeat)) < 5


async def test_a_snapshot_is_the_one_of_the_provider_s_own_hub(hubs: Hubs) -> None:
    """With the newest sample and the history, before any later event; and so are history and HTTP."""
    agent, provider_id = await hubs.agent("b")
    await publish(agent, 1, gpus=[{"index": n, "tempC": 50 + n, "name": "x" * 90} for n in range(8)])
    await agent.ask("ping")
    shown = []
    for name in "ba":
        viewer = await hubs.hubs[name].client()
        await viewer.send("subscribe:provider", {"snapshot": True}, subscriptionId=provider_id)
        assert (await viewer.recv())["type"] == "subscribed"
        page = await viewer.recv()
        past = await viewer.ask("provider:history", {"providerId": provider_id, "seconds": 60})
        nothing = await viewer.ask("provider:history", {"providerId": provider_id, "seconds": 0})
        metrics = await hubs.hubs[name].hub.last_metrics(provider_id)
        shown.append((page["data"]["metrics"], page["data"]["metricsTimestamp"], past["data"], metrics))
        assert page["data"]["history"] == past["data"]["points"]
        assert nothing["data"]["points"] == []
    assert shown[0] == shown[1]
    assert shown[0][0]["seq"] == 1
    assert len(shown[0][2]["points"][0]["gpus"]) == 8


async def test_events_wait_behind_a_snapshot_that_another_hub_is_asked_for(
    hubs: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is lost meanwhile, and none overtakes it; without an answer it says what is known here."""
    monkeypatch.setattr(peer_questions, "ANSWER_SECONDS", 0.3)
    agent, provider_id = await hubs.agent("b")
    await publish(agent, 1)
    await agent.ask("ping")
    _silence(hubs.store, "b", to="a")
    viewer = await hubs.hubs["a"].client()
    await viewer.send("subscribe:provider", {"snapshot": True}, subscriptionId=provider_id)
    await eventually(lambda: hubs.hubs["a"].hub.services.fanout.is_heard(f"provider:{provider_id}"))
    await agent.ask("provider:status", {"paused": True})
    subscribed, page, event = [await viewer.recv() for _ in range(3)]
    assert subscribed["type"] == "subscribed"
    assert page["data"]["kind"] == "provider_snapshot"
    assert (page["data"]["metrics"], page["data"]["history"]) == (None, [])
    assert page["data"]["provider"]["id"] == provider_id
    assert event["type"] == "PROVIDER_STATUS_CHANGED"
    assert event["offset"] == subscribed["data"]["offset"] + 1


def _silence(store: SharedStore, node: str, *, to: str) -> None:
    """What a hub sends to another one is lost."""
    cluster = next(engine for engine in store.engines if engine.node == to).cluster
    receiver = cluster.receiver
    assert receiver is not None
    cluster.receiver = lambda sender, message: None if sender == node else receiver(sender, message)


async def test_a_provider_that_moves_is_followed(hubs: Hubs) -> None:
    """Its samples come from the new hub, its past goes along, and its agent is told what is known of it."""
    agent, provider_id = await hubs.agent("b")
    viewer = await hubs.viewer("c", f"provider:{provider_id}")
    await hubs.wanted("b", provider_id, {"c"})
    past = {"metrics": {"cpuPercent": 7, "gpus": [{"index": 1, "tempC": 33}]}, "late": True, "ageSeconds": 60}
    await agent.send("GPU_METRICS_UPDATE", past)
    await publish(agent, 1)
    assert await seqs(viewer, 1) == [1]
    entry = hubs.hubs["a"].hub.services.providers.registry.get(provider_id)
    assert entry is not None
    await hubs.viewer("a", "marketplace")
    await eventually(lambda: entry.told_by == "b")
    second = await hubs.hubs["a"].client(token=hubs.token)
    registered = await second.register("w1", name="rig")
    assert 0 <= registered["data"]["lastSampleSecondsAgo"] < 10
    await hubs.wanted("a", provider_id, {"c"})
    await hubs.wanted("b", provider_id, set())
    await publish(second, 2)
    assert await seqs(viewer, 1) == [2]
    history = hubs.hubs["a"].hub.services.providers.history
    await eventually(lambda: len(history.points(provider_id)) > 1)
    oldest = history.points(provider_id)[0]
    assert oldest == hubs.hubs["b"].hub.services.providers.history.points(provider_id)[0]
    assert (oldest.cpu_percent, [gpu.temp_c for gpu in oldest.gpus]) == (7, [None, 33])


async def test_a_past_that_is_lost_with_its_hub_is_the_agent_s_to_send(hubs: Hubs) -> None:
    """Nobody claims to have it; so the agent sends all that it has kept."""
    agent, provider_id = await hubs.agent("b")
    await publish(agent, 1)
    entry = hubs.hubs["a"].hub.services.providers.registry.get(provider_id)
    assert entry is not None
    await hubs.viewer("a", "marketplace")
    await eventually(lambda: entry.told_by == "b")
    hubs.store.alive.remove("b")
    assert hubs.peers("a").holder(provider_id) is None
    second = await hubs.hubs["a"].client(token=hubs.token)
    assert (await second.register("w1", name="rig"))["data"]["lastSampleSecondsAgo"] is None


async def test_a_past_that_is_not_handed_over_is_asked_of_the_agent(
    hubs: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the old hub is there but does not answer."""
    monkeypatch.setattr(peer_questions, "ANSWER_SECONDS", 0.2)
    agent, _ = await hubs.agent("b")
    await publish(agent, 1)
    await agent.ask("ping")
    _silence(hubs.store, "b", to="a")
    second = await hubs.hubs["a"].client(token=hubs.token)
    await second.register("w1", name="rig")
    wanted = await second.until("provider:backfill")
    assert wanted["data"]["secondsAgo"] == 600


async def test_who_watches_elsewhere_sees_late_samples_too(hubs: Hubs) -> None:
    """A gap that was filled is shown to watchers of all hubs."""
    agent, provider_id = await hubs.agent("b")
    viewer = await hubs.viewer("a", f"provider:{provider_id}")
    await hubs.wanted("b", provider_id, {"a"})
    metrics = {"cpuPercent": 7, "seq": 1}
    await agent.send("GPU_METRICS_UPDATE", {"metrics": metrics, "late": True, "ageSeconds": 60})
    update = await viewer.until("MARKETPLACE_UPDATE")
    assert update["data"]["kind"] == "provider_snapshot"
    assert [point["cpuPercent"] for point in update["data"]["history"]] == [7]


async def test_a_scrape_of_all_hubs_shows_each_provider_once(hubs: Hubs) -> None:
    """At the hub that looks after it."""
    agent, provider_id = await hubs.agent("b")
    await publish(agent, 1)
    await agent.ask("ping")
    shown = {
        name: [shown.provider.id for shown in hub.hub.picture().providers] for name, hub in hubs.hubs.items()
    }
    assert shown == {"a": [], "b": [provider_id], "c": []}


async def test_messages_that_are_not_understood_are_dropped_and_logged_once(
    hubs: Hubs, caplog: pytest.LogCaptureFixture
) -> None:
    """A hub of another version disturbs nobody."""
    for _ in range(3):
        hubs.peers("a").received("z", b"\x02what is this")
    assert [record.name for record in caplog.records] == ["qubix.hub.peers"]
    assert "hub z" in caplog.text
    agent, provider_id = await hubs.agent("b")
    viewer = await hubs.viewer("a", f"provider:{provider_id}")
    await hubs.wanted("b", provider_id, {"a"})
    await publish(agent, 1)
    assert await seqs(viewer, 1) == [1]


async def test_a_hub_that_starts_later_is_told_at_once_and_one_that_ends_is_forgotten(hubs: Hubs) -> None:
    """Of the fleet's newest samples; and its clients' wants end with it."""
    agent, provider_id = await hubs.agent("b")
    await publish(agent, 1)
    await agent.ask("ping")
    async with running(engine=SharedEngine(hubs.store, "d")) as fourth:
        client = await fourth.client()
        await client.ask("subscribe:marketplace", {"digest": 0.1})
        await client.subscribe(f"provider:{provider_id}")
        assert (await headline(client, 1))["providerId"] == provider_id
        await hubs.wanted("b", provider_id, {"d"})
    await hubs.wanted("b", provider_id, set())


async def test_a_hub_that_was_held_up_forgets_nothing_for_it() -> None:
    """What others have said meanwhile is yet to be read."""
    clock, store = ManualClock(), SharedStore()
    engines = {name: SharedEngine(store, name) for name in "ab"}
    async with running(engine=engines["a"], clock=clock) as a, running(engine=engines["b"], clock=clock) as b:
        hubs = Hubs(store, {"a": a, "b": b})
        await hubs.viewer("a", "provider:*")
        await hubs.wanted("b", "any", {"a"})
        _silence(store, "a", to="b")
        clock.advance(60)
        await hubs.peers("b").round()
        assert set(hubs.peers("b").wanting("any")) == {"a"}
        for _ in range(10):
            clock.advance(1)
            await hubs.peers("b").round()
        assert not hubs.peers("b").wanting("any")


async def test_a_hub_alone_talks_to_nobody() -> None:
    """Nothing runs, and nothing is wanted."""
    async with running() as hub:
        client = await hub.client()
        await client.subscribe("marketplace", "provider:*", "provider:x")
        agent = await hub.agent()
        await agent.register("w1")
        await publish(agent, 1)
        assert (await seqs(client, 1)) == [1]
        peers = hub.hub.services.providers.peers
        await peers.round()
        assert peers.traffic.messages_sent == 0
        assert "hub peers" not in {task.get_name() for task in asyncio.all_tasks()}
