"""The `websockets` library as its manual uses it: ``serve``, ``async for``, ``broadcast``; see `work`."""

import asyncio
import contextlib
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from benchmarks import work


class Server:
    """A backend like the guide's."""

    def __init__(self) -> None:
        self.subscribers: defaultdict[str, set[ServerConnection]] = defaultdict(set)
        self.latest: dict[str, Any] = {}
        self.received = 0

    async def serve(self, connection: ServerConnection) -> None:
        """Serve one client."""
        provider = ""
        held: set[str] = set()
        try:
            async for raw in _messages(connection):
                message = json.loads(raw)
                match message["type"]:
                    case "subscribe:provider":
                        channel = f"provider:{message['subscriptionId']}"
                        held.add(channel)
                        self.subscribers[channel].add(connection)
                        await connection.send(json.dumps({"type": "subscribed"}))
                    case "provider:register":
                        provider = message["data"]["workerId"]
                        await connection.send(json.dumps({"type": "registered"}))
                    case "ping":
                        await connection.send(json.dumps({"type": "pong"}))
                    case "GPU_METRICS_UPDATE":
                        self.received += 1
                        self.latest[provider] = message["data"]
        finally:
            for channel in held:
                self.subscribers[channel].discard(connection)

    def broadcast(self, metrics: dict[str, Any]) -> None:
        """Tell the subscribers of one provider of a sample."""
        broadcast(self.subscribers[f"provider:{work.PROVIDER}"], _event(metrics).decode())


async def _messages(connection: ServerConnection) -> AsyncIterator[str | bytes]:
    """Give a client's messages; most clients here end without a goodbye."""
    with contextlib.suppress(ConnectionClosed):
        async for raw in connection:
            yield raw


def _event(metrics: dict[str, Any]) -> bytes:
    data = {"providerId": work.PROVIDER, "metrics": metrics, "timestamp": "2026-01-01T00:00:00.000Z"}
    return work.as_json({"type": "GPU_METRICS_UPDATE", "data": data})


async def main() -> None:
    """Serve until the end of the input."""
    server = Server()
    metrics = work.padded(work.sample(), _event)

    def publish(seq: int) -> None:
        metrics["seq"] = seq
        server.broadcast(metrics)

    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    # The clients answer no pings.
    async with serve(server.serve, "127.0.0.1", 0, ping_interval=None, backlog=1024) as listening:
        work.answer(next(iter(listening.sockets)).getsockname()[1])
        while line := (await reader.readline()).decode().split():
            if line[0] == "publish":
                work.answer(await work.publish(publish, asyncio.sleep, line[1:]))
            else:
                work.answer(server.received)
        listening.close()


if __name__ == "__main__":
    uvloop.run(main())
