"""Bytes and numbers that are refused: each with its code, the member at fault, and words that say why."""

import json

import pytest

from qubix_tui.protocol import MAX_DEPTH, MAX_FRAME_BYTES, codec
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.job_records import Job
from qubix_tui.protocol.records import Metrics
from tests.protocol.refusals import SAFE, refused, summary

INTEGER = "expected an integer within ±2^53"
HALF = "the message is not JSON: an escape is half of a surrogate pair, which is no character"


def test_64_kib_is_taken_and_one_byte_more_is_not() -> None:
    """Bytes are counted, not characters; requests and events alike."""
    frame = '{"type":"ping","id":1,"data":"%s"}'
    room = MAX_FRAME_BYTES - len(frame % "")
    assert codec.decode_request((frame % ("x" * room)).encode()).data == "x" * room
    error = refused(frame % ("x" * (room + 1)))
    assert summary(error) == ("too_large", None, "a message has at most 65536 bytes; this one has 65537")
    assert error.request_id is None
    assert refused(frame % ("é" * (room // 2 + 1))).code is ErrorCode.TOO_LARGE
    with pytest.raises(ProtocolError) as caught:
        codec.decode_event((frame % ("x" * (room + 1))).encode())
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_a_stored_record_may_be_longer_than_a_frame() -> None:
    """Only what is sent has a bound."""
    job = {"id": "j", "workload": "w", "state": "queued", "createdAt": "2026-01-31T12:00:00Z"}
    raw = json.dumps(job | {"params": {"text": "x" * MAX_FRAME_BYTES}}).encode()
    assert codec.decode_record(raw, Job).params["text"] == "x" * MAX_FRAME_BYTES


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_is_looked_at_before_anything_is_decoded(opening: str, closing: str) -> None:
    """32 levels, the message's own among them, and no more; a hundred thousand do no harm."""
    levels = len(closing)

    def nested(depth: int) -> str:
        times = (depth - 1) // levels
        rest = "[" * ((depth - 1) % levels)
        inner = rest + "0" + rest.replace("[", "]")
        return '{"type":"ping","id":9,"data":' + opening * times + inner + closing * times + "}"

    assert codec.decode_request(nested(MAX_DEPTH).encode()).type == "ping"
    assert summary(refused(nested(MAX_DEPTH + 1))) == ("invalid", None, "nesting is deeper than 32")
    deep = (opening * 10_000).encode()
    for decode in (codec.decode_request, codec.decode_event, lambda raw: codec.decode_record(raw, Metrics)):
        with pytest.raises(ProtocolError, match="nesting is deeper"):
            decode(deep)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"ping","id":4,"data":"\xff"}',
        b'{"type":"ping","id":4,"data":"\xc0\xaf"}',
        b'{"type":"ping","id":4,"data":"\xed\xa0\x80"}',
        b'{"type":"ping","id":4,"data":"\xf4\x90\x80\x80"}',
        b'{"type":"ping","id":4,"nobody":"\xff"}',
        b'{"type":"ping","id":4,"data":"\xe2\x82"}',
    ],
)
def test_what_is_not_utf8_is_refused(raw: bytes) -> None:
    """Overlong, truncated, a surrogate, beyond U+10FFFF; in a member that nobody reads too."""
    error = refused(raw)
    assert error.code is ErrorCode.BAD_JSON
    assert error.message.startswith("the message is not UTF-8: ")
    assert error.message.endswith(f"(byte {next(i for i, byte in enumerate(raw) if byte > 127)})")
    assert error.request_id == 4
    with pytest.raises(ProtocolError, match="not UTF-8"):
        codec.decode_event(raw)


def test_a_byte_order_mark_is_refused_by_its_name() -> None:
    """RFC 8259: JSON on a network has none."""
    error = refused(b'\xef\xbb\xbf{"type":"ping"}')
    assert summary(error) == (
        "bad_json",
        None,
        "the message is not JSON: it begins with a byte order mark",
    )


@pytest.mark.parametrize(
    "text",
    [r"\ud800", r"\udc00", r"\ud800\ud800", r"\udc00\ud800", r"\ud83dx", r"\uD83D\n", r"\ude00 \ud83d\ude00"],
)
def test_half_a_surrogate_pair_is_refused_by_its_name(text: str) -> None:
    """Wherever it stands: as a value, as a name, where nobody looks."""
    for raw in (
        '{"type":"ping","data":"%s"}',
        '{"type":"ping","data":{"%s":1}}',
        '{"type":"ping","nobody":"%s"}',
        '{"type":"%s"}',
    ):
        assert summary(refused(raw % text)) == ("bad_json", None, HALF)


def test_whole_surrogate_pairs_are_characters() -> None:
    """They, and an escaped backslash before `ud800`, are not blamed for another mistake beside them."""
    assert codec.decode_request(rb'{"type":"ping","data":"\ud83d\ude00"}').data == "😀"
    assert codec.decode_request(rb'{"type":"ping","data":"\\ud800"}').data == r"\ud800"
    assert "surrogate" not in refused(r'{"type":"ping","data":"\ud83d\ude00 \\ud800",}').message


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " ",
        "{",
        '{"type":"ping"',
        '{"type":"ping"} x',
        '{"type":"ping",}',
        "{'type':'ping'}",
        "ping",
        "\x00",
    ],
)
def test_what_is_not_json_is_refused(raw: str) -> None:
    """Cut off, followed by more, JavaScript that is not JSON, nothing at all."""
    error = refused(raw)
    assert error.code is ErrorCode.BAD_JSON
    assert error.message.startswith("the message is not JSON: ")


@pytest.mark.parametrize("raw", ["null", "1", '"ping"', "[]", "true"])
def test_json_that_is_no_object_is_refused(raw: str) -> None:
    """The words say what a message is."""
    assert summary(refused(raw)) == ("invalid", None, "expected a JSON object with a member type")


# Numbers


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "nan"])
def test_nan_and_infinity_are_no_json(word: str) -> None:
    """JSON has no such numbers; a sample can't smuggle one in."""
    for raw in (
        '{"type":"ping","data":%s}',
        '{"type":"ping","id":%s}',
        '{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"cpuPercent":%s}}}',
        '{"type":"ping","nobody":%s}',
    ):
        assert refused(raw % word).code is ErrorCode.BAD_JSON


def test_a_number_that_no_double_holds_is_refused() -> None:
    """1e400 would be infinite."""
    metrics = '{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"netRxBytesPerSec":1e400}}}'
    assert summary(refused(metrics)) == ("invalid", "data.metrics.netRxBytesPerSec", "number out of range")
    assert summary(refused('{"type":"ping","data":[1e400]}')) == ("invalid", "data[0]", "number out of range")
    assert summary(refused('{"type":"ping","id":1e400}')) == ("invalid", "id", "number out of range")


TOO_BIG = [str(SAFE + 1), str(-SAFE - 1), str(2**63), str(2**64), "9" * 400, "-" + "9" * 400, "9" * 5000]
IN_MESSAGES = [
    ('{"type":"ping","data":%s}', "data"),
    ('{"type":"ping","data":{"a":[0,%s]}}', "data.a[1]"),
    ('{"type":"job:submit","data":{"workload":"w","params":{"a":{"b":[%s]}}}}', "data.params.a.b[0]"),
    (
        '{"type":"JOB_COMPLETED","data":{"jobId":"j","attempt":1,"seq":1,"status":"completed","result":%s}}',
        "data.result",
    ),
    ('{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"seq":%s}}}', "data.metrics.seq"),
    (
        '{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"netRxBytesPerSec":%s}}}',
        "data.metrics.netRxBytesPerSec",
    ),
    ('{"type":"subscribe:job","subscriptionId":"j","data":{"since":%s,"epoch":"e"}}', "data.since"),
]


@pytest.mark.parametrize("number", TOO_BIG, ids=lambda number: f"{number[:6]}-{len(number)}-digits")
@pytest.mark.parametrize(("raw", "field"), IN_MESSAGES, ids=[field for _, field in IN_MESSAGES])
def test_integers_beyond_2_to_the_53_are_refused(number: str, raw: str, field: str) -> None:
    """Wherever they stand, free-form members too: a JavaScript client would round them."""
    assert summary(refused(raw % number)) == ("invalid", field, INTEGER)


@pytest.mark.parametrize("number", TOO_BIG, ids=lambda number: f"{number[:6]}-{len(number)}-digits")
def test_ids_beyond_2_to_the_53_are_refused_and_not_echoed(number: str) -> None:
    """An echo would not be what was sent."""
    error = refused(f'{{"type":"ping","id":{number}}}')
    assert summary(error) == ("invalid", "id", INTEGER)
    assert error.request_id is None
    assert refused(f'{{"type":5,"id":{number}}}').request_id is None


@pytest.mark.parametrize("number", [SAFE, -SAFE, 10**15])
def test_integers_up_to_2_to_the_53_are_exact(number: int) -> None:
    """The bound itself is taken."""
    got = codec.decode_request(json.dumps({"type": "ping", "id": number, "data": [number]}).encode())
    assert (got.id, got.data) == (number, [number])


@pytest.mark.parametrize(
    "value",
    ["0.30000000000000004", "1e19", "12345678901234567.5", "1.2345678901234567e-300", '"12345678901234567"'],
)
def test_long_digits_that_are_no_integer_are_taken(value: str) -> None:
    """Doubles have up to 17 digits, and strings any."""
    assert codec.decode_request(f'{{"type":"ping","data":[{value}]}}'.encode()).data == [json.loads(value)]


def test_events_and_records_have_the_same_bound() -> None:
    """The contract holds in both directions, and for what is stored."""
    completed = {"jobId": "j", "status": "completed", "timestamp": "2026-01-31T12:00:00Z", "result": SAFE + 1}
    with pytest.raises(ProtocolError) as caught:
        codec.decode_event(json.dumps({"type": "JOB_COMPLETED", "data": completed}).encode())
    assert summary(caught.value) == ("invalid", "data.result", INTEGER)
    with pytest.raises(ProtocolError) as caught:
        codec.decode_event(b'{"type":"ok","id":%d}' % (SAFE + 1))
    assert summary(caught.value) == ("invalid", "id", INTEGER)
    record = (
        '{"id":"j","workload":"w","state":"queued","createdAt":"2026-01-31T12:00:00Z","params":{"a":[%d]}}'
    )
    with pytest.raises(ProtocolError) as caught:
        codec.decode_record((record % (SAFE + 1)).encode(), Job)
    assert summary(caught.value) == ("invalid", "params.a[0]", INTEGER)
    with pytest.raises(ProtocolError) as caught:
        codec.decode_record(b"[%d]" % (SAFE + 1), list[int])
    assert summary(caught.value) == ("invalid", "[0]", INTEGER)


@pytest.mark.parametrize("offset", ["-1", "1.5", '"1"', str(SAFE + 1)])
def test_an_offset_is_a_whole_number(offset: str) -> None:
    """Anything else would send a client to a wrong place."""
    with pytest.raises(ProtocolError) as caught:
        codec.decode_event(f'{{"type":"ok","offset":{offset}}}'.encode())
    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID, "offset")
