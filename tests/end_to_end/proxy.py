"""A network that fails: proxies that hold back, swallow and drop; and one that balances."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Forwards connections to one port of this machine, as long as it is told to.

    Args:
        port: Where to.
    """

    def __init__(self, port: int) -> None:
        self.last = port
        """Where the last connection went, or would go."""
        self._port = port
        self._server: asyncio.Server | None = None
        self._up = _Gate()
        self._down = _Gate()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where an agent dials."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return f"ws://127.0.0.1:{port}"

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)

    async def close(self) -> None:
        """Drop everything, and listen no more."""
        assert self._server is not None
        self._server.close()
        self.drop()
        for pump in self._pumps:
            pump.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    def hold_answers(self) -> None:
        """Keep what the agent says from the hub, until `restore`."""
        self._up.shut()

    def cut(self) -> None:
        """Let nothing through any more, either way, and say nothing of it: both ends go on waiting."""
        self._up.shut()
        self._down.shut()

    def restore(self) -> None:
        """Let everything through again, what was held too."""
        self._up.open()
        self._down.open()

    def drop(self) -> None:
        """Break every connection off, and lose what was held."""
        for writer in self._writers:
            writer.transport.abort()

    async def _dial(self) -> Streams:
        """Connect to the other side."""
        return await asyncio.open_connection("127.0.0.1", self._port)

    def _ended(self, far_writer: asyncio.StreamWriter) -> None:
        """Take note that a connection to the other side is over."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self._writers.add(writer)
        try:
            far_reader, far_writer = await self._dial()
        except OSError:
            # Nobody listens there now.
            self._writers.discard(writer)
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        pumps = [
            asyncio.ensure_future(_pump(reader, far_writer, self._up)),
            asyncio.ensure_future(_pump(far_reader, writer, self._down)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for end in (writer, far_writer):
                self._writers.discard(end)
                end.transport.abort()
            self._ended(far_writer)
            await asyncio.wait(pumps)
            self._pumps.difference_update(pumps)


class Balancer(Proxy):
    """Shares connections out among those ports of this machine that are healthy: the least busy one first.

    Args:
        ports: Where to.
        is_healthy: Whether one of them takes clients now.
        counts: How many connections each of them has: shared with other balancers of the same ports.
    """

    def __init__(self, ports: Sequence[int], is_healthy: Callable[[int], bool], counts: Counter[int]) -> None:
        super().__init__(0)
        self._ports = ports
        self._is_healthy = is_healthy
        self._counts = counts

    async def _dial(self) -> Streams:
        healthy = [port for port in self._ports if self._is_healthy(port)]
        for port in sorted(healthy, key=self._counts.__getitem__):
            self._counts[port] += 1
            self.last = port
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                # It has just gone.
                self._counts[port] -= 1
        raise ConnectionRefusedError("nobody is there")

    def _ended(self, far_writer: asyncio.StreamWriter) -> None:
        self._counts[far_writer.get_extra_info("peername")[1]] -= 1


class SocketProxy(Proxy):
    """Forwards connections from one Unix socket to another.

    Args:
        path: Where it listens.
        target: Where to.
    """

    def __init__(self, path: Path, target: Path) -> None:
        super().__init__(0)
        self.path = path
        self._target = target

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def _dial(self) -> Streams:
        return await asyncio.open_unix_connection(str(self._target))


class _Gate:
    """Open or shut."""

    def __init__(self) -> None:
        self._is_open = asyncio.Event()
        self._is_open.set()

    def open(self) -> None:
        self._is_open.set()

    def shut(self) -> None:
        self._is_open.clear()

    async def passed(self) -> None:
        await self._is_open.wait()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: _Gate) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            await gate.passed()
            writer.write(chunk)
            await writer.drain()
