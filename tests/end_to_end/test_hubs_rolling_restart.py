"""Three hubs on one Redis, restarted one after the other under a fleet and consoles."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from qubix_tui.client import Connection, ConnectionState
from qubix_tui.client.retry import CONSOLE
from qubix_tui.protocol import channels
from qubix_tui.protocol.events import Event, StatusChanged
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot, ProviderRemoved
from qubix_tui.protocol.records import ProviderState
from qubix_tui.protocol.requests import IssueToken
from qubix_tui.simulation.machine import Machine
from qubix_tui.simulation.workload import Mishap
from tests.end_to_end.followers import ChangingProvider, Follower, compare, newest_offset
from tests.end_to_end.hubs import Hubs, running_hubs
from tests.end_to_end.processes import command, environment, until
from tests.redis_server import redis_server

SEED: Final = 11
CHANGES_EVERY: Final = 0.2
HORIZON_SECONDS: Final = 300
"""A simulated provider that falls silent by itself within this time is nobody to judge by."""

GONE: Final = frozenset({ProviderState.UNREACHABLE, ProviderState.OFFLINE, "removed"})


class Console:
    """A client that follows the marketplace as the console does, and takes note of what its user would see.

    Args:
        url: Where it dials.
        token: What it shows.
        fleet: The providers that matter.
    """

    def __init__(self, url: str, token: str, fleet: AbstractSet[str]) -> None:
        self.connection = Connection(url, token=token, retry=CONSOLE)
        self.offsets: list[int] = []
        self.gaps: list[str] = []
        self.moves = 0
        """How often it had to look for another hub."""
        self.gone: list[tuple[str, str]] = []
        """Providers that were shown to be gone, and how."""
        self.silence = 0.0
        """The longest time without a sample of any provider, seconds."""
        self.provider_silence = 0.0
        """The longest time without a sample of some provider."""
        self._fleet = fleet
        self._heard_at: dict[str, float] = {}
        self._heard = 0.0
        self.connection.on("*", self._take)
        self.connection.on_gap(self.gaps.append)
        self.connection.on_state(self._note)
        self.connection.subscribe(channels.MARKETPLACE, snapshot=True, digest=1.0)

    def settle(self) -> None:
        """Count silences from now."""
        self._heard = time.monotonic()
        self.silence = self.provider_silence = 0.0

    def has_heard_all(self, since: float = 0.0) -> bool:
        """Whether there was a sample of every provider since then."""
        return len(self._heard_at) == len(self._fleet) and min(self._heard_at.values()) > since

    def _note(self, state: ConnectionState) -> None:
        self.moves += state is ConnectionState.RECONNECTING

    def _take(self, event: Event) -> None:
        if event.offset is not None:
            self.offsets.append(event.offset)
        match event.data:
            case FleetDigest(providers=headlines):
                now = time.monotonic()
                self.silence, self._heard = max(self.silence, now - self._heard), now
                for name in self._fleet & {one.provider_id for one in headlines}:
                    since = now - self._heard_at.get(name, now)
                    self.provider_silence = max(self.provider_silence, since)
                    self._heard_at[name] = now
            case FleetSnapshot(providers=providers):
                for one in providers:
                    self._show(one.id, one.state)
            case StatusChanged(provider_id=name, status=status):
                self._show(name, status.state)
            case ProviderRemoved(provider_id=name):
                self._show(name, "removed")

    def _show(self, name: str, state: str) -> None:
        if name in self._fleet and state in GONE:
            self.gone.append((name, state))


class Outcome(NamedTuple):
    """What a rolling restart came to.

    Attributes:
        silence: The longest time that a console was without any data, seconds.
        provider_silence: The longest time that a console was without a sample of some provider.
        events: How many events each console got.
        changes: How many changes of providers were acknowledged.
        moves: How often consoles had to look for another hub.
    """

    silence: float
    provider_silence: float
    events: int
    changes: int
    moves: int


def steady(count: int) -> set[str]:
    """The ids of those of the simulated providers that neither fall silent nor go by themselves."""
    return {
        f"sim-{machine.spec.worker_id.removeprefix('sim-')}"
        for machine in (Machine(SEED, index, 1.0) for index in range(count))
        if stays(machine)
    }


def stays(machine: Machine) -> bool:
    """Whether a machine has no mishap for long enough that hubs would see."""
    for _ in range(HORIZON_SECONDS):
        machine.advance()
        if machine.mishap in {Mishap.SILENT, Mishap.AWAY}:
            return False
    return True


@asynccontextmanager
async def simulated(hubs: Hubs, url: str, count: int) -> AsyncIterator[None]:
    """`qubix simulate` for as long as the block runs."""
    with (hubs.home / "simulated").open("wb") as said:
        process = subprocess.Popen(
            [
                *(command("qubix"), "simulate", "--providers", str(count), "--seed", str(SEED)),
                *("--hub", url),
            ],
            env=environment(hubs.home, QUBIX_TOKEN=hubs.operator),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            yield
            assert process.poll() is None, (hubs.home / "simulated").read_text()
        finally:
            process.kill()
            process.wait()


async def issue(url: str, operator: str, names: Iterable[str]) -> dict[str, str]:
    """A token for each of some providers."""
    connection = Connection(url, token=operator)
    await connection.start()
    try:
        await connection.wait_open(10)
        asked = {name: IssueToken(role="provider", name=name) for name in names}
        return {
            name: (await connection.request("token:issue", request)).data.token
            for name, request in asked.items()
        }
    finally:
        await connection.close()


async def restart_all(hubs: Hubs, consoles: list[Console]) -> None:
    """Restart one hub after the other, each once everybody has heard of everything again."""
    for hub in hubs.all:
        assert await hubs.restart(hub) == 0
        await until_all_heard(consoles, time.monotonic())


async def until_all_heard(consoles: list[Console], since: float = 0.0) -> None:
    """Wait until every console had a sample of every provider."""
    await until(
        lambda: all(console.has_heard_all(since) for console in consoles), "the fleet on every console"
    )


async def roll(root: Path, *, agents: int, consoles: int) -> Outcome:
    """Restart three hubs under a fleet; gives what came of it, after all that must hold was looked at."""
    with redis_server() as redis:
        async with running_hubs(root, redis) as hubs:
            way = hubs.way()
            await way.start()
            try:
                return await roll_through(hubs, way.url, agents=agents, consoles=consoles)
            finally:
                await way.close()


async def roll_through(hubs: Hubs, url: str, *, agents: int, consoles: int) -> Outcome:
    """The same with hubs that run, and one address for all clients."""
    fleet = steady(agents)
    tokens = await issue(url, hubs.operator, ("steady-0", "steady-1"))
    changing = [ChangingProvider(name, token, [url], pause=CHANGES_EVERY) for name, token in tokens.items()]
    followers = [Follower(hubs.operator, [url]) for _ in hubs.all]
    screens = [Console(url, hubs.operator, fleet) for _ in range(consoles)]
    async with simulated(hubs, url, agents), asyncio.TaskGroup() as group:
        work = [group.create_task(one.work()) for one in followers]
        await until(lambda: all(one.offset for one in followers), "the followers to be there")
        changes = [group.create_task(one.work()) for one in changing]
        try:
            for screen in screens:
                await screen.connection.start()
            await until_all_heard(screens)
            for screen in screens:
                screen.settle()
            await restart_all(hubs, screens)
            for task in changes:
                task.cancel()
            await asyncio.gather(*changes, return_exceptions=True)
            newest = max([await newest_offset(hub.url, hubs.operator) for hub in hubs.all])
            await until(
                lambda: (
                    all(one.offset >= newest for one in followers)
                    and all(screen.offsets[-1] >= newest for screen in screens)
                ),
                "everybody to have heard everything",
            )
        finally:
            for task in work:
                task.cancel()
            for screen in screens:
                await screen.connection.close()
    compare(changing, followers)
    for screen in screens:
        first = screen.offsets[0]
        assert screen.offsets == list(range(first, first + len(screen.offsets)))
        assert (screen.gaps, screen.gone) == ([], [])
    return Outcome(
        silence=max(screen.silence for screen in screens),
        provider_silence=max(screen.provider_silence for screen in screens),
        events=min(len(screen.offsets) for screen in screens),
        changes=sum(len(one.acknowledged) for one in changing),
        moves=sum(screen.moves for screen in screens),
    )


@pytest.mark.timeout(180)
async def test_a_rolling_restart_is_hardly_noticed(tmp_path: Path) -> None:
    """60 providers, 4 consoles: each event once and in order, nobody shown gone, soon somebody to talk to.

    How soon is looked at where the machine is quiet (`make soak`).
    """
    outcome = await roll(tmp_path, agents=60, consoles=4)
    assert min(outcome.changes, outcome.events, outcome.moves) > 0, outcome
    assert outcome.provider_silence < 20, outcome


@pytest.mark.soak
async def test_a_rolling_restart_under_a_thousand_providers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1,000 providers, 20 consoles: no console is without any provider's samples for longer than 6 s."""
    outcome = await roll(tmp_path, agents=1_000, consoles=20)
    with capsys.disabled():
        sys.stdout.write(
            "\nthree hubs restarted one after the other under 1,000 providers and 20 consoles: at most "
            f"{outcome.silence:.1f} s without any data, {outcome.provider_silence:.1f} s without a sample of "
            f"some provider; they moved to another hub {outcome.moves} times; {outcome.events} events once "
            f"and in order, {outcome.changes} changes acknowledged, nobody shown offline or removed\n"
        )
    assert outcome.silence < 6, outcome
    assert outcome.provider_silence < 6, outcome
