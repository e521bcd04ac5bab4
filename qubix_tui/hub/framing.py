"""Messages as the bytes that go on the socket: encoded once, framed once, for whoever hears them.

A server's frames are not masked, so a frame is the same bytes for every reader: a header of 2 to 10 bytes and
the payload. Text frames only, never fragmented.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from qubix_tui.protocol import MAX_FRAME_BYTES, codec
from qubix_tui.protocol.events import MARKETPLACE_UPDATE
from qubix_tui.protocol.types import RequestId, Wire

ENVELOPE_BYTES = 512
"""More than what a page's envelope takes beside its items: type, channel, kind, numbers, header of the
frame."""

MAX_ITEMS_BYTES = MAX_FRAME_BYTES - ENVELOPE_BYTES
"""What the items of one page may take together."""

_FIN_TEXT = 0x81
_LENGTH_16 = 126
_LENGTH_64 = 127


def frame(payload: bytes) -> bytes:
    """Put a text message into one frame.

    Raises:
        ValueError: It is longer than a frame may be.
    """
    length = len(payload)
    if length < _LENGTH_16:
        return bytes((_FIN_TEXT, length)) + payload
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a message has at most {MAX_FRAME_BYTES} bytes; this one has {length}")
    if length < 1 << 16:
        return struct.pack("!BBH", _FIN_TEXT, _LENGTH_16, length) + payload
    return struct.pack("!BBQ", _FIN_TEXT, _LENGTH_64, length) + payload


def reply_frame(kind: str, data: Wire | dict[str, Any], request_id: RequestId | None = None) -> bytes:
    """Encode and frame a direct reply."""
    return frame(codec.encode_event(kind, data, request_id=request_id))


def event_frame(kind: str, data: bytes, channel: str, offset: int | None = None) -> bytes:
    """Frame a published event.

    Args:
        kind: The message type.
        data: Its ``data``, already encoded.
        channel: The event's own channel.
        offset: Its place in that channel, where it is an ordered one.

    Raises:
        ValueError: It is longer than a frame may be.
    """
    return frame(codec.encode_event(kind, msgspec.Raw(data), channel=channel, offset=offset))


def page_frame(channel: str, data: bytes) -> bytes:
    """Frame a page of MARKETPLACE_UPDATE: a snapshot or a digest, which have no offset."""
    return event_frame(MARKETPLACE_UPDATE, data, channel)


def cut(sizes: Iterable[int], limit: int = MAX_ITEMS_BYTES) -> Iterator[int]:
    """Cut a row of items into pages by their encoded size.

    Args:
        sizes: Bytes of each item, its comma included; no more than ``limit`` each.
        limit: Bytes that a page's items may have together.

    Yields:
        The number of items of each page, at least 1. Nothing for an empty row.
    """
    count = total = 0
    for size in sizes:
        if count and total + size > limit:
            yield count
            count = total = 0
        count += 1
        total += size
    if count:
        yield count
