"""Several hubs' engines on one real Redis, each with a copy of what it was told; a wire that can be cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from qubix_tui.hub.engine.base import Change, NewEvent, StoredEvent
from qubix_tui.hub.engine.redis import RedisEngine
from qubix_tui.hub.engine.redis_address import RedisAddress, parse_redis
from tests.redis_server import RedisServer


class Hub:
    """One hub: its engine, and what it knows by what that told it.

    Args:
        address: Where its Redis is.
        options: See `RedisEngine`.
    """

    def __init__(self, address: RedisAddress, **options: Any) -> None:
        self.engine = RedisEngine(address, **options)
        self.engine.listen(self)
        self.rows: dict[str, bytes] = {}
        self.heard: list[tuple[str, int, bytes]] = []
        """Channel, offset and data of each event, in the order in which they were told."""
        self.inbox: list[tuple[str, bytes]] = []
        self.engine.cluster.receive(lambda node, message: self.inbox.append((node, message)))

    @property
    def node(self) -> str:
        """Its id."""
        assert self.engine.cluster.node is not None
        return self.engine.cluster.node

    @property
    def sees(self) -> list[str]:
        """The hubs that it takes for alive."""
        return [node.id for node in self.engine.cluster.nodes]

    def changed_elsewhere(self, changes: Sequence[Change]) -> None:
        """Take what another hub has written."""
        for change in changes:
            if change.value is None:
                self.rows.pop(change.key, None)
            else:
                self.rows[change.key] = change.value

    def happened(self, events: Sequence[StoredEvent]) -> None:
        """Write down events."""
        for event in events:
            assert self.engine.offset(event.channel) >= event.offset
            self.heard.append((event.channel, event.offset, event.data))

    async def put(
        self,
        key: str,
        value: bytes | None,
        *channels: str,
        blind: bool = False,
        decided_at: int | None = None,
    ) -> list[int]:
        """Write a row, and the same value as an event on some channels."""
        changes = [Change("t", key, value, blind)]
        events = [NewEvent(channel, "T", value or b"") for channel in channels]
        return await self.engine.commit(
            [], changes, events, lambda: self.changed_elsewhere(changes), decided_at=decided_at
        )

    async def count_up(self, key: str) -> None:
        """Add one to a number that others add to as well: read, decide, and write if nobody was faster."""
        await self.put(key, b"%d" % (int(self.rows.get(key, b"0")) + 1), "count")


@contextlib.asynccontextmanager
async def opened(*hubs: Hub) -> AsyncIterator[None]:
    """Hubs, opened one after another; closed with the block."""
    async with contextlib.AsyncExitStack() as stack:
        for hub in hubs:
            await hub.engine.open()
            stack.push_async_callback(hub.engine.close)
        yield


@contextlib.asynccontextmanager
async def hubs(server: RedisServer, count: int, **options: Any) -> AsyncIterator[list[Hub]]:
    """Some hubs on one Redis, open."""
    found = [Hub(server.address, **options) for _ in range(count)]
    async with opened(*found):
        yield found


class Wire:
    """A wire between one hub and its Redis.

    Args:
        server: The Redis.
        path: The hub's end of it; does not exist.
    """

    def __init__(self, server: RedisServer, path: Path) -> None:
        self._server = server
        self._path = path
        self._listener: asyncio.Server | None = None
        self._mute = False
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def address(self) -> RedisAddress:
        """Where the hub finds its Redis."""
        return parse_redis(f"unix://{self._path}")

    async def mend(self) -> None:
        """Connect both ends."""
        self._mute = False
        self._listener = await asyncio.start_unix_server(self._join, self._path)

    def cut(self) -> None:
        """Let nothing through any more."""
        if self._listener is not None:
            self._listener.close()
        self._listener = None
        self._path.unlink(missing_ok=True)
        for writer in self._writers:
            writer.transport.abort()
        self._writers = []

    def mute(self) -> None:
        """Let the hub hear nothing any more; what it says still arrives."""
        self._mute = True

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._server.socket)
        except OSError:
            writer.close()
            return
        self._writers += (writer, far_writer)
        await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_hub = writer.get_extra_info("sockname") == str(self._path)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not (to_hub and self._mute):
                    writer.write(data)
                    await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def wired(server: RedisServer, name: str) -> AsyncIterator[Wire]:
    """A wire that is whole at first, beside the server's own socket."""
    wire = Wire(server, server.directory / name)
    await wire.mend()
    try:
        yield wire
    finally:
        wire.cut()
