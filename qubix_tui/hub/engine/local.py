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
from qubix_tui.hub.engine.base import (
    Change,
    EngineUnavailable,
    Listener,
    NewEvent,
    Precondition,
    Replay,
    StoredEvent,
    tell,
)
from qubix_tui.hub.engine.cluster import Alone, Cluster
from qubix_tui.hub.engine.database import Commit, Database, Limits
from qubix_tui.hub.engine.telemetry import EngineTelemetry

T = TypeVar("T")

OFFSETS_PER_CHANNEL = 10
"""How many offsets are kept for each channel that may have history. One costs about 150 bytes of memory."""


class _Waiter(msgspec.Struct, frozen=True):
    """Who waits for a commit."""

    future: "asyncio.Future[list[int]]"
    apply: Callable[[], None] | None
    commit: Commit


class _Write(msgspec.Struct, frozen=True):
    """Commits of one turn of the event loop, and who waits for them."""

    waiters: list[_Waiter]


class _Untold:
    """A channel with commits that the listener was not told of yet: how many events, and the last it was."""

    __slots__ = ("events", "offset")

    def __init__(self, offset: int) -> None:
        self.events = 0
        self.offset = offset


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
        max_channels: A tenth of the channels whose offset is remembered.
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
        self.cluster: Cluster = Alone()
        self.telemetry = EngineTelemetry()
        self.position = 0
        self._listener: Listener | None = None
        self._untold: dict[str, _Untold] = {}
        self._thread: threading.Thread | None = None
        self._queue: SimpleQueue[_Write | _Call | None] = SimpleQueue()
        self._turn = _Write([])

    @property
    def epoch(self) -> str:
        """The random name of this history; see `Engine.epoch`."""
        return self._database.epoch

    @property
    def available(self) -> bool:
        """Whether it is open; see `Engine.available`."""
        return self._thread is not None

    def listen(self, listener: Listener) -> None:
        """Have somebody told of commits; see `Engine.listen`."""
        self._listener = listener

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
        apply: Callable[[], None] | None = None,
        *,
        decided_at: int | None = None,  # noqa: ARG002 - nobody else writes here
    ) -> list[int]:
        """Write all of it, or nothing; see `Engine.commit`."""
        self._check_open()
        loop = asyncio.get_running_loop()
        if not self._turn.waiters:
            loop.call_soon(self._hand_over)
        future: asyncio.Future[list[int]] = loop.create_future()
        commit = Commit(tuple(preconditions), tuple(changes), tuple(events))
        for event in commit.events:
            untold = self._untold.get(event.channel)
            if untold is None:
                untold = self._untold[event.channel] = _Untold(self._database.offset(event.channel))
            untold.events += 1
        self._turn.waiters.append(_Waiter(future, apply, commit))
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
        """Give the offset of the newest event that the listener was told of; see `Engine.offset`."""
        untold = self._untold.get(channel)
        return self._database.offset(channel) if untold is None else untold.offset

    def size(self) -> int | None:
        """Give the bytes of the database's files; see `Engine.size`."""
        try:
            return self._path.stat().st_size + self._log_path.stat().st_size
        except FileNotFoundError:  # not open
            return None

    def _check_open(self) -> None:
        if self._thread is None:
            raise EngineUnavailable("the store is not open; the hub is starting or stopping, try again")

    def _hand_over(self) -> None:
        """Give the thread what was committed in this turn of the event loop."""
        turn, self._turn = self._turn, _Write([])
        if turn.waiters:
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
                loop.call_soon_threadsafe(_resolve, future, error)
            else:
                loop.call_soon_threadsafe(_resolve, future, result)

        self._queue.put(_Call(run))
        return future

    def _work(self, queue: "SimpleQueue[_Write | _Call | None]", loop: asyncio.AbstractEventLoop) -> None:
        """What the thread does: everything in order, all writes in a row as one transaction."""
        while True:
            waiters: list[_Waiter] = []
            item = queue.get()
            while isinstance(item, _Write):
                waiters += item.waiters
                try:
                    item = queue.get_nowait()
                except Empty:
                    break
            if waiters:
                self._write(waiters, loop)
            if item is None:
                return
            if isinstance(item, _Call):
                item.run()

    def _write(self, waiters: list[_Waiter], loop: asyncio.AbstractEventLoop) -> None:
        results: Sequence[list[int] | Exception]
        try:
            results = self._database.write([waiter.commit for waiter in waiters])
        except Exception as error:  # noqa: BLE001 - it goes to all who asked
            results = [error] * len(waiters)
        loop.call_soon_threadsafe(self._tell, waiters, results)

    def _tell(self, waiters: list[_Waiter], results: Sequence[list[int] | Exception]) -> None:
        """Tell the listener of commits, in their order, and then whoever waits for them."""
        for waiter, result in zip(waiters, results, strict=True):
            told = result
            if not isinstance(result, Exception):
                events = [
                    StoredEvent(offset, event.channel, event.type, event.data)
                    for event, offset in zip(waiter.commit.events, result, strict=True)
                ]
                for event in events:
                    self._untold[event.channel].offset = event.offset
                try:
                    tell(self._listener, waiter.apply, events)
                except Exception as error:  # noqa: BLE001 - likewise
                    told = error
            self._settle(waiter.commit.events)
            _resolve(waiter.future, told)

    def _settle(self, events: Sequence[NewEvent]) -> None:
        """Take events off those that the listener was not told of."""
        for event in events:
            untold = self._untold[event.channel]
            untold.events -= 1
            if not untold.events:
                del self._untold[event.channel]


def _resolve(future: "asyncio.Future[T]", result: T | Exception) -> None:
    """Give somebody their result, if they still wait."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
