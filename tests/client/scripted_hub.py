"""A real WebSocket server on loopback that speaks the contract and does as a test tells it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from qubix_tui.protocol import codec
from qubix_tui.protocol.requests import SUBSCRIBES, Request, SubscribeOptions
from qubix_tui.protocol.types import Wire, to_timestamp

DEADLINE = 10.0


class Peer:
    """One client, as the hub sees it."""

    def __init__(self, hub: "ScriptedHub", websocket: ServerConnection) -> None:
        self.websocket = websocket
        self.requests: list[Request] = []
        self._hub = hub
        self._arrived = asyncio.Event()

    @property
    def headers(self) -> dict[str, str]:
        """The headers of its handshake."""
        assert self.websocket.request is not None
        return dict(self.websocket.request.headers.raw_items())

    async def send(self, kind: str, data: Wire | dict[str, Any] | None = None, **envelope: Any) -> None:
        """Send one message."""
        await self.send_raw(codec.encode_event(kind, data, **envelope))

    async def send_raw(self, payload: bytes) -> None:
        """Send one text frame."""
        await self.websocket.send(payload, text=True)

    async def request(self, kind: str, count: int = 1) -> Request:
        """Wait for the ``count``-th request of a type on this connection."""
        async with asyncio.timeout(DEADLINE):
            while True:
                found = [request for request in self.requests if request.type == kind]
                if len(found) >= count:
                    return found[count - 1]
                self._arrived.clear()
                await self._arrived.wait()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it with a code."""
        await self.websocket.close(code, reason)

    def cut(self) -> None:
        """Drop the TCP connection without a word."""
        self.websocket.transport.abort()

    async def converse(self) -> None:
        """Answer until it is gone."""
        if self._hub.greets:
            await self.send("connected", self._hub.greeting())
        try:
            async for raw in self.websocket:
                request = codec.decode_request(raw.encode() if isinstance(raw, str) else raw)
                self.requests.append(request)
                self._arrived.set()
                await self._hub.respond(self, request)
        except ConnectionClosed:
            pass


class ScriptedHub:
    """Greets, answers pings and confirms subscriptions; a test changes what it likes.

    Attributes:
        greets: Whether ``connected`` is sent.
        greeting_changes: Members of the greeting that differ from the usual.
        offsets: Newest offset per channel, told in ``subscribed``.
        recovers: Whether ``since`` with the right epoch is said to be recovered.
        refusal: Status and body that answer every handshake; None to accept.
        answers: By type of request: called in place of the usual answer.
        peers: Every connection so far.
    """

    def __init__(self) -> None:
        self.greets = True
        self.greeting_changes: dict[str, Any] = {}
        self.epoch = "epoch-1"
        self.offsets: dict[str, int] = {}
        self.recovers = True
        self.refusal: tuple[int, bytes] | None = None
        self.answers: dict[str, Callable[[Peer, Request], Any]] = {}
        self.peers: list[Peer] = []
        self.clock_offset = 0.0
        self.dials = 0
        self._joined = asyncio.Event()
        self._server: Server | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where it listens, or did."""
        return f"ws://127.0.0.1:{self._port}"

    async def listen(self, **options: Any) -> None:
        """Begin to listen; at the same port as before if there was one."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self._port,
            process_request=self._process_request,
            compression=None,
            ping_interval=None,
            close_timeout=0.2,
            **options,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self, code: int = 1001) -> None:
        """Close everyone and stop listening."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close(code=code)
            await server.wait_closed()

    def time(self) -> float:
        """The hub's wall clock."""
        return time.time() + self.clock_offset

    def greeting(self) -> dict[str, Any]:
        """The data of ``connected``."""
        usual = {
            "clientId": f"c{len(self.peers)}",
            "protocol": 1,
            "version": "0.1.0",
            "role": "viewer",
            "heartbeat": {"pingEvery": 30, "timeout": 60},
            "timestamp": to_timestamp(self.time()),
        }
        return usual | self.greeting_changes

    async def peer(self, number: int = 1) -> Peer:
        """Wait for the ``number``-th connection (from 1)."""
        async with asyncio.timeout(DEADLINE):
            while len(self.peers) < number:
                self._joined.clear()
                await self._joined.wait()
        return self.peers[number - 1]

    async def respond(self, peer: Peer, request: Request) -> None:
        """Answer one request."""
        answer = self.answers.get(request.type)
        if answer is not None:
            await answer(peer, request)
        elif request.type == "ping":
            await peer.send("pong", {"timestamp": to_timestamp(self.time())}, request_id=request.id)
        elif request.type in SUBSCRIBES:
            await self.confirm(peer, request)
        elif request.type == "unsubscribe":
            await peer.send("unsubscribed", {"subscription": request.channel}, request_id=request.id)

    async def confirm(self, peer: Peer, request: Request) -> None:
        """Confirm a subscription."""
        assert request.channel is not None
        options: SubscribeOptions = request.data
        recovered = self.recovers and options.since is not None and options.epoch == self.epoch
        is_wildcard = request.channel.endswith(":*")
        data = {
            "subscription": request.channel,
            "epoch": self.epoch,
            "offset": None if is_wildcard else self.offsets.get(request.channel, 0),
            "recovered": recovered,
        }
        await peer.send("subscribed", data, request_id=request.id)

    async def _serve(self, websocket: ServerConnection) -> None:
        peer = Peer(self, websocket)
        self.peers.append(peer)
        self._joined.set()
        await peer.converse()

    def _process_request(self, websocket: ServerConnection, _: HttpRequest) -> Response | None:
        self.dials += 1
        if self.refusal is None:
            return None
        status, body = self.refusal
        response = websocket.respond(status, "")
        response.body = body
        del response.headers["Content-Length"]
        response.headers["Content-Length"] = str(len(body))
        return response


async def until(condition: Callable[[], object], *, deadline: float = DEADLINE) -> None:
    """Let the event loop turn until ``condition`` holds."""
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110 - a test may wait for anything
            await asyncio.sleep(0.002)
