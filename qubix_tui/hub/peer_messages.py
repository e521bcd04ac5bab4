"""What hubs that share an engine say to one another beside its log: forms and bytes.

A message is a byte that says which version of this file wrote it, and MessagePack behind it. Whatever the
bytes, `decode` raises `ForeignMessage` alone: a hub of another version, or anybody else who may write to the
engine, disturbs nobody.
"""

from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from qubix_tui.protocol.types import Count, Id

VERSION: Final = 1
"""Another one for every change of what is below."""

PIECE_BYTES: Final = 64 * 1024
"""Samples, headlines: what is longer is sent as more messages."""

ANSWER_BYTES: Final = 256 * 1024
"""What an answer is cut into."""

MAX_PIECES: Final = 64
"""So many pieces one answer may have."""


class ForeignMessage(Exception):
    """These bytes are no message of this version; the text says why."""


class Wants(msgspec.Struct, tag=1, array_like=True, frozen=True, gc=False):
    """What a hub's clients want to hear. It stays so for some seconds, and is said again meanwhile.

    Attributes:
        all_providers: The samples of all providers.
        marketplace: Headlines, as soon as there are any.
        providers: Ids of providers whose samples are wanted, beside those of earlier messages.
        dropped: Ids of providers that nobody hears any more.
    """

    all_providers: bool
    marketplace: bool
    providers: list[Id]
    dropped: list[Id]


class Batch(msgspec.Struct, tag=2, array_like=True, frozen=True, gc=False):
    """Samples as they came: each with its provider's id, and the ``data`` of GPU_METRICS_UPDATE as JSON."""

    samples: list[tuple[Id, bytes]]


class Word(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a hub knows of one of its own providers.

    Attributes:
        provider_id: Whose.
        heard: Milliseconds since it was heard.
        sampled: Milliseconds since its newest sample came; None where there is none, or it is not told again.
        headline: That sample's line in a digest, as JSON; empty without ``sampled``.
    """

    provider_id: Id
    heard: Count
    sampled: Count | None
    headline: bytes


class Headlines(msgspec.Struct, tag=3, array_like=True, frozen=True, gc=False):
    """What is new of a hub's own providers."""

    words: list[Word]


class Question(msgspec.Struct, tag=4, array_like=True, frozen=True, gc=False):
    """Asks for what is remembered of a provider; the answer has the question's number.

    Attributes:
        number: Another one for each of a hub's questions.
        provider_id: Which provider.
        with_points: Its history, too, and not the newest sample alone.
    """

    number: Count
    provider_id: Id
    with_points: bool


class Answer(msgspec.Struct, tag=5, array_like=True, frozen=True, gc=False):
    """A piece of a `qubix_tui.hub.snapshots.Past` as JSON; ``piece`` counts from 0."""

    number: Count
    piece: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PIECES)]
    pieces: Annotated[int, msgspec.Meta(ge=1, le=MAX_PIECES)]
    data: bytes


class Filled(msgspec.Struct, tag=6, array_like=True, frozen=True, gc=False):
    """A gap in a provider's past was filled: whoever watches it has not seen that."""

    provider_id: Id


Message = Wants | Batch | Headlines | Question | Answer | Filled

Send = Callable[[str, Message], None]
"""Sends a message to a hub, by its id."""

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Give a message as bytes."""
    encoded = bytearray((VERSION,))
    _encoder.encode_into(message, encoded, 1)
    return bytes(encoded)


def decode(raw: bytes) -> Message:
    """Read a message.

    Raises:
        ForeignMessage: It is none, or one of another version.
    """
    if not raw or raw[0] != VERSION:
        raise ForeignMessage(f"it begins with {raw[:1].hex() or 'nothing'}, not with version {VERSION}")
    try:
        return _decoder.decode(memoryview(raw)[1:])
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise ForeignMessage(str(error)) from None
