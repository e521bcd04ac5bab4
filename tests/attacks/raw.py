"""A client that is bound by no rule: a blocking socket, and frames put together by hand."""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any, Self

Message = dict[str, Any]

SECONDS = 10.0
"""How long a test waits for anything that a hub does at once."""

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="

TEXT, BINARY, CLOSE, PING, PONG, CONT = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0
FIN = 0x80


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True
) -> bytes:
    """A frame as a client sends it, or as none may.

    Args:
        opcode: Any, known or not.
        payload: What it holds.
        fin: Whether it ends its message.
        reserved: The three reserved bits, as 0x40, 0x20 and 0x10.
        masked: Whether it is masked (by zeros).
    """
    first = (FIN if fin else 0) | reserved | opcode
    bit = 0x80 if masked else 0
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", first, bit | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", first, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length)
    return head + (bytes(4) if masked else b"") + payload


def message(kind: str, data: Any = None, **members: Any) -> bytes:
    """A request as a frame."""
    return frame(TEXT, json.dumps({"type": kind, "data": data, **members}).encode())


def handshake(*headers: str, host: str | None = "127.0.0.1", path: str = "/") -> bytes:
    """A request for a WebSocket.

    Args:
        headers: Further lines, like ``Origin: http://localhost``.
        host: None for a request without that header.
        path: What to ask for.
    """
    lines = [
        f"GET {path} HTTP/1.1",
        *([] if host is None else [f"Host: {host}"]),
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def bearer(token: str) -> str:
    """The header that shows a token."""
    return f"Authorization: Bearer {token}"


def connected(port: int, *, receive_buffer: int | None = None) -> socket.socket:
    """A connection to a hub on this machine that has yet to say anything."""
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(SECONDS)
    connection.connect(("127.0.0.1", port))
    return connection


def send_all_it_takes(connection: socket.socket, data: bytes, seconds: float) -> int:
    """Send until everything is gone, the peer takes no more for a second, or it has hung up.

    Returns:
        How many bytes were taken.
    """
    view, sent = memoryview(data), 0
    connection.settimeout(1.0)
    deadline = time.monotonic() + seconds
    try:
        while sent < len(data) and time.monotonic() < deadline:
            sent += connection.send(view[sent : sent + (1 << 20)])
    except (TimeoutError, ConnectionError):
        pass
    connection.settimeout(SECONDS)
    return sent


def hung_up(connection: socket.socket) -> bool:
    """Whether the other side has ended a connection; what it sent before is thrown away."""
    connection.settimeout(0)
    try:
        while connection.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


class Refused(Exception):
    """The handshake was not answered by 101.

    Attributes:
        status: By what instead.
        body: And what it said.
    """

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class RawClient:
    """A client after its handshake.

    Args:
        port: The hub's.
        headers: Lines for the handshake.
        host: Its ``Host``.

    Raises:
        Refused: The hub did not let it in.
    """

    def __init__(self, port: int, *headers: str, host: str | None = "127.0.0.1") -> None:
        self._begin(port)
        try:
            self._shake_hands(handshake(*headers, host=host))
        except BaseException:
            self.socket.close()
            raise

    @classmethod
    def unshaken(cls, port: int, *, receive_buffer: int | None = None) -> Self:
        """One that has yet to ask for a WebSocket."""
        client = cls.__new__(cls)
        client._begin(port, receive_buffer)
        return client

    def _begin(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = connected(port, receive_buffer=receive_buffer)
        self._data = b""
        self._numbers = 0

    def _shake_hands(self, request: bytes) -> None:
        self.socket.sendall(request)
        status = int(self._until(b"\r\n\r\n").split(b" ", 2)[1])
        if status != 101:
            raise Refused(status, self.read_to_the_end().decode())

    def send_what_goes(self, data: bytes) -> None:
        """Send bytes until they are gone, or the hub has hung up."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def read_to_the_end(self) -> bytes:
        """All that is left for it, until the hub ends the connection either way."""
        with contextlib.suppress(ConnectionError):
            while True:
                self._more()
        return self._data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(b"".join(frames))

    def receive(self) -> tuple[int, bytes]:
        """The next frame: its opcode and payload.

        Raises:
            ConnectionError: The connection is gone.
        """
        head = self._take(2)
        length = head[1]
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return head[0] & 0x0F, self._take(length)

    def hear(self) -> Message:
        """The next message."""
        opcode, payload = self.receive()
        assert opcode == TEXT, (opcode, payload)
        heard: Message = json.loads(payload)
        return heard

    def ask(self, kind: str, data: Any = None, **members: Any) -> Message:
        """Send a request, and give its answer; what comes before that is passed over."""
        self._numbers += 1
        number = f"ask-{self._numbers}"
        self.send(message(kind, data, id=number, **members))
        return self.until(lambda heard: heard.get("id") == number)

    def until(self, wanted: Any) -> Message:
        """The next message that is wanted."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            heard = self.hear()
            if wanted(heard):
                return heard
        raise AssertionError("what was waited for did not come")

    def closed(self) -> int | None:
        """Read to the end, and give the close code; None where the connection was cut without one."""
        try:
            while True:
                opcode, payload = self.receive()
                if opcode == CLOSE:
                    code: int = struct.unpack("!H", payload[:2])[0]
                    return code
        except ConnectionError:
            return None

    def _until(self, end: bytes) -> bytes:
        while end not in self._data:
            self._more()
        found, _, self._data = self._data.partition(end)
        return found

    def _take(self, count: int) -> bytes:
        while len(self._data) < count:
            self._more()
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def _more(self) -> None:
        chunk = self.socket.recv(1 << 16)
        if not chunk:
            raise ConnectionError("the hub has ended the connection")
        self._data += chunk


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Leave without a word."""
    for one in sockets:
        one.close()
