"""Nothing that a terminal would obey reaches a screen raw, whoever sent it: an agent, or a hub that lies."""

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pexpect
import pytest

from qubix_tui.console.format import safe
from qubix_tui.protocol.tokens import Role
from tests.attacks.raw import FIN, TEXT, RawClient, message
from tests.attacks.stage import attacked_hub
from tests.end_to_end.processes import command, environment

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\r\n"
"""A new title for the window, a cleared screen, an 8-bit colour, and text that runs backwards."""

OBEYED = (b"\x1b]0;owned", b"\x1b[2J\xc2", "\x9b".encode(), "\u202e".encode(), b"owned\x07")
"""What of it must not be seen in what a program writes. (The console clears its own screen, too.)"""

TIME = "2026-01-31T12:00:00.000Z"

PROVIDER = {
    "id": "rig-7",
    "workerId": "w",
    "state": "available",
    "isOnline": True,
    "isAvailable": True,
    "registeredAt": TIME,
}


def server_frame(payload: bytes) -> bytes:
    """A text frame as a hub sends it."""
    length = len(payload)
    head = (
        bytes((FIN | TEXT, length)) if length < 126 else bytes((FIN | TEXT, 126, length >> 8, length & 255))
    )
    return head + payload


def event(kind: str, data: Any, **members: Any) -> bytes:
    """An event in a frame, its characters raw."""
    return server_frame(json.dumps({"type": kind, "data": data, **members}, ensure_ascii=False).encode())


class LyingHub:
    """Greets and confirms as a hub does, then sends what none would.

    Args:
        lies: Frames that follow the first confirmation.
        refusal: An HTTP answer to every handshake in place of all that.
    """

    def __init__(self, lies: Sequence[bytes] = (), refusal: bytes | None = None) -> None:
        self._lies = lies
        self._refusal = refusal
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    connection.settimeout(5)
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4_096)
        if self._refusal is not None:
            connection.sendall(self._refusal)
            return
        key = request.lower().partition(b"sec-websocket-key:")[2]
        start = len(request) - len(key)
        name = request[start:].split(b"\r\n")[0].strip()
        digest = hashlib.sha1(name + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        greeting = {
            "clientId": "c",
            "protocol": 1,
            "version": "0.1.0",
            "role": "viewer",
            "heartbeat": {"pingEvery": 30, "timeout": 60},
            "timestamp": TIME,
        }
        connection.sendall(event("connected", greeting))
        connection.recv(4_096)
        for lie in self._lies:
            connection.sendall(lie)
        while connection.recv(4_096):
            pass


@contextmanager
def lying_hub(lies: Sequence[bytes] = (), refusal: bytes | None = None) -> Iterator[LyingHub]:
    """Run a hub that lies for as long as the block runs."""
    hub = LyingHub(lies, refusal)
    try:
        yield hub
    finally:
        hub.close()


def painted(arguments: Sequence[str], home: Path, *, until: str | None = None, seconds: float = 4) -> bytes:
    """All bytes that a command writes to its terminal: until it ends, shows a text, or the time is over."""
    child = pexpect.spawn(
        command(arguments[0]),
        list(arguments[1:]),
        env=environment(home),
        dimensions=(40, 150),
        timeout=seconds,
    )
    try:
        with suppress(pexpect.TIMEOUT):
            child.expect([pexpect.EOF] if until is None else [until.encode(), pexpect.EOF])
        # What comes after is the exception's type where the text did not come.
        parts: list[Any] = [child.before, child.after]
        return b"".join(part for part in parts if isinstance(part, bytes))
    finally:
        child.close(force=True)


def check(screen: bytes) -> None:
    """Nothing of `EVIL` can be seen as it is."""
    for obeyed in OBEYED:
        assert obeyed not in screen, (obeyed, screen[-2_000:])


LIES = {
    "an unknown event": event("SOMETHING_NEW", {"text": EVIL}, channel="marketplace"),
    "an unknown kind": event("MARKETPLACE_UPDATE", {"kind": "news", "text": EVIL}, channel="marketplace"),
    "a type": event(f"NEW{EVIL}", {}, channel="marketplace"),
    "a channel": event("SOMETHING_NEW", {}, channel=EVIL),
    "a member": event("SOMETHING_NEW", {EVIL: 1}, channel="marketplace"),
    "a name": event(
        "MARKETPLACE_UPDATE",
        {"kind": "provider_updated", "provider": {**PROVIDER, "name": EVIL}},
        channel="marketplace",
        offset=1,
    ),
    "an error": event("error", {"code": "internal", "message": EVIL, "field": EVIL}),
    "a close reason": bytes((0x88, 2 + len(EVIL.encode()))) + b"\x0f\xab" + EVIL.encode(),
    "bad UTF-8": server_frame(b'{"type":"\x9b\xff' + EVIL.encode()),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
def test_watch_shows_what_a_lying_hub_sends_as_text(lie: bytes, tmp_path: Path) -> None:
    """Each, followed by an event that ends the wait."""
    end = event("SOMETHING_NEW", {"text": "the-end"}, channel="marketplace")
    with lying_hub([lie, end]) as hub:
        check(
            painted(
                ["qubix", "watch", "marketplace", "--hub", hub.url], tmp_path, until="the-end|qubix: .*\n"
            )
        )


@pytest.mark.parametrize(
    "arguments", [["providers"], ["watch", "marketplace"], ["stats"]], ids=lambda a: a[0]
)
def test_a_refusal_is_shown_as_text(arguments: list[str], tmp_path: Path) -> None:
    """The status line and the body of an HTTP answer are whatever the other side likes."""
    body = json.dumps({"success": False, "error": EVIL}, ensure_ascii=False).encode()
    refusal = (
        b"HTTP/1.1 403 \x1b]0;owned\x07\r\nContent-Type: application/json\r\nX: \x1b]0;owned\x07\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    ) + body
    garbage = EVIL.encode() * 3 + b"\r\n\r\n"
    plain = refusal.replace(b"403 \x1b]0;owned\x07", b"403 Forbidden").replace(
        b"X: \x1b]0;owned\x07\r\n", b""
    )
    for answer in (refusal, plain, garbage):
        with lying_hub(refusal=answer) as hub:
            screen = painted(["qubix", *arguments, "--hub", hub.url], tmp_path)
            check(screen)
            assert hub.url.removeprefix("ws://").encode() in screen
            assert b"Traceback" not in screen


STATS = {"totalClients": 1, "totalSubscriptions": 1}

DOCUMENTS = [
    json.dumps({"stats": {**STATS, "subscriptionDetails": [{"subscriptionId": EVIL, "subscriberCount": 1}]}}),
    json.dumps({"stats": {"totalClients": EVIL, "totalSubscriptions": 1, "subscriptionDetails": []}}),
    json.dumps({"stats": EVIL}),
    json.dumps({EVIL: EVIL}),
    json.dumps([EVIL]),
    json.dumps(7),
    EVIL,
]


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
def test_stats_of_a_lying_hub_are_shown_as_text(document: str, options: list[str], tmp_path: Path) -> None:
    """And what are no stats are refused in one sentence."""
    body = document.encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with lying_hub(refusal=answer) as hub:
        screen = painted(["qubix", "stats", *options, "--hub", hub.url], tmp_path)
        check(screen)
        assert screen
        assert b"Traceback" not in screen


def test_the_console_and_the_list_show_a_lying_hubs_fleet_as_text(tmp_path: Path) -> None:
    """A snapshot with such a name in every place that takes words: it is refused, or shown without them."""
    record = {**PROVIDER, "name": EVIL, "gpuModel": EVIL, "location": EVIL, "os": EVIL, "gpuCount": 1}
    snapshot = {"kind": "fleet_snapshot", "providers": [record], "page": 1, "pages": 1}
    lies = [
        event("subscribed", {"subscription": "marketplace", "epoch": "e", "offset": 0, "recovered": False}),
        event("MARKETPLACE_UPDATE", snapshot, channel="marketplace"),
        event("error", {"code": "internal", "message": EVIL}),
    ]
    with lying_hub(lies) as hub:
        console = painted(["qubix", "--hub", hub.url], tmp_path, seconds=3)
        check(console)
        assert b"\x1b[" in console, "it painted nothing"
        check(painted(["qubix", "providers", "--hub", hub.url], tmp_path, seconds=3))


def test_an_agents_words_come_to_no_screen_raw(tmp_path: Path) -> None:
    """The hub refuses them as names; what it lets through is shown by every command without them."""
    with attacked_hub(tmp_path) as hub, RawClient.unshaken(hub.port) as _, hub.agent() as agent:
        for member in ("name", "gpuModel", "location", "os", "cpuModel", "agentVersion"):
            answer = agent.ask("provider:register", {"workerId": "w", "instance": "i", member: EVIL})
            assert answer["data"]["code"] == "invalid"
            assert answer["data"]["field"] == f"data.{member}"
        good = {"workerId": "w", "instance": "i", "name": "honest [red]rig[/red] \\x1b[2J", EVIL: EVIL}
        assert agent.ask("provider:register", good)["type"] == "registered"
        agent.send(message("GPU_METRICS_UPDATE", {"metrics": {"gpuNote": EVIL}}))
        assert agent.until(lambda heard: heard["type"] == "error")["data"]["code"] == "invalid"
        agent.send(message("GPU_METRICS_UPDATE", {"metrics": {"gpuNote": "none [bold]here[/bold]"}}))
        listed = painted(["qubix", "providers", "--hub", hub.url], tmp_path)
        check(listed)
        assert b"honest [red]rig[/red]" in listed
        watch = ["qubix", "watch", "provider:*", "marketplace", "--snapshot", "--hub", hub.url]
        check(painted(watch, tmp_path, until="honest"))
        check(painted(["qubix", "--hub", hub.url], tmp_path, until="honest", seconds=10))
        assert hub.token(Role.OPERATOR) not in "".join(hub.log)


@pytest.mark.parametrize("character", [*map(chr, range(32)), "\x7f", *map(chr, range(0x80, 0xA0)), "\u202e"])
def test_the_consoles_formatter_lets_no_control_character_through(character: str) -> None:
    """Whatever it makes of them, it is not that."""
    assert character not in safe(f"a{character}b")
