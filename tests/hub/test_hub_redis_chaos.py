"""Three hubs on one Redis among random faults: sums, rows and events come out exactly.

In any order: connections and wires that break or go mute, a Redis that is killed, stands still, or loses what
it wrote last.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from qubix_tui.hub.engine.base import EngineUnavailable, settled
from tests.hub.redis_hubs import Hub, Wire, opened, wired
from tests.hub.test_hub_redis_lost_tail import Forgetful
from tests.hub.wire import eventually
from tests.redis_server import RedisServer, redis_server

WRITERS = 4
"""Of each hub."""


class Faults:
    """What may happen, drawn at random.

    Args:
        server: The Redis.
        wires: Of the hubs.
        randomness: Where all chance comes from.
    """

    def __init__(self, server: RedisServer, wires: list[Wire], randomness: random.Random) -> None:
        self._server = server
        self._wires = wires
        self._randomness = randomness
        self._kinds: list[Callable[[], Awaitable[None]]] = [
            self.break_connections,
            self.cut,
            self.mute,
            self.kill,
            self.freeze,
            self.lose,
        ]

    async def strike(self) -> None:
        """Have one happen, and pass."""
        await self._some(1.5)
        await self._randomness.choice(self._kinds)()

    async def break_connections(self) -> None:
        lines = self._server.command("CLIENT", "LIST").decode().splitlines()
        connections = [line.split()[0].removeprefix("id=") for line in lines if "name=qubix-hub" in line]
        for connection in self._randomness.sample(connections, k=min(2, len(connections))):
            self._server.command("CLIENT", "KILL", "ID", connection)

    async def cut(self) -> None:
        wire = self._randomness.choice(self._wires)
        wire.cut()
        await self._some(0.5)
        await wire.mend()

    async def mute(self) -> None:
        wire = self._randomness.choice(self._wires)
        wire.mute()
        await self._some(2.5)
        wire.cut()
        await wire.mend()

    async def kill(self) -> None:
        self._server.kill()
        await self._some(0.3)
        self._server.start()

    async def freeze(self) -> None:
        self._server.send(signal.SIGSTOP)
        await self._some(2.6)
        self._server.send(signal.SIGCONT)

    async def lose(self) -> None:
        tail = Forgetful(self._server)
        tail.remember()
        await self._some(1.5)
        tail.lose()
        self._server.start()

    async def _some(self, seconds: float) -> None:
        await asyncio.sleep(self._randomness.random() * seconds)


class Load:
    """What hubs write meanwhile, and what of it was acknowledged."""

    def __init__(self, randomness: random.Random) -> None:
        self.counted: Counter[str] = Counter()
        self.named: set[str] = set()
        self.ends = False
        self._randomness = randomness
        self._number = 0

    async def write(self, hub: Hub, key: str) -> None:
        """Count up a row of which each hub has one writer, or write a new one, again and again."""
        while not self.ends:
            try:
                if self._randomness.random() < 0.5:
                    await settled(lambda: hub.count_up(key))
                    self.counted[key] += 1
                else:
                    self._number += 1
                    name = f"n{self._number}"
                    await hub.put(name, b"", "names")
                    self.named.add(name)
            except EngineUnavailable:
                await asyncio.sleep(0.02)


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_random_faults_lose_and_double_nothing() -> None:
    """QUBIX_SOAK_SECONDS long (an hour by default), in rounds of half a minute; a failure names its seed."""
    ends = time.monotonic() + float(os.environ.get("QUBIX_SOAK_SECONDS") or 3_600)
    seed = 0
    while time.monotonic() < ends:
        seed += 1
        with redis_server(appendfsync="always" if seed % 2 else "everysec") as server:
            await asyncio.wait_for(one_round(server, seed), 120)


async def one_round(server: RedisServer, seed: int) -> None:
    """Load and faults for half a minute; then see what became of it."""
    randomness = random.Random(seed)
    load = Load(randomness)
    async with wired(server, "a") as first, wired(server, "b") as second, wired(server, "c") as third:
        wires = [first, second, third]
        faults = Faults(server, wires, randomness)
        found = [Hub(wire.address) for wire in wires]
        async with opened(*found):
            writers = [
                asyncio.create_task(load.write(hub, f"k{number}"))
                for hub in found
                for number in range(WRITERS)
            ]
            ends = time.monotonic() + 30
            while time.monotonic() < ends:
                await faults.strike()
            load.ends = True
            await asyncio.gather(*writers)
            await eventually(lambda: all(hub.engine.available for hub in found))
            await eventually(lambda: len({hub.engine.position for hub in found}) == 1)
            one = found[0]
            for hub in found:
                assert (hub.heard, hub.rows) == (one.heard, one.rows), f"seed {seed}"
            assert await one.engine.load("t") == one.rows, f"seed {seed}"
            counted = {key: int(value) for key, value in one.rows.items() if key.startswith("k")}
            assert counted == load.counted, f"seed {seed}"
            assert {key for key in one.rows if key.startswith("n")} == load.named, f"seed {seed}"
            offsets = [offset for channel, offset, _ in one.heard if channel == "names"]
            assert offsets == list(range(1, len(load.named) + 1)), f"seed {seed}"
