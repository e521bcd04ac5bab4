"""What a hub tells of itself: ``hub:stats``."""

from pathlib import Path
from typing import Any

import qubix_tui
from qubix_tui.hub.engine.local import LocalEngine
from qubix_tui.hub.telemetry import BROADCAST_BOUNDS
from qubix_tui.protocol.tokens import Role
from tests.hub.shared_store import SharedEngine, SharedStore
from tests.hub.wire import Client, Message, eventually, running


async def stats(client: Client) -> Message:
    """Ask, and give the data of the answer."""
    reply = await client.ask("hub:stats")
    assert reply["type"] == "hub_statistics", reply
    data: Message = reply["data"]
    return data


def by_type(counts: list[dict[str, Any]]) -> dict[str, int]:
    """Messages by type."""
    return {entry["type"]: entry["count"] for entry in counts}


async def test_a_viewer_sees_what_the_hub_does() -> None:
    """Version, epoch and uptime; connections and their limit; messages by type, in both directions."""
    async with running() as hub, await hub.client() as client:
        await client.ask("ping")
        told = await stats(client)
        assert told["version"] == qubix_tui.__version__
        assert told["epoch"] == hub.hub.services.engine.epoch
        assert told["uptimeSeconds"] >= 0
        assert told["connections"] == 1
        assert told["maxConnections"] == hub.hub.config.limits.connections
        assert told["providers"] == 0
        assert by_type(told["received"]) == {"ping": 1, "hub:stats": 1}
        assert by_type(told["sent"]) == {"connected": 1, "pong": 1}
        assert [bucket["seconds"] for bucket in told["flushes"]] == [*BROADCAST_BOUNDS, None]
        assert {told[name] for name in ("slowClients", "rateLimited", "authFailures")} == {0}


async def test_bytes_are_those_of_the_frames() -> None:
    """What one exchange adds in each direction is as long as its frames, head included."""
    async with running() as hub, await hub.client() as client:
        before = await stats(client)
        request = '{"type": "ping", "id": 1}'
        await client.socket.send(request)
        pong = await client.socket.recv()
        reply_bytes = await client.ask("ping")
        after = await stats(client)
        received = after["receivedBytes"] - before["receivedBytes"]
        # A client's frame of up to 125 bytes has a head of 2 and a mask of 4.
        questions = [request, '{"type": "ping", "id": "ask-2"}', '{"type": "hub:stats", "id": "ask-3"}']
        assert received == sum(len(question) + 6 for question in questions)
        assert reply_bytes["type"] == "pong"
        assert after["sentBytes"] - before["sentBytes"] > 2 * len(pong)


async def test_subscriptions_are_counted_by_kind_of_channel() -> None:
    """Different channels and their subscribers; what nobody hears any longer is not told."""
    async with running() as hub, await hub.client() as one, await hub.client() as two:
        await one.subscribe("marketplace", "provider:a", "provider:b", "job:*")
        await two.subscribe("marketplace", "provider:a", "job:x")
        held = {
            entry["kind"]: (entry["channels"], entry["subscriptions"])
            for entry in (await stats(one))["subscriptions"]
        }
        assert held == {
            "marketplace": (1, 2),
            "provider:<id>": (2, 3),
            "job:*": (1, 1),
            "job:<id>": (1, 1),
        }
        await one.ask("unsubscribe", subscriptionId="provider:a")
        await two.ask("unsubscribe", subscriptionId="job:x")
        held = {
            entry["kind"]: (entry["channels"], entry["subscriptions"])
            for entry in (await stats(one))["subscriptions"]
        }
        assert held["provider:<id>"] == (2, 2)
        assert "job:<id>" not in held


async def test_a_connection_that_ends_gives_its_subscriptions_back() -> None:
    """Counts follow connections that just go."""
    async with running() as hub, await hub.client() as one:
        async with await hub.client() as two:
            await two.subscribe("provider:a", "provider:*")
        while (await stats(one))["connections"] > 1:
            await one.ask("ping")
        assert (await stats(one))["subscriptions"] == []


async def test_the_size_of_the_store_grows_with_it(tmp_path: Path) -> None:
    """The files of the database, as long as they are on the disk."""
    path = tmp_path / "hub.sqlite3"
    async with running(engine=LocalEngine(path)) as hub, await hub.client(Role.OPERATOR) as client:
        before = (await stats(client))["storeBytes"]
        assert before >= path.stat().st_size > 0
        for number in range(20):
            await client.register(f"w{number}", simulated=True, name="x" * 100)
        assert (await stats(client))["storeBytes"] >= before
    assert LocalEngine(tmp_path / "none").size() is None


async def test_hubs_that_share_a_store_are_listed() -> None:
    """By each of them: connections and providers of all, and which of them answers. Alone, none is."""
    store = SharedStore()
    async with (
        running(engine=SharedEngine(store, "a")) as here,
        running(engine=SharedEngine(store, "b")) as there,
        await here.client() as viewer,
        await there.client() as other,
        await there.agent() as agent,
    ):
        await agent.register()
        shown = here.hub.services.nodes
        await eventually(lambda: [node.providers for node in shown.listing()] == [0, 1])
        nodes = (await stats(viewer))["nodes"]
        assert [node["id"] for node in nodes] == ["a", "b"]
        assert [node["isThis"] for node in nodes] == [True, False]
        assert [node["connections"] for node in nodes] == [1, 2]
        assert [node["isThis"] for node in (await stats(other))["nodes"]] == [False, True]
    async with running() as alone, await alone.client() as viewer:
        assert (await stats(viewer))["nodes"] == []
