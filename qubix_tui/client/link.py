"""One WebSocket from its handshake to its end: the only module of the client that speaks `websockets`."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import broadcast
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from qubix_tui.client.address import Address
from qubix_tui.client.failures import Failure, explain_close
from qubix_tui.protocol import MAX_FRAME_BYTES

OPEN_TIMEOUT_SECONDS: Final = 10.0
CLOSE_TIMEOUT_SECONDS: Final = 1.0

MAX_UNSENT_BYTES: Final = 1024 * 1024
"""More than this waiting in the socket's buffer means that the hub does not read: nothing is added."""

# At DEBUG the library logs every header it sends, the token among them.
_wire_logger = logging.getLogger("qubix_tui.client.wire")
_wire_logger.setLevel(logging.INFO)


class Link:
    """An open WebSocket that writes without waiting and is never left half closed."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self.failure: Failure | None = None
        """Why this side ended it, if it did."""

    @classmethod
    async def dial(
        cls,
        address: Address,
        *,
        token: str | None,
        user_agent: str,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> Self:
        """Make one attempt.

        Raises:
            OSError: The network, or TLS, says no (`TimeoutError` is one of them).
            websockets.exceptions.InvalidHandshake: What answers says no.
        """
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # Without a context of its own, `wss://` is verified against the system's trust.
        tls: dict[str, Any] = {"ssl": ssl_context} if address.secure and ssl_context is not None else {}
        websocket = await connect(
            address.url,
            additional_headers=headers,
            user_agent_header=user_agent,
            compression=None,
            proxy=proxy,
            open_timeout=OPEN_TIMEOUT_SECONDS,
            close_timeout=CLOSE_TIMEOUT_SECONDS,
            ping_interval=None,
            max_size=MAX_FRAME_BYTES,
            logger=_wire_logger,
            **tls,
        )
        return cls(websocket)

    async def read(self, receive: Callable[[bytes], None]) -> Failure:
        """Hand on each message until the connection ends, and give why it did."""
        try:
            while True:
                receive(await self._websocket.recv(decode=False))
        except ConnectionClosed as error:
            if self.failure is not None:
                return self.failure
            if error.rcvd is None and error.sent is not None and error.sent.code != 1000:
                return Failure(
                    f"the hub broke the WebSocket protocol ({error.sent.reason or error.sent.code})"
                )
            if error.rcvd is None:
                return explain_close(None, "")
            return explain_close(error.rcvd.code, error.rcvd.reason)

    def write(self, payload: bytes) -> bool:
        """Put one text message into the socket's buffer; False where it is closing or too far behind."""
        websocket = self._websocket
        if (
            websocket.state is not State.OPEN
            or websocket.transport.get_write_buffer_size() + len(payload) > MAX_UNSENT_BYTES
        ):
            return False
        # The library's only public way to write without waiting; it works for a single client's side too.
        broadcast((websocket,), payload, text=True)
        return True

    def write_or_end(self, payload: bytes) -> None:
        """Put one text message into the socket's buffer; where that is full, end the link.

        For what must not be skipped: the next link begins with all of it.
        """
        if not self.write(payload) and self._websocket.state is State.OPEN:
            self.failure = Failure("the hub does not read what is sent to it")
            self._websocket.transport.abort()

    async def close(self, failure: Failure | None = None) -> None:
        """End it politely within `CLOSE_TIMEOUT_SECONDS`, hard after that.

        Args:
            failure: Why, where it is not because the user is done.
        """
        if self.failure is None:
            self.failure = failure
        try:
            # The library's own timeout does not cover a peer that does not read.
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._websocket.close()
        except TimeoutError:
            pass
        finally:
            self._websocket.transport.abort()
        await self._websocket.wait_closed()
