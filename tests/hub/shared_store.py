"""A store in this process that several hubs share: for the rules of many hubs, without sockets or a server.

It does what `qubix_tui.hub.engine.base` asks of an engine that is shared. What the real one adds (that it may
be away, slow, or lose its memory) is tested with a real one. Here a test decides when a hub hears of commits.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from qubix_tui.hub.engine.base import (
    Change,
    Conflict,
    EngineUnavailable,
    Listener,
    NewEvent,
    Precondition,
    Replay,
    StoredEvent,
    tell,
)
from qubix_tui.hub.engine.cluster import Node, Receiver
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.engine.telemetry import EngineTelemetry


class Entry(msgspec.Struct, frozen=True):
    """One commit in the log."""

    node: str
    changes: Sequence[Change]
    events: Sequence[StoredEvent]
    apply: Callable[[], None] | None
    future: "asyncio.Future[list[int]]"


class SharedStore:
    """What the hubs share."""

    def __init__(self) -> None:
        self.memory = MemoryEngine()
        self.log: list[Entry] = []
        self.written: dict[tuple[str, str], dict[str, int]] = {}
        """For each row, when (in the log) which hub wrote it last."""
        self.engines: list[SharedEngine] = []
        self.alive: list[str] = []

    def conflict(self, node: str, changes: Sequence[Change], since: int) -> tuple[Change, int] | None:
        """Give the change of a row that another hub has written since, and when it did."""
        for change in changes:
            if change.blind:
                continue
            for writer, position in self.written.get((change.table, change.key), {}).items():
                if writer != node and position > since:
                    return change, position
        return None


class SharedCluster:
    """The hubs of a store, as one of them sees them; all at once, without signs of life."""

    def __init__(self, store: SharedStore, node: str) -> None:
        self.node: str | None = node
        self.may_renew = True
        self.seen: list[str] | None = None
        """The hubs that were alive when it was last told, where that is no longer so."""
        self._store = store
        self._id = node
        self.words = b"{}"
        self.receiver: Receiver | None = None

    @property
    def nodes(self) -> Sequence[Node]:
        engines = {engine.node: engine for engine in self._store.engines}
        words = {node: engine.cluster.words for node, engine in engines.items()}
        return [Node(id=node, age=0.0, words=words.get(node, b"{}")) for node in self._alive]

    @property
    def leads(self) -> bool:
        return self._alive[:1] == [self._id]

    def is_live(self, node: str | None) -> bool:
        return node in self._alive

    @property
    def _alive(self) -> list[str]:
        return self._store.alive if self.seen is None else self.seen

    def describe(self, words: bytes) -> None:
        self.words = words

    def receive(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def send(self, node: str, message: bytes) -> None:
        for engine in self._store.engines:
            if engine.node == node and engine.cluster.receiver is not None and node in self._store.alive:
                asyncio.get_running_loop().call_soon(engine.cluster.receiver, self._id, message)

    async def leave(self) -> None:
        self.may_renew = False
        if self._id in self._store.alive:
            self._store.alive.remove(self._id)


class SharedEngine:
    """One hub's engine on a shared store.

    Args:
        store: What it shares.
        node: The hub's id.
    """

    def __init__(self, store: SharedStore, node: str) -> None:
        self.node = node
        self.cluster = SharedCluster(store, node)
        self.telemetry = EngineTelemetry()
        self.position = 0
        self.held = False
        """It hears of no commit, until `hear`."""
        self.hears_when_asked = False
        """It is held no more once it is asked for what there is."""
        self.away = False
        self._store = store
        self._offsets: dict[str, int] = {}
        self._listener: Listener | None = None
        self._opened = False

    @property
    def epoch(self) -> str:
        return self._store.memory.epoch

    @property
    def available(self) -> bool:
        return self._opened and not self.away

    def listen(self, listener: Listener) -> None:
        self._listener = listener

    async def open(self) -> None:
        await self._store.memory.open()
        self._opened = True
        self.position = len(self._store.log)
        self._offsets = dict(self._store.memory._offsets)
        self._store.engines.append(self)
        self._store.alive.append(self.node)

    async def lost(self) -> str:
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self) -> None:
        self._opened = False
        if self in self._store.engines:
            self._store.engines.remove(self)
        await self.cluster.leave()

    async def commit(
        self,
        preconditions: Sequence[Precondition],
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        apply: Callable[[], None] | None = None,
        *,
        decided_at: int | None = None,
    ) -> list[int]:
        self._check()
        store = self._store
        since = self.position if decided_at is None else decided_at
        conflict = store.conflict(self.node, changes, since)
        if conflict is not None:
            change, position = conflict
            self._hear_up_to(position)
            await asyncio.sleep(0)
            raise Conflict(change.table, change.key)
        offsets = await store.memory.commit(preconditions, changes, events)
        stored = [
            StoredEvent(offset, event.channel, event.type, event.data)
            for event, offset in zip(events, offsets, strict=True)
        ]
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        store.log.append(Entry(self.node, tuple(changes), stored, apply, future))
        for change in changes:
            if not change.blind:
                store.written.setdefault((change.table, change.key), {})[self.node] = len(store.log)
        for engine in store.engines:
            if not engine.held:
                asyncio.get_running_loop().call_soon(engine.hear)
        return await future

    def hear(self) -> None:
        """Hear of all commits that there are."""
        if self._opened:
            self._hear_up_to(len(self._store.log))

    def _hear_up_to(self, position: int) -> None:
        while self.position < position:
            entry = self._store.log[self.position]
            self.position += 1
            own = entry.node == self.node
            if not own and self._listener is not None:
                self._listener.changed_elsewhere(entry.changes)
            self._offsets |= {event.channel: event.offset for event in entry.events}
            try:
                tell(self._listener, entry.apply if own else None, entry.events)
            except Exception as error:  # noqa: BLE001 - it goes to who asked
                if own and not entry.future.done():
                    entry.future.set_exception(error)
            if own and not entry.future.done():
                entry.future.set_result([event.offset for event in entry.events])

    async def load(self, table: str, *, prefix: str = "") -> dict[str, bytes]:
        self._check()
        rows = await self._store.memory.load(table, prefix=prefix)
        await asyncio.sleep(0)  # what it says may be out of date when it comes
        return rows

    async def read(self, table: str, keys: Sequence[str]) -> dict[str, bytes]:
        self._check()
        rows = await self._store.memory.read(table, keys)
        await asyncio.sleep(0)  # likewise
        return rows

    async def replay(self, channel: str, since: int, *, limit: int) -> Replay:
        self._check()
        written = len(self._store.log)
        if self.hears_when_asked:
            self.held = False
            self.hear()
        replay = await self._store.memory.replay(channel, since, limit=limit)
        while self.position < written:  # noqa: ASYNC110 - until the test lets it hear
            await asyncio.sleep(0)
        return replay

    def offset(self, channel: str) -> int:
        return self._offsets.get(channel, 0)

    def size(self) -> int | None:
        return None

    def _check(self) -> None:
        if self.away:
            raise EngineUnavailable("the store is away")
        if not self._opened:
            raise EngineUnavailable("the store is not open")
