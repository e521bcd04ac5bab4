"""A WebSocket connection whose messages are handled where they arrive, and that is written past the library.

Incoming messages are handed over synchronously, in `FramedConnection.data_received`: a task that waits in
``recv()`` would cost a switch per message.

Frames are written straight to the transport (`FramedConnection.write`), not by ``send()``. This is safe
because

- all of it happens on the event loop's thread, and both this module and the library write whole frames in one
  call, so that a frame never lands inside another; the library's own frames are pongs, and the close frame;
- nothing here calls ``send()``, so no fragmented message is ever half-way out (``send_in_progress`` is looked
  at all the same);
- nothing is written unless the protocol's state is OPEN: not before the handshake's response, not after a
  close frame;
- nothing is written while the transport's buffer is above its high-water mark (``paused``): it goes to the
  `Outbox`.
"""

import asyncio
import logging
from collections import deque
from types import TracebackType
from typing import Any, cast

from websockets.asyncio.messages import Assembler
from websockets.asyncio.server import Server, ServerConnection
from websockets.datastructures import Headers
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.http11 import Request as HttpRequest
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from qubix_tui.hub.incoming import at_frame_boundary, whole_message
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.hub.turns import TURN_BYTES, Turns
from qubix_tui.protocol import MAX_FRAME_BYTES

READ_LIMIT = 2 * MAX_FRAME_BYTES
"""Longer messages end the connection (1009). What is longer than allowed but not than this is answered by an
error."""

WRITE_LIMIT = 64 * 1024
"""High-water mark of the transport's buffer. The library's default is less than one burst of events."""

MAX_FRAGMENTS = 1_024
"""Frames that one message may come in."""

CLOSING_SECONDS = 5.0
"""How long a client may take to close its side."""

_OPEN = State.OPEN
"""A name of its own: to look up a member of an enumeration takes as long as a call in Python 3.11."""

_NO_REQUEST = HttpRequest("/", Headers())
_NO_WAITERS: deque[asyncio.Future[None]] = deque()
"""Both are every connection's: nothing is ever put into them."""

_websockets_logger = logging.getLogger("qubix.hub.websockets")


class _NoMessages:
    """In the place of the queue out of which the library would read: nothing is read there."""

    def close(self) -> None:
        """What the library calls at the end of a connection."""


_NO_MESSAGES = _NoMessages()


class FramedConnection(ServerConnection):
    """The bytes of one client's connection: whole messages out of them, whole frames into them.

    A subclass says what becomes of a message (`take_message`), and when none may be handled (`may_read`).
    """

    # With them the library's own attributes, fewer than thirty, stay in a dictionary whose keys all share.
    __slots__ = (
        "_abort_handle",
        "_between_frames",
        "_fragments",
        "_message",
        "_turns",
        "is_text",
        "opened",
        "reading_paused",
        "telemetry",
    )

    def __init__(
        self,
        protocol: ServerProtocol,
        server: Server,
        *,
        telemetry: Telemetry,
        **options: Any,  # noqa: ANN401 - handed on
    ) -> None:
        super().__init__(protocol, server, **options)
        self.telemetry = telemetry
        self.opened = False
        """The handshake is over."""
        self.reading_paused = False
        """The socket is not read at the moment."""
        self.is_text = True
        """Whether the message that is being taken came as text."""
        self._message: bytearray | None = None
        self._fragments = 0
        self._between_frames = False
        """The library was given nothing since it was seen that a message begins with the next byte."""
        self._turns = Turns(self)
        self._abort_handle: asyncio.TimerHandle | None = None

    # What a subclass decides

    def take_message(self, message: bytes) -> None:
        """Handle a message; ``is_text`` says whether it is text."""
        raise NotImplementedError

    def take_control(self, size: int) -> None:
        """Count a ping or pong of ``size`` bytes."""
        raise NotImplementedError

    def may_read(self) -> bool:
        """Whether more of what the client sends may be handled."""
        raise NotImplementedError

    # What it uses

    @property
    def is_open(self) -> bool:
        """Whether it can still be written to."""
        return self.protocol.state is _OPEN

    def write(self, data: bytes) -> None:
        """Hand whole frames to the transport; see the module's description for why that is safe."""
        self.telemetry.bytes_sent += len(data)
        self.write_shared(data)

    def write_shared(self, data: bytes) -> None:
        """The same for what many get: the fan-out counts it once for all of them."""
        if self.protocol.state is _OPEN and self.send_in_progress is None:
            self.transport.write(data)

    def cut(self) -> None:
        """End the connection at once, whatever its client has yet to read."""
        self.transport.abort()

    def cut_after(self, seconds: float) -> None:
        """End the connection if that does not happen by itself within so many seconds."""
        if self._abort_handle is None and not self.connection_lost_waiter.done():
            self._abort_handle = self.loop.call_later(seconds, self.cut)

    def waiting_changed(self) -> None:
        """Read the socket, or not: not while the client does not read, or too much of what it sent waits."""
        if self.may_read():
            self._turns.go_on()
        pause = self._turns.waiting or not self.may_read()
        if pause is self.reading_paused or self.transport.is_closing():
            return
        self.reading_paused = pause
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def let_go(self) -> None:
        """Give up what the library keeps for the handshake, and for reading and waiting in tasks."""
        self.request = _NO_REQUEST
        self.response = None
        self.request_rcvd = self.connection_lost_waiter
        self.recv_messages = cast("Assembler", _NO_MESSAGES)
        self.drain_waiters = _NO_WAITERS
        self.protocol.logger = self.logger = _websockets_logger

    # What the library and the event loop call

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Keep the connection when the library's task for it ends: that is once the client was greeted."""
        if exc_type is not None:
            self.cut()

    def data_received(self, data: bytes) -> None:
        """Handle what came in, in turns with the other clients."""
        self.telemetry.bytes_received += len(data)
        if self.opened and not self._turns.waiting:
            found = whole_message(data, 0)
            protocol = self.protocol
            # One whole message: nearly all that ever comes, and no more than a turn.
            if (
                found is not None
                and found[1] == len(data)
                and protocol.state is _OPEN
                and (self._between_frames or at_frame_boundary(protocol))
            ):
                self._between_frames = self.is_text = True
                self.take_message(found[0])
                return
        self._turns.receive(data)

    def take_turn(self, data: bytes) -> bytes:
        """Handle the beginning of what came in, and give what is left for another turn."""
        rest = self._handle(data)
        if self.protocol.state is not _OPEN and self.opened:
            self.cut_after(CLOSING_SECONDS)
        return rest

    def _handle(self, data: bytes) -> bytes:
        # The library gets some of it.
        self._between_frames = False
        if self.opened and self.protocol.state is not _OPEN:
            # The library only throws it away: the connection is closing.
            super().data_received(data)
            self._turns.rest()
            return b""
        start = self._receive_whole(data) if self.opened else 0
        end = start + TURN_BYTES
        if start < min(len(data), TURN_BYTES):
            super().data_received(data[start:end])
            return data[end:]
        return data[start:]

    def eof_received(self) -> None:
        """The client sends no more; it may still not take what is left for it."""
        super().eof_received()
        self.cut_after(CLOSING_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what waits."""
        super().connection_lost(exc)
        if self._abort_handle is not None:
            self._abort_handle.cancel()
            self._abort_handle = None
        self._turns.close()

    def process_event(self, event: Event) -> None:
        """Put messages together from their frames, and handle them at once."""
        if self.request is None:
            super().process_event(event)
            return
        assert isinstance(event, Frame)
        if event.opcode not in DATA_OPCODES:
            if self.is_open:
                self.take_control(len(event.data))
            return
        if event.opcode is not Opcode.CONT:
            self.is_text = event.opcode is Opcode.TEXT
            if event.fin:
                self._receive(bytes(event.data))
                return
            self._message = bytearray()
            self._fragments = 0
        assert self._message is not None
        self._message += event.data
        self._fragments += 1
        if event.fin:
            message, self._message = bytes(self._message), None
            self._receive(message)
        elif self._fragments > MAX_FRAGMENTS and self.is_open:
            self.protocol.fail(1009, "too many fragments")
            self.send_data()

    def _receive_whole(self, data: bytes) -> int:
        """Handle the messages that can be read past the library, and give where the rest begins."""
        protocol = self.protocol
        start = 0
        if protocol.state is not _OPEN or not at_frame_boundary(protocol):
            return start
        self.is_text = True
        while start < TURN_BYTES and (found := whole_message(data, start)) is not None:
            message, start = found
            self._receive(message)
        return start

    def _receive(self, message: bytes) -> None:
        """Hand on a message, if that is not too late."""
        if not self.opened or self.protocol.state is _OPEN:
            self.take_message(message)
