"""Strings and members that are refused: each with the path of the member, and what was expected of it."""

import json
from typing import Any

import pytest

from qubix_tui.protocol import codec
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.records import Provider
from tests.protocol.refusals import SAFE, refused, summary

LINE = "expected one line without control or bidirectional characters"
ID = "expected an id: 1 to 64 of A-Z a-z 0-9 . _ -"

# Strings

UNSEEN = [
    *("\x00", "\x07", "\x1b", "\n", "\r", "\t", "\x7f", "\x80", "\x85", "\x9b", "\x9f"),
    *("\u061c", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069"),
]


@pytest.mark.parametrize("unseen", UNSEEN, ids=lambda character: f"U+{ord(character):04X}")
@pytest.mark.parametrize("escaped", [True, False])
def test_lines_hold_no_control_or_bidirectional_characters(unseen: str, escaped: bool) -> None:
    """Names, reasons and messages, however written; no such character comes back in the error either."""

    def request(kind: str, data: dict[str, Any], **members: Any) -> bytes:
        message = {"type": kind, "data": data, **members}
        return json.dumps(message, ensure_ascii=escaped).encode()

    text = f"a{unseen}b"
    registered = {"workerId": "w", "instance": "i"}
    for raw, field in (
        (request("provider:register", {**registered, "name": text}), "data.name"),
        (request("provider:register", {**registered, "gpus": [{}, {"name": text}]}), "data.gpus[1].name"),
        (request("provider:status", {"paused": True, "reason": text}), "data.reason"),
        (request("GPU_METRICS_UPDATE", {"metrics": {"gpuNote": text}}), "data.metrics.gpuNote"),
        (request("ping", {}, id=text), "id"),
    ):
        assert summary(refused(raw)) == ("invalid", field, LINE)
    for raw, field in (
        (request("provider:register", {**registered, "workerId": text}), "data.workerId"),
        (request("job:cancel", {"jobId": text}), "data.jobId"),
    ):
        assert summary(refused(raw)) == ("invalid", field, ID)


@pytest.mark.parametrize(
    "text", ["é", "RTX™ 4090", "名前", "😀", " spaces  ", "", "\u00a0", "\u200b", "\ufeff"]
)
def test_lines_hold_any_other_character(text: str) -> None:
    """Every language, and symbols."""
    raw = json.dumps({"type": "provider:register", "data": {"workerId": "w", "instance": "i", "name": text}})
    assert codec.decode_request(raw.encode()).data.name == text


def test_the_text_of_a_log_may_hold_anything() -> None:
    """It is made harmless where it is shown."""
    text = "".join(UNSEEN) + "\x1b[31mred\x1b]0;title\x07"
    data = {"jobId": "j", "attempt": 1, "seq": 1, "stream": "stdout", "from": 0, "text": text}
    raw = json.dumps({"type": "JOB_LOGS", "data": data}).encode()
    assert codec.decode_request(raw).data.text == text


@pytest.mark.parametrize("worker_id", ["", "x" * 65, "a b", "../x", "a/b", "*", "é", "a:b", "a\n", "٣"])
def test_ids_that_are_none(worker_id: str) -> None:
    """1 to 64 of some ASCII characters, and nothing after them."""
    raw = json.dumps({"type": "enroll", "data": {"code": "c", "workerId": worker_id}})
    assert summary(refused(raw)) == ("invalid", "data.workerId", ID)


def test_lines_are_bounded() -> None:
    """A name has at most 128 characters, a sentence 1024, a string as ``id`` 128."""
    registered = {"workerId": "w", "instance": "i"}
    for name, most in (("name", 128), ("reason", 1024)):
        kind, data = (
            ("provider:register", registered) if name == "name" else ("provider:status", {"paused": True})
        )
        taken = codec.decode_request(json.dumps({"type": kind, "data": {**data, name: "é" * most}}).encode())
        assert getattr(taken.data, name) == "é" * most
        error = refused(json.dumps({"type": kind, "data": {**data, name: "é" * (most + 1)}}))
        assert summary(error) == ("invalid", f"data.{name}", f"expected a string of length <= {most}")
    assert codec.decode_request(json.dumps({"type": "ping", "id": "x" * 128}).encode()).id == "x" * 128
    error = refused(json.dumps({"type": "ping", "id": "x" * 129}))
    assert summary(error) == ("invalid", "id", "expected at most 128 characters")
    assert error.request_id is None


@pytest.mark.parametrize(
    "moment",
    [
        "yesterday",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00+01:00",
        "2026-01-31T12:00:00.Z",
        "٢٠٢٦-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z\n",
    ],
)
def test_times_that_are_none(moment: str) -> None:
    """RFC 3339 in UTC, in ASCII digits."""
    raw = json.dumps({"type": "GPU_METRICS_UPDATE", "data": {"metrics": {"sampledAt": moment}}})
    wanted = "expected an RFC 3339 time in UTC, such as 2026-01-31T12:00:00.000Z"
    assert summary(refused(raw)) == ("invalid", "data.metrics.sampledAt", wanted)


def test_a_sample_lists_at_most_16_processes_of_a_gpu() -> None:
    """More would be paid for by every reader."""

    def sample(count: int) -> str:
        gpu = {"index": 0, "processes": [{"pid": pid} for pid in range(count)]}
        return json.dumps({"type": "GPU_METRICS_UPDATE", "data": {"metrics": {"gpus": [gpu]}}})

    assert len(codec.decode_request(sample(16).encode()).data.metrics.gpus[0].processes) == 16
    error = refused(sample(17))
    assert summary(error) == (
        "invalid",
        "data.metrics.gpus[0].processes",
        "expected an array of length <= 16",
    )


# Members

WRONG = [
    ("{}", "type", "type is missing"),
    ('{"type":1}', "type", "expected a string, got an integer"),
    ('{"type":null}', "type", "expected a string, got null"),
    ('{"type":"ping","id":true}', "id", "expected a number, a string or null, got true or false"),
    ('{"type":"ping","id":[1]}', "id", "expected a number, a string or null, got an array"),
    ('{"type":"auth"}', "data", "data is missing"),
    ('{"type":"auth","data":null}', "data", "expected an object, got null"),
    ('{"type":"auth","data":[]}', "data", "expected an object, got an array"),
    ('{"type":"auth","data":{}}', "data.token", "token is missing"),
    ('{"type":"auth","data":{"token":5}}', "data.token", "expected a string, got an integer"),
    (
        '{"type":"unsubscribe","subscriptionId":"marketplace","data":5}',
        "data",
        "expected an object, got an integer",
    ),
    ('{"type":"GPU_METRICS_UPDATE","data":{}}', "data.metrics", "metrics is missing"),
    (
        '{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"cpuPercent":101}}}',
        "data.metrics.cpuPercent",
        "expected a number <= 100.0",
    ),
    (
        '{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"cpuPercent":"5"}}}',
        "data.metrics.cpuPercent",
        "expected a number or null, got a string",
    ),
    (
        '{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"seq":-1}}}',
        "data.metrics.seq",
        "expected an integer >= 0",
    ),
    (
        '{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"gpus":[{"index":0},{"index":1,"tempC":"hot"}]}}}',
        "data.metrics.gpus[1].tempC",
        "expected a number or null, got a string",
    ),
    (
        '{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"gpus":[{"index":0,"state":"odd"}]}}}',
        "data.metrics.gpus[0].state",
        "expected one of asleep, lost, ok, stale",
    ),
    (
        '{"type":"token:issue","data":{"role":"x - at `$.y`"}}',
        "data.role",
        "expected one of operator, provider, viewer",
    ),
    ('{"type":"job:renew","data":{"jobs":[{"jobId":"j"}]}}', "data.jobs[0].attempt", "attempt is missing"),
    (
        '{"type":"job:renew","data":{"jobs":[{"jobId":"j","attempt":true}]}}',
        "data.jobs[0].attempt",
        "expected an integer, got true or false",
    ),
    (
        '{"type":"job:submit","data":{"workload":"w","params":[]}}',
        "data.params",
        "expected an object, got an array",
    ),
    ('{"type":"subscribe:provider"}', "subscriptionId", "subscribe:provider needs a subscriptionId"),
    (
        '{"type":"subscribe:job","subscriptionId":null}',
        "subscriptionId",
        "subscribe:job needs a subscriptionId",
    ),
    (
        '{"type":"subscribe:job","subscriptionId":5}',
        "subscriptionId",
        "expected a string or null, got an integer",
    ),
    (
        '{"type":"subscribe:job","subscriptionId":"job:j"}',
        "subscriptionId",
        "expected an id (1 to 64 of A-Z a-z 0-9 . _ -) or *",
    ),
    ('{"type":"unsubscribe"}', "subscriptionId", "unsubscribe needs a subscriptionId"),
    (
        '{"type":"unsubscribe","subscriptionId":"rig-7"}',
        "subscriptionId",
        "expected a channel key: marketplace, provider:<id> or job:<id>",
    ),
    ('{"type":"subscribe:marketplace","data":{"digest":0.09}}', "data.digest", "expected 0.1 to 60 seconds"),
    ('{"type":"subscribe:marketplace","data":{"digest":60.1}}', "data.digest", "expected 0.1 to 60 seconds"),
    (
        '{"type":"subscribe:job","subscriptionId":"j","data":{"digest":1}}',
        "data.digest",
        "only subscribe:marketplace has a digest",
    ),
    (
        '{"type":"subscribe:marketplace","data":{"since":3}}',
        "data.epoch",
        "since needs the epoch it belongs to",
    ),
    (
        '{"type":"subscribe:job","subscriptionId":"*","data":{"since":0}}',
        "data.since",
        "a wildcard has no offsets to go on from",
    ),
    (
        '{"type":"subscribe:marketplace","data":{"since":3.0,"epoch":"e"}}',
        "data.since",
        "expected an integer or null, got a number",
    ),
]


@pytest.mark.parametrize(("raw", "field", "words"), WRONG, ids=[f"{case[1]}: {case[2]}" for case in WRONG])
def test_what_is_wrong_is_said_precisely(raw: str, field: str, words: str) -> None:
    """The path of the member, and what was expected of it, in the words of JSON."""
    assert summary(refused(raw)) == ("invalid", field, words)


def test_an_unknown_type_is_named_harmlessly() -> None:
    """What a client made up comes back without what a terminal would obey, and not at any length."""
    error = refused('{"type":"subscribe:market","id":3}')
    assert summary(error) == ("unknown_type", "type", "unknown message type “subscribe:market”")
    assert error.request_id == 3
    assert refused(json.dumps({"type": "\x1b[31m\u202e" + "x" * 99})).message == (
        f"unknown message type “�[31m�{'x' * 58}…”"
    )


def test_the_path_of_a_member_holds_nothing_unprintable() -> None:
    """The names in free-form members are a client's own."""
    raw = json.dumps({"type": "ping", "data": {"a\u202e\x1b" + "b" * 99: SAFE + 1}})
    assert refused(raw).field == f"data.a��{'b' * 61}"


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        ('{"type":"nonsense","id":3.5}', 3.5),
        ('{"type":5,"id":"x"}', "x"),
        ('{"id":3}', 3),
        ('{"type":"ping","id":3,"data":1e400}', 3),
        ('{"type":"auth","id":3}', 3),
        ('{"type":"subscribe:job","id":3}', 3),
        ('{"type":"ping","id":3,"data":' + "[" * 40 + "]" * 40 + "}", None),
        ('{"type":"ping","id":3,', None),
        ('{"type":"ping","id":{}}', None),
        ("[]", None),
    ],
)
def test_an_error_knows_the_id_where_it_could_be_read(raw: str, number: Any) -> None:
    """So that a client can tell which of its messages was refused."""
    error = refused(raw)
    assert (error.request_id, type(error.request_id)) == (number, type(number))


@pytest.mark.parametrize("kind", ["subscribe:marketplace", "ping", "token:list", "enroll:new"])
@pytest.mark.parametrize("data", ["", ',"data":null', ',"data":{}'])
def test_data_may_be_missing_where_there_is_nothing_to_say(kind: str, data: str) -> None:
    """Missing, null and empty are one."""
    got = codec.decode_request(f'{{"type":"{kind}"{data}}}'.encode())
    if kind == "ping":
        assert got.data == ({} if data.endswith("{}") else None)
    else:
        assert got.data == type(got.data)()


@pytest.mark.parametrize("digest", ["0.1", "60", "1"])
def test_bounds_of_a_digest(digest: str) -> None:
    """Both ends are taken."""
    raw = f'{{"type":"subscribe:marketplace","data":{{"digest":{digest}}}}}'
    assert codec.decode_request(raw.encode()).data.digest == float(digest)


def test_since_0_needs_no_epoch() -> None:
    """It asks for all that is kept, of whichever epoch."""
    got = codec.decode_request(b'{"type":"subscribe:job","subscriptionId":"j","data":{"since":0}}')
    assert (got.data.since, got.data.epoch) == (0, None)


def test_what_is_wrong_with_a_record() -> None:
    """The path begins at the record."""
    with pytest.raises(ProtocolError) as caught:
        codec.decode_record(b'{"id":"a","workerId":"w","isOnline":1}', Provider)
    assert summary(caught.value) == ("invalid", "isOnline", "expected true or false, got an integer")
    with pytest.raises(ProtocolError) as caught:
        codec.decode_record(b"[1]", Provider)
    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID, None)


def test_the_choices_are_named_inside_any_kind_of_update() -> None:
    """What a member may be is found whichever form the message has."""
    page = {"kind": "snapshot", "page": 1, "pages": 1, "providers": [{"state": "odd"}]}
    with pytest.raises(ProtocolError) as caught:
        codec.decode_event(codec.encode_event("MARKETPLACE_UPDATE", page))
    assert caught.value.field == "data.providers[0].state"
    assert caught.value.message == "expected one of available, busy, paused, unreachable, offline"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"connected"}',
        b'{"type":"connected","data":{"clientId":"c"}}',
        b'{"type":"MARKETPLACE_UPDATE"}',
        b'{"type":"MARKETPLACE_UPDATE","data":{"kind":"provider_removed"}}',
        b'{"type":"error","data":{"code":"made_up","message":"x"}}',
        b'{"data":{}}',
        b"{",
    ],
)
def test_events_that_break_the_contract_are_refused(raw: bytes) -> None:
    """A client never gets half a message."""
    with pytest.raises(ProtocolError):
        codec.decode_event(raw)
