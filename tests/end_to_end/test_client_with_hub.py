"""Our client and simulated fleet against the real hub, over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from qubix_tui.client import ConnectFailed, Connection, ConnectionState, Refused, RetryPolicy, connect
from qubix_tui.hub.access import Access
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.server import Hub
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import Event, JobCompleted, JobProgressed
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot
from qubix_tui.protocol.tokens import Role, new_token
from qubix_tui.simulation import SimulationRefused, SimulationReport, simulate

OPERATOR = new_token(Role.OPERATOR)
PROVIDER = new_token(Role.PROVIDER)
FAST = RetryPolicy(delays=(0.02,))
DEADLINE = 10.0


@asynccontextmanager
async def running_hub(port: int = 0) -> AsyncIterator[Hub]:
    """A hub with an operator's and a provider's token."""
    access = Access()
    access.add_token(OPERATOR, Role.OPERATOR, "test")
    access.add_token(PROVIDER, Role.PROVIDER, "test")
    hub = Hub(HubConfig(port=port), access=access)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """A hub that listens on a free port."""
    async with running_hub() as running:
        yield running


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until ``condition`` holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - a test may wait for anything
            await asyncio.sleep(0.005)


def heard_by(connection: Connection, event_type: str) -> list[Event]:
    """What comes of one type, as it comes."""
    heard: list[Event] = []
    connection.on(event_type, heard.append)
    return heard


async def subscribed(connection: Connection, channel: str) -> None:
    """Subscribe and wait until the hub confirmed it."""
    confirmed = heard_by(connection, "subscribed")
    connection.subscribe(channel)
    await until(lambda: any(event.data.subscription == channel for event in confirmed))


async def test_the_hooks_hear_what_the_backend_broadcasts(hub: Hub) -> None:
    """The guide's broadcasts reach the guide's hooks, each as typed data of its own channel."""
    async with (
        connect(hub.url) as client,
        client.provider_metrics("rig-7") as metrics,
        client.job_progress("job-1") as progress,
        client.marketplace_updates() as marketplace,
    ):
        await subscribed(client.connection, "provider:barrier")
        hub.broadcast_gpu_metrics("rig-7", {"cpuPercent": 45.2, "gpuPercent": 80.5, "gpuTemp": 72})
        await hub.broadcast_job_progress("job-1", {"progress": 75, "status": "running"})
        await hub.broadcast_job_completed("job-1", {"status": "completed", "result": {"loss": 0.1}})
        await hub.broadcast_marketplace_update({"kind": "provider_removed", "providerId": "rig-9"})
        sample = await anext(metrics)
        assert (sample.provider_id, sample.metrics.gpu_percent, sample.metrics.gpu_temp) == (
            "rig-7",
            80.5,
            72,
        )
        first, last = [update async for update in progress]
        assert isinstance(first, JobProgressed)
        assert first.progress.progress == 75
        assert isinstance(last, JobCompleted)
        assert last.result == {"loss": 0.1}
        assert (await anext(marketplace)).data.provider_id == "rig-9"


async def test_the_hubs_greeting_and_clock(hub: Hub) -> None:
    """An anonymous loopback client is a viewer and knows the hub's time."""
    async with connect(hub.url) as client:
        assert client.connection.role == "viewer"
        assert client.connection.hub_version
        assert client.connection.hub_time() == pytest.approx(time.time(), abs=0.5)
    async with connect(hub.url, token=OPERATOR) as client:
        assert client.connection.role == "operator"


async def test_an_unknown_token_is_refused_in_words(hub: Hub) -> None:
    """HTTP 401 at the handshake: the sentence is the hub's, and it is not tried again."""
    with pytest.raises(ConnectFailed, match=r"refused the token \(HTTP 401\)") as caught:
        async with connect(hub.url, token=new_token(Role.OPERATOR)):
            pass
    assert not caught.value.unreachable


async def test_a_request_beyond_the_role_is_refused(hub: Hub) -> None:
    """A viewer that asks for an operator's thing gets `forbidden`, with a sentence."""
    async with connect(hub.url) as client:
        with pytest.raises(Refused) as caught:
            await client.connection.request("provider:remove", {"providerId": "rig-7"})
        assert caught.value.code in {ErrorCode.FORBIDDEN, ErrorCode.UNAUTHENTICATED}
        assert caught.value.message


async def test_what_happened_while_away_is_recovered(hub: Hub) -> None:
    """Cut off in mid-stream, the client comes back, gets what it missed, each event once and in order."""
    async with connect(hub.url, retry=FAST) as client:
        connection = client.connection
        heard = heard_by(connection, "JOB_PROGRESS")
        gaps: list[str] = []
        connection.on_gap(gaps.append)
        await subscribed(connection, "job:j")
        for step in range(10):
            await hub.broadcast_job_progress("j", {"progress": step, "status": "running"})
            if step in {2, 6}:
                for session in tuple(hub._connections):
                    session.cut()
        await until(lambda: len(heard) == 10)
        assert [event.data.progress.progress for event in heard] == list(range(10))
        assert [event.offset for event in heard] == list(
            range(heard[0].offset or 0, (heard[0].offset or 0) + 10)
        )
        assert gaps == []


async def test_a_hub_restarted_without_memory_is_a_gap_and_a_fresh_snapshot() -> None:
    """The hub is gone and another one in its place: the gap is told, the snapshot comes, events go on."""
    async with running_hub() as first:
        port = first.port
        connection = Connection(first.url, retry=FAST)
        gaps: list[str] = []
        connection.on_gap(gaps.append)
        heard = heard_by(connection, "MARKETPLACE_UPDATE")
        connection.subscribe("marketplace", snapshot=True)
        await connection.start()
        await until(lambda: len(heard) == 1)
        await first.broadcast_marketplace_update({"kind": "provider_removed", "providerId": "rig-1"})
        await until(lambda: len(heard) == 2)
    await until(lambda: connection.state is ConnectionState.RECONNECTING)
    assert connection.last_error == "the hub is restarting"
    async with running_hub(port) as second:
        connection.retry_now()
        await until(lambda: len(heard) == 3)
        assert isinstance(heard[2].data, FleetSnapshot)
        assert gaps == ["marketplace"]
        await second.broadcast_marketplace_update({"kind": "provider_removed", "providerId": "rig-2"})
        await until(lambda: len(heard) == 4)
        await connection.close()


async def test_a_simulated_fleet_appears_is_followed_and_leaves(hub: Hub) -> None:
    """A fleet is registered as simulated, its samples come by digest, and it is gone at the end."""
    stop = asyncio.Event()
    reports: list[SimulationReport] = []
    fleet = asyncio.create_task(
        simulate(hub.url, OPERATOR, providers=20, hz=10.0, seed=3, stop=stop, report=reports.append)
    )
    async with connect(hub.url) as client:
        registered = heard_by(client.connection, "PROVIDER_REGISTERED")
        updates = heard_by(client.connection, "MARKETPLACE_UPDATE")
        client.connection.subscribe("marketplace", snapshot=True, digest=0.1)

        def known() -> dict[str, bool]:
            snapshots = [event.data for event in updates if isinstance(event.data, FleetSnapshot)]
            records = [record for page in snapshots for record in page.providers]
            records += [event.data for event in registered]
            return {record.id: record.simulated for record in records}

        def sampled() -> set[str]:
            digests = [event.data for event in updates if isinstance(event.data, FleetDigest)]
            return {row.provider_id for page in digests for row in page.providers if row.seq}

        await until(lambda: len(known()) == 20 and sampled() == set(known()))
        assert all(simulated and name.startswith("sim-") for name, simulated in known().items())
        await until(lambda: reports)
        assert reports[0].registered == 20
        stop.set()
        await fleet
        await until(lambda: not hub.providers())


@pytest.mark.parametrize("token", [None, PROVIDER], ids=["viewer", "provider"])
async def test_only_an_operator_simulates(hub: Hub, token: str | None) -> None:
    """A viewer and a provider are told so in one sentence, and nothing is left on the hub."""
    with pytest.raises(SimulationRefused, match="does not take simulated providers from here"):
        async with asyncio.timeout(DEADLINE):
            await simulate(
                hub.url, token, providers=5, hz=1.0, seed=1, stop=asyncio.Event(), report=lambda _: None
            )
    assert not hub.providers()
