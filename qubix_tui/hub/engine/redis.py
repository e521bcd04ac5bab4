"""The engine on a Redis or Valkey: state and events outlive the machine that the hub runs on.

One hub holds the store at a time (`qubix_tui.hub.engine.redis_lease`). `qubix_tui.hub.engine.redis_pipe`
talks to Redis, and says what becomes of a commit when that goes away; the scripts and the keys are in
`qubix_tui.hub.engine.redis_scripts`.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from qubix_tui.hub.clock import Clock, SystemClock
from qubix_tui.hub.engine import redis_scripts as scripts
from qubix_tui.hub.engine.base import Change, Listener, NewEvent, Precondition, Replay, StoredEvent, tell
from qubix_tui.hub.engine.cluster import Alone, Cluster
from qubix_tui.hub.engine.redis_address import RedisAddress
from qubix_tui.hub.engine.redis_commits import Done, PendingCommit
from qubix_tui.hub.engine.redis_pipe import Bounds, RedisPipe

OFFSETS_PER_CHANNEL: Final = 10
"""How many offsets are kept for each channel that may have history."""

LOAD_ROWS: Final = 200
"""Rows that are read in one step."""

PREFIX: Final = "qubix:"
"""What all keys of a hub begin with."""


class RedisEngine:
    """Implements `qubix_tui.hub.engine.base.Engine` on a Redis or Valkey, for one hub at a time.

    Args:
        address: Where it is.
        clock: Where ages come from (``time``).
        max_events: Events kept per channel; a few more lie there until they are trimmed.
        max_age: Seconds that an event is kept.
        max_channels: A tenth of the channels whose offset is remembered.
        prefix: What all its keys begin with.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        clock: Clock | None = None,
        max_events: int = 1_000,
        max_age: float = 3_600.0,
        max_channels: int = 20_000,
        prefix: str = PREFIX,
    ) -> None:
        self.epoch = ""
        self._clock = clock or SystemClock()
        self._prefix = prefix
        self._max_events = max_events
        self._max_age_ms = round(max_age * 1000)
        bounds = Bounds(
            max_events=max_events,
            max_age_ms=self._max_age_ms,
            max_offsets=max_channels * OFFSETS_PER_CHANNEL,
        )
        self._pipe = RedisPipe(address, prefix=prefix, bounds=bounds, done=self._committed)
        self.cluster: Cluster = Alone()
        self.position = 0
        self._listener: Listener | None = None
        self._offsets: dict[str, int] = {}
        self._forgotten_offset = 0

    @property
    def available(self) -> bool:
        """Whether Redis answered when it was last asked; see `Engine.available`."""
        return self._pipe.trouble is None

    def listen(self, listener: Listener) -> None:
        """Have somebody told of commits; see `Engine.listen`."""
        self._listener = listener

    async def open(self) -> None:
        """Connect, take the store for this hub, and read the offsets.

        A store whose hub was killed is taken when that one's lease is over.

        Raises:
            EngineUnavailable: It can't be reached or used, or another hub has it; the message says what to
                do.
        """
        taken = await self._pipe.open()
        self.epoch, self._forgotten_offset = taken.epoch, taken.forgotten
        self._offsets.clear()
        try:
            await self._read_offsets()
        except BaseException:
            await self.close()
            raise

    async def lost(self) -> str:
        """Wait until another hub has the store, or it is not what this one wrote; see `Engine.lost`."""
        return await self._pipe.lost()

    async def close(self) -> None:
        """Finish what was asked for, and let go of the store."""
        await self._pipe.close()

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
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        now = self._clock.time()
        return await self._pipe.write(PendingCommit(preconditions, changes, events, now, future, apply))

    async def load(self, table: str, *, prefix: str = "") -> dict[str, bytes]:
        """Give the keys of a table with their values; see `Engine.load`."""
        rows: dict[str, bytes] = {}
        encoded = prefix.encode()
        start, end = (b"[" + encoded, b"(" + encoded + b"\xff") if prefix else (b"-", b"+")
        while True:
            keys, values = await self._pipe.ask(scripts.LOAD, table, start, end, LOAD_ROWS)
            rows |= {
                key.decode(): value for key, value in zip(keys, values, strict=True) if value is not None
            }
            if len(keys) < LOAD_ROWS:
                return rows
            start = b"(" + keys[-1]

    async def read(self, table: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the values of some keys; see `Engine.read`."""
        if not keys:
            self._pipe.check()
            return {}
        values = await self._pipe.ask(None, "HMGET", f"{self._prefix}table:{table}", *keys)
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def replay(self, channel: str, since: int, *, limit: int) -> Replay:
        """Give what came on a channel after an offset; see `Engine.replay`."""
        most = min(limit, self._max_events)
        newest, entries = await self._pipe.ask(scripts.REPLAY, channel, since, most)
        missed = int(newest) - since
        if since and not 0 <= missed <= most:
            return Replay(events=[], complete=False)
        oldest_kept = round(self._clock.time() * 1000) - self._max_age_ms
        events: list[StoredEvent] = []
        for number, (entry, (_, kind, _, data, _, at)) in enumerate(entries):
            offset = int(entry.partition(b"-")[0])
            if offset != int(newest) - number or int(at) < oldest_kept:
                break
            events.append(StoredEvent(offset, channel, kind.decode(), data))
        if since and len(events) < missed:
            return Replay(events=[], complete=False)
        return Replay(events=events[::-1], complete=True)

    def offset(self, channel: str) -> int:
        """Give the offset of a channel's newest event; see `Engine.offset`."""
        return self._offsets.get(channel, self._forgotten_offset)

    def size(self) -> int | None:
        """Redis does not tell what a part of its keys takes; see `Engine.size`."""
        return None

    def _committed(self, commit: PendingCommit, done: Done) -> None:
        self._forgotten_offset = done.forgotten
        events: list[StoredEvent] = []
        for event, offset in zip(commit.events, done.offsets, strict=True):
            self._offsets[event.channel] = offset
            events.append(StoredEvent(offset, event.channel, event.type, event.data))
        for channel in done.names:
            self._offsets.pop(channel, None)
        tell(self._listener, commit.apply, events)

    async def _read_offsets(self) -> None:
        cursor: bytes | int = 0
        while cursor != b"0":
            cursor, pairs = await self._pipe.ask(
                None, "HSCAN", f"{self._prefix}offsets", cursor, "COUNT", LOAD_ROWS
            )
            for channel, offset in zip(pairs[::2], pairs[1::2], strict=True):
                self._offsets[channel.decode()] = int(offset)
