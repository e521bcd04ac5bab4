"""What one client sends is handled a little at a time, and everybody else's in between.

The event loop hands over up to 256 KiB at once, and libuv reads one socket many times before it looks at the
next. That may hold 40,000 pings, which take a second to answer: a second in which nobody else is served. So
a piece of data is handled in turns; until it is done the socket is not read. A turn that took long is
followed by a pause as long: one client has half of the hub's time at most.
"""

import asyncio
import time
from typing import Protocol

TURN_BYTES = 1024
"""What is handled in one turn; a message that has begun is handled whole. A turn of the smallest frames takes
about 2 ms."""

LONG_TURN_SECONDS = 0.001
"""A turn of less is followed by the next as soon as the others had theirs: timers are no finer."""


REST_SECONDS = 0.02
"""How long a client is not read from after something of it was thrown away: it is to leave, and may go on
sending as fast as memory can be copied."""


class Reader(Protocol):
    """Whose data it is."""

    loop: asyncio.AbstractEventLoop

    def take_turn(self, data: bytes) -> bytes:
        """Handle the beginning of some data, and give the rest."""
        ...

    def may_read(self) -> bool:
        """Whether anything may be handled now: not while the client does not read."""
        ...

    def waiting_changed(self) -> None:
        """Data waits for its turn, or none any more."""
        ...


class Turns:
    """The turns of one client.

    Args:
        reader: The client's session.
    """

    __slots__ = ("_due", "_pause", "_reader", "_resting", "_waiting")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._waiting = b""
        self._due = False
        self._pause = 0.0
        self._resting = False

    @property
    def waiting(self) -> bool:
        """Whether the socket is not to be read: data waits for its turn, or the client has to `rest`."""
        return self._resting or bool(self._waiting)

    def receive(self, data: bytes) -> None:
        """Handle data, or keep what is more than one turn."""
        if self._waiting:
            # The transport may have had it in its hands when it was told to stop.
            self._waiting += data
            return
        self._take_turn(data)
        if self.waiting:
            self._reader.waiting_changed()

    def go_on(self) -> None:
        """Take the next turn once the others had theirs, if data waits and may be handled."""
        if self._waiting and not self._due:
            self._due = True
            if self._pause > LONG_TURN_SECONDS:
                self._reader.loop.call_later(self._pause, self._next)
            else:
                self._reader.loop.call_soon(self._next)

    def rest(self) -> None:
        """Let the client's socket be for `REST_SECONDS`."""
        if not self._resting:
            self._resting = True
            self._reader.loop.call_later(REST_SECONDS, self._rested)
            self._reader.waiting_changed()

    def close(self) -> None:
        """Drop what waits; the connection is over."""
        self._waiting = b""

    def _next(self) -> None:
        self._due = False
        if self._waiting and self._reader.may_read():
            data, self._waiting = self._waiting, b""
            self._take_turn(data)
            self._reader.waiting_changed()

    def _rested(self) -> None:
        self._resting = False
        self._reader.waiting_changed()

    def _take_turn(self, data: bytes) -> None:
        began = time.perf_counter()
        self._waiting = self._reader.take_turn(data)
        self._pause = time.perf_counter() - began
