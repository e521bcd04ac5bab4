"""The engine on a Redis or Valkey: state and events outlive the machines that the hubs run on.

Any number of hubs share a store. Each commit is checked, numbered and written in one step within Redis
(`qubix_tui.hub.engine.redis_scripts`), which keeps a log of them; every hub reads that, and applies it in
order (`qubix_tui.hub.engine.redis_commits`). What a hub asks goes through `qubix_tui.hub.engine.redis_pipe`;
`qubix_tui.hub.engine.redis_session` brings it back when Redis was away.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from qubix_tui.hub.clock import Clock, SystemClock
from qubix_tui.hub.engine import redis_scripts as scripts
from qubix_tui.hub.engine.base import (
    Change,
    EngineUnavailable,
    Listener,
    NewEvent,
    Precondition,
    Replay,
    StoredEvent,
)
from qubix_tui.hub.engine.cluster import Cluster
from qubix_tui.hub.engine.redis_address import RedisAddress
from qubix_tui.hub.engine.redis_cluster import RedisCluster
from qubix_tui.hub.engine.redis_commits import Applied, PendingCommit
from qubix_tui.hub.engine.redis_feed import Feed
from qubix_tui.hub.engine.redis_link import ANSWER_SECONDS
from qubix_tui.hub.engine.redis_pipe import Bounds, RedisPipe
from qubix_tui.hub.engine.redis_session import RedisSession
from qubix_tui.hub.engine.telemetry import EngineTelemetry

OFFSETS_PER_CHANNEL: Final = 10
"""How many offsets are kept for each channel that may have history."""

LOG_COMMITS: Final = 20_000
LOG_BYTES: Final = 64 * 1024 * 1024
"""How much of the log is kept: a hub that was away for longer than that has to start anew."""

LOAD_ROWS: Final = 200
"""Rows that are read in one step."""

PREFIX: Final = "qubix:"
"""What all keys of a store begin with."""


class RedisEngine:
    """Implements `qubix_tui.hub.engine.base.Engine` on a Redis or Valkey, for any number of hubs.

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
        self._clock = clock or SystemClock()
        self._prefix = prefix
        self._max_events = max_events
        self._max_age_ms = round(max_age * 1000)
        self.telemetry = EngineTelemetry()
        self._cluster = RedisCluster(prefix, self._clock, self.telemetry, lambda: self.position)
        self._applied = Applied(self._cluster.id)
        bounds = Bounds(
            max_events=max_events,
            max_age_ms=self._max_age_ms,
            max_commits=LOG_COMMITS,
            max_bytes=LOG_BYTES,
            max_offsets=max_channels * OFFSETS_PER_CHANNEL,
        )
        self._pipe = RedisPipe(
            address,
            prefix=prefix,
            bounds=bounds,
            applied=self._applied,
            cluster=self._cluster,
            telemetry=self.telemetry,
        )
        self._cluster.pipe = self._pipe
        self._session = RedisSession(
            address,
            prefix=prefix,
            bounds=bounds,
            applied=self._applied,
            cluster=self._cluster,
            pipe=self._pipe,
            feed=Feed(f"{prefix}log", self._applied, self._clock, self.telemetry),
            telemetry=self.telemetry,
        )

    @property
    def cluster(self) -> Cluster:
        """The hubs on this Redis; see `Engine.cluster`."""
        return self._cluster

    @property
    def epoch(self) -> str:
        """The random name of this history; see `Engine.epoch`."""
        return self._session.epoch

    @property
    def available(self) -> bool:
        """Whether Redis answered when it was last asked; see `Engine.available`."""
        return self._pipe.trouble is None

    @property
    def position(self) -> int:
        """The last commit that was applied here; see `Engine.position`."""
        return self._applied.position

    def listen(self, listener: Listener) -> None:
        """Have somebody told of commits; see `Engine.listen`."""
        self._applied.listener = listener

    async def open(self) -> None:
        """Connect, join the hubs that are there, and read the offsets.

        Raises:
            EngineUnavailable: It can't be reached or used; the message says what to do.
        """
        await self._session.open()

    async def lost(self) -> str:
        """Wait until this hub can't go on with the store, and has to start anew; see `Engine.lost`."""
        return await self._session.lost()

    async def close(self) -> None:
        """Finish what was asked for, and let go of the store."""
        await self._session.close()

    async def commit(
        self,
        preconditions: Sequence[Precondition],
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        apply: Callable[[], None] | None = None,
        *,
        decided_at: int | None = None,
    ) -> list[int]:
        """Write all of it, or nothing; see `Engine.commit`."""
        commit = PendingCommit(
            preconditions,
            changes,
            events,
            apply=apply,
            decided_at=self.position if decided_at is None else decided_at,
            now=self._clock.time(),
            future=asyncio.get_running_loop().create_future(),
        )
        return await self._pipe.write(commit)

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
        seq, newest, entries = await self._pipe.ask(scripts.REPLAY, channel, since, most)
        await self._catch_up(int(seq))
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

    async def _catch_up(self, seq: int) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._applied.reached(seq)
        except TimeoutError:
            raise EngineUnavailable("this hub is behind what others write; try again") from None

    def offset(self, channel: str) -> int:
        """Give the offset of a channel's newest event; see `Engine.offset`."""
        return self._applied.offset(channel)

    def size(self) -> int | None:
        """Redis does not tell what a part of its keys takes; see `Engine.size`."""
        return None
