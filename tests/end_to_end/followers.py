"""Clients that keep count: what was acknowledged to them, and that every event comes once, in its order."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from qubix_tui.protocol import channels
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
    """Follows the marketplace, and every job until its end, as a client should.

    On each new connection it asks for what it missed.

    Args:
        token: What it shows.
        urls: The hubs: it goes from one to the next.
    """

    def __init__(self, token: str, urls: Sequence[str]) -> None:
        self.reasons: list[str] = []
        """What providers gave as the reason of their state, each time that they did."""
        self.ended: list[str] = []
        """The jobs that it heard end, each time that the marketplace said so."""
        self.completed: list[str] = []
        """Likewise, each time that the job's own channel did."""
        self.recoveries = 0
        self._token = token
        self._urls = itertools.cycle(urls)
        self._epoch: str | None = None
        self._offsets: dict[str, int] = {}
        self._followed = {channels.MARKETPLACE}
        self._client: Client | None = None

    @property
    def offset(self) -> int:
        """How far it has heard the marketplace."""
        return self._offsets.get(channels.MARKETPLACE, 0)

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
                    for channel in tuple(self._followed):
                        await self._subscribe(client, channel)
                    while True:
                        message = json.loads(await asyncio.wait_for(client.socket.recv(), SILENT_SECONDS))
                        if is_unavailable(message):
                            await asyncio.sleep(AGAIN_SECONDS)
                            break
                        for channel in self._take(message):
                            await self._subscribe(client, channel)

    async def _subscribe(self, client: Client, channel: str) -> None:
        offset = self._offsets.get(channel)
        since = None if offset is None else {"epoch": self._epoch, "since": offset}
        kind, _, subject = channel.partition(":")
        await client.send(f"subscribe:{kind}", since, **({"subscriptionId": subject} if subject else {}))

    def _take(self, message: Message) -> Sequence[str]:
        """Take one message; gives the channels that are to be followed from now on."""
        if message["type"] == "subscribed":
            self._subscribed(message["data"])
        elif "offset" in message:
            channel, offset = message["channel"], message["offset"]
            assert offset == self._offsets[channel] + 1, (
                f"a gap or a duplicate after {self._offsets[channel]}: {message}"
            )
            self._offsets[channel] = offset
            return self._note(message["type"], message["data"])
        return ()

    def _subscribed(self, subscribed: Message) -> None:
        channel = subscribed["subscription"]
        if channel not in self._offsets:
            self._offsets[channel] = subscribed["offset"]
        else:
            assert subscribed["recovered"] is True, subscribed
            self.recoveries += channel == channels.MARKETPLACE
        assert self._epoch in {None, subscribed["epoch"]}, "history was lost"
        self._epoch = subscribed["epoch"]

    def _note(self, kind: str, data: Message) -> Sequence[str]:
        if kind == "PROVIDER_STATUS_CHANGED":
            self.reasons.append(data["status"]["reason"])
        elif kind == "JOB_COMPLETED":
            self.completed.append(data["jobId"])
            self._followed.discard(channels.job_channel(data["jobId"]))
        elif data.get("kind") == "job_state" and JobState(data["job"]["state"]).is_final:
            self.ended.append(data["job"]["id"])
        elif data.get("kind") == "job_created":
            channel = channels.job_channel(data["job"]["id"])
            self._offsets[channel] = 0
            self._followed.add(channel)
            return (channel,)
        return ()


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
