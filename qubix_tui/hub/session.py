"""One client's connection: handled where its messages arrive, written to past the library.

Incoming messages are handled synchronously, in `Session.data_received`: a task that waits in ``recv()`` would
cost a switch per message. Only a request that has to wait for the store becomes a task (see
`qubix_tui.hub.dispatch`); the socket is read no further when too much waits behind it.

Frames are written straight to the transport (`Session.write`), not by ``send()``. This is safe because

- all of it happens on the event loop's thread, and both this module and the library write whole frames in one
  call, so that a frame never lands inside another; the library's own frames are pongs, and the close frame;
- nothing here calls ``send()``, so no fragmented message is ever half-way out (``send_in_progress`` is looked
  at all the same);
- nothing is written unless the protocol's state is OPEN: not before the handshake's response, not after a
  close frame;
- nothing is written while the transport's buffer is above its high-water mark (``paused``): it goes to the
  `Outbox`.

While a client does not read what it is sent, the hub does not read what it sends either. So it can't pile up
replies, or pongs, which the library writes without looking at the buffer.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Protocol, cast

from websockets.asyncio.messages import Assembler
from websockets.asyncio.server import Server, ServerConnection
from websockets.datastructures import Headers
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.http11 import Request as HttpRequest
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

import qubix_tui
from qubix_tui.hub import framing
from qubix_tui.hub.access import Identity
from qubix_tui.hub.addresses import UNIX_PEER
from qubix_tui.hub.dispatch import Dispatcher
from qubix_tui.hub.fanout import Subscriber
from qubix_tui.hub.incoming import at_frame_boundary, whole_message
from qubix_tui.hub.limits import ConnectionLimiter
from qubix_tui.hub.limits import Slot as Place
from qubix_tui.hub.outbox import Outbox, Slot
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.services import Services
from qubix_tui.hub.turns import TURN_BYTES, Turns
from qubix_tui.protocol import MAX_FRAME_BYTES, PROTOCOL_VERSION, events
from qubix_tui.protocol.errors import CloseCode, ProtocolError
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import RequestId, Wire, to_timestamp

READ_LIMIT = 2 * MAX_FRAME_BYTES
"""Longer messages end the connection (1009). What is longer than allowed but not than this is answered by an
error."""

WRITE_LIMIT = 64 * 1024
"""High-water mark of the transport's buffer. The library's default is less than one burst of events."""

MAX_FRAGMENTS = 1_024
"""Frames that one message may come in."""

MAX_WAITING = 32
"""Messages that may wait for the store before the socket is read no further."""

CLOSING_SECONDS = 5.0
"""How long a client may take to close its side."""

TOO_SLOW_SECONDS = 1.0
"""The same for one that was too slow: the close frame is behind all that it did not read."""

_OPEN = State.OPEN
"""A name of its own: to look up a member of an enumeration takes as long as a call in Python 3.11."""

_NO_REQUEST = HttpRequest("/", Headers())
_NO_WAITERS: deque[asyncio.Future[None]] = deque()
"""Both are every session's: nothing is ever put into them."""

_logger = logging.getLogger("qubix.hub.session")
_websockets_logger = logging.getLogger("qubix.hub.websockets")


class _NoMessages:
    """In the place of the queue out of which the library would read: nothing is read there."""

    def close(self) -> None:
        """What the library calls at the end of a connection."""


_NO_MESSAGES = _NoMessages()


class SessionOwner(Protocol):
    """The server that a session belongs to."""

    @property
    def services(self) -> Services:
        """The hub's parts."""
        ...

    def session_arrived(self, session: "Session") -> None:
        """A connection was accepted; its handshake is to come."""
        ...

    def may_wait(self, session: "Session") -> bool:
        """Whether a connection that was turned away may wait to be told so."""
        ...

    def session_opened(self, session: "Session") -> None:
        """The handshake is over."""
        ...

    def session_closed(self, session: "Session", *, goodbye: bool) -> None:
        """The connection is gone, and was closed cleanly by the client or not."""
        ...

    def writing_paused(self, session: "Session", paused: bool) -> None:
        """The client has stopped to read, or reads again."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> object:
        """Run something that nobody waits for."""
        ...


class Session(ServerConnection):
    """One client's connection and conversation."""

    # With them the library's own attributes, fewer than thirty, stay in a dictionary whose keys all share.
    __slots__ = (
        "_abort_handle",
        "_between_frames",
        "_dispatcher",
        "_fragments",
        "_is_text",
        "_message",
        "_turns",
        "address",
        "entry",
        "heard",
        "identity",
        "limiter",
        "opened",
        "opened_at",
        "outbox",
        "owner",
        "place",
        "raw",
        "reading_paused",
        "refusal",
        "services",
        "subscriber",
    )

    def __init__(
        self,
        protocol: ServerProtocol,
        server: Server,
        *,
        owner: SessionOwner,
        **options: Any,  # noqa: ANN401 - handed on
    ) -> None:
        super().__init__(protocol, server, **options)
        services = owner.services
        self.owner = owner
        self.services = services
        self.identity = Identity(Role.NOBODY)
        self.address = ""
        self.place: Place | None = None
        self.refusal: ProtocolError | None = None
        """Why it was turned away."""
        self.outbox = Outbox(self, services.outbox_bytes)
        self.subscriber = Subscriber(self.outbox)
        self.limiter = ConnectionLimiter(services.limits, services.clock)
        self.entry: Entry | None = None
        self.raw = b""
        self.heard = self.opened_at = services.clock.monotonic()
        self.opened = False
        self.reading_paused = False
        self._message: bytearray | None = None
        self._fragments = 0
        self._is_text = True
        self._between_frames = False
        """The library was given nothing since it was seen that a message begins with the next byte."""
        self._dispatcher = Dispatcher(self)
        self._turns = Turns(self)
        self._abort_handle: asyncio.TimerHandle | None = None

    # What the handlers of a conversation use

    @property
    def client_id(self) -> str:
        """What the client and the logs know it by."""
        return str(self.id)

    @property
    def log_fields(self) -> dict[str, str]:
        """What the log says beside each record about it."""
        return {"connection": self.client_id, "address": self.address}

    @property
    def is_open(self) -> bool:
        """Whether it can still be written to."""
        return self.protocol.state is _OPEN

    def reply(self, kind: str, data: Wire, request_id: RequestId | None) -> None:
        """Send a direct reply, in its place among the events."""
        if self.is_open:
            self.services.fanout.catch_up(self.subscriber)
            self.outbox.send(framing.reply_frame(kind, data, request_id))
            self.services.telemetry.sent(kind)

    def reserve(self) -> Slot:
        """Take a place among the events for frames that come later."""
        self.services.fanout.catch_up(self.subscriber)
        return self.outbox.reserve()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that nobody waits for."""
        self.owner.spawn(work)

    def identified(self, identity: Identity) -> None:
        """The client has shown who it is; what it may no longer hear ends."""
        self.identity = identity
        if self.place is not None:
            self.place.identified()
        if identity.role is Role.PROVIDER:
            self._stop_listening()

    # What the server uses

    def begin(self) -> None:
        """The handshake is over: greet the client, and handle what it may already have sent."""
        self._let_go()
        self.opened = True
        self.heard = self.opened_at = self.services.clock.monotonic()
        connected = events.Connected(
            client_id=self.client_id,
            protocol=PROTOCOL_VERSION,
            version=qubix_tui.__version__,
            role=self.identity.role.value,
            timestamp=to_timestamp(self.services.clock.time()),
        )
        self.reply(events.CONNECTED, connected, None)
        self.owner.session_opened(self)
        self._dispatcher.go_on()

    def _let_go(self) -> None:
        """Give up what the library keeps for the handshake, and for reading and waiting in tasks."""
        self.request = _NO_REQUEST
        self.response = None
        self.request_rcvd = self.connection_lost_waiter
        self.recv_messages = cast("Assembler", _NO_MESSAGES)
        self.drain_waiters = _NO_WAITERS
        self.protocol.logger = self.logger = _websockets_logger

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Keep the connection when the library's task for it ends: that is once the client was greeted."""
        if exc_type is not None:
            self.cut()

    def end(self, code: int, reason: str, within: float | None = None) -> None:
        """Close the connection, and cut it if that takes too long.

        Args:
            code: The close code.
            reason: A sentence, at most 123 bytes.
            within: Seconds that the client has to close its side; `CLOSING_SECONDS` by default.
        """
        if self.protocol.state is State.OPEN:
            self.services.fanout.catch_up(self.subscriber)
            # The state says that nothing is written after this, and what comes is thrown away unread.
            self.protocol.fail(code, reason)
            self.send_data()
        self._stop_listening()
        self.outbox.close()
        self._dispatcher.close()
        self._cut_after(CLOSING_SECONDS if within is None else within)

    def cut(self) -> None:
        """End the connection at once, whatever its client has yet to read."""
        self.transport.abort()

    # What the outbox uses

    def write(self, data: bytes) -> None:
        """Hand whole frames to the transport; see the module's description for why that is safe."""
        if self.protocol.state is _OPEN and self.send_in_progress is None:
            self.services.telemetry.bytes_sent += len(data)
            self.transport.write(data)

    def too_slow(self) -> None:
        """More waits for this client than the bound allows."""
        self.unread()

    def unread(self) -> None:
        """The client does not read what it is sent: end the connection."""
        if not self.is_open:
            return
        self.services.telemetry.slow_client_aborts += 1
        _logger.warning("a client does not read what it is sent; closing", extra=self.log_fields)
        self.end(CloseCode.TOO_SLOW, "too slow: it did not read what it was sent", TOO_SLOW_SECONDS)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place for the connection, or turn it away."""
        super().connection_made(transport)
        self.owner.session_arrived(self)
        self.address = _address_of(transport)
        try:
            self.place = self.services.admission.arrive(self.address)
        except ProtocolError as error:
            self.services.telemetry.rate_limited += 1
            # It is told so once it has asked: a client may not expect an answer before that.
            self.refusal = error
            if not self.owner.may_wait(self):
                self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up everything that the connection had."""
        super().connection_lost(exc)
        if self._abort_handle is not None:
            self._abort_handle.cancel()
            self._abort_handle = None
        if self.place is not None:
            self.place.close()
        self._stop_listening()
        self.outbox.close()
        self._dispatcher.close()
        self._turns.close()
        self.owner.session_closed(self, goodbye=self._said_goodbye())

    def data_received(self, data: bytes) -> None:
        """Handle what came in, in turns with the other clients."""
        self.services.telemetry.bytes_received += len(data)
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
                self._between_frames = self._is_text = True
                self._take(found[0])
                return
        self._turns.receive(data)

    def take_turn(self, data: bytes) -> bytes:
        """Handle the beginning of what came in, and give what is left for another turn."""
        rest = self._handle(data)
        if self.protocol.state is not _OPEN and self.opened:
            self._cut_after(CLOSING_SECONDS)
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
        self._cut_after(CLOSING_SECONDS)

    def pause_writing(self) -> None:
        """The transport's buffer is full: frames wait in the outbox from now on."""
        super().pause_writing()
        self.outbox.hold()
        self.owner.writing_paused(self, True)
        self.waiting_changed()

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        super().resume_writing()
        self.owner.writing_paused(self, False)
        self.outbox.pump()
        self.waiting_changed()

    def process_event(self, event: Event) -> None:
        """Put messages together from their frames, and handle them at once."""
        if self.request is None:
            super().process_event(event)
            return
        assert isinstance(event, Frame)
        if event.opcode not in DATA_OPCODES:
            if self.is_open:
                self._dispatcher.count(len(event.data))
            return
        if event.opcode is not Opcode.CONT:
            self._is_text = event.opcode is Opcode.TEXT
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
        self._is_text = True
        while start < TURN_BYTES and (found := whole_message(data, start)) is not None:
            message, start = found
            self._receive(message)
        return start

    def _receive(self, message: bytes) -> None:
        """Hand on a message, if that is not too late."""
        if not self.opened or self.protocol.state is _OPEN:
            self._take(message)

    def _take(self, message: bytes) -> None:
        """Count a message as a sign of life, and hand it on."""
        self.heard = self.services.clock.monotonic()
        if self.entry is not None:
            self.services.providers.heard(self.entry)
        self._dispatcher.receive(message, self._is_text)

    def may_read(self) -> bool:
        """Whether more of what the client sends may be handled."""
        return not self.paused and self._dispatcher.waiting <= MAX_WAITING

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

    def _stop_listening(self) -> None:
        self.services.digests.leave(self.outbox)
        self.services.fanout.leave(self.subscriber)

    def _cut_after(self, seconds: float) -> None:
        if self._abort_handle is None and not self.connection_lost_waiter.done():
            self._abort_handle = self.loop.call_later(seconds, self.cut)

    def _said_goodbye(self) -> bool:
        received = self.protocol.close_rcvd
        first = self.protocol.close_rcvd_then_sent is True
        return received is not None and first and received.code in {1000, 1001}


def _address_of(transport: asyncio.BaseTransport) -> str:
    if transport.get_extra_info("socket").family is socket.AF_UNIX:
        return UNIX_PEER
    peer = transport.get_extra_info("peername")
    return peer[0] if peer else ""
