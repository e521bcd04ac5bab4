"""The guide's manual test, by clients that use nothing of ours: a bare socket, and a browser's console."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.browser import chromium, options_for, page
from tests.hub.wire import Running, running

DEADLINE = 10.0
FOREIGN = "foreign.example"
PROVIDER = {"id": "provider-123", "workerId": "worker-1", "gpuModel": "RTX 4090", "pricePerHour": 0.45}

SNIPPET = """\
const ws = new WebSocket('ws://localhost:3001');
ws.onopen = () => console.log('Connected');
ws.onmessage = (e) => console.log('Message:', JSON.parse(e.data));
ws.send(JSON.stringify({ type: 'subscribe:marketplace' }));
"""
"""The guide's, to the letter."""


@pytest.fixture
async def hub() -> AsyncIterator[Running]:
    """A hub that listens on a free port."""
    async with running() as made:
        yield made


# A bare socket


class BareSocket:
    """WebSocket by RFC 6455, from the standard library alone."""

    TEXT, CLOSE = 0x1, 0x8

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def shake_hands(self, port: int) -> None:
        """Section 4: the opening handshake, and the check of what the server made of the key."""
        key = base64.b64encode(os.urandom(16)).decode()
        self._writer.write(
            (
                f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert status.startswith("HTTP/1.1 101 "), status
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        assert headers["sec-websocket-accept"] == base64.b64encode(digest).decode()
        assert headers["upgrade"].lower() == "websocket"
        assert "sec-websocket-extensions" not in headers

    def write(self, opcode: int, payload: bytes) -> None:
        """Section 5.2: one whole frame, masked as a client has to."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
        self._writer.write(bytes([0x80 | opcode]) + length + mask + masked)

    async def read(self) -> tuple[int, bytes]:
        """Section 5.2: one whole frame, which a server must not mask."""
        first, second = await self._reader.readexactly(2)
        assert first & 0xF0 == 0x80, "one frame a message, and no extension's bits"
        assert not second & 0x80
        size = second
        if second == 126:
            (size,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif second == 127:
            (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
        return first & 0x0F, await self._reader.readexactly(size)

    def send(self, message: Any) -> None:
        """One JSON message."""
        self.write(self.TEXT, json.dumps(message).encode())

    async def recv(self) -> Any:
        """One JSON message."""
        opcode, payload = await self.read()
        assert opcode == self.TEXT
        return json.loads(payload)

    async def close(self) -> None:
        """Section 7: the closing handshake; then the server hangs up first."""
        self.write(self.CLOSE, struct.pack("!H", 1000))
        opcode, payload = await self.read()
        assert (opcode, payload[:2]) == (self.CLOSE, struct.pack("!H", 1000))
        assert await self._reader.read() == b""


async def test_a_bare_socket_follows_the_guide(hub: Running) -> None:
    """From handshake to goodbye, with bytes by the RFC and words by the guide: it hears what it asked for."""
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.hub.port)
        try:
            bare = BareSocket(reader, writer)
            await bare.shake_hands(hub.hub.port)
            assert (await bare.recv())["type"] == "connected"
            bare.send({"type": "subscribe:marketplace"})
            assert (await bare.recv())["type"] == "subscribed"
            await hub.hub.broadcast_provider_registered(PROVIDER)
            heard = await bare.recv()
            assert heard["type"] == "PROVIDER_REGISTERED"
            assert heard["data"].items() >= PROVIDER.items()
            bare.send({"type": "ping", "data": "x" * 200})
            assert (await bare.recv())["type"] == "pong"
            bare.send({"type": "unsubscribe", "subscriptionId": "marketplace"})
            assert (await bare.recv())["type"] == "unsubscribed"
            await hub.hub.broadcast_provider_registered(PROVIDER)
            bare.send({"type": "ping"})
            assert (await bare.recv())["type"] == "pong"
            await bare.close()
        finally:
            writer.close()
            await writer.wait_closed()


# A browser


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A browser that finds a foreign host on this machine."""
    directory: Path = tmp_path_factory.mktemp("chromium")
    with chromium(directory, *options_for([FOREIGN])) as address:
        yield address


class EmptyPage(BaseHTTPRequestHandler):
    """Serves one page with nothing on it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Somebody's page</title>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def other_server() -> Iterator[int]:
    """A web server beside the hub, as a front end in development is; gives its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def follow_the_guide(hub: Running, devtools: str, address: str) -> None:
    """Type the guide's snippet into the console of the page at an address, and see it work."""
    lines = SNIPPET.replace("ws://localhost:3001", f"ws://localhost:{hub.hub.port}").splitlines()
    async with page(devtools, address) as shown:
        await shown.type("\n".join(lines[:3]))
        said = [await shown.logged(), await shown.logged()]
        assert said[0] == ["Connected"]
        assert (said[1][0], said[1][1]["type"]) == ("Message:", "connected")
        await shown.type(lines[3])
        label, confirmed = await shown.logged()
        assert (label, confirmed["type"]) == ("Message:", "subscribed")
        await hub.hub.broadcast_provider_registered(PROVIDER)
        label, registered = await shown.logged()
        assert (label, registered["type"]) == ("Message:", "PROVIDER_REGISTERED")
        assert registered["data"].items() >= PROVIDER.items()


async def test_the_guides_snippet_works_on_the_hubs_own_page(hub: Running, devtools: str) -> None:
    """As the page says: pasted into the browser's console there, it connects and hears a registration."""
    await follow_the_guide(hub, devtools, f"http://localhost:{hub.hub.port}/")


async def test_the_hubs_own_page_shows_what_happens(hub: Running, devtools: str) -> None:
    """Without anything typed into it, the page connects and shows a registration."""
    async with page(devtools, f"http://localhost:{hub.hub.port}/") as shown:
        await shown.shows("state", f"Connected to ws://localhost:{hub.hub.port}")
        await shown.shows("log", "subscribed")
        await hub.hub.broadcast_provider_registered(PROVIDER)
        await shown.shows("log", "provider-123")


async def test_the_guides_snippet_works_on_a_page_of_another_port(hub: Running, devtools: str) -> None:
    """A front end that is served from another port of this machine may connect."""
    with other_server() as port:
        await follow_the_guide(hub, devtools, f"http://localhost:{port}/")


async def test_a_page_from_elsewhere_is_refused(hub: Running, devtools: str) -> None:
    """The hub answers 403 to the handshake of a foreign origin and of none (`null`): no page reads along."""
    with other_server() as port:
        for address in (f"http://{FOREIGN}:{port}/", "data:text/html,<title>nobody's page</title>"):
            assert await refusal(devtools, address, f"ws://127.0.0.1:{hub.hub.port}") == 403
    assert hub.hub.stats().clients == 0


async def test_a_page_that_was_rebound_to_the_hub_is_refused(hub: Running, devtools: str) -> None:
    """A foreign name that resolves to the hub's own address is not served: 421."""
    with other_server() as port:
        url = f"ws://{FOREIGN}:{hub.hub.port}"
        assert await refusal(devtools, f"http://localhost:{port}/", url) == 421
    assert hub.hub.stats().clients == 0


async def refusal(devtools: str, address: str, url: str) -> int:
    """The HTTP status by which the hub turns away a WebSocket of the page at an address."""
    async with page(devtools, address) as shown:
        await shown.type(
            f"const ended = new Promise((resolve) => {{ const ws = new WebSocket('{url}');"
            "ws.onopen = () => resolve('open'); ws.onerror = () => resolve('refused'); });"
        )
        failed = await shown.told("Network.webSocketFrameError")
        assert await shown.type("await ended") == "refused"
        given = re.fullmatch(r".*Unexpected response code: (\d+)", failed["errorMessage"])
        assert given, failed
        return int(given[1])
