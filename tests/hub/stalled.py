"""A client of raw bytes: one that need not read what it is sent."""

import asyncio
import contextlib
import socket
import struct
from typing import Self

from qubix_tui.hub.server import Hub
from tests.hub.wire import SECONDS

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Stalled:
    """A client that has shaken hands and sent some messages, and has read nothing."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    @classmethod
    async def subscribed(cls, hub: Hub, *messages: bytes, hasty: bool = False) -> Self:
        """Connect with a small receive buffer.

        Args:
            hub: Where to.
            messages: What to send.
            hasty: Send it together with the handshake.
        """
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", hub.port))
        frames = b"".join(client_frame(0x81, message) for message in messages)
        if hasty:
            await loop.sock_sendall(connection, HANDSHAKE + frames)
        else:
            await loop.sock_sendall(connection, HANDSHAKE)
            await loop.sock_sendall(connection, frames)
        return cls(connection)

    async def read_to_the_end(self) -> bytes:
        """Everything that was left for it, until the connection ends either way."""
        loop = asyncio.get_running_loop()
        data = b""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(SECONDS):
                while chunk := await loop.sock_recv(self.socket, 1 << 20):
                    data += chunk
        return data


def client_frame(first: int, payload: bytes) -> bytes:
    """A masked frame (by a mask of zeros)."""
    length = len(payload)
    head = bytes((first, 0x80 | length)) if length < 126 else struct.pack("!BBH", first, 0xFE, length)
    return head + bytes(4) + payload
