"""Messages in the bytes of a socket, without the library's parser where they come as nearly all do.

The library parses by generators, a frame at a time, in any pieces: a quarter of the time that a sample takes.
Nearly all messages are one text frame that arrives whole, and these are read here. Everything else is left to
the library, and so is all that follows it in the same piece of data: fragments, control frames, frames cut in
two, frames that break the rules.

The two can take turns because each begins only where a frame does. For the library that is where its parser
waits for data, and holds none, and no message is half-way (`at_frame_boundary`).
"""

from collections.abc import Callable
from types import GeneratorType
from typing import cast

from websockets import frames
from websockets.protocol import Protocol
from websockets.streams import StreamReader

_unmask: Callable[[bytes, bytes], bytes] = frames.apply_mask  # type: ignore[attr-defined]

_BETWEEN_FRAMES = StreamReader.at_eof.__code__
"""Where the library's parser waits when it has taken all frames, whole."""

_FIN_TEXT = 0x81
_MASKED = 0x80
_LENGTH_16 = 126
_MASK_BYTES = 4


def at_frame_boundary(protocol: Protocol) -> bool:
    """Whether the next byte of an open connection begins a message."""
    if protocol.current_size is not None or protocol.reader.buffer:
        return False
    # A server's parser reads the handshake, and leaves the frames to another one within it.
    frames_parser = cast("GeneratorType[None, None, None]", protocol.parser).gi_yieldfrom
    waiting = getattr(frames_parser, "gi_yieldfrom", None)
    return getattr(waiting, "gi_code", None) is _BETWEEN_FRAMES


def whole_message(data: bytes, start: int) -> tuple[bytes, int] | None:
    """Read one message where it is one whole text frame of less than 64 KiB, as a client must send it.

    Args:
        data: What came from the socket.
        start: Where the frame begins.

    Returns:
        The message, and where the next frame begins; None where it is anything else.
    """
    if len(data) < start + 2 + _MASK_BYTES or data[start] != _FIN_TEXT:
        return None
    length = data[start + 1] - _MASKED
    mask = start + 2
    if length == _LENGTH_16:
        length = data[mask] << 8 | data[mask + 1]
        mask += 2
    elif not 0 <= length < _LENGTH_16:
        return None
    first = mask + _MASK_BYTES
    end = first + length
    if end > len(data):
        return None
    return _unmask(data[first:end], data[mask:first]), end
