"""Reading back what the hub would put on a socket."""

import json
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol

from qubix_tui.protocol import MAX_FRAME_BYTES


def messages(data: bytes) -> list[dict[str, Any]]:
    """The messages in a run of frames, read by the library's own parser as a client reads them."""
    protocol = Protocol(CLIENT, max_size=MAX_FRAME_BYTES)
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    frames = [event for event in protocol.events_received() if isinstance(event, Frame)]
    assert all(frame.opcode is Opcode.TEXT and frame.fin for frame in frames)
    return [json.loads(bytes(frame.data)) for frame in frames]


class FakeSocket:
    """Takes what an outbox writes, until it is told to be full."""

    def __init__(self) -> None:
        self.paused = False
        self.written: list[bytes] = []
        self.cut = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def write_shared(self, data: bytes) -> None:
        self.write(data)

    def too_slow(self) -> None:
        self.cut = True

    @property
    def sent(self) -> bytes:
        return b"".join(self.written)
