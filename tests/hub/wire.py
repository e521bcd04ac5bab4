"""A hub on a free port, and clients that use nothing of ours but the port."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from qubix_tui.hub.access import Access
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.engine.base import Engine
from qubix_tui.hub.server import Hub
from qubix_tui.protocol.tokens import Role, new_token

Message = dict[str, Any]

SECONDS = 10.0
"""How long a test waits for anything."""


class Client:
    """A WebSocket client that speaks JSON."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._pings = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    async def send(self, type_: str, data: Any = None, **members: Any) -> None:
        """Send one message; ``data`` is left out when it is None."""
        message = {"type": type_, **members} | ({} if data is None else {"data": data})
        await self.socket.send(json.dumps(message))

    async def recv(self) -> Message:
        """The next message."""
        async with asyncio.timeout(SECONDS):
            raw = await self.socket.recv()
        assert isinstance(raw, str)
        assert len(raw.encode()) <= 64 * 1024
        message: Message = json.loads(raw)
        return message

    async def until(self, *types: str) -> Message:
        """The next message of one of some types; others are passed over."""
        while True:
            message = await self.recv()
            if message["type"] in types:
                return message

    async def ask(self, type_: str, data: Any = None, **members: Any) -> Message:
        """Send a message and give what answers it."""
        self._pings += 1
        number = f"ask-{self._pings}"
        await self.send(type_, data, id=number, **members)
        while True:
            message = await self.recv()
            if message.get("id") == number:
                return message

    async def heard(self) -> list[Message]:
        """Everything that came up to now: a reply keeps its place behind all events before it."""
        self._pings += 1
        await self.send("ping", id=f"heard-{self._pings}")
        messages: list[Message] = []
        while True:
            message = await self.recv()
            if message.get("id") == f"heard-{self._pings}":
                return messages
            messages.append(message)

    async def subscribe(self, *channels: str) -> None:
        """Subscribe to channels by their keys."""
        for channel in channels:
            kind, _, subject = channel.partition(":")
            members = {"subscriptionId": subject} if subject else {}
            reply = await self.ask(f"subscribe:{kind}", **members)
            assert reply["type"] == "subscribed", reply

    async def register(self, worker_id: str = "w1", **members: Any) -> Message:
        """Register a provider, and give the reply."""
        return await self.ask("provider:register", {"workerId": worker_id, "instance": "i1", **members})

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait for the end: close code and reason."""
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
        return self.socket.close_code, self.socket.close_reason


class Running:
    """A hub that listens, with a token of each role."""

    def __init__(self, hub: Hub, tokens: dict[Role, str], access: Access) -> None:
        self.hub = hub
        self.tokens = tokens
        self.access = access

    async def client(self, role: Role | None = None, *, token: str | None = None, **options: Any) -> Client:
        """A client; without a role, an anonymous viewer. It has read ``connected``."""
        token = token or (self.tokens[role] if role else None)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        socket = await connect(
            self.hub.url,
            additional_headers=headers,
            compression=None,
            ping_interval=None,
            max_queue=None,
            **options,
        )
        client = Client(socket)
        greeting = await client.recv()
        assert greeting["type"] == "connected"
        return client

    def provider_token(self) -> str:
        """One more provider's token."""
        token = new_token(Role.PROVIDER)
        self.access.add_token(token, Role.PROVIDER, "agent")
        return token

    async def agent(self) -> Client:
        """A client with a provider's token of its own."""
        return await self.client(token=self.provider_token())


@contextlib.asynccontextmanager
async def running(
    config: HubConfig | None = None, *, clock: Clock | None = None, engine: Engine | None = None
) -> AsyncIterator[Running]:
    """Run a hub on a free port for as long as the block runs."""
    access = Access(anonymous=config.anonymous if config else True)
    tokens = {role: new_token(role) for role in (Role.VIEWER, Role.OPERATOR, Role.PROVIDER)}
    for role, token in tokens.items():
        access.add_token(token, role, f"test-{role.value}")
    hub = Hub(config or HubConfig(port=0), access=access, clock=clock, engine=engine)
    await hub.start()
    try:
        yield Running(hub, tokens, access)
    finally:
        await hub.stop(0.5)


async def eventually(condition: Any, seconds: float = SECONDS) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
