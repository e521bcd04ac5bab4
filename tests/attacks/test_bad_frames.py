"""Frames that break RFC 6455: each ends its own connection with the right code, and nothing else."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.attacks.raw import BINARY, CLOSE, CONT, PING, TEXT, RawClient, frame, message
from tests.attacks.stage import AttackedHub, attacked_hub

PROTOCOL_ERROR, BAD_DATA, TOO_BIG = 1002, 1007, 1009

ATTACKS = {
    "not masked": (frame(TEXT, b'{"type":"ping"}', masked=False), PROTOCOL_ERROR),
    "a ping that is not masked": (frame(PING, b"x", masked=False), PROTOCOL_ERROR),
    "the first reserved bit": (frame(TEXT, b"{}", reserved=0x40), PROTOCOL_ERROR),
    "the second reserved bit": (frame(TEXT, b"{}", reserved=0x20), PROTOCOL_ERROR),
    "the third reserved bit": (frame(PING, reserved=0x10), PROTOCOL_ERROR),
    "an unknown opcode": (frame(0x3, b"x"), PROTOCOL_ERROR),
    "an unknown control opcode": (frame(0xB), PROTOCOL_ERROR),
    "a continuation of nothing": (frame(CONT, b"x"), PROTOCOL_ERROR),
    "an endless continuation of nothing": (frame(CONT, b"x", fin=False), PROTOCOL_ERROR),
    "a message within another": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"{}"), PROTOCOL_ERROR),
    "a ping in fragments": (frame(PING, b"x", fin=False), PROTOCOL_ERROR),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), PROTOCOL_ERROR),
    "a close code that is none": (frame(CLOSE, b"\x00\x01"), PROTOCOL_ERROR),
    "half a close code": (frame(CLOSE, b"\x03"), PROTOCOL_ERROR),
    "a close reason that is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), BAD_DATA),
    "10 MB": (frame(TEXT, bytes(10_000_000)), TOO_BIG),
    "10 MB of binary": (frame(BINARY, bytes(10_000_000)), TOO_BIG),
    "a head that promises 2^63 - 1 bytes": (b"\x81\xff\x7f" + b"\xff" * 7 + bytes(4), TOO_BIG),
    "a head that promises 2^64 - 1 bytes": (b"\x81\xff" + b"\xff" * 8 + bytes(4), TOO_BIG),
    "fragments without end": (
        frame(TEXT, b"x", fin=False) + frame(CONT, b"x", fin=False) * 200_000,
        TOO_BIG,
    ),
    "empty fragments without end": (frame(TEXT, fin=False) + frame(CONT, fin=False) * 200_000, TOO_BIG),
    "large fragments without end": (
        frame(TEXT, fin=False) + frame(CONT, bytes(60_000), fin=False) * 100,
        TOO_BIG,
    ),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedHub]:
    """The hub that all of these go to."""
    with attacked_hub(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.mark.parametrize(("attack", "code"), ATTACKS.values(), ids=list(ATTACKS))
def test_it_ends_the_connection(hub: AttackedHub, attack: bytes, code: int) -> None:
    """With its close code, or a plain cut where the sender goes on without reading; others are served."""
    with hub.client() as client, hub.client() as bystander:
        cut = False
        try:
            client.send(attack)
        except ConnectionError:
            cut = len(attack) > 1_000_000
            assert cut, "a short attack is taken and answered"
        closed = client.closed()
        assert closed == code or (cut and closed is None)
        assert bystander.ask("ping")["type"] == "pong"


def test_a_message_with_a_wrong_mask_is_just_noise(hub: AttackedHub) -> None:
    """Whatever the mask, the hub undoes it: what comes out is no JSON, and is answered as that."""
    whole = frame(TEXT, b'{"type":"ping"}')
    with hub.client() as client:
        client.send(whole[:2] + b"\x5a\xa5\x5a\xa5" + whole[6:])
        assert client.hear()["data"]["code"] == "bad_json"
        assert client.ask("ping")["type"] == "pong"


def test_what_comes_after_a_violation_is_not_looked_at(hub: AttackedHub) -> None:
    """No message is handled behind a frame that ended the connection."""
    with hub.client() as client:
        client.send(frame(CONT, b"x"), message("ping", id="late") * 1_000)
        opcode, payload = client.receive()
        assert (opcode, payload[:2]) == (CLOSE, PROTOCOL_ERROR.to_bytes(2, "big"))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"x" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"\x00" * 100_000,
        b"GET /\x1b[31m HTTP/1.1\r\nHost: 127.0.0.1\r\nX: \x1b]0;x\x07\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100,
    ],
    ids=[
        "TLS",
        "long header",
        "many headers",
        "long path",
        "body",
        "version",
        "lines",
        "zeros",
        "escapes",
        "chunks",
    ],
)
def test_requests_that_are_none_get_the_door(hub: AttackedHub, request_bytes: bytes) -> None:
    """An HTTP answer or just the end, at once; the hub goes on."""
    began = time.monotonic()
    attacker = RawClient.unshaken(hub.port)
    with attacker:
        attacker.send_what_goes(request_bytes)
        answer = attacker.read_to_the_end()
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), answer
        assert b"\x1b" not in answer
    assert time.monotonic() - began < 9
    hub.check()


def test_random_bytes_instead_of_a_handshake(hub: AttackedHub) -> None:
    """A hundred connections of noise."""
    for _ in range(100):
        with RawClient.unshaken(hub.port) as attacker:
            attacker.send_what_goes(os.urandom(2_000) + b"\r\n\r\n")
            attacker.read_to_the_end()
    hub.check()
