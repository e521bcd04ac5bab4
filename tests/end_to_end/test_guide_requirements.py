"""Requirements 7.1 to 7.5 of the WebSocket guide, over real sockets with the real hub."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from qubix_tui.client import Connection, ConnectionState
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.server import Hub
from qubix_tui.protocol.events import Event
from tests.hub.manual_clock import ManualClock
from tests.hub.wire import Client, Message, Running, eventually, running

IMMEDIATELY = 1.0
"""Seconds within which "immediately" holds, on a busy machine."""

RECONNECTED_WITHIN = 5.0
"""Seconds from the loss of the connection until requirement 7.5 has to be met."""

NEW_PROVIDER = {"id": "provider-123", "workerId": "worker-1", "gpuModel": "RTX 4090", "pricePerHour": 0.45}


@pytest.fixture
async def hub() -> AsyncIterator[Running]:
    """A hub that listens on a free port."""
    async with running() as made:
        yield made


@pytest.fixture
async def still_hub() -> AsyncIterator[Running]:
    """A hub for which no time passes: what it sends, it sends at once, and not at some later look."""
    async with running(clock=ManualClock()) as made:
        yield made


@contextlib.asynccontextmanager
async def subscribers(hub: Running, number: int) -> AsyncIterator[list[Client]]:
    """So many clients that have opened the marketplace."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await hub.client()) for _ in range(number)]
        for client in clients:
            await client.send("subscribe:marketplace")
            assert (await client.recv())["type"] == "subscribed"
        yield clients


async def at_once(client: Client) -> Message:
    """The client's next message, which has to be there immediately."""
    async with asyncio.timeout(IMMEDIATELY):
        return await client.recv()


async def test_requirement_7_1_a_connection_is_established_when_the_marketplace_is_opened(
    hub: Running,
) -> None:
    """A user without token or set-up connects, asks for the marketplace, and is confirmed and counted."""
    async with await hub.client() as client:
        await client.send("subscribe:marketplace")
        confirmed = await client.recv()
        assert confirmed["type"] == "subscribed"
        assert confirmed["data"]["subscription"] == "marketplace"
        assert hub.hub.stats().subscriptions == [("marketplace", 1)]
    await eventually(lambda: hub.hub.stats().clients == 0)


async def test_requirement_7_2_a_registration_is_broadcast_to_all_marketplace_subscribers(
    hub: Running,
) -> None:
    """Each of several subscribers hears of the registration once; who did not subscribe hears nothing."""
    async with subscribers(hub, 5) as clients, await hub.client() as silent, await hub.agent() as agent:
        await silent.subscribe("provider:other", "job:*")
        reply = await agent.register("worker-1", name="rig", gpuModel="RTX 4090", pricePerHour=0.45)
        for client in clients:
            (heard,) = await client.heard()
            assert heard["type"] == "PROVIDER_REGISTERED"
            data = heard["data"]
            assert data["id"] == reply["data"]["providerId"]
            assert (data["workerId"], data["gpuModel"], data["pricePerHour"]) == (
                "worker-1",
                "RTX 4090",
                0.45,
            )
        assert await silent.heard() == []


async def test_requirement_7_2_the_backends_own_broadcast_reaches_them_too(hub: Running) -> None:
    """The guide's `broadcastProviderRegistered` reaches all subscribers with what it was given."""
    async with subscribers(hub, 3) as clients, await hub.client() as silent:
        await hub.hub.broadcast_provider_registered(NEW_PROVIDER)
        for client in clients:
            (heard,) = await client.heard()
            assert heard["type"] == "PROVIDER_REGISTERED"
            assert heard["data"].items() >= NEW_PROVIDER.items()
        assert await silent.heard() == []


async def test_requirement_7_3_availability_is_sent_automatically(hub: Running) -> None:
    """A GPU that comes, goes and comes back is told each time to subscribers that ask for nothing more."""
    token = hub.provider_token()
    async with subscribers(hub, 2) as clients:
        for announced_as in ("PROVIDER_REGISTERED", "PROVIDER_STATUS_CHANGED"):
            agent = await hub.client(token=token)
            await agent.register("worker-1", gpuModel="RTX 4090")
            assert await availability(clients, announced_as) == (True, True)
            await agent.socket.close()
            assert await availability(clients, "PROVIDER_STATUS_CHANGED") == (False, False)


async def availability(clients: list[Client], expected_type: str) -> tuple[bool, bool]:
    """What all of them hear next, which has to be the same: `isOnline` and `isAvailable`."""
    told = set()
    for client in clients:
        heard = await client.recv()
        assert heard["type"] == expected_type
        status = heard["data"].get("status", heard["data"])
        told.add((status["isOnline"], status["isAvailable"]))
    (same,) = told
    return same


async def test_requirement_7_3_metrics_are_sent_automatically(hub: Running) -> None:
    """Each sample of a provider reaches who subscribed to it, without being asked for."""
    async with await hub.agent() as agent, await hub.client() as client:
        provider_id = (await agent.register("worker-1"))["data"]["providerId"]
        await client.subscribe(f"provider:{provider_id}")
        for percent in (10.5, 80.5):
            await agent.send("GPU_METRICS_UPDATE", {"metrics": {"gpuPercent": percent, "gpuTemp": 72}})
            heard = await client.recv()
            assert heard["type"] == "GPU_METRICS_UPDATE"
            assert heard["data"]["providerId"] == provider_id
            assert heard["data"]["metrics"]["gpuPercent"] == percent
            assert heard["data"]["metrics"]["gpuTemp"] == 72


async def test_requirement_7_4_a_rental_is_broadcast_immediately(still_hub: Running) -> None:
    """The backend says that a GPU is rented: busy is told at once, and again when it is free."""
    async with subscribers(still_hub, 2) as clients, await still_hub.client() as watcher:
        await watcher.subscribe("provider:provider-123")
        for available in (False, True):
            status = {"isOnline": True, "isAvailable": available}
            still_hub.hub.broadcast_provider_status_changed("provider-123", status)
            for client in (*clients, watcher):
                heard = await at_once(client)
                assert heard["type"] == "PROVIDER_STATUS_CHANGED"
                assert heard["data"]["providerId"] == "provider-123"
                assert heard["data"]["status"].items() >= status.items()
        for client in (*clients, watcher):
            assert await client.heard() == []


async def test_requirement_7_4_a_provider_that_pauses_is_told_immediately(still_hub: Running) -> None:
    """A registered agent that takes no jobs is online and not available at once; it resumes at once too."""
    async with (
        await still_hub.agent() as agent,
        subscribers(still_hub, 2) as clients,
        await still_hub.client() as watcher,
    ):
        provider_id = (await agent.register("worker-1"))["data"]["providerId"]
        await watcher.subscribe(f"provider:{provider_id}")
        for client in clients:
            assert (await client.recv())["type"] == "PROVIDER_REGISTERED"
        for paused in (True, False):
            await agent.send("provider:status", {"paused": paused})
            for client in (*clients, watcher):
                heard = await at_once(client)
                assert heard["type"] == "PROVIDER_STATUS_CHANGED"
                assert heard["data"]["providerId"] == provider_id
                status = heard["data"]["status"]
                assert (status["isOnline"], status["isAvailable"]) == (True, not paused)


@pytest.mark.parametrize("missed", [0, 1], ids=["back at once", "the first attempt fails"])
async def test_requirement_7_5_reconnected_within_five_seconds(missed: int) -> None:
    """The hub dies without a word and another takes its port: the client is open, subscribed, and hears.

    Even where the hub is away for so long that the first attempt fails, the second comes in time.
    """
    async with running() as first:
        port = first.hub.port
        connection = Connection(first.hub.url)
        states, confirmed, heard = watch(connection)
        for channel in ("marketplace", "provider:provider-123", "job:job-1"):
            connection.subscribe(channel)
        await connection.start()
        await eventually(lambda: len(confirmed) == 3)
        die(first.hub)
    assert ConnectionState.CLOSED not in states
    lost_at = time.monotonic()
    await eventually(lambda: connection.state is ConnectionState.RECONNECTING)
    await eventually(lambda: connection.attempt > missed)
    async with running(HubConfig(port=port)) as second:
        await eventually(lambda: len(confirmed) == 6)
        assert connection.state is ConnectionState.OPEN
        await second.hub.broadcast_provider_registered(NEW_PROVIDER)
        second.hub.broadcast_gpu_metrics("provider-123", {"gpuPercent": 80.5})
        await second.hub.broadcast_job_progress("job-1", {"progress": 75, "status": "running"})
        await eventually(lambda: len(heard) == 3)
        assert time.monotonic() - lost_at < RECONNECTED_WITHIN
        assert [event.type for event in heard] == [
            "PROVIDER_REGISTERED",
            "GPU_METRICS_UPDATE",
            "JOB_PROGRESS",
        ]
        subscribed_to = [event.data.subscription for event in confirmed]
        assert sorted(subscribed_to[3:]) == sorted(subscribed_to[:3])
        await connection.close()


def die(hub: Hub) -> None:
    """Cut every connection as a killed process does: no close frame, no word."""
    for session in tuple(hub._connections):
        session.cut()


def watch(connection: Connection) -> tuple[list[ConnectionState], list[Event], list[Event]]:
    """What comes of a connection: its states, its confirmed subscriptions, its published events."""
    states: list[ConnectionState] = []
    confirmed: list[Event] = []
    heard: list[Event] = []
    connection.on_state(states.append)
    connection.on("subscribed", confirmed.append)
    for event_type in ("PROVIDER_REGISTERED", "GPU_METRICS_UPDATE", "JOB_PROGRESS"):
        connection.on(event_type, heard.append)
    return states, confirmed, heard
