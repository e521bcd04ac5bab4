"""Whatever comes in, the codec gives a message or raises `ProtocolError`; nothing else, ever."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qubix_tui.protocol import codec
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.events import EVENTS, Event
from qubix_tui.protocol.job_records import Job
from qubix_tui.protocol.records import Metrics, Provider
from qubix_tui.protocol.requests import REQUESTS, Request
from tests.protocol.examples import event_messages, request_messages

Decode = Callable[[bytes], object]

DECODERS: list[tuple[str, Decode]] = [
    ("request", codec.decode_request),
    ("event", codec.decode_event),
    ("provider", lambda raw: codec.decode_record(raw, Provider)),
    ("metrics", lambda raw: codec.decode_record(raw, Metrics)),
    ("job", lambda raw: codec.decode_record(raw, Job)),
]
every_decoder = pytest.mark.parametrize("decode", [decode for _, decode in DECODERS], ids=dict(DECODERS))

VALID = [raw for kind in REQUESTS for raw in request_messages(kind)]
VALID += [raw for kind in EVENTS for raw in event_messages(kind)]

anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**53, 2**53 + 1, 2**63, 2**64, 10**399, -(10**399)])
    | st.floats()
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=15,
)
kinds = st.sampled_from(sorted({*REQUESTS, *EVENTS})) | st.text(max_size=12)
members = st.sampled_from(
    [
        "type",
        "data",
        "id",
        "channel",
        "offset",
        "subscriptionId",
        "metrics",
        "gpus",
        "kind",
        "jobId",
        "providers",
    ]
)


def outcome(decode: Decode, raw: bytes) -> ProtocolError | None:
    """Decode; give what it is refused with, which can always be told to its sender."""
    refusal: ProtocolError | None = None
    try:
        decoded = decode(raw)
    except ProtocolError as error:
        refusal = error
    else:
        if isinstance(decoded, Request | Event):
            codec.encode_event("ok", request_id=decoded.id)
    if refusal is not None:
        assert isinstance(refusal.code, ErrorCode)
        assert refusal.message
        assert refusal.message.isprintable()
        assert refusal.field is None or (refusal.field and refusal.field.isprintable())
        data = {"code": refusal.code, "message": refusal.message, "field": refusal.field}
        reply = codec.decode_event(codec.encode_event("error", data, request_id=refusal.request_id))
        assert reply.id == refusal.request_id
    return refusal


def dumped(value: object) -> bytes:
    """Write JSON as Python does, which lets through NaN, and half surrogates as escapes."""
    return json.dumps(value).encode()


@every_decoder
@given(st.binary(max_size=400))
def test_arbitrary_bytes(decode: Decode, raw: bytes) -> None:
    """Bytes that are not even text."""
    outcome(decode, raw)


@every_decoder
@given(anything)
def test_arbitrary_json(decode: Decode, value: Any) -> None:
    """JSON of any shape, and what only looks like JSON."""
    outcome(decode, dumped(value))


@pytest.mark.parametrize("decode", [codec.decode_request, codec.decode_event], ids=["request", "event"])
@given(kinds, anything, anything, st.dictionaries(members, anything, max_size=4))
def test_arbitrary_members(decode: Decode, kind: str, data: Any, number: Any, more: dict[str, Any]) -> None:
    """Known types with any data, any id, and any other members."""
    outcome(decode, dumped({"type": kind, "data": data, "id": number, **more}))


@given(st.sampled_from(VALID), st.data())
@settings(max_examples=400)
def test_valid_messages_with_one_thing_changed(raw: bytes, data: st.DataObject) -> None:
    """One member anywhere replaced, dropped, or given another name."""
    message = json.loads(raw)
    holder, key = data.draw(st.sampled_from(list(places(message))))
    match data.draw(st.sampled_from(["replace", "drop", "rename"])):
        case "replace":
            holder[key] = data.draw(anything)
        case "drop":
            del holder[key]
        case "rename" if isinstance(holder, dict):
            holder[data.draw(members)] = holder.pop(key)
    for _, decode in DECODERS:
        outcome(decode, dumped(message))


@given(st.sampled_from(VALID), st.data())
@settings(max_examples=400)
def test_valid_messages_with_bytes_changed(raw: bytes, data: st.DataObject) -> None:
    """Bytes replaced, put in, or taken out, and what follows cut off."""
    start = data.draw(st.integers(0, len(raw)))
    taken = data.draw(st.integers(0, 8))
    put = data.draw(
        st.binary(max_size=8) | st.sampled_from([b"\\", b'"', b"\\ud800", b"9" * 500, b"[" * 99, b"\x9b"])
    )
    kept = data.draw(st.integers(0, len(raw)))
    changed = raw[:start] + put + raw[start + taken : start + taken + kept]
    for _, decode in DECODERS:
        outcome(decode, changed)


@given(st.sampled_from(VALID), st.sampled_from(VALID), st.data())
def test_two_messages_in_one(first: bytes, second: bytes, data: st.DataObject) -> None:
    """The members of two messages mixed: every one is right somewhere."""
    both = list(json.loads(first).items()) + list(json.loads(second).items())
    mixed = data.draw(st.permutations(both))
    written = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in mixed)
    for _, decode in DECODERS:
        outcome(decode, f"{{{written}}}".encode())


@pytest.mark.parametrize("raw", VALID, ids=lambda raw: json.loads(raw)["type"])
def test_every_prefix_of_a_valid_message_is_refused(raw: bytes) -> None:
    """A message that was cut off is never taken for a whole one."""
    decode = codec.decode_request if raw in VALID[: 2 * len(REQUESTS)] else codec.decode_event
    for length in range(0, len(raw), 1 + len(raw) // 60):
        error = outcome(decode, raw[:length])
        assert error is not None
        assert error.code is ErrorCode.BAD_JSON
    assert outcome(decode, raw) is None


def places(value: Any) -> list[tuple[Any, Any]]:
    """Give every member and item of a message, as what holds it and where."""
    found: list[tuple[Any, Any]] = []
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found += [(value, key), *places(value[key])]
    return found
