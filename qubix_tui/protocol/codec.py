"""Bytes ⇄ messages. Whatever the bytes, only `ProtocolError` is raised.

What msgspec alone would let through is looked at here: nesting (it recurses), integers that a JavaScript
client would round, and its own messages, which name the member but not in the words of the contract.
"""

import re
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from qubix_tui.protocol import MAX_DEPTH, MAX_FRAME_BYTES, channels
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.events import EVENTS, Event
from qubix_tui.protocol.requests import (
    OPTIONAL_DATA,
    PING,
    REQUESTS,
    SUBSCRIBE_MARKETPLACE,
    SUBSCRIBES,
    UNSUBSCRIBE,
    Request,
    SubscribeOptions,
)
from qubix_tui.protocol.types import (
    ID_PATTERN,
    LINE_PATTERN,
    MAX_SAFE_INTEGER,
    TIMESTAMP_PATTERN,
    RequestId,
    Wire,
)

T = TypeVar("T")

MIN_DIGEST_SECONDS: Final = 0.1
MAX_DIGEST_SECONDS: Final = 60.0

_NULL: Final = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct, rename="camel"):
    type: str
    subscription_id: str | None = None
    data: msgspec.Raw = _NULL
    id: RequestId | None = None


class _PublishedEnvelope(msgspec.Struct):
    type: str
    data: msgspec.Raw = _NULL
    channel: str | None = None
    offset: int | None = None
    id: RequestId | None = None


class _OutgoingRequest(msgspec.Struct, rename="camel", omit_defaults=True):
    type: str
    subscription_id: str | None = None
    data: Any = None
    id: RequestId | None = None


class _OutgoingEvent(msgspec.Struct, omit_defaults=True):
    type: str
    channel: str | None = None
    offset: int | None = None
    id: RequestId | None = None
    data: Any = None


class _LooseId(msgspec.Struct):
    id: RequestId | None = None


_encoder = msgspec.json.Encoder()
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_published_decoder = msgspec.json.Decoder(_PublishedEnvelope)
_id_decoder = msgspec.json.Decoder(_LooseId)
_any_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_request_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(form) for kind, form in REQUESTS.items()
}
_event_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(form) for kind, form in EVENTS.items()
}

_NOT_MARKS: Final = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_LONG_DIGITS: Final = re.compile(rb"\d{16}")
_AT_PATH: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_PATTERN_WORDS: Final = {
    ID_PATTERN: "expected an id: 1 to 64 of A-Z a-z 0-9 . _ -",
    LINE_PATTERN: "expected one line without control or bidirectional characters",
    TIMESTAMP_PATTERN: "expected an RFC 3339 time in UTC, such as 2026-01-31T12:00:00.000Z",
}


def decode_request(raw: bytes) -> Request:
    """Decode and check one client → hub message.

    Args:
        raw: The payload of one text frame, UTF-8.

    Raises:
        ProtocolError: The message can't be accepted; its ``request_id`` is set where it could be read.
    """
    try:
        _check_bytes(raw)
        envelope = _decode(_envelope_decoder, raw, "")
    except ProtocolError as error:
        error.request_id = _read_id(raw)
        raise
    try:
        return _checked_request(envelope)
    except ProtocolError as error:
        error.request_id = envelope.id
        raise


def _checked_request(envelope: _Envelope) -> Request:
    kind = envelope.type
    decoder = _request_decoders.get(kind)
    if decoder is None:
        raise ProtocolError(ErrorCode.UNKNOWN_TYPE, f"unknown message type {_quoted(kind)}", field="type")
    if isinstance(envelope.id, int | float) and abs(envelope.id) > MAX_SAFE_INTEGER:
        raise ProtocolError(ErrorCode.INVALID, "expected an integer within ±2^53", field="id")
    if isinstance(envelope.id, str) and len(envelope.id) > 128:
        raise ProtocolError(ErrorCode.INVALID, "expected at most 128 characters", field="id")
    raw = bytes(envelope.data)
    if _LONG_DIGITS.search(raw):
        _check_integers(_decode(_any_decoder, raw, "data"), "data")
    data: Any
    if kind == PING:
        data = None if raw == b"null" else _decode(_any_decoder, raw, "data")
    else:
        if raw == b"null" and kind in OPTIONAL_DATA:
            raw = b"{}"
        data = _decode(decoder, raw, "data")
    channel = _channel_of(kind, envelope.subscription_id)
    if kind in SUBSCRIBES:
        assert channel is not None
        _check_options(data, channel)
    return Request(type=kind, data=data, channel=channel, id=envelope.id)


def _channel_of(kind: str, subscription_id: str | None) -> str | None:
    if kind == SUBSCRIBE_MARKETPLACE:
        return channels.MARKETPLACE
    if kind not in SUBSCRIBES and kind != UNSUBSCRIBE:
        return None
    if subscription_id is None:
        raise ProtocolError(ErrorCode.INVALID, f"{kind} needs a subscriptionId", field="subscriptionId")
    key = subscription_id if kind == UNSUBSCRIBE else f"{kind.removeprefix('subscribe:')}:{subscription_id}"
    if not channels.is_channel(key):
        wanted = (
            "a channel key: marketplace, provider:<id> or job:<id>"
            if kind == UNSUBSCRIBE
            else "an id (1 to 64 of A-Z a-z 0-9 . _ -) or *"
        )
        raise ProtocolError(ErrorCode.INVALID, f"expected {wanted}", field="subscriptionId")
    return key


def _check_options(options: SubscribeOptions, channel: str) -> None:
    digest = options.digest
    if digest is not None:
        if channel != channels.MARKETPLACE:
            raise ProtocolError(
                ErrorCode.INVALID, "only subscribe:marketplace has a digest", field="data.digest"
            )
        if not MIN_DIGEST_SECONDS <= digest <= MAX_DIGEST_SECONDS:
            raise ProtocolError(ErrorCode.INVALID, "expected 0.1 to 60 seconds", field="data.digest")
    if options.since is None:
        return
    if channels.is_wildcard(channel):
        raise ProtocolError(ErrorCode.INVALID, "a wildcard has no offsets to go on from", field="data.since")
    if options.since and options.epoch is None:
        raise ProtocolError(ErrorCode.INVALID, "since needs the epoch it belongs to", field="data.epoch")


def decode_event(raw: bytes) -> Event:
    """Decode one hub → client message.

    A type, or a kind of MARKETPLACE_UPDATE, that is not known gives plain JSON as ``data``.

    Raises:
        ProtocolError: The message breaks the contract.
    """
    _check_bytes(raw)
    envelope = _decode(_published_decoder, raw, "")
    decoder = _event_decoders.get(envelope.type, _any_decoder)
    body = bytes(envelope.data)
    data: Any
    if body == b"null" and envelope.type in {"ok"}:
        body = b"{}"
    try:
        data = _decode(decoder, body, "data")
    except ProtocolError as error:
        if error.field != "data.kind":
            raise
        data = _decode(_any_decoder, body, "data")
    return Event(
        type=envelope.type, data=data, channel=envelope.channel, offset=envelope.offset, id=envelope.id
    )


def encode_request(
    kind: str,
    data: Wire | dict[str, Any] | None = None,
    *,
    subscription_id: str | None = None,
    request_id: RequestId | None = None,
) -> bytes:
    """Encode one client → hub message as UTF-8 JSON."""
    return _encoder.encode(_OutgoingRequest(kind, subscription_id, data, request_id))


def encode_event(
    kind: str,
    data: Wire | dict[str, Any] | msgspec.Raw | None = None,
    *,
    channel: str | None = None,
    offset: int | None = None,
    request_id: RequestId | None = None,
) -> bytes:
    """Encode one hub → client message as UTF-8 JSON."""
    return _encoder.encode(_OutgoingEvent(kind, channel, offset, request_id, data))


def encode_record(record: object) -> bytes:
    """Encode any record, or plain JSON value, as UTF-8 JSON."""
    return _encoder.encode(record)


def decode_record(raw: bytes, form: type[T]) -> T:
    """Decode one record, with the same checks as a message.

    Raises:
        ProtocolError: The bytes are not such a record.
    """
    _check_bytes(raw, limit=None)
    return _decode(msgspec.json.Decoder(form), raw, "")


def _check_bytes(raw: bytes, limit: int | None = MAX_FRAME_BYTES) -> None:
    if limit is not None and len(raw) > limit:
        raise ProtocolError(
            ErrorCode.TOO_LARGE, f"a message has at most {limit} bytes; this one has {len(raw)}"
        )
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth_exceeds(raw, MAX_DEPTH):
        raise ProtocolError(ErrorCode.INVALID, f"nesting is deeper than {MAX_DEPTH}")


def _depth_exceeds(raw: bytes, limit: int) -> bool:
    """Whether brackets outside strings nest deeper than ``limit``. No recursion, early exit."""
    # Of what is left once escapes are gone, every other piece between quotes lies outside strings.
    marks = raw.replace(rb"\\", b"").replace(rb"\"", b"").translate(_ONE_KIND, _NOT_MARKS)
    brackets = b"".join(marks.replace(b'""', b"").split(b'"')[::2])
    levels = 0
    while levels < limit:
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
        levels += 1
    # What is left is deeper than the levels taken off, or unbalanced, which the decoder will say.
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket == ord("[") else -1
        if depth + levels > limit:
            return True
        if depth < 0:
            return False
    return False


def _check_integers(value: object, path: str) -> None:
    """Refuse integers beyond ±2^53 anywhere in ``value`` (at most `MAX_DEPTH` deep)."""
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise ProtocolError(ErrorCode.INVALID, "expected an integer within ±2^53", field=path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_integers(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_integers(item, f"{path}.{name[:64]}")


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes, path: str) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        _refuse(str(error), path)
    except UnicodeDecodeError:
        raise ProtocolError(ErrorCode.BAD_JSON, "the message is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ProtocolError(
            ErrorCode.BAD_JSON, f"the message is not JSON: {_printable(str(error))}"
        ) from None


def _refuse(text: str, path: str) -> NoReturn:
    """Say msgspec's complaint in the words of the contract."""
    match = _AT_PATH.match(text)
    assert match is not None
    what = match["what"]
    inner = (match["path"] or "").replace("[...]", "[]")
    field = (path + inner).lstrip(".")
    missing = re.search(r"missing required field `([^`]+)`", what)
    if missing:
        name = missing[1]
        raise ProtocolError(
            ErrorCode.INVALID, f"{name} is missing", field=f"{field}.{name}" if field else name
        ) from None
    for pattern, words in _PATTERN_WORDS.items():
        if repr(pattern) in what or pattern in what:
            raise ProtocolError(ErrorCode.INVALID, words, field=field or None) from None
    if not field and what.startswith("Expected `object`"):
        what = "expected a JSON object with a member type"
    raise ProtocolError(
        ErrorCode.INVALID, _printable(what[0].lower() + what[1:]), field=field or None
    ) from None


def _read_id(raw: bytes) -> RequestId | None:
    """The ``id`` of a message that could not be decoded, if it can be had."""
    if len(raw) > MAX_FRAME_BYTES:
        return None
    try:
        _check_bytes(raw)
        return _id_decoder.decode(raw).id
    except (ProtocolError, msgspec.MsgspecError, RecursionError, ValueError):
        return None


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text[:200])


def _quoted(text: str) -> str:
    shown = _printable(text[:64])
    return f"“{shown}{'…' if len(text) > 64 else ''}”"
