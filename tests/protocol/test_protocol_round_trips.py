"""What is encoded is decoded to the same, for every type of message and whatever its members hold."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from qubix_tui.protocol import codec
from qubix_tui.protocol.events import EVENTS, MetricsUpdate
from qubix_tui.protocol.job_records import Job
from qubix_tui.protocol.records import Metrics, Provider
from qubix_tui.protocol.requests import PING, REQUESTS, SUBSCRIBES
from tests.protocol.examples import plain_values, request_messages, struct_of, subscription_id, values

few = settings(max_examples=25)
"""There are about fifty types."""

request_ids = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.just("x-1")


@pytest.mark.parametrize("kind", sorted(REQUESTS.keys() - SUBSCRIBES - {PING}))
@few
@given(st.data())
def test_every_request_comes_through(kind: str, data: st.DataObject) -> None:
    """Type, data and id arrive as they were sent."""
    form = REQUESTS[kind]
    sent = struct_of(form, data.draw(values(inspect.type_info(form))))
    number = data.draw(request_ids)
    raw = codec.encode_request(kind, sent, subscription_id=subscription_id(kind), request_id=number)
    got = codec.decode_request(raw)
    assert (got.type, got.data, got.id) == (kind, sent, number)
    assert type(got.id) is type(number)


@pytest.mark.parametrize("kind", sorted(EVENTS))
@few
@given(st.data())
def test_every_event_comes_through(kind: str, data: st.DataObject) -> None:
    """Type, data, channel, offset and id arrive as they were sent."""
    form = EVENTS[kind]
    sent = struct_of(form, data.draw(values(inspect.type_info(form))))
    number = data.draw(request_ids)
    raw = codec.encode_event(kind, sent, channel="job:j", offset=7, request_id=number)
    got = codec.decode_event(raw)
    assert (got.type, got.data, got.channel, got.offset, got.id) == (kind, sent, "job:j", 7, number)
    assert type(got.data) is type(sent)


@pytest.mark.parametrize("form", [Provider, Metrics, Job], ids=lambda form: form.__name__)
@few
@given(st.data())
def test_records_come_through(form: type[msgspec.Struct], data: st.DataObject) -> None:
    """A record that was stored is read back as it was."""
    record = struct_of(form, data.draw(values(inspect.type_info(form))))
    assert codec.decode_record(codec.encode_record(record), form) == record


@given(plain_values)
def test_a_ping_brings_any_value(value: Any) -> None:
    """``data`` of a ping is kept exactly, whatever it is."""
    got = codec.decode_request(json.dumps({"type": "ping", "data": value}).encode())
    assert json.dumps(got.data) == json.dumps(value)


@pytest.mark.parametrize("kind", sorted(REQUESTS))
def test_the_least_and_the_most_of_each_request(kind: str) -> None:
    """A message with only what must be there is taken, and so is one with everything."""
    for raw in request_messages(kind):
        assert codec.decode_request(raw).type == kind


@pytest.mark.parametrize(
    ("written", "number"),
    [("3", 3), ("3.5", 3.5), ("3.0", 3.0), ('"x"', "x"), ('""', ""), ("-7", -7), ("9007199254740992", 2**53)],
)
def test_an_id_is_echoed_exactly(written: str, number: float | str) -> None:
    """An integer stays one, a float stays one: the reply has the characters of the request."""
    got = codec.decode_request(f'{{"type": "ping", "id": {written}}}'.encode())
    assert (got.id, type(got.id)) == (number, type(number))
    assert f'"id":{written}' in codec.encode_event("ok", request_id=got.id).decode()


@pytest.mark.parametrize("missing", ["", ', "id": null'])
def test_no_id_is_no_id(missing: str) -> None:
    """A message without an id, or with null, gets replies without one."""
    assert codec.decode_request(f'{{"type": "ping"{missing}}}'.encode()).id is None
    assert "id" not in json.loads(codec.encode_event("ok", request_id=None))


def test_members_that_nobody_knows_are_ignored() -> None:
    """At every level: a newer client or hub may say more."""
    raw = b'{"type":"GPU_METRICS_UPDATE","new":[1],"data":{"new":{},"metrics":{"new":null,"cpuPercent":5}}}'
    assert codec.decode_request(raw).data.metrics == Metrics(cpu_percent=5)
    raw = raw.replace(b'"metrics"', b'"providerId":"a","timestamp":"2026-01-31T12:00:00Z","metrics"')
    update = codec.decode_event(raw).data
    assert isinstance(update, MetricsUpdate)
    assert update.metrics == Metrics(cpu_percent=5)


def test_of_duplicate_members_the_last_wins() -> None:
    """At every level."""
    raw = b'{"type":"auth","id":1,"data":{"token":"a","token":"b"},"type":"ping","type":"auth","id":2}'
    got = codec.decode_request(raw)
    assert (got.type, got.id, got.data.token) == ("auth", 2, "b")


def test_types_and_kinds_that_are_not_known_are_plain_json() -> None:
    """A newer hub's event reaches whoever wants to look at it."""
    later = codec.decode_event(b'{"type":"LATER","data":{"a":[1]},"channel":"marketplace","offset":4}')
    assert (later.data, later.channel, later.offset) == ({"a": [1]}, "marketplace", 4)
    kind = codec.decode_event(b'{"type":"MARKETPLACE_UPDATE","data":{"kind":"later","a":1}}')
    assert kind.data == {"kind": "later", "a": 1}
    bare = codec.decode_event(b'{"type":"MARKETPLACE_UPDATE","data":{"message":"as the guide has it"}}')
    assert bare.data == {"message": "as the guide has it"}


def test_an_ok_needs_no_data() -> None:
    """There is nothing to add to it."""
    assert codec.decode_event(b'{"type":"ok","id":1}') == codec.decode_event(
        b'{"type":"ok","id":1,"data":{}}'
    )
