"""Bytes ⇄ messages. Whatever the bytes, only `ProtocolError` is raised.

What msgspec alone would let through is looked at first (`qubix_tui.protocol.checks`), and what it finds wrong
is said in the words of the contract (`qubix_tui.protocol.complaints`).
"""

import re
from typing import Any, Final, Literal, TypeVar

import msgspec

from qubix_tui.protocol import MAX_DEPTH, MAX_FRAME_BYTES, channels
from qubix_tui.protocol.checks import (
    INTEGER_WORDS,
    check_encoding,
    check_integers,
    check_size,
    depth_exceeds,
    may_hold_long_integer,
    printable,
    shorten_integers,
    why_not_json,
)
from qubix_tui.protocol.complaints import refusal
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.events import EVENTS, OK, Event
from qubix_tui.protocol.requests import (
    MAX_DIGEST_SECONDS,
    MIN_DIGEST_SECONDS,
    OPTIONAL_DATA,
    PING,
    REQUESTS,
    SUBSCRIBE_MARKETPLACE,
    SUBSCRIBES,
    UNSUBSCRIBE,
    PublishMetrics,
    Request,
    SubscribeOptions,
)
from qubix_tui.protocol.types import LINE_PATTERN, MAX_SAFE_INTEGER, Count, RequestId, Wire

T = TypeVar("T")

MAX_REQUEST_ID: Final = 128
"""Characters of an ``id`` that is a string."""

_NULL: Final = msgspec.Raw(b"null")
_ABSENT: Final = msgspec.Raw(b"null")
_EMPTY: Final = msgspec.Raw(b"{}")
_LINE: Final = re.compile(LINE_PATTERN)
_SAMPLE_BEGINS: Final = b'{"type":"GPU_METRICS_UPDATE",'
"""How the message begins that a hub gets most, as most encoders write it."""


class _Envelope(msgspec.Struct, rename="camel"):
    type: str
    subscription_id: str | None = None
    data: msgspec.Raw = _ABSENT
    id: RequestId | None = None


class _Sample(msgspec.Struct, rename="camel", kw_only=True):
    type: Literal["GPU_METRICS_UPDATE"]
    subscription_id: None = None
    id: None = None
    data: PublishMetrics


class _PublishedEnvelope(msgspec.Struct):
    type: str
    data: msgspec.Raw = _ABSENT
    channel: str | None = None
    offset: Count | None = None
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
_sample_decoder = msgspec.json.Decoder(_Sample)
_published_decoder = msgspec.json.Decoder(_PublishedEnvelope)
_id_decoder = msgspec.json.Decoder(_LooseId)
_any_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_request_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(form) for kind, form in REQUESTS.items()
}
_event_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(form) for kind, form in EVENTS.items()
}
_record_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def decode_sample(raw: bytes) -> PublishMetrics | None:
    """Decode a well-formed ``GPU_METRICS_UPDATE``, which a hub gets more of than of all else, in one pass.

    Everything that `decode_request` refuses is None here, and so is every other message: that one says what
    it is, or what is wrong with it.
    """
    if (
        not raw.startswith(_SAMPLE_BEGINS)
        or len(raw) > MAX_FRAME_BYTES
        or (raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and depth_exceeds(raw, MAX_DEPTH))
        or may_hold_long_integer(raw)
    ):
        return None
    try:
        if not raw.isascii():
            check_encoding(raw)
        return _sample_decoder.decode(raw).data
    except (ProtocolError, msgspec.MsgspecError, RecursionError, ValueError):
        return None


def decode_request(raw: bytes) -> Request:
    """Decode and check one client → hub message.

    Args:
        raw: The payload of one text frame, UTF-8.

    Raises:
        ProtocolError: The message can't be accepted; its ``request_id`` is set where it could be read.
    """
    try:
        check_size(raw, limit=MAX_FRAME_BYTES, depth=MAX_DEPTH)
        check_encoding(raw)
        envelope = _decode(_envelope_decoder, raw, "")
    except ProtocolError as error:
        error.request_id = _read_id(raw)
        raise
    if envelope.id is not None:
        _check_id(envelope.id)
    try:
        return _checked_request(envelope, raw)
    except ProtocolError as error:
        error.request_id = envelope.id
        raise


def _checked_request(envelope: _Envelope, raw: bytes) -> Request:
    kind, body = envelope.type, envelope.data
    decoder = _request_decoders.get(kind)
    if decoder is None:
        raise ProtocolError(ErrorCode.UNKNOWN_TYPE, f"unknown message type {_quoted(kind)}", field="type")
    if may_hold_long_integer(raw):
        _check_integers(body, "data")
    data: Any
    if kind == PING:
        data = _decode(_any_decoder, body, "data")
    else:
        if body == _NULL:
            if kind in OPTIONAL_DATA:
                body = _EMPTY
            elif body is _ABSENT:
                raise ProtocolError(ErrorCode.INVALID, "data is missing", field="data")
        data = _decode(decoder, body, "data")
    channel = _channel_of(kind, envelope.subscription_id)
    if kind in SUBSCRIBES:
        assert channel is not None
        _check_options(data, channel)
    return Request(type=kind, data=data, channel=channel, id=envelope.id)


def _check_id(request_id: RequestId) -> None:
    """Refuse what could not be echoed as it came, or not on one line."""
    if isinstance(request_id, str):
        if len(request_id) > MAX_REQUEST_ID:
            raise ProtocolError(
                ErrorCode.INVALID, f"expected at most {MAX_REQUEST_ID} characters", field="id"
            )
        if _LINE.match(request_id) is None:
            raise ProtocolError(
                ErrorCode.INVALID,
                "expected one line without control or bidirectional characters",
                field="id",
            )
    elif isinstance(request_id, int) and abs(request_id) > MAX_SAFE_INTEGER:
        raise ProtocolError(ErrorCode.INVALID, INTEGER_WORDS, field="id")


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

    Args:
        raw: The payload of one text frame, UTF-8.

    Raises:
        ProtocolError: The message breaks the contract.
    """
    check_size(raw, limit=MAX_FRAME_BYTES, depth=MAX_DEPTH)
    check_encoding(raw)
    envelope = _decode(_published_decoder, raw, "")
    kind, body = envelope.type, envelope.data
    if may_hold_long_integer(raw):
        check_integers(envelope.id, "id")
        _check_integers(body, "data")
    if kind == OK and body == _NULL:
        body = _EMPTY
    try:
        data = _decode(_event_decoders.get(kind, _any_decoder), body, "data")
    except ProtocolError as error:
        if error.field != "data.kind":
            raise
        data = _decode(_any_decoder, body, "data")
    return Event(type=kind, data=data, channel=envelope.channel, offset=envelope.offset, id=envelope.id)


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
    """Decode one record, with the same checks as a message, but for its length.

    Raises:
        ProtocolError: The bytes are not such a record.
    """
    check_size(raw, limit=None, depth=MAX_DEPTH)
    check_encoding(raw)
    if may_hold_long_integer(raw):
        _check_integers(raw, "")
    decoder = _record_decoders.get(form)
    if decoder is None:
        decoder = _record_decoders[form] = msgspec.json.Decoder(form)
    record: T = _decode(decoder, raw, "")
    return record


def _check_integers(raw: bytes | msgspec.Raw, path: str) -> None:
    check_integers(_decode(_any_decoder, shorten_integers(bytes(raw)), path), path)


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw, path: str) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise refusal(error, decoder.type, path) from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ProtocolError(ErrorCode.BAD_JSON, why_not_json(bytes(raw), str(error))) from None


def _read_id(raw: bytes) -> RequestId | None:
    """The ``id`` of a message that could not be decoded, if it can be had."""
    try:
        check_size(raw, limit=MAX_FRAME_BYTES, depth=MAX_DEPTH)
        request_id = _id_decoder.decode(raw).id
        if request_id is not None:
            _check_id(request_id)
    except (ProtocolError, msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return request_id


def _quoted(text: str) -> str:
    return f"“{printable(text, 64)}{'…' if len(text) > 64 else ''}”"
