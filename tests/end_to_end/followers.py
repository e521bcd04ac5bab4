"""Clients that keep count: what was acknowledged to them, and that every event comes once, in its order."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from qubix_tui.protocol.job_records import JobState
from tests.hub.wire import Client, Message

AWAY = (OSError, ConnectionClosed, InvalidHandshake, TimeoutError)
"""What a client meets while the hub is gone."""

SILENT_SECONDS = 20.0
"""After this a client takes its hub for gone."""

AGAIN_SECONDS = 0.05
"""When a client asks again that was told that the store is away."""


def is_unavailable(answer: Message) -> bool:
    """Whether a hub says that its store is away."""
    return bool(answer["type"] == "error" and answer["data"]["code"] == "unavailable")


@contextlib.asynccontextmanager
async def dialled(urls: Iterator[str], token: str) -> AsyncIterator[Client]:
    """A client that is greeted; it tries one hub after the other until one is there."""
    for url in urls:
        try:
            socket: ClientConnection = await connect(
                url,
                additional_headers={"Authorization": f"Bearer {token}"},
                compression=None,
                ping_interval=None,
                max_queue=None,
                open_timeout=5,
            )
            break
        except AWAY:
            await asyncio.sleep(0.02)
    try:
        client = Client(socket)
        assert (await client.recv())["type"] == "connected"
        yield client
    finally:
        socket.transport.abort()


class ChangingProvider:
    """Changes its status without pause, and notes which changes were acknowledged.

    Args:
        name: Its identity.
        token: Its own.
        urls: The hubs that it may connect to.
        pause: Seconds between two changes.
    """

    def __init__(self, name: str, token: str, urls: Sequence[str], *, pause: float = 0.0) -> None:
        self.name = name
        self.acknowledged: list[str] = []
        self._token = token
        self._urls = itertools.cycle(urls)
        self._pause = pause
        self._number = 0

    async def work(self) -> None:
        """Go on until cancelled, through every end of a hub."""
        while True:
            with contextlib.suppress(*AWAY):
                async with dialled(self._urls, self._token) as client:
                    registered = await client.register(self.name)
                    if is_unavailable(registered):
                        await asyncio.sleep(AGAIN_SECONDS)
                        continue
                    assert registered["type"] == "registered", registered
                    await self._change(client)

    async def _change(self, client: Client) -> None:
        while True:
            self._number += 1
            reason = f"{self.name} {self._number}"
            answer = await client.ask("provider:status", {"paused": True, "reason": reason})
            if is_unavailable(answer):
                await asyncio.sleep(AGAIN_SECONDS)
                return
            assert answer["type"] == "ok", answer
            self.acknowledged.append(reason)
            await asyncio.sleep(self._pause)


class Follower:
    """Follows the marketplace as a client should: on each new connection it asks for what it missed.

    Args:
        token: What it shows.
        urls: The hubs: it goes from one to the next.
    """

    def __init__(self, token: str, urls: Sequence[str]) -> None:
        self.reasons: list[str] = []
        self.ended: list[str] = []
        """The jobs that it heard end, each time that it did."""
        self.offset = 0
        self.recoveries = 0
        self._token = token
        self._urls = itertools.cycle(urls)
        self._epoch: str | None = None
        self._client: Client | None = None

    def move(self) -> None:
        """Go to the next hub now."""
        if self._client is not None:
            self._client.socket.transport.abort()

    async def work(self) -> None:
        """Go on until cancelled; fails at a gap, a duplicate, or where nothing was recovered."""
        while True:
            with contextlib.suppress(*AWAY):
                async with dialled(self._urls, self._token) as client:
                    self._client = client
                    since = {"epoch": self._epoch, "since": self.offset} if self._epoch else None
                    answer = await client.ask("subscribe:marketplace", since)
                    if is_unavailable(answer):
                        await asyncio.sleep(AGAIN_SECONDS)
                        continue
                    self._subscribed(answer["data"], is_first=since is None)
                    while True:
                        self._take(await asyncio.wait_for(client.socket.recv(), SILENT_SECONDS))

    def _subscribed(self, subscribed: Message, *, is_first: bool) -> None:
        if is_first:
            self.offset = subscribed["offset"]
        else:
            assert subscribed["recovered"] is True, subscribed
            self.recoveries += 1
        assert self._epoch in {None, subscribed["epoch"]}, "history was lost"
        self._epoch = subscribed["epoch"]

    def _take(self, raw: Any) -> None:
        message = json.loads(raw)
        if "offset" not in message:
            # What is no part of the history: that the store is away.
            return
        assert message["offset"] == self.offset + 1, f"a gap or a duplicate after {self.offset}: {message}"
        self.offset = message["offset"]
        if message["type"] == "PROVIDER_STATUS_CHANGED":
            self.reasons.append(message["data"]["status"]["reason"])
        elif message["data"].get("kind") == "job_state":
            job = message["data"]["job"]
            if JobState(job["state"]).is_final:
                self.ended.append(job["id"])


async def newest_offset(url: str, token: str) -> int:
    """How far the marketplace has got, as far as a hub knows."""
    async with dialled(itertools.repeat(url), token) as client:
        offset: int = (await client.ask("subscribe:marketplace"))["data"]["offset"]
    return offset


def compare(providers: Sequence[ChangingProvider], followers: Sequence[Follower]) -> None:
    """Every change that was acknowledged was told once, in its order, to everybody."""
    for follower in followers:
        assert len(set(follower.reasons)) == len(follower.reasons), "a change was told twice"
        assert follower.reasons[-20:] == followers[0].reasons[-20:]
        for provider in providers:
            told = [reason for reason in follower.reasons if reason.startswith(f"{provider.name} ")]
            assert told == sorted(told, key=lambda reason: int(reason.split()[1]))
            first = int(told[0].split()[1])
            due = [reason for reason in provider.acknowledged if int(reason.split()[1]) >= first]
            assert set(due) <= set(told), "an acknowledged change was lost"
