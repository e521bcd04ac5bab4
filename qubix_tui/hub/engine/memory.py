"""The engine without a disk: everything is gone when the process ends, and the epoch with it.

Bounded whatever comes: history per channel by count and age, over all channels by number and bytes. What is
dropped first is always what was used longest ago. Tables are as large as what the hub writes there.

Offsets outlive the history they number, so that a channel whose history was dropped goes on where it was.
Even those are forgotten in the end (a channel per job would grow for ever): a channel that nobody remembers
starts after the highest offset ever forgotten. So an offset never goes back, and a reader from before is told
that its replay is not complete; it can't be handed another event under an offset that it has already seen.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from qubix_tui.hub.clock import Clock, SystemClock
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
from qubix_tui.hub.engine.cluster import Alone, Cluster
from qubix_tui.hub.engine.telemetry import EngineTelemetry

OFFSETS_PER_CHANNEL = 10
"""How many offsets are kept for each channel that may have history. One costs about 150 bytes."""


class _Entry(msgspec.Struct, frozen=True, gc=False):
    committed_at: float
    event: StoredEvent


class MemoryEngine:
    """Implements `qubix_tui.hub.engine.base.Engine` in memory.

    Args:
        clock: Where ages come from (``monotonic``).
        max_events: Events kept per channel.
        max_age: Seconds that an event is kept.
        max_channels: Channels with history that is kept.
        max_bytes: Size of all events' ``data`` together that is kept.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        max_events: int = 1_000,
        max_age: float = 3_600.0,
        max_channels: int = 20_000,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self.epoch = secrets.token_hex(8)
        self.cluster: Cluster = Alone()
        self.telemetry = EngineTelemetry()
        self.position = 0
        self._clock = clock or SystemClock()
        self._max_events = max_events
        self._max_age = max_age
        self._max_channels = max_channels
        self._max_bytes = max_bytes
        self._opened = False
        self._tables: dict[str, dict[str, bytes]] = {}
        # Both are in order of last use, oldest first. A channel in _history has at least one event.
        self._history: dict[str, deque[_Entry]] = {}
        self._offsets: dict[str, int] = {}
        self._listener: Listener | None = None
        self._forgotten_offset = 0
        self._bytes = 0

    @property
    def available(self) -> bool:
        """Whether it is open; see `Engine.available`."""
        return self._opened

    def listen(self, listener: Listener) -> None:
        """Have somebody told of commits; see `Engine.listen`."""
        self._listener = listener

    async def open(self) -> None:
        """Make the store ready."""
        self._opened = True

    async def lost(self) -> str:
        """Wait for ever: nobody else gets at it while it is open; see `Engine.lost`."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self) -> None:
        """Refuse whatever comes from now on."""
        self._opened = False

    async def commit(
        self,
        preconditions: Sequence[Precondition],
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        apply: Callable[[], None] | None = None,
        *,
        decided_at: int | None = None,  # noqa: ARG002 - nobody else writes here
    ) -> list[int]:
        """Write all of it, or nothing; see `Engine.commit`."""
        self._check_open()
        for condition in preconditions:
            if self._tables.get(condition.table, {}).get(condition.key) != condition.value:
                raise Conflict(condition.table, condition.key)
        for change in changes:
            table = self._tables.setdefault(change.table, {})
            if change.value is None:
                table.pop(change.key, None)
            else:
                table[change.key] = change.value
        stored = [self._append(event) for event in events]
        self._drop_excess()
        tell(self._listener, apply, stored)
        return [event.offset for event in stored]

    async def load(self, table: str, *, prefix: str = "") -> dict[str, bytes]:
        """Give the keys of a table with their values; see `Engine.load`."""
        self._check_open()
        rows = self._tables.get(table, {})
        return {key: value for key, value in rows.items() if key.startswith(prefix)}

    async def read(self, table: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the values of some keys; see `Engine.read`."""
        self._check_open()
        rows = self._tables.get(table, {})
        return {key: rows[key] for key in keys if key in rows}

    async def replay(self, channel: str, since: int, *, limit: int) -> Replay:
        """Give what came on a channel after an offset; see `Engine.replay`."""
        self._check_open()
        self._drop_aged(channel)
        entries = self._history.get(channel, ())
        newest = self.offset(channel)
        missed = len(entries) if since == 0 else newest - since
        if since and not 0 <= missed <= min(len(entries), limit):
            return Replay(events=[], complete=False)
        count = min(missed, limit)
        return Replay(events=[entry.event for entry in entries][len(entries) - count :], complete=True)

    def offset(self, channel: str) -> int:
        """Give the offset of a channel's newest event; see `Engine.offset`."""
        return self._offsets.get(channel, self._forgotten_offset)

    def size(self) -> int:
        """Give the bytes of all events that are kept; see `Engine.size`."""
        return self._bytes

    def _check_open(self) -> None:
        if not self._opened:
            raise EngineUnavailable("the store is not open; the hub is starting or stopping, try again")

    def _append(self, new: NewEvent) -> StoredEvent:
        channel = new.channel
        offset = self.offset(channel) + 1
        self._offsets.pop(channel, None)
        self._offsets[channel] = offset
        entries = self._history.pop(channel, None)
        if entries is None:
            entries = deque()
        self._history[channel] = entries
        stored = StoredEvent(offset, channel, new.type, new.data)
        entries.append(_Entry(self._clock.monotonic(), stored))
        self._bytes += len(new.data)
        if len(entries) > self._max_events:
            self._drop_first(entries)
        return stored

    def _drop_excess(self) -> None:
        """Bring everything back within its bounds, oldest first."""
        oldest_kept = self._clock.monotonic() - self._max_age
        while self._history:
            channel = next(iter(self._history))
            aged = self._history[channel][-1].committed_at < oldest_kept
            if not aged and len(self._history) <= self._max_channels and self._bytes <= self._max_bytes:
                break
            self._bytes -= sum(len(entry.event.data) for entry in self._history.pop(channel))
        while len(self._offsets) > self._max_channels * OFFSETS_PER_CHANNEL:
            forgotten = self._offsets.pop(next(iter(self._offsets)))
            self._forgotten_offset = max(self._forgotten_offset, forgotten)

    def _drop_aged(self, channel: str) -> None:
        entries = self._history.get(channel)
        if entries is None:
            return
        oldest_kept = self._clock.monotonic() - self._max_age
        while entries and entries[0].committed_at < oldest_kept:
            self._drop_first(entries)
        if not entries:
            del self._history[channel]

    def _drop_first(self, entries: deque[_Entry]) -> None:
        self._bytes -= len(entries.popleft().event.data)
