"""A client and hooks written from the WebSocket guide alone, against a hub with everything of ours in motion.

The client knows the guide's types and members and nothing else. It may meet members that the guide does not
name; a message of a type that it can't handle, or without what the guide promises, fails the test.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from qubix_tui.protocol.tokens import Role
from qubix_tui.simulation import SimulationReport, simulate
from tests.hub.wire import Running, eventually, running

DEADLINE = 15.0
HANDLED = frozenset(
    {
        "PROVIDER_REGISTERED",
        "PROVIDER_STATUS_CHANGED",
        "GPU_METRICS_UPDATE",
        "JOB_PROGRESS",
        "JOB_COMPLETED",
        "MARKETPLACE_UPDATE",
    }
)
GREETINGS = frozenset({"connected", "unsubscribed"})
"""Additive types: the greeting, and the reply to `unsubscribe`, for which the guide names none."""

Handler = Callable[[Any], None]


class WebSocketClient:
    """The guide's `WebSocketClient`, in Python: its methods under the same names."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: ClientConnection | None = None
        self._subscriptions: dict[str, dict[str, str]] = {}
        self._handlers: dict[str, list[Handler]] = {}
        self._attempts = 0
        self.confirmed = 0
        self.pongs = 0
        self.reconnections = 0

    async def connect(self) -> None:
        """Connect, and send again whatever was subscribed."""
        self._socket = await connect(self._url, compression=None, ping_interval=None, proxy=None)
        self._attempts = 0
        for message in self._subscriptions.values():
            await self._send(message)

    async def disconnect(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    def lose_connection(self) -> None:
        """What a network does that fails."""
        assert self._socket is not None
        self._socket.transport.abort()

    async def _send(self, message: dict[str, str]) -> None:
        assert self._socket is not None
        await self._socket.send(json.dumps(message))

    async def _subscribe(self, key: str, message: dict[str, str]) -> None:
        self._subscriptions[key] = message
        await self._send(message)

    async def subscribe_to_marketplace(self) -> None:
        await self._subscribe("marketplace", {"type": "subscribe:marketplace"})

    async def subscribe_to_provider(self, provider_id: str) -> None:
        message = {"type": "subscribe:provider", "subscriptionId": provider_id}
        await self._subscribe(f"provider:{provider_id}", message)

    async def subscribe_to_job(self, job_id: str) -> None:
        await self._subscribe(f"job:{job_id}", {"type": "subscribe:job", "subscriptionId": job_id})

    async def unsubscribe(self, key: str) -> None:
        del self._subscriptions[key]
        await self._send({"type": "unsubscribe", "subscriptionId": key})

    async def ping(self) -> None:
        await self._send({"type": "ping"})

    def on(self, type_: str, handler: Handler) -> None:
        assert type_ in HANDLED
        self._handlers.setdefault(type_, []).append(handler)

    async def _reconnect(self) -> None:
        """1 s, 2 s, 4 s, then 5 s each; ten attempts."""
        while True:
            self._attempts += 1
            assert self._attempts <= 10, "ten attempts were made"
            await asyncio.sleep(min(2.0 ** (self._attempts - 1), 5.0))
            with contextlib.suppress(OSError):
                await self.connect()
                self.reconnections += 1
                return

    async def receive(self) -> None:
        """Take the next message, by the guide's table."""
        assert self._socket is not None
        try:
            text = await self._socket.recv()
        except ConnectionClosed:
            await self._reconnect()
            return
        assert isinstance(text, str), "the guide's client reads text"
        message = json.loads(text)
        match message["type"]:
            case "pong":
                self.pongs += 1
            case "subscribed":
                self.confirmed += 1
            case "error":
                raise AssertionError(f"the hub complains: {message['data']['message']}")
            case type_ if type_ in HANDLED:
                for handler in self._handlers.get(type_, ()):
                    handler(message["data"])
            case type_:
                assert type_ in GREETINGS, f"the guide has no word for {message}"

    async def until(self, condition: Callable[[], object]) -> None:
        """Receive until something is so."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await self.receive()

    async def all_heard(self) -> None:
        """Receive whatever the hub has said up to now."""
        before = self.pongs
        await self.ping()
        await self.until(lambda: self.pongs > before)


def a_percentage(value: Any) -> None:
    """A page writes it before a %: a number from 0 to 100, or null, which is shown as nothing."""
    assert value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    assert value is None or 0 <= value <= 100


class MarketplaceComponent:
    """`useMarketplaceUpdates((data) => …)`: a list of providers, by what the guide names."""

    def __init__(self, client: WebSocketClient) -> None:
        self.providers: dict[str, Any] = {}
        self.statuses: dict[str, tuple[bool, bool]] = {}
        self.updates: list[Any] = []
        client.on("PROVIDER_REGISTERED", self._registered)
        client.on("PROVIDER_STATUS_CHANGED", self._status_changed)
        client.on("MARKETPLACE_UPDATE", self._updated)

    def _registered(self, data: Any) -> None:
        assert isinstance(data["id"], str)
        assert isinstance(data["workerId"], str)
        assert data["gpuModel"] is None or isinstance(data["gpuModel"], str)
        assert data["pricePerHour"] is None or isinstance(data["pricePerHour"], int | float)
        assert data["id"] not in self.providers, "a provider is new once"
        self.providers[data["id"]] = data

    def _status_changed(self, data: Any) -> None:
        status = data["status"]
        assert isinstance(status["isOnline"], bool)
        assert isinstance(status["isAvailable"], bool)
        self.statuses[data["providerId"]] = (status["isOnline"], status["isAvailable"])

    def _updated(self, data: Any) -> None:
        assert isinstance(data, dict)
        self.updates.append(data)


class ProviderDashboard:
    """`useProviderMetrics(providerId, (data) => setMetrics(data.metrics))`."""

    def __init__(self, client: WebSocketClient, provider_id: str) -> None:
        self.provider_id = provider_id
        self.samples: list[Any] = []
        client.on("GPU_METRICS_UPDATE", self._sampled)

    def _sampled(self, data: Any) -> None:
        assert data["providerId"] == self.provider_id, "only what was subscribed comes"
        metrics = data["metrics"]
        for name in ("cpuPercent", "ramPercent", "gpuPercent"):
            a_percentage(metrics[name])
        assert metrics["gpuTemp"] is None or isinstance(metrics["gpuTemp"], int | float)
        self.samples.append(metrics)


class JobMonitor:
    """`useJobProgress(jobId, (data) => { if (data.progress) setProgress(data.progress.progress); })`."""

    def __init__(self, client: WebSocketClient) -> None:
        self.seen: list[Any] = []
        self.outcomes: list[str] = []
        client.on("JOB_PROGRESS", self._changed)
        client.on("JOB_COMPLETED", self._completed)

    def _changed(self, data: Any) -> None:
        if data.get("progress"):
            a_percentage(data["progress"]["progress"])
            self.seen.append(data["progress"]["progress"])

    def _completed(self, data: Any) -> None:
        self._changed(data)
        self.outcomes.append(data["status"])


@contextlib.asynccontextmanager
async def fleet(hub: Running, providers: int) -> AsyncIterator[None]:
    """Simulated providers that live on a hub, ten samples a second each."""
    stop = asyncio.Event()
    reports: list[SimulationReport] = []
    living = asyncio.create_task(
        simulate(
            hub.hub.url,
            hub.tokens[Role.OPERATOR],
            providers=providers,
            hz=10.0,
            seed=7,
            stop=stop,
            report=reports.append,
        )
    )
    try:
        await eventually(lambda: living.done() or len(hub.hub.providers()) == providers)
        yield
    finally:
        stop.set()
        await living


@pytest.fixture
async def hub() -> AsyncIterator[Running]:
    """A hub that listens on a free port."""
    async with running() as made:
        yield made


@pytest.fixture
async def client(hub: Running) -> AsyncIterator[WebSocketClient]:
    """The guide's client, connected."""
    made = WebSocketClient(hub.hub.url)
    await made.connect()
    yield made
    await made.disconnect()


async def test_a_marketplace_page_follows_a_live_fleet(hub: Running, client: WebSocketClient) -> None:
    """Providers that come, are paused, change and leave: each message is one that the page understands."""
    page = MarketplaceComponent(client)
    await client.subscribe_to_marketplace()
    await client.until(lambda: client.confirmed == 1)
    async with fleet(hub, 5):
        await client.until(lambda: len(page.providers) == 5)
        agent = await hub.agent()
        registered = await agent.register("worker-1", name="rig", gpuModel="RTX 4090", pricePerHour=0.45)
        provider_id = registered["data"]["providerId"]
        await client.until(lambda: provider_id in page.providers)
        await agent.ask("provider:status", {"paused": True})
        await client.until(lambda: page.statuses.get(provider_id) == (True, False))
        await agent.register("worker-1", name="rig", gpuModel="RTX 4090", pricePerHour=0.5)
        await client.until(lambda: page.updates)
        assert page.updates[0]["provider"]["pricePerHour"] == 0.5
        await agent.socket.close()
        await client.until(lambda: page.statuses[provider_id] == (False, False))
    await client.all_heard()
    assert len(page.providers) == 6


async def test_a_dashboard_follows_one_live_provider(hub: Running, client: WebSocketClient) -> None:
    """Samples of the one provider come by themselves, and stop with `unsubscribe`; pings are answered."""
    async with fleet(hub, 3):
        watched = hub.hub.providers()[0].id
        dashboard = ProviderDashboard(client, watched)
        await client.subscribe_to_provider(watched)
        await client.until(lambda: len(dashboard.samples) >= 5)
        assert all(sample["gpuPercent"] is not None for sample in dashboard.samples)
        await client.unsubscribe(f"provider:{watched}")
        await client.all_heard()
        taken = len(dashboard.samples)
        sent = await samples_sent(hub, watched, 3)
        await client.all_heard()
        assert sent == 3
        assert len(dashboard.samples) == taken


async def samples_sent(hub: Running, provider_id: str, number: int) -> int:
    """Wait until another client has heard so many samples of a provider."""
    async with await hub.client() as other:
        await other.subscribe(f"provider:{provider_id}")
        for _ in range(number):
            await other.until("GPU_METRICS_UPDATE")
    return number


@pytest.mark.parametrize("progress", [(0, 40.5, 100), (None, None)], ids=["reported", "unknown"])
async def test_a_job_monitor_follows_a_job(
    hub: Running, client: WebSocketClient, progress: Iterable[float | None]
) -> None:
    """Every progress reaches the bar, one that nobody knows as null; the completion does not move it."""
    monitor = JobMonitor(client)
    await client.subscribe_to_job("job-1")
    await client.until(lambda: client.confirmed == 1)
    for value in progress:
        await hub.hub.broadcast_job_progress("job-1", {"progress": value, "status": "running"})
    await hub.hub.broadcast_job_progress("job-2", {"progress": 99, "status": "running"})
    await hub.hub.broadcast_job_completed("job-1", {"status": "completed", "result": {"loss": 0.1}})
    await client.until(lambda: monitor.outcomes)
    await client.all_heard()
    assert monitor.seen == list(progress)
    assert monitor.outcomes == ["completed"]


async def test_a_page_is_back_after_its_connection_was_cut(hub: Running, client: WebSocketClient) -> None:
    """Cut off without a word, it connects and subscribes by the guide's rules, and everything flows again."""
    page = MarketplaceComponent(client)
    async with fleet(hub, 1):
        watched = hub.hub.providers()[0].id
        dashboard = ProviderDashboard(client, watched)
        await client.subscribe_to_marketplace()
        await client.subscribe_to_provider(watched)
        await client.until(lambda: client.confirmed == 2 and dashboard.samples)
        client.lose_connection()
        await client.until(lambda: client.reconnections == 1)
        taken = len(dashboard.samples)
        await client.until(lambda: client.confirmed == 4 and len(dashboard.samples) > taken)
        agent = await hub.agent()
        await agent.register("worker-1")
        await client.until(lambda: page.providers)
        await agent.socket.close()
