"""A simulated fleet on a real socket: how it arrives, what it says, and how it goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from qubix_tui.client import BadUrl
from qubix_tui.protocol.requests import Request
from qubix_tui.simulation import SimulationRefused, SimulationReport, simulate
from qubix_tui.simulation.machine import Machine
from qubix_tui.simulation.provider import SimulatedProvider
from qubix_tui.simulation.workload import Mishap
from tests.client.scripted_hub import DEADLINE, Peer, ScriptedHub, until

TOKEN = "qbx_o" + "0" * 72


@pytest.fixture
async def hub() -> AsyncIterator[ScriptedHub]:
    """A hub that registers everyone."""
    async with ScriptedHub() as listening:
        listening.answers["provider:register"] = register
        yield listening


async def register(peer: Peer, request: Request) -> None:
    """Accept a registration."""
    reply = {"providerId": f"sim-{request.data.worker_id}", "session": 1}
    await peer.send("registered", reply, request_id=request.id)


@asynccontextmanager
async def simulation(
    hub: ScriptedHub, *, providers: int, hz: float = 20.0, seed: int = 1
) -> AsyncIterator[list[SimulationReport]]:
    """A fleet that runs until the block ends; what it reported."""
    stop = asyncio.Event()
    reports: list[SimulationReport] = []
    task = asyncio.create_task(
        simulate(hub.url, TOKEN, providers=providers, hz=hz, seed=seed, stop=stop, report=reports.append)
    )
    try:
        yield reports
    finally:
        stop.set()
        await task


async def test_a_fleet_registers_publishes_and_leaves(hub: ScriptedHub) -> None:
    """Each provider registers as simulated, publishes in its own sequence, and says goodbye at the end."""
    async with simulation(hub, providers=12) as reports:
        for number in range(1, 13):
            peer = await hub.peer(number)
            first = await peer.request("provider:register")
            assert first.data.simulated
            assert peer.headers["Authorization"] == f"Bearer {TOKEN}"
            samples = [(await peer.request("GPU_METRICS_UPDATE", count)).data.metrics for count in (1, 2, 3)]
            assert [sample.seq - samples[0].seq for sample in samples] == [0, 1, 2]
            assert len(samples[0].gpus) == first.data.gpu_count
        await until(lambda: reports)
    assert reports[0].registered == reports[0].providers == 12
    assert reports[-1].samples >= 36
    assert "12 of 12 registered" in str(reports[0])
    await until(lambda: all(peer.websocket.close_code == 1000 for peer in hub.peers))
    workers = {peer.requests[0].data.worker_id for peer in hub.peers}
    assert workers == {Machine(1, index, 0.05).spec.worker_id for index in range(12)}


async def test_the_same_seed_says_the_same(hub: ScriptedHub) -> None:
    """Two runs with one seed publish the same values at the same ticks, however the clock stood."""
    runs: list[dict[int, object]] = []
    for run in (1, 2):
        async with simulation(hub, providers=1, seed=9):
            peer = await hub.peer(run)
            await peer.request("GPU_METRICS_UPDATE", 5)
        samples = [request.data.metrics for request in peer.requests if request.type == "GPU_METRICS_UPDATE"]
        runs.append({sample.seq: sample.gpus for sample in samples})
    both = runs[0].keys() & runs[1].keys()
    assert len(both) >= 3
    assert [runs[0][seq] for seq in both] == [runs[1][seq] for seq in both]


async def test_samples_keep_their_pace(hub: ScriptedHub) -> None:
    """At 20 Hz a second holds about twenty samples of one provider."""
    async with simulation(hub, providers=1, hz=20.0):
        peer = await hub.peer()
        await peer.request("GPU_METRICS_UPDATE")
        start = asyncio.get_running_loop().time()
        await peer.request("GPU_METRICS_UPDATE", 21)
        assert asyncio.get_running_loop().time() - start == pytest.approx(1.0, abs=0.5)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("forbidden", "does not take simulated providers from here: an operator's token is needed"),
        ("conflict", "is another simulation with the same seed running"),
    ],
)
async def test_a_fleet_that_is_not_wanted_is_told_once(hub: ScriptedHub, code: str, sentence: str) -> None:
    """The first provider's refusal ends it, before the rest has dialled."""

    async def refuse(peer: Peer, request: Request) -> None:
        error = {"code": code, "message": "an operator's token is needed"}
        await peer.send("error", error, request_id=request.id)

    hub.answers["provider:register"] = refuse
    with pytest.raises(SimulationRefused, match=sentence) as caught:
        await run_to_its_end(hub.url)
    assert not caught.value.unreachable
    assert hub.dials == 1


async def run_to_its_end(url: str) -> None:
    """Simulate without ever asking to stop."""
    async with asyncio.timeout(DEADLINE):
        await simulate(url, TOKEN, providers=3, hz=1.0, seed=1, stop=asyncio.Event(), report=lambda _: None)


async def test_a_refused_token_is_told(hub: ScriptedHub) -> None:
    """HTTP 401 ends it with the hub's words."""
    hub.refusal = (401, b'{"error": "this token is not known"}')
    with pytest.raises(SimulationRefused, match="this token is not known") as caught:
        await run_to_its_end(hub.url)
    assert not caught.value.unreachable


async def test_no_hub_is_told_at_once(hub: ScriptedHub) -> None:
    """Nothing listens: one sentence, no endless attempts."""
    await hub.stop()
    with pytest.raises(SimulationRefused, match="nothing listens") as caught:
        await run_to_its_end(hub.url)
    assert caught.value.unreachable


async def test_a_bad_address_is_told_before_anything_is_dialled() -> None:
    """The same exception as the client's own."""
    with pytest.raises(BadUrl):
        await run_to_its_end("localhost:3001")


async def test_the_fleet_comes_back_after_a_restart_of_the_hub(hub: ScriptedHub) -> None:
    """Each provider dials again by itself, registers again and goes on."""
    async with simulation(hub, providers=3):
        for number in (1, 2, 3):
            await (await hub.peer(number)).request("GPU_METRICS_UPDATE")
        await hub.stop()
        await hub.listen()
        for number in (4, 5, 6):
            await (await hub.peer(number)).request("GPU_METRICS_UPDATE")
    assert {peer.requests[0].type for peer in hub.peers} == {"provider:register"}


class ScriptedMishaps:
    """Mishaps that a test decides on."""

    def __init__(self) -> None:
        self.current: Mishap | None = None
        self.next: Mishap | None = None

    def advance(self, _: float) -> None:
        """Become what the test said."""
        self.current = self.next


@asynccontextmanager
async def provider(hub: ScriptedHub) -> AsyncIterator[tuple[SimulatedProvider, ScriptedMishaps]]:
    """One registered provider whose mishaps are scripted."""
    machine, mishaps = Machine(1, 0, 1.0), ScriptedMishaps()
    machine._mishaps = mishaps  # type: ignore[assignment]
    refusals: list[str] = []
    simulated = SimulatedProvider(machine, hub.url, TOKEN, refused=refusals.append)
    await simulated.start()
    await until(lambda: simulated.is_registered)
    try:
        yield simulated, mishaps
    finally:
        await simulated.close()
    assert refusals == []


AT = "2026-01-31T12:00:00.000Z"


async def test_a_paused_owner_is_told_and_goes_on_publishing(hub: ScriptedHub) -> None:
    """Pausing and resuming each send provider:status once; samples go on."""
    async with provider(hub) as (simulated, mishaps):
        peer = await hub.peer()
        for mishaps.next in (None, Mishap.PAUSED, Mishap.PAUSED, None, None):
            simulated.tick(AT)
        await peer.request("GPU_METRICS_UPDATE", 5)
        statuses = [request.data for request in peer.requests if request.type == "provider:status"]
        assert [(status.paused, status.reason) for status in statuses] == [
            (True, "its owner uses it"),
            (False, None),
        ]


async def test_a_silent_machine_stays_connected_and_sends_nothing(hub: ScriptedHub) -> None:
    """While it is silent ticks pass unheard; the gap shows in seq."""
    async with provider(hub) as (simulated, mishaps):
        for mishaps.next in (None, Mishap.SILENT, Mishap.SILENT, None):
            simulated.tick(AT)
        peer = await hub.peer()
        last = await peer.request("GPU_METRICS_UPDATE", 2)
        assert last.data.metrics.seq == 4
        assert len(hub.peers) == 1


async def test_a_machine_that_is_away_comes_back(hub: ScriptedHub) -> None:
    """It leaves, is not there for a while, then connects and registers again; paused stays paused."""
    async with provider(hub) as (simulated, mishaps):
        mishaps.next = Mishap.AWAY
        simulated.tick(AT)
        first = await hub.peer()
        await until(lambda: first.websocket.close_code == 1000)
        simulated.tick(AT)
        assert not simulated.is_registered
        mishaps.next = Mishap.PAUSED
        simulated.tick(AT)
        second = await hub.peer(2)
        await second.request("provider:register")
        assert (await second.request("provider:status")).data.paused
        simulated.tick(AT)
        assert (await second.request("GPU_METRICS_UPDATE")).data.metrics.seq == 4


def test_a_report_says_when_it_cannot_keep_up() -> None:
    """One line, with the time lost only where there is some."""
    usual = SimulationReport(
        providers=3, registered=2, samples=10, samples_per_second=1.96, slipped_seconds=0.0
    )
    assert str(usual) == "2 of 3 registered, 2.0 samples/s, 10 in all"
    late = SimulationReport(providers=3, registered=3, samples=9, samples_per_second=1.0, slipped_seconds=2.5)
    assert str(late) == "3 of 3 registered, 1.0 samples/s, 9 in all, 2.5 s behind"
