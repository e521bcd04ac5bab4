"""The hub and its peers: how each is started, subscribed to, and made to publish."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import work
from benchmarks.processes import ROOT, SERVER_CORE, Process

FRAME_BYTES = 4 + work.EVENT_BYTES
"""A published event on a WebSocket."""

_NATS_GREETING = b'CONNECT {"verbose":false}\r\n'
_MASK = b"\x4b\xd2\x91\x3c"
_UPGRADE = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
)


class Contestant(Protocol):
    """A server that takes part."""

    name: str
    delivery_bytes: int
    """What one event costs on the wire."""
    ready: str
    """What the answer to a hello holds."""
    keep_alive: bytes
    """What a client says now and then."""

    def missing(self) -> str | None:
        """Say why it can't take part; None if it can."""
        ...

    def start(self, folder: Path) -> "Running":
        """Start it."""
        ...

    def hello(self, port: int) -> bytes:
        """What a subscriber says when it connects."""
        ...


@dataclass
class Running:
    """A server that runs."""

    process: Process
    port: int
    publish: Callable[[int, float, float], int]
    """Events, every so many seconds, for so many seconds: gives how many were published."""


def frame(text: bytes) -> bytes:
    """Give a client's text frame."""
    size = len(text)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    mask = (_MASK * (size // 4 + 1))[:size]
    return head + _MASK + (int.from_bytes(text) ^ int.from_bytes(mask)).to_bytes(size)


def upgrade(port: int, token: str = "") -> bytes:
    """Give the handshake of a WebSocket client."""
    headers = f"Authorization: Bearer {token}\r\n" if token else ""
    return _UPGRADE.format(port=port, headers=headers).encode()


class WebSocketServer:
    """A server that speaks the guide's messages.

    Args:
        name: Its name in the table.
        command: How it is started, given a folder for files.
        missing: Says why it can't be.
    """

    delivery_bytes = FRAME_BYTES
    ready = '"subscribed"'
    keep_alive = frame(b'{"type":"ping"}')

    def __init__(
        self, name: str, command: Callable[[Path], list[str]], missing: Callable[[], str | None]
    ) -> None:
        self.name = name
        self._command = command
        self.missing = missing

    def start(self, folder: Path) -> Running:
        """Start it."""
        process = Process(self._command(folder), SERVER_CORE)

        def publish(events: int, every: float, seconds: float) -> int:
            return int(process.ask(f"publish {events} {every} {seconds}"))

        return Running(process, int(process.read()), publish)

    def hello(self, port: int) -> bytes:
        """What a subscriber says when it connects."""
        subscribe = {"type": "subscribe:provider", "subscriptionId": work.PROVIDER}
        return upgrade(port) + frame(work.as_json(subscribe))


class Broker:
    """A server that only hands on what this process publishes.

    Args:
        name: Its name in the table, and its command.
        arguments: Its arguments, ``{port}`` and ``{folder}`` among them.
        greeting: What a publisher says first.
        subscribe: What a subscriber says.
        ready: What the answer holds.
        publish: What publishes one event, ``{event}`` being it.
        envelope: Bytes of a delivery beside the event.
    """

    def __init__(
        self,
        name: str,
        *,
        arguments: list[str],
        greeting: bytes,
        subscribe: bytes,
        ready: str,
        publish: bytes,
        envelope: int,
    ) -> None:
        self.name = name
        self.ready = ready
        self.delivery_bytes = work.EVENT_BYTES + envelope
        self.keep_alive = b""
        self._arguments = arguments
        self._greeting = greeting
        self._subscribe = subscribe
        self._publish = publish.replace(b"{event}", b"x" * work.EVENT_BYTES)

    def missing(self) -> str | None:
        """Say why it can't take part; None if it can."""
        return None if shutil.which(self.name) else f"{self.name} is not installed"

    def start(self, folder: Path) -> Running:
        """Start it."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        arguments = [argument.format(port=port, folder=folder) for argument in self._arguments]
        process = Process([self.name, *arguments], SERVER_CORE)
        _await_listening(port)
        return Running(process, port, lambda *plan: self._publish_from_here(port, plan))

    def hello(self, _: int) -> bytes:
        """What a subscriber says when it connects."""
        return self._subscribe

    def _publish_from_here(self, port: int, plan: tuple[int, float, float]) -> int:
        events, every, seconds = plan
        published = 0
        with socket.create_connection(("127.0.0.1", port)) as publisher:
            publisher.sendall(self._greeting)
            start = due = time.monotonic()
            while time.monotonic() - start < seconds:
                publisher.sendall(self._publish * events)
                published += events
                due = max(due + every, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
            publisher.shutdown(socket.SHUT_WR)
            while publisher.recv(65536):
                pass
        return published


def _await_listening(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def contestants(folder: Path) -> list[Contestant]:
    """Give all who take part, the hub first; say who is missing."""
    sample = json.dumps({"providerId": work.PROVIDER, "metrics": work.sample()})
    node = [str(folder), sample, str(work.EVENT_BYTES)]
    every: list[Contestant] = [
        WebSocketServer("qubix", _hub_command, lambda: None),
        WebSocketServer(
            "node-ws", lambda _: ["node", str(ROOT / "peer_node.mjs"), *node], lambda: _install_ws(folder)
        ),
        WebSocketServer(
            "websockets", lambda _: [sys.executable, "-m", "benchmarks.peer_broadcast"], lambda: None
        ),
        Broker(
            "redis-server",
            arguments=[
                *("--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
                *("--logfile", "{folder}/redis.log"),
            ],
            greeting=b"",
            subscribe=b"SUBSCRIBE e\r\n",
            ready="subscribe",
            publish=b"*3\r\n$7\r\nPUBLISH\r\n$1\r\ne\r\n$%d\r\n{event}\r\n" % work.EVENT_BYTES,
            envelope=len(b"*3\r\n$7\r\nmessage\r\n$1\r\ne\r\n$350\r\n\r\n"),
        ),
        Broker(
            "nats-server",
            arguments=["--port", "{port}", "--addr", "127.0.0.1", "--log", "{folder}/nats.log"],
            greeting=_NATS_GREETING,
            subscribe=_NATS_GREETING + b"SUB e 1\r\nPING\r\n",
            ready="PONG",
            publish=b"PUB e %d\r\n{event}\r\n" % work.EVENT_BYTES,
            envelope=len(b"MSG e 1 350\r\n\r\n"),
        ),
    ]
    present = []
    for contestant in every:
        reason = contestant.missing()
        if reason is None:
            present.append(contestant)
        else:
            print(f"without {contestant.name}: {reason}")
    return present


def tokens_file(folder: Path) -> Path:
    """Give the file with the tokens that the hub knows."""
    return folder / "tokens"


def _hub_command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.server_hub", str(tokens_file(folder))]


def _install_ws(folder: Path) -> str | None:
    if not (shutil.which("node") and shutil.which("npm")):
        return "node and npm are not installed"
    done = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), "ws@8"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return None if done.returncode == 0 else f"npm install ws: {done.stderr.strip() or 'failed'}"
