"""Hubs as real processes, several on one Redis or one alone, each started again where it ends."""

import asyncio
import os
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Final

from tests.end_to_end.processes import LONG_PATIENCE, command, environment, until
from tests.end_to_end.proxy import Balancer, Proxy, SocketProxy
from tests.redis_server import RedisServer

LOOK_SECONDS: Final = 0.1
"""Between two looks of a balancer at a hub's health, and of a supervisor at its process."""

HEALTH_SECONDS: Final = 1.0
"""How long a hub may take to say that it is healthy."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Hub:
    """One hub, which keeps its port however often it is started.

    Args:
        home: Its QUBIX_HOME, with its ``hub.toml``.
        said: Where its complaints go.
        engine: Where its state is; None for what ``hub.toml`` says.
    """

    def __init__(self, home: Path, said: IO[bytes], engine: str | None = None) -> None:
        self.home = home
        self.port = free_port()
        self.lock = asyncio.Lock()
        """Held by who does something to it."""
        self._said = said
        self._engine = engine
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients dial."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How its process ended; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def start(self) -> None:
        """Start it; or another one in its place."""
        engine = ["--engine", self._engine] if self._engine else []
        self._process = subprocess.Popen(
            [command("qubix"), "hub", "--port", str(self.port), "--log-level", "warning", *engine],
            env=environment(self.home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )

    async def is_ready(self) -> bool:
        """Whether it says that it serves."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    return (await reader.readline()).split()[1:2] == [b"200"]
                finally:
                    writer.transport.abort()
        except OSError:
            return False

    async def ended(self) -> int:
        """Wait until its process is gone; gives its exit status."""
        await until(lambda: self.code is not None, f"the end of process {self.pid}")
        assert self.code is not None
        return self.code

    def end(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Hubs:
    """Hubs with one set of local tokens, and who leads clients to those that are healthy.

    Args:
        root: A directory of their own.
        said: Where their complaints go.
        redis: What they share; None for one hub that keeps its state in a file.
        count: How many.
        settings: What their ``hub.toml`` says.
        linked: Whether each has a network to Redis that can be made to fail.
    """

    def __init__(
        self,
        root: Path,
        said: IO[bytes],
        redis: RedisServer | None = None,
        *,
        count: int = 1,
        settings: str = "",
        linked: bool = True,
    ) -> None:
        self.redis = redis
        self.redis_lock = asyncio.Lock()
        """Held by who does something to it."""
        self.home = root / "hub"
        self.home.mkdir(parents=True)
        (self.home / "hub.toml").write_text(settings)
        self.links: list[SocketProxy] = []
        """Each hub's network to Redis."""
        if redis is None:
            assert count == 1
            self.all = [Hub(self.home, said)]
        elif linked:
            for number in range(count):
                self.links.append(SocketProxy(redis.directory / f"link-{number}", redis.socket))
            self.all = [Hub(self.home, said, f"unix://{link.path}") for link in self.links]
        else:
            self.all = [Hub(self.home, said, redis.url) for _ in range(count)]
        self._ready: set[int] = set()
        self._counts: Counter[int] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def operator(self) -> str:
        """Their local operator's token."""
        return (self.home / "tokens" / "operator").read_text().strip()

    def is_ready(self, port: int) -> bool:
        """Whether the hub on a port said so when it was looked at last."""
        return port in self._ready

    def way(self) -> Proxy:
        """One more way to them, not started: balanced where there are several."""
        if len(self.all) == 1:
            return Proxy(self.all[0].port)
        return Balancer([hub.port for hub in self.all], self.is_ready, self._counts)

    async def open(self) -> None:
        """Start them, one after the other, and begin to look after them."""
        for link in self.links:
            await link.start()
        for hub in self.all:
            hub.start()
            self._tasks.append(asyncio.create_task(self._look(hub)))
            self._tasks.append(asyncio.create_task(self._keep(hub)))
            await self.until_ready(hub)

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for hub in self.all:
            hub.end()
        for link in self.links:
            await link.close()

    async def until_ready(self, hub: Hub, patience: float = LONG_PATIENCE) -> None:
        """Wait until a hub serves."""
        await until(lambda: hub.port in self._ready, f"the hub on {hub.port} to be ready", patience)

    async def until_ended(self, hub: Hub) -> int:
        """Wait until a hub's process is gone; gives its exit status."""
        code = await hub.ended()
        self._ready.discard(hub.port)
        return code

    async def restart(self, hub: Hub) -> int:
        """Have a hub let its clients leave, and wait until its successor serves; gives how it ended."""
        async with hub.lock:
            os.kill(hub.pid, signal.SIGTERM)
            code = await self.until_ended(hub)
            hub.start()
            await self.until_ready(hub)
        return code

    async def _look(self, hub: Hub) -> None:
        """Look at a hub's health for ever, as a balancer does."""
        while True:
            if await hub.is_ready():
                self._ready.add(hub.port)
            else:
                self._ready.discard(hub.port)
            await asyncio.sleep(LOOK_SECONDS)

    async def _keep(self, hub: Hub) -> None:
        """Start a hub again whenever it has ended by itself, as a supervisor does."""
        while True:
            if hub.code is not None and not hub.lock.locked():
                hub.start()
            await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def running_hubs(root: Path, redis: RedisServer, count: int = 3) -> AsyncIterator[Hubs]:
    """Hubs on a Redis that are ended with the block; what they complain of is in ``said``."""
    with (root / "said").open("ab") as said:
        hubs = Hubs(root, said, redis, count=count, linked=False)
        try:
            await hubs.open()
            yield hubs
        finally:
            await hubs.close()
