"""One client's conversation: what it shows of itself, what it is told, and how it ends.

Its messages are handled where they arrive (`qubix_tui.hub.framed_connection`). Only a request that has to
wait for the store becomes a task (see `qubix_tui.hub.dispatch`); the socket is read no further when too much
waits behind it.

While a client does not read what it is sent, the hub does not read what it sends either. So it can't pile up
replies, or pongs, which the library writes without looking at the buffer.
"""

import asyncio
import logging
import socket
from collections.abc import Coroutine
from typing import Any, Protocol

from websockets.asyncio.server import Server
from websockets.server import ServerProtocol

import qubix_tui
from qubix_tui.hub import framing
from qubix_tui.hub.access import Identity
from qubix_tui.hub.addresses import UNIX_PEER
from qubix_tui.hub.dispatch import Dispatcher
from qubix_tui.hub.fanout import Subscriber
from qubix_tui.hub.framed_connection import CLOSING_SECONDS, FramedConnection
from qubix_tui.hub.limits import ConnectionLimiter
from qubix_tui.hub.limits import Slot as Place
from qubix_tui.hub.outbox import Outbox, Slot
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.services import Services
from qubix_tui.protocol import PROTOCOL_VERSION, events
from qubix_tui.protocol.errors import CloseCode, ProtocolError
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import RequestId, Wire, to_timestamp

MAX_WAITING = 32
"""Messages that may wait for the store before the socket is read no further."""

TOO_SLOW_SECONDS = 1.0
"""How long a client that was too slow may take to close its side: the close frame is behind all that it did
not read."""

_logger = logging.getLogger("qubix.hub.session")


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


class Session(FramedConnection):
    """One client's connection and conversation."""

    __slots__ = (
        "_dispatcher",
        "address",
        "entry",
        "heard",
        "identity",
        "limiter",
        "opened_at",
        "outbox",
        "owner",
        "place",
        "raw",
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
        services = owner.services
        super().__init__(protocol, server, telemetry=services.telemetry, **options)
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
        self._dispatcher = Dispatcher(self)

    # What the handlers of a conversation use

    @property
    def client_id(self) -> str:
        """What the client and the logs know it by."""
        return str(self.id)

    @property
    def log_fields(self) -> dict[str, str]:
        """What the log says beside each record about it."""
        return {"connection": self.client_id, "address": self.address}

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
        self.let_go()
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

    def end(self, code: int, reason: str, within: float | None = None) -> None:
        """Close the connection, and cut it if that takes too long.

        Args:
            code: The close code.
            reason: A sentence, at most 123 bytes.
            within: Seconds that the client has to close its side; `CLOSING_SECONDS` by default.
        """
        if self.is_open:
            self.services.fanout.catch_up(self.subscriber)
            # The state says that nothing is written after this, and what comes is thrown away unread.
            self.protocol.fail(code, reason)
            self.send_data()
        self._stop_listening()
        self.outbox.close()
        self._dispatcher.close()
        self.cut_after(CLOSING_SECONDS if within is None else within)

    # What the outbox uses

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
        if self.place is not None:
            self.place.close()
        self._stop_listening()
        self.outbox.close()
        self._dispatcher.close()
        self.owner.session_closed(self, goodbye=self._said_goodbye())

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

    def take_message(self, message: bytes) -> None:
        """Count a message as a sign of life, and hand it on."""
        self.heard = self.services.clock.monotonic()
        if self.entry is not None:
            self.services.providers.heard(self.entry)
        self._dispatcher.receive(message, self.is_text)

    def take_control(self, size: int) -> None:
        """Count a ping or pong: it costs as much as a message."""
        self._dispatcher.count(size)

    def may_read(self) -> bool:
        """Whether more of what the client sends may be handled."""
        return not self.paused and self._dispatcher.waiting <= MAX_WAITING

    def _stop_listening(self) -> None:
        self.services.digests.leave(self.outbox)
        self.services.fanout.leave(self.subscriber)

    def _said_goodbye(self) -> bool:
        received = self.protocol.close_rcvd
        first = self.protocol.close_rcvd_then_sent is True
        return received is not None and first and received.code in {1000, 1001}


def _address_of(transport: asyncio.BaseTransport) -> str:
    if transport.get_extra_info("socket").family is socket.AF_UNIX:
        return UNIX_PEER
    peer = transport.get_extra_info("peername")
    return peer[0] if peer else ""
