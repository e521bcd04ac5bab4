"""The engine of one machine: everything that is acknowledged is on its disk and there after a restart.

The database has a thread of its own, so that no wait for the disk holds up the event loop. What the loop
commits in one turn, and whatever came while the disk was busy, is one transaction: many commits share one
wait. Each is acknowledged when the transaction is on the disk. Reads go through the same thread and see every
commit that was asked for before them.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import msgspec

from qubix_tui.hub.clock import Clock, SystemClock
from qubix_tui.hub.engine.base import Change, EngineUnavailable, NewEvent, Precondition, Replay
from qubix_tui.hub.engine.database import Commit, Database, Limits
from qubix_tui.hub.engine.latest import LatestValues

T = TypeVar("T")

OFFSETS_PER_CHANNEL = 10
"""How many offsets are kept for each channel that may have history. One costs about 150 bytes of memory."""


class _Write(msgspec.Struct, frozen=True):
    """Commits of one turn of the event loop, each with the future that it resolves."""

    commits: list[Commit]
    futures: list["asyncio.Future[list[int]]"]


class _Call(msgspec.Struct, frozen=True):
    """Anything else that the thread is to do; it reports by itself."""

    run: Callable[[], None]


class LocalEngine:
    """Implements `qubix_tui.hub.engine.base.Engine` on a SQLite database.

    Args:
        path: The database; made, readable by its owner alone, if it is missing. Its directory exists.
        clock: Where ages come from (``time``).
        max_events: Events kept per channel.
        max_age: Seconds that an event is kept.
        max_channels: Latest values kept, in memory; ten times as many offsets.
        max_bytes: Size of the database beyond which the oldest events are dropped.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        max_events: int = 1_000,
        max_age: float = 3_600.0,
        max_channels: int = 20_000,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        limits = Limits(
            max_events=max_events,
            max_age=max_age,
            max_bytes=max_bytes,
            max_offsets=max_channels * OFFSETS_PER_CHANNEL,
        )
        self._path, self._log_path = path, path.with_name(f"{path.name}-wal")
        self._database = Database(path, clock or SystemClock(), limits)
        self._latest = LatestValues(max_channels)
        self._thread: threading.Thread | None = None
        self._queue: SimpleQueue[_Write | _Call | None] = SimpleQueue()
        self._turn = _Write([], [])

    @property
    def epoch(self) -> str:
        """The random name of this history; see `Engine.epoch`."""
        return self._database.epoch

    @property
    def available(self) -> bool:
        """Whether it is open; see `Engine.available`."""
        return self._thread is not None

    async def open(self) -> None:
        """Make the store ready.

        Raises:
            EngineUnavailable: It can't be used; the message names the file and says what to do.
        """
        self._queue = SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, args=(self._queue, asyncio.get_running_loop()), name="qubix-store", daemon=True
        )
        self._thread.start()
        try:
            await self._call(self._database.open)
        except BaseException:
            await self.close()
            raise

    async def lost(self) -> str:
        """Wait for ever: nobody else gets at it while it is open; see `Engine.lost`."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self) -> None:
        """Finish what was asked for, and let go of the file."""
        if self._thread is None:
            return
        closed = self._call(self._database.close)
        self._queue.put(None)
        thread, self._thread = self._thread, None
        try:
            await closed
        finally:
            thread.join()

    async def commit(
        self,
        preconditions: Sequence[Precondition],
        changes: Sequence[Change],
        events: Sequence[NewEvent],
    ) -> list[int]:
        """Write all of it, or nothing; see `Engine.commit`."""
        self._check_open()
        loop = asyncio.get_running_loop()
        if not self._turn.commits:
            loop.call_soon(self._hand_over)
        future: asyncio.Future[list[int]] = loop.create_future()
        self._turn.commits.append(Commit(tuple(preconditions), tuple(changes), tuple(events)))
        self._turn.futures.append(future)
        return await future

    async def load(self, table: str, *, prefix: str = "") -> dict[str, bytes]:
        """Give the keys of a table with their values; see `Engine.load`."""
        return await self._call(lambda: self._database.load(table, prefix))

    async def read(self, table: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the values of some keys; see `Engine.read`."""
        return await self._call(lambda: self._database.read(table, keys))

    async def replay(self, channel: str, since: int, *, limit: int) -> Replay:
        """Give what came on a channel after an offset; see `Engine.replay`."""
        return await self._call(lambda: self._database.replay(channel, since, limit))

    def offset(self, channel: str) -> int:
        """Give the offset of a channel's newest event; see `Engine.offset`."""
        return self._database.offset(channel)

    def size(self) -> int | None:
        """Give the bytes of the database's files; see `Engine.size`."""
        try:
            return self._path.stat().st_size + self._log_path.stat().st_size
        except FileNotFoundError:  # not open
            return None

    def latest(self, channel: str, subject: str, value: bytes | None) -> None:
        """Keep the newest value of a subject (None forgets it); see `Engine.latest`."""
        self._latest.put(channel, subject, value)

    def read_latest(self, channel: str, subject: str) -> bytes | None:
        """Give what `latest` last kept; see `Engine.read_latest`."""
        return self._latest.get(channel, subject)

    def _check_open(self) -> None:
        if self._thread is None:
            raise EngineUnavailable("the store is not open; the hub is starting or stopping, try again")

    def _hand_over(self) -> None:
        """Give the thread what was committed in this turn of the event loop."""
        turn, self._turn = self._turn, _Write([], [])
        if turn.commits:
            self._queue.put(turn)

    def _call(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        """Have the thread call something, after all that was asked of it before."""
        self._check_open()
        self._hand_over()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = function()
            except Exception as error:  # noqa: BLE001 - it goes to who asked
                loop.call_soon_threadsafe(_fail, [future], error)
            else:
                loop.call_soon_threadsafe(_resolve, [future], [result])

        self._queue.put(_Call(run))
        return future

    def _work(self, queue: "SimpleQueue[_Write | _Call | None]", loop: asyncio.AbstractEventLoop) -> None:
        """What the thread does: everything in order, all writes in a row as one transaction."""
        while True:
            writes = _Write([], [])
            item = queue.get()
            while isinstance(item, _Write):
                writes.commits.extend(item.commits)
                writes.futures.extend(item.futures)
                try:
                    item = queue.get_nowait()
                except Empty:
                    break
            if writes.commits:
                self._write(writes, loop)
            if item is None:
                return
            if isinstance(item, _Call):
                item.run()

    def _write(self, writes: _Write, loop: asyncio.AbstractEventLoop) -> None:
        try:
            results = self._database.write(writes.commits)
        except Exception as error:  # noqa: BLE001 - it goes to all who asked
            loop.call_soon_threadsafe(_fail, writes.futures, error)
        else:
            loop.call_soon_threadsafe(_resolve, writes.futures, results)


def _resolve(futures: "Sequence[asyncio.Future[T]]", results: Sequence[T | Exception]) -> None:
    """Give everyone their result; who no longer waits has none."""
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _fail(futures: "Sequence[asyncio.Future[T]]", error: Exception) -> None:
    _resolve(futures, [error] * len(futures))
