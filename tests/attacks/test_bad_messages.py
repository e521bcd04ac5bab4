"""Messages that no client should send: each gets a precise error, and costs its sender alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from qubix_tui.protocol.tokens import Role
from tests.attacks.raw import TEXT, frame
from tests.attacks.stage import AttackedHub, attacked_hub

REGISTER = '{"type":"provider:register","data":{"workerId":"w","instance":"i","name":%s}}'
METRICS = '{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"cpuPercent":%s}}}'

ATTACKS = {
    "no JSON": (b"hello", "bad_json"),
    "nothing": (b"", "bad_json"),
    "half a message": (b'{"type":"ping"', "bad_json"),
    "two messages": (b'{"type":"ping"}{"type":"ping"}', "bad_json"),
    "a list": (b"[]", "invalid"),
    "a byte order mark": (b'\xef\xbb\xbf{"type":"ping"}', "bad_json"),
    "bad UTF-8": (b'{"type":"ping","data":"\xff\xfe"}', "bad_json"),
    "overlong UTF-8": (b'{"type":"ping","data":"\xc0\xaf"}', "bad_json"),
    "a surrogate in UTF-8": (b'{"type":"ping","data":"\xed\xa0\x80"}', "bad_json"),
    "half a surrogate pair": (b'{"type":"ping","data":"\\ud800"}', "bad_json"),
    "half a pair as a name": (b'{"type":"ping","data":{"\\udfff":1}}', "bad_json"),
    "NaN": (b'{"type":"ping","data":NaN}', "bad_json"),
    "NaN as a metric": (METRICS % "NaN", "bad_json"),
    "Infinity": (b'{"type":"ping","data":-Infinity}', "bad_json"),
    "10^400": (METRICS % "1e400", "invalid"),
    "10^400 in digits": (METRICS % ("1" + "0" * 400), "invalid"),
    "an id of 5,000 digits": (b'{"type":"ping","id":%s}' % (b"9" * 5_000), "invalid"),
    "an id with a terminal escape": (b'{"type":"ping","id":"\\u001b[31m"}', "invalid"),
    "an unknown type with one": (b'{"type":"\\u001b]0;owned\\u0007"}', "unknown_type"),
    "a type that is a number": (b'{"type":7}', "invalid"),
    "20,000 lists in each other": (
        b'{"type":"ping","data":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "invalid",
    ),
    "20,000 objects in each other": (
        b'{"type":"ping","data":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
        "invalid",
    ),
    "100,000 open brackets": (b"[" * 100_000, "too_large"),
    "100,000 open brackets in a frame as long as allowed": (b"[" * 65_000, "invalid"),
    "more than 64 KiB": (b'{"type":"ping","data":"%s"}' % (b"x" * 65_536), "too_large"),
    "an id with ../": (b'{"type":"subscribe:provider","subscriptionId":"../../etc/passwd"}', "invalid"),
    "an id with an encoded ../": (b'{"type":"subscribe:provider","subscriptionId":"%2e%2e%2f"}', "invalid"),
    "an id with a zero byte": (b'{"type":"subscribe:provider","subscriptionId":"a\\u0000b"}', "invalid"),
    "a worker with ../": (
        b'{"type":"provider:register","data":{"workerId":"../w","instance":"i"}}',
        "invalid",
    ),
    "a channel that is none": (b'{"type":"unsubscribe","subscriptionId":"provider:../x"}', "invalid"),
    "a name with a terminal escape": (REGISTER % json.dumps("\x1b[2Jrig"), "invalid"),
    "a name with an 8-bit escape": (REGISTER % json.dumps("\x9b2Jrig"), "invalid"),
    "the same, not escaped": (REGISTER % '"\x9b2Jrig"', "invalid"),
    "a name of two lines": (REGISTER % json.dumps("rig\nrig"), "invalid"),
    "a name that turns the text around": (REGISTER % json.dumps("rig\u202eexe"), "invalid"),
    "a name with a raw line break": (REGISTER % '"rig\nrig"', "bad_json"),
    "a name of 10,000 characters": (REGISTER % json.dumps("x" * 10_000), "invalid"),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedHub]:
    """The hub that all of these go to."""
    directory: Path = tmp_path_factory.mktemp("home")
    with attacked_hub(directory) as running:
        yield running


@pytest.mark.parametrize(("attack", "code"), ATTACKS.values(), ids=list(ATTACKS))
def test_it_gets_an_error_and_the_connection_stays(hub: AttackedHub, attack: bytes | str, code: str) -> None:
    """The error names what is wrong, without what a terminal would obey; a ping is answered."""
    payload = attack if isinstance(attack, bytes) else attack.encode()
    with hub.client(Role.PROVIDER) as client:
        client.send(frame(TEXT, payload))
        answer = client.hear()
        assert answer["type"] == "error", answer
        assert answer["data"]["code"] == code, answer
        assert answer["data"]["message"].isprintable()
        assert (answer["data"].get("field") or "x").isprintable()
        assert client.ask("ping")["type"] == "pong"


def test_of_duplicate_members_the_last_counts(hub: AttackedHub) -> None:
    """As in a browser's JSON.parse: what is checked and what is used are the same member."""
    with hub.client() as client:
        client.send(frame(TEXT, b'{"type":"provider:remove","type":"ping","id":1,"id":2}'))
        answer = client.hear()
        assert (answer["type"], answer["id"]) == ("pong", 2)
        client.send(frame(TEXT, b'{"type":"ping","type":"provider:remove","data":{"providerId":"x"},"id":3}'))
        assert client.hear()["data"]["code"] == "forbidden"


def test_a_published_sample_has_one_value_for_each_member(hub: AttackedHub) -> None:
    """Readers that let another duplicate win than the hub does would see what it did not check."""
    twice = (
        b'{"type":"GPU_METRICS_UPDATE","data":{"metrics":{"cpuPercent":9,"cpuPercent":8},'
        b'"metrics":{"cpuPercent":%s,"seq":1}}}'
    )
    with hub.agent() as agent, hub.client() as reader:
        registered = agent.ask("provider:register", {"workerId": "twice", "instance": "i"})
        reader.ask("subscribe:provider", subscriptionId=registered["data"]["providerId"])
        agent.send(frame(TEXT, twice % b"700"))
        assert agent.until(lambda heard: heard["type"] == "error")["data"]["code"] == "invalid"
        agent.send(frame(TEXT, twice % b"7"))
        _, heard = reader.receive()
        assert json.loads(heard)["data"]["metrics"]["cpuPercent"] == 7
        assert heard.count(b'"cpuPercent"') == heard.count(b'"metrics"') == 1
