"""Attacks that cost the hub work, memory or sockets: those who behave do not notice, and nothing stays.

What "do not notice" means is said, with its floor and its tries, in `tests.attacks.stage`.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qubix_tui.protocol.tokens import Role, new_token
from tests.attacks.raw import (
    CONT,
    PING,
    TEXT,
    RawClient,
    Refused,
    bearer,
    close_all,
    connected,
    frame,
    handshake,
    hung_up,
    message,
    send_all_it_takes,
)
from tests.attacks.stage import MIB, AttackedHub, attacked_hub, withstands
from tests.end_to_end.processes import started, wait_for

pytestmark = pytest.mark.timeout(180)

HANDSHAKE_SECONDS = 10.0
"""What a hub gives a client for its handshake."""

UNREAD_SECONDS = 20.0
"""After so long it cuts a client that takes nothing from its socket."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[AttackedHub]:
    """A hub for one attack: what one left behind is not the next one's."""
    with attacked_hub(tmp_path) as running:
        yield running


def trickle(connection: socket.socket, data: bytes) -> None:
    """Send a little, to a hub that may have hung up."""
    with contextlib.suppress(ConnectionError):
        connection.send(data)


def read_away(connection: socket.socket) -> None:
    """Take all that comes, and keep nothing, until the hub ends the connection."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 20):
            pass


def test_50_readers_that_never_read(hub: AttackedHub) -> None:
    """They hear everything and take nothing: each is cut after 20 s, and holds its bound until then."""
    loud = message(
        "GPU_METRICS_UPDATE", {"metrics": {"gpus": [{"index": n, "uuid": "x" * 99} for n in range(64)]}}
    )
    subscribe = [
        message("subscribe:provider", {"snapshot": True}, subscriptionId="*"),
        message("subscribe:marketplace", {"snapshot": True, "digest": 0.1}),
    ]

    def attack() -> None:
        readers = []
        for _ in range(50):
            reader = RawClient.unshaken(hub.port, receive_buffer=4_096)
            reader.send(handshake(), *subscribe)
            readers.append(reader)
        with hub.agent() as agent:
            agent.ask("provider:register", {"workerId": f"loud-{time.time_ns()}", "instance": "i"})
            for _ in range(300):
                agent.send(loud)
                time.sleep(0.011)
            assert agent.ask("ping")["type"] == "pong"
        wait_for(lambda: hub.clients() == 2, "the hub to cut those who do not read", UNREAD_SECONDS + 10)
        close_all(reader.socket for reader in readers)

    withstands(hub, attack, most=64 * MIB)
    assert sum("does not read" in line for line in hub.log) >= 50


@pytest.mark.parametrize("ping", [frame(PING), message("ping")], ids=["control frames", "messages"])
def test_700_000_pings_unread(hub: AttackedHub, ping: bytes) -> None:
    """As fast as the socket takes them, by one who reads no answer: counted, refused, cut."""
    flood = ping * 700_000

    def attack() -> None:
        with RawClient.unshaken(hub.port, receive_buffer=4_096) as attacker:
            attacker.send(handshake())
            send_all_it_takes(attacker.socket, flood, 20)

    withstands(hub, attack)
    assert any("refusals" in line for line in hub.log)


def test_2_000_half_open_handshakes(hub: AttackedHub) -> None:
    """Half a request each, and silence: after the deadline all are gone, and newcomers get in."""
    half = handshake()[:-10]

    def attack() -> None:
        began = time.monotonic()
        sockets = []
        for number in range(2_000):
            one = connected(hub.port)
            sockets.append(one)
            try:
                one.sendall(half[: 1 + number % len(half)])
            except ConnectionError:
                continue
        wait_for(
            lambda: all(map(hung_up, sockets)),
            "the end of all half-open handshakes",
            HANDSHAKE_SECONDS + 10,
        )
        assert time.monotonic() - began > HANDSHAKE_SECONDS - 1
        close_all(sockets)
        with hub.client() as newcomer:
            assert newcomer.ask("ping")["type"] == "pong"

    withstands(hub, attack, most=64 * MIB)


def test_senders_of_one_byte_a_second(hub: AttackedHub) -> None:
    """200 within their handshake, who are cut at its deadline, and 200 within a frame, who harm nobody."""
    request, slow_frame = handshake(), message("ping", "x" * 100)

    def attack() -> None:
        shaking = [connected(hub.port) for _ in range(200)]
        talking = [hub.client() for _ in range(200)]
        for second in range(int(HANDSHAKE_SECONDS) + 2):
            began = time.monotonic()
            for one in shaking:
                trickle(one, request[second : second + 1])
            for client in talking:
                client.send(slow_frame[second : second + 1])
            time.sleep(max(0.0, began + 1 - time.monotonic()))
        assert all(map(hung_up, shaking))
        # Whoever was slow is served all the same.
        talking[0].send(slow_frame[int(HANDSHAKE_SECONDS) + 2 :])
        assert talking[0].hear()["type"] == "pong"
        close_all([*shaking, *(client.socket for client in talking)])

    withstands(hub, attack, most=64 * MIB)


@pytest.mark.parametrize(
    "attack_bytes",
    [
        frame(TEXT, bytes(10_000_000)),
        frame(TEXT, fin=False) + frame(CONT, bytes(1_000), fin=False) * 10_000,
        frame(TEXT, fin=False) + frame(CONT, b"x", fin=False) * 500_000,
    ],
    ids=["10 MB frames", "fragments without end", "tiny fragments without end"],
)
def test_messages_without_end(hub: AttackedHub, attack_bytes: bytes) -> None:
    """Ten at a time, again and again: each is cut at the limit, and nothing of it is kept."""

    def attack() -> None:
        attackers = [hub.client() for _ in range(10)]
        for attacker in attackers:
            send_all_it_takes(attacker.socket, attack_bytes, 5)
        close_all(attacker.socket for attacker in attackers)

    withstands(hub, attack)


COSTLY = [
    b"[" * 65_000,
    b'{"type":"ping","data":' + b"[" * 32_000 + b"]" * 32_000 + b"}",
    b'{"type":"ping","data":[' + b"[]," * 21_000 + b"0]}",
    b'{"type":"ping","data":[' + b"{}," * 21_000 + b"0]}",
    b'{"type":"ping","data":[' + b'"",' * 21_000 + b"0]}",
    b'{"type":"ping","data":"' + b"\\u0000" * 10_000 + b'"}',
    b'{"type":"ping","data":"' + b"\\ud800" * 10_000 + b'"}',
    b'{"type":"ping","data":' + b"9" * 65_000 + b"}",
    b'{"type":"ping","data":[' + b"12345678901234567," * 3_600 + b"0]}",
    b'{"type":"ping","data":' + b"1" * 65_000 + b"e}",
    b'{"type":"ping","data":{' + b",".join(b'"%d":0' % n for n in range(7_000)) + b"}}",
    b'{"type":"ping",' + b'"type":"ping",' * 4_600 + b'"id":1}',
    b'{"type":"provider:remove","data":{"providerId":"' + b"." * 65_000 + b'"}}',
    b'{"type":"' + b"\x01" * 65_000 + b'"}',
]


def test_messages_that_are_costly_to_look_at(hub: AttackedHub) -> None:
    """As long and as awkward as the limit allows: deep, wide, escaped, or one number of 65,000 digits."""

    def attack() -> None:
        with hub.client(Role.OPERATOR) as attacker:
            for payload in COSTLY * 4:
                attacker.send(frame(TEXT, payload))
                assert attacker.hear()["type"] in {"error", "pong"}

    withstands(hub, attack)


def test_subscribe_floods(hub: AttackedHub) -> None:
    """Snapshots of a fleet, thousands of them at once, read or not: refused past the limit, then cut."""
    floods = [
        message("subscribe:marketplace", {"snapshot": True, "digest": 0.1}) * 6_000,
        b"".join(
            message("subscribe:provider", {"snapshot": True}, subscriptionId=f"p{n}") for n in range(6_000)
        ),
    ]

    def attack() -> None:
        for flood in floods:
            with hub.client() as unread:
                send_all_it_takes(unread.socket, flood, 1)
            with hub.client() as attacker:
                reading = threading.Thread(target=read_away, args=(attacker.socket,))
                reading.start()
                attacker.send_what_goes(flood)
                reading.join(30)
                assert not reading.is_alive(), "it was not cut"

    simulate = ["qubix", "simulate", "--providers", "20", "--hz", "0.2", "--hub", hub.url]
    # In a home of its own: what is left in one is ended with the block.
    with started(simulate, hub.directory / "fleet", QUBIX_TOKEN=hub.token(Role.OPERATOR)):
        wait_for(lambda: hub.clients() >= 20, "the fleet")
        withstands(hub, attack)
    assert any("refusals" in line for line in hub.log)


def test_token_guessing(hub: AttackedHub) -> None:
    """By handshakes and by messages, as fast as it goes: a good token is let in all the same."""

    def attack() -> None:
        with hub.client() as attacker:
            attacker.send(*(message("auth", {"token": new_token(Role.OPERATOR)}) for _ in range(500)))
            codes = {attacker.hear()["data"]["code"] for _ in range(500)}
            assert codes <= {"unauthenticated", "rate_limited"}
        for _ in range(100):
            with pytest.raises(Refused), RawClient(hub.port, bearer(new_token(Role.OPERATOR))):
                pass
        with hub.client(Role.OPERATOR) as operator:
            assert operator.ask("ping")["type"] == "pong"

    withstands(hub, attack)
    assert not [line for line in hub.log if "qbx_" in line]
