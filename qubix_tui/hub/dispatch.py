"""From an incoming message to its handler: one at a time, in order, and every failure answered.

Most requests are handled where they arrive. One that has to wait for the store becomes a task; what its
client sends meanwhile waits here.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol

from qubix_tui.hub.conversation import HANDLERS, Conversation
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.limits import Flooding
from qubix_tui.hub.provider_state import Entry
from qubix_tui.protocol import codec, events
from qubix_tui.protocol.errors import CloseCode, ErrorCode, ProtocolError
from qubix_tui.protocol.requests import Request
from qubix_tui.protocol.types import RequestId

UNAVAILABLE_SECONDS = 5.0
"""When a client may try again what the store did not take."""

_logger = logging.getLogger("qubix.hub.session")


_NOTHING: deque[tuple[bytes, bool]] = deque()
"""What waits for nearly all sessions, nearly always: an empty queue of one's own has 760 bytes."""


class DispatchedSession(Conversation, Protocol):
    """What dispatching needs of a session."""

    @property
    def log_fields(self) -> dict[str, str]:
        """What the log says beside each record about it."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> object:
        """Run something that nobody waits for."""
        ...

    def waiting_changed(self) -> None:
        """More, or fewer, messages wait."""
        ...


class Dispatcher:
    """Handles the messages of one client.

    Args:
        session: Whose they are.
    """

    __slots__ = ("_busy", "_session", "_waiting")

    def __init__(self, session: DispatchedSession) -> None:
        self._session = session
        # Until the handshake is over, what a hasty client sends waits.
        self._busy = True
        self._waiting = _NOTHING

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._waiting)

    def count(self, size: int) -> None:
        """Count a frame that is no message, but costs as much: a ping or pong of ``size`` bytes."""
        try:
            self._session.limiter.message(size)
        except ProtocolError as error:
            self._refuse(error, None)

    def receive(self, message: bytes, is_text: bool) -> None:
        """Handle a message, or keep it until its turn comes."""
        session = self._session
        try:
            session.limiter.message(len(message))
        except ProtocolError as error:
            self._refuse(error, _id_of(message))
            return
        if self._busy:
            if not self._waiting:
                self._waiting = deque()
            self._waiting.append((message, is_text))
            session.waiting_changed()
        elif session.entry is None or not is_text or not self._take_sample(session.entry, message):
            self._handle(message, is_text)

    def go_on(self) -> None:
        """Handle what waits, up to the next request that takes time."""
        self._busy = False
        while self._waiting and not self._busy:
            self._handle(*self._waiting.popleft())
        self._session.waiting_changed()

    def close(self) -> None:
        """Drop what waits; the connection is over."""
        self._waiting = _NOTHING

    def _take_sample(self, entry: Entry, message: bytes) -> bool:
        """Take a message that is a sample without a fault; False where it is anything else.

        Whether its sender may publish was settled when it registered, which nobody else can do.
        """
        sample = codec.decode_sample(message)
        if sample is None:
            return False
        services = self._session.services
        services.telemetry.messages_received[events.GPU_METRICS_UPDATE] += 1
        try:
            services.providers.samples.take(entry, sample, message)
        except ProtocolError as error:
            self._refuse(error, None)
        return True

    def _handle(self, message: bytes, is_text: bool) -> None:
        session = self._session
        request: Request | None = None
        work: Awaitable[None] | None = None
        try:
            request = _decode(message, is_text)
            session.services.telemetry.received(request.type)
            session.services.access.authorise(session.identity, request)
            session.raw = message
            work = HANDLERS[request.type](session, request)
        except Exception as error:  # noqa: BLE001 - logged and answered: no request ends the connection
            self._answer_failure(error, request)
        finally:
            session.raw = b""
        if work is not None:
            self._busy = True
            session.spawn(self._wait_for(work, request))

    async def _wait_for(self, work: Awaitable[None], request: Request | None) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - as above
            self._answer_failure(error, request)
        self.go_on()

    def _answer_failure(self, error: Exception, request: Request | None) -> None:
        request_id = request.id if request is not None else None
        if isinstance(error, ProtocolError):
            self._refuse(error, request_id if request is not None else error.request_id)
        elif isinstance(error, EngineUnavailable):
            unavailable = ProtocolError(ErrorCode.UNAVAILABLE, str(error), retry_after=UNAVAILABLE_SECONDS)
            self._refuse(unavailable, request_id)
        else:
            kind = request.type if request is not None else "message"
            _logger.error("a %s failed", kind, exc_info=error, extra=self._session.log_fields)
            internal = ProtocolError(ErrorCode.INTERNAL, "the hub made a mistake; its log says more")
            self._refuse(internal, request_id)

    def _refuse(self, error: ProtocolError, request_id: RequestId | None) -> None:
        session = self._session
        data = events.ErrorData(
            code=error.code, message=error.message, field=error.field, retry_after=error.retry_after
        )
        session.reply(events.ERROR, data, request_id)
        if error.code is ErrorCode.RATE_LIMITED:
            session.services.telemetry.rate_limited += 1
        if isinstance(error, Flooding):
            _logger.warning("a client goes on in spite of many refusals; closing", extra=session.log_fields)
            session.end(CloseCode.FLOODING, "flooding: it went on in spite of many refusals")


def _decode(message: bytes, is_text: bool) -> Request:
    if not is_text:
        raise ProtocolError(ErrorCode.BAD_JSON, "expected a text message, not a binary one")
    return codec.decode_request(message)


def _id_of(message: bytes) -> RequestId | None:
    """Give the id of a message that is refused unread, so that its sender knows which it was."""
    try:
        return codec.decode_request(message).id
    except ProtocolError as error:
        return error.request_id
