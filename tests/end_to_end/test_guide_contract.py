"""The tables, usage examples and numbers of the WebSocket guide, one by one, on the wire of the real hub."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.asyncio.client import connect as open_socket

from qubix_tui.client import Connection, ConnectionState, connect
from qubix_tui.hub.server import Hub
from qubix_tui.protocol.events import Event
from tests.hub.manual_clock import ManualClock
from tests.hub.wire import Client, Message, Running, eventually, running

PROVIDER = {"id": "provider-123", "workerId": "worker-1", "gpuModel": "RTX 4090", "pricePerHour": 0.45}
STATUS = {"isOnline": True, "isAvailable": True}
METRICS = {"cpuPercent": 45.2, "ramPercent": 60.1, "gpuPercent": 80.5, "gpuTemp": 72}
PROGRESS = {"progress": 75, "status": "running"}
OUTCOME = {"status": "completed", "result": {"loss": 0.1}}


@pytest.fixture
async def hub() -> AsyncIterator[Running]:
    """A hub that listens on a free port."""
    async with running() as made:
        yield made


# Client → server


@pytest.mark.parametrize(
    ("message", "subscription"),
    [
        ({"type": "subscribe:marketplace"}, "marketplace"),
        ({"type": "subscribe:provider", "subscriptionId": "provider-123"}, "provider:provider-123"),
        ({"type": "subscribe:job", "subscriptionId": "job-456"}, "job:job-456"),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else None,
)
async def test_each_subscription_is_confirmed_and_ended(
    hub: Running, message: Message, subscription: str
) -> None:
    """Each `subscribe:…` row gives `subscribed`; `unsubscribe` by the full key ends it, and it is counted."""
    async with await hub.client() as client:
        await client.socket.send(json.dumps(message))
        confirmed = await client.recv()
        assert (confirmed["type"], confirmed["data"]["subscription"]) == ("subscribed", subscription)
        assert "id" not in confirmed
        assert hub.hub.stats().subscriptions == [(subscription, 1)]
        await client.send("unsubscribe", subscriptionId=subscription)
        ended = await client.recv()
        assert (ended["type"], ended["data"]["subscription"]) == ("unsubscribed", subscription)
        assert hub.hub.stats().subscriptions == []


async def test_ping_gives_pong(hub: Running) -> None:
    """`{"type": "ping"}` as the guide's client sends it, with nothing else, is answered by `pong`."""
    async with await hub.client() as client:
        await client.socket.send('{"type":"ping"}')
        assert (await client.recv())["type"] == "pong"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type":"no:such:type"}', "unknown_type"),
        ('{"type":"subscribe:provider"}', "invalid"),
        ('{"type":"subscribe:job"}', "invalid"),
        ('{"type":"unsubscribe"}', "invalid"),
        ('{"subscriptionId":"marketplace"}', "invalid"),
        ("not JSON", "bad_json"),
    ],
)
async def test_what_is_wrong_gives_error(hub: Running, text: str, code: str) -> None:
    """An unknown type, a missing `subscriptionId` and what is no message give `error`; the client stays."""
    async with await hub.client() as client:
        await client.socket.send(text)
        error = await client.recv()
        assert (error["type"], error["data"]["code"]) == ("error", code)
        assert error["data"]["message"]
        await client.socket.send('{"type":"ping"}')
        assert (await client.recv())["type"] == "pong"


# Server → client: what the guide's backend broadcasts, as its hooks and handlers read it


def marketplace_reads_registration(data: Any) -> None:
    """`wsClient.on(PROVIDER_REGISTERED, (data) => …)`."""
    assert {name: data[name] for name in PROVIDER} == PROVIDER


def marketplace_reads_status(data: Any) -> None:
    """`useMarketplaceUpdates((data) => …)` of a status."""
    assert data["providerId"] == "provider-123"
    assert (data["status"]["isOnline"], data["status"]["isAvailable"]) == (True, True)


def dashboard_reads_metrics(data: Any) -> None:
    """`useProviderMetrics(id, (data) => setMetrics(data.metrics))`, then `metrics.gpuPercent`, `.gpuTemp`."""
    assert data["providerId"] == "provider-123"
    metrics = data["metrics"]
    assert (metrics["gpuPercent"], metrics["gpuTemp"]) == (80.5, 72)
    assert (metrics["cpuPercent"], metrics["ramPercent"]) == (45.2, 60.1)


def monitor_reads_progress(data: Any) -> None:
    """`useJobProgress(id, (data) => setProgress(data.progress.progress))`."""
    assert data["jobId"] == "job-456"
    assert (data["progress"]["progress"], data["progress"]["status"]) == (75, "running")


def monitor_passes_over_completion(data: Any) -> None:
    """The same hook, `if (data.progress)`: a completion has none, and says how it ended."""
    assert data["jobId"] == "job-456"
    assert not data.get("progress")
    assert (data["status"], data["result"]) == ("completed", {"loss": 0.1})


def marketplace_reads_update(data: Any) -> None:
    """`useMarketplaceUpdates((data) => …)` of anything else."""
    assert data["providerId"] == "provider-123"


EXAMPLES: list[tuple[str, str, Callable[[Hub], object], Callable[[Any], None]]] = [
    (
        "marketplace",
        "PROVIDER_REGISTERED",
        lambda hub: hub.broadcast_provider_registered(PROVIDER),
        marketplace_reads_registration,
    ),
    (
        "marketplace",
        "PROVIDER_STATUS_CHANGED",
        lambda hub: hub.broadcast_provider_status_changed("provider-123", STATUS),
        marketplace_reads_status,
    ),
    (
        "provider:provider-123",
        "PROVIDER_STATUS_CHANGED",
        lambda hub: hub.broadcast_provider_status_changed("provider-123", STATUS),
        marketplace_reads_status,
    ),
    (
        "provider:provider-123",
        "GPU_METRICS_UPDATE",
        lambda hub: hub.broadcast_gpu_metrics("provider-123", METRICS),
        dashboard_reads_metrics,
    ),
    (
        "job:job-456",
        "JOB_PROGRESS",
        lambda hub: hub.broadcast_job_progress("job-456", PROGRESS),
        monitor_reads_progress,
    ),
    (
        "job:job-456",
        "JOB_COMPLETED",
        lambda hub: hub.broadcast_job_completed("job-456", OUTCOME),
        monitor_passes_over_completion,
    ),
    (
        "marketplace",
        "MARKETPLACE_UPDATE",
        lambda hub: hub.broadcast_marketplace_update(
            {"kind": "provider_removed", "providerId": "provider-123"}
        ),
        marketplace_reads_update,
    ),
]


@pytest.mark.parametrize(
    ("channel", "type_", "broadcast", "read"), EXAMPLES, ids=[f"{row[1]}-{row[0]}" for row in EXAMPLES]
)
async def test_each_broadcast_has_the_form_that_the_hooks_read(
    hub: Running,
    channel: str,
    type_: str,
    broadcast: Callable[[Hub], object],
    read: Callable[[Any], None],
) -> None:
    """The guide's own call gives its type once, with `data` as its hooks read it; gone when unsubscribed."""
    async with await hub.client() as client:
        await client.subscribe(channel)
        broadcast(hub.hub)
        message = await client.recv()
        assert message["type"] == type_
        read(message["data"])
        await client.ask("unsubscribe", subscriptionId=channel)
        done = broadcast(hub.hub)
        if isinstance(done, asyncio.Task):
            await done
        assert await client.heard() == []


@pytest.mark.parametrize(
    ("online", "available", "state"),
    [(True, True, "available"), (True, False, "busy"), (False, False, "offline")],
)
async def test_our_own_client_understands_the_guides_broadcasts(
    hub: Running, online: bool, available: bool, state: str
) -> None:
    """The guide's few members are enough for typed readers: the state is online, offline or busy by them."""
    heard: list[Event] = []
    async with connect(hub.hub.url) as client:
        confirmed: list[Event] = []
        for type_ in ("PROVIDER_REGISTERED", "PROVIDER_STATUS_CHANGED"):
            client.connection.on(type_, heard.append)
        client.connection.on("subscribed", confirmed.append)
        client.connection.subscribe("marketplace")
        await eventually(lambda: confirmed)
        await hub.hub.broadcast_provider_registered(PROVIDER)
        status = {"isOnline": online, "isAvailable": available}
        await hub.hub.broadcast_provider_status_changed("provider-123", status)
        await eventually(lambda: len(heard) == 2)
    registered, changed = heard[0].data, heard[1].data
    assert (registered.id, registered.gpu_model, registered.state) == (
        "provider-123",
        "RTX 4090",
        "available",
    )
    assert (changed.provider_id, changed.status.state) == ("provider-123", state)


async def test_a_registered_agents_events_have_the_same_form(hub: Running) -> None:
    """What the hub makes of a real registration and sample has every member that the guide names."""
    async with await hub.agent() as agent, await hub.client() as client:
        await client.subscribe("marketplace", "provider:*")
        await agent.register("worker-1", gpuModel="RTX 4090", pricePerHour=0.45)
        registered = await client.recv()
        assert registered["type"] == "PROVIDER_REGISTERED"
        provider_id = registered["data"]["id"]
        assert {name: registered["data"][name] for name in PROVIDER} == {**PROVIDER, "id": provider_id}
        await agent.send("GPU_METRICS_UPDATE", {"metrics": METRICS})
        sample = await client.until("GPU_METRICS_UPDATE")
        assert sample["data"]["providerId"] == provider_id
        assert {name: sample["data"]["metrics"][name] for name in METRICS} == METRICS
        await agent.send("provider:status", {"paused": True})
        changed = await client.until("PROVIDER_STATUS_CHANGED")
        assert changed["data"]["providerId"] == provider_id
        status = changed["data"]["status"]
        assert (status["isOnline"], status["isAvailable"]) == (True, False)


# Heartbeat


async def test_the_heartbeats_numbers_are_announced(hub: Running) -> None:
    """A client is told to ping every 30 s, and that it is closed after 60 s of silence."""
    async with Client(await open_socket(hub.hub.url, compression=None)) as client:
        greeting = await client.recv()
        assert greeting["type"] == "connected"
        assert greeting["data"]["heartbeat"] == {"pingEvery": 30, "timeout": 60}


async def test_a_silent_client_is_closed_by_the_hubs_own_sweep() -> None:
    """Sixty seconds without a ping close a client, unasked; one that pings every thirty stays."""
    clock = ManualClock()
    async with running(clock=clock) as hub:
        silent, pinging = await hub.client(), await hub.client()
        for _ in range(2):
            clock.advance(30)
            await pinging.send("ping")
            assert (await pinging.recv())["type"] == "pong"
        code, reason = await silent.closed()
        assert (code, reason) == (4008, "silent for 60 s")
        await eventually(lambda: hub.hub.stats().clients == 1)
        assert await pinging.heard() == []
        await pinging.socket.close()


# The stats endpoint


async def stats(hub: Running) -> Any:
    """What `GET /api/websocket/stats` answers, read with the standard library."""

    def get() -> Any:
        with urlopen(hub.hub.url.replace("ws://", "http://") + "/api/websocket/stats", timeout=5) as response:
            assert response.status == 200
            assert response.headers.get_content_type() == "application/json"
            return json.load(response)

    return await asyncio.to_thread(get)


async def test_stats_have_exactly_the_guides_shape(hub: Running) -> None:
    """The same keys, no more and no fewer, and each number is right directly after what changed it."""
    empty = {"totalClients": 0, "totalSubscriptions": 0, "subscriptionDetails": []}
    assert await stats(hub) == {"success": True, "stats": empty}
    first, second = await hub.client(), await hub.client()
    await first.subscribe("marketplace", "provider:abc123")
    await second.subscribe("marketplace")
    given = await stats(hub)
    given["stats"]["subscriptionDetails"].sort(key=lambda row: row["subscriptionId"])
    assert given == {
        "success": True,
        "stats": {
            "totalClients": 2,
            "totalSubscriptions": 2,
            "subscriptionDetails": [
                {"subscriptionId": "marketplace", "subscriberCount": 2},
                {"subscriptionId": "provider:abc123", "subscriberCount": 1},
            ],
        },
    }
    await first.ask("unsubscribe", subscriptionId="provider:abc123")
    assert (await stats(hub))["stats"] == {
        "totalClients": 2,
        "totalSubscriptions": 1,
        "subscriptionDetails": [{"subscriptionId": "marketplace", "subscriberCount": 2}],
    }
    await first.socket.close()
    assert (await stats(hub))["stats"] == {
        "totalClients": 1,
        "totalSubscriptions": 1,
        "subscriptionDetails": [{"subscriptionId": "marketplace", "subscriberCount": 1}],
    }
    await second.socket.close()
    assert (await stats(hub))["stats"] == empty


# Reconnection


async def test_the_client_backs_off_as_the_guide_says() -> None:
    """Without a hub the client waits 1, 2, 4, then 5 s, ten times in all, and then stops."""
    waits: list[int] = []
    with socket.socket() as taken:
        # Bound and not listening: nobody answers there, and nobody else can take it meanwhile.
        taken.bind(("127.0.0.1", 0))
        connection = Connection(f"ws://127.0.0.1:{taken.getsockname()[1]}")
        await connection.start()
        for attempt in range(1, 11):
            await eventually(lambda: connection.attempt == attempt and connection.next_attempt_at)  # noqa: B023
            assert connection.next_attempt_at is not None
            waits.append(round(connection.next_attempt_at - time.monotonic()))
            connection.retry_now()
        await eventually(lambda: connection.state is ConnectionState.DISCONNECTED)
        await connection.close()
    assert waits == [1, 2, 4, 5, 5, 5, 5, 5, 5, 5]
    assert connection.attempts_allowed == 10
