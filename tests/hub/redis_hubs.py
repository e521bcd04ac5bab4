"""Several hubs' engines on one real Redis, each with a copy of what it was told."""

import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from qubix_tui.hub.engine.base import Change, NewEvent, StoredEvent
from qubix_tui.hub.engine.redis import RedisEngine
from tests.redis_server import RedisServer


class Hub:
    """One hub: its engine, and what it knows by what that told it.

    Args:
        server: The Redis.
        options: See `RedisEngine`.
    """

    def __init__(self, server: RedisServer, **options: Any) -> None:
        self.engine = RedisEngine(server.address, **options)
        self.engine.listen(self)
        self.rows: dict[tuple[str, str], bytes] = {}
        self.heard: list[tuple[str, int, bytes]] = []
        """Channel, offset and data of each event, in the order in which they were told."""
        self.inbox: list[tuple[str, bytes]] = []
        self.engine.cluster.receive(lambda node, message: self.inbox.append((node, message)))

    @property
    def node(self) -> str:
        """Its id."""
        assert self.engine.cluster.node is not None
        return self.engine.cluster.node

    def changed_elsewhere(self, changes: Sequence[Change]) -> None:
        """Take what another hub has written."""
        for change in changes:
            if change.value is None:
                self.rows.pop((change.table, change.key), None)
            else:
                self.rows[change.table, change.key] = change.value

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

    def value(self, key: str) -> bytes | None:
        """What it knows a row to be."""
        return self.rows.get(("t", key))


@contextlib.asynccontextmanager
async def hubs(server: RedisServer, count: int, **options: Any) -> AsyncIterator[list[Hub]]:
    """Some hubs, open one after another; closed with the block."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            hub = Hub(server, **options)
            await hub.engine.open()
            stack.push_async_callback(hub.engine.close)
            found.append(hub)
        yield found


def connections(server: RedisServer) -> dict[str, list[str]]:
    """The ids of hubs' connections, by the command that each sent last."""
    found: dict[str, list[str]] = {}
    for line in server.command("CLIENT", "LIST").decode().splitlines():
        match = re.search(r"\bid=(\d+) .*name=qubix-hub .*cmd=(\S+)", line)
        if match:
            found.setdefault(match[2], []).append(match[1])
    return found
