"""The hub killed at random moments under load, again and again: nothing that it acknowledged is lost."""

import asyncio
import contextlib
import functools
import json
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.end_to_end.processes import hub_process
from tests.hub.wire import Client, eventually

SEED = 20_261_123
PROVIDERS = 3
WATCHERS = 3
AWAY = (OSError, ConnectionClosed, InvalidHandshake, TimeoutError)
"""What a client meets while the hub is gone."""


@contextlib.asynccontextmanager
async def dialled(url: str, token: str) -> AsyncIterator[Client]:
    """A client that is greeted; it tries until the hub is there."""
    while True:
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


class Provider:
    """Changes its status without pause, and notes which changes were acknowledged.

    Args:
        name: Its identity.
        token: Its own.
    """

    def __init__(self, name: str, token: str) -> None:
        self.name = name
        self.acknowledged: list[str] = []
        self._token = token
        self._number = 0

    async def work(self, url: str) -> None:
        """Go on until cancelled, through every end of the hub."""
        while True:
            with contextlib.suppress(*AWAY):
                async with dialled(url, self._token) as client:
                    registered = await client.register(self.name)
                    assert registered["type"] == "registered", registered
                    while True:
                        self._number += 1
                        reason = f"{self.name} {self._number}"
                        answer = await client.ask("provider:status", {"paused": True, "reason": reason})
                        assert answer["type"] == "ok", answer
                        self.acknowledged.append(reason)


class Watcher:
    """Follows the marketplace as a client should: after each end of the hub it asks for what it missed."""

    def __init__(self, token: str) -> None:
        self.reasons: list[str] = []
        self.offset = 0
        self.recoveries = 0
        self._token = token
        self._epoch: str | None = None

    async def work(self, url: str) -> None:
        """Go on until cancelled; fails at a gap, a duplicate, or where nothing was recovered."""
        while True:
            with contextlib.suppress(*AWAY):
                async with dialled(url, self._token) as client:
                    since = {"epoch": self._epoch, "since": self.offset} if self._epoch else None
                    subscribed = (await client.ask("subscribe:marketplace", since))["data"]
                    if since is None:
                        self.offset = subscribed["offset"]
                    else:
                        assert subscribed["recovered"] is True, subscribed
                        self.recoveries += 1
                    assert self._epoch in {None, subscribed["epoch"]}, "history was lost"
                    self._epoch = subscribed["epoch"]
                    while True:
                        self._take(await asyncio.wait_for(client.socket.recv(), 20))

    def _take(self, raw: Any) -> None:
        message = json.loads(raw)
        assert message["offset"] == self.offset + 1, "a gap or a duplicate"
        self.offset = message["offset"]
        if message["type"] == "PROVIDER_STATUS_CHANGED":
            self.reasons.append(message["data"]["status"]["reason"])


async def issue(url: str, operator: str, name: str) -> str:
    """A provider's token."""
    async with dialled(url, operator) as client:
        issued = await client.ask("token:issue", {"role": "provider", "name": name})
    token: str = issued["data"]["token"]
    return token


async def final_offset(url: str, operator: str) -> int:
    """Where the marketplace is."""
    async with dialled(url, operator) as client:
        offset: int = (await client.ask("subscribe:marketplace"))["data"]["offset"]
    return offset


def total(providers: list[Provider]) -> int:
    """How many changes were acknowledged so far."""
    return sum(len(provider.acknowledged) for provider in providers)


def have_come(watchers: list[Watcher], offset: int) -> bool:
    """Whether all have got so far."""
    return all(watcher.offset >= offset for watcher in watchers)


async def kill_again_and_again(home: Path, rounds: int) -> None:
    """Kill and restart the hub under load, then compare what was acknowledged with what was told."""
    moments = random.Random(SEED)
    providers: list[Provider] = []
    watchers: list[Watcher] = []
    port = 0
    async with asyncio.TaskGroup() as group:
        load: list[asyncio.Task[None]] = []
        for number in range(rounds + 1):
            # It blocks the loop for as long as the hub takes to start: its clients are as if frozen.
            with hub_process(home, port=port) as (process, url):
                port = int(url.rsplit(":", 1)[1])
                operator = (home / "tokens" / "operator").read_text().strip()
                if not load:
                    watchers = [Watcher(operator) for _ in range(WATCHERS)]
                    for name in (f"rig-{index}" for index in range(PROVIDERS)):
                        providers.append(Provider(name, await issue(url, operator, name)))
                    load = [group.create_task(watcher.work(url)) for watcher in watchers]
                    load += [group.create_task(provider.work(url)) for provider in providers]
                enough = total(providers) + PROVIDERS
                await eventually(lambda enough=enough: total(providers) >= enough, 20)
                await asyncio.sleep(moments.uniform(0, 0.25))
                if number < rounds:
                    process.send_signal(signal.SIGKILL)
                    await asyncio.to_thread(process.wait)
                    continue
                for task in load[WATCHERS:]:
                    task.cancel()
                await asyncio.gather(*load[WATCHERS:], return_exceptions=True)
                end = await final_offset(url, operator)
                await eventually(functools.partial(have_come, watchers, end), 20)
                for task in load:
                    task.cancel()
    compare(providers, watchers, rounds)


def compare(providers: list[Provider], watchers: list[Watcher], rounds: int) -> None:
    """Every acknowledged change was told once, in its order, to everybody."""
    for watcher in watchers:
        assert watcher.recoveries >= rounds
        assert len(set(watcher.reasons)) == len(watcher.reasons), "a change was told twice"
        assert watcher.reasons[-20:] == watchers[0].reasons[-20:]
        for provider in providers:
            told = [reason for reason in watcher.reasons if reason.startswith(f"{provider.name} ")]
            assert told == sorted(told, key=lambda reason: int(reason.split()[1]))
            first = int(told[0].split()[1])
            due = [reason for reason in provider.acknowledged if int(reason.split()[1]) >= first]
            assert set(due) <= set(told), "an acknowledged change was lost"
            assert len(due) > rounds


async def test_nothing_acknowledged_is_lost_in_ten_kills(tmp_path: Path) -> None:
    """Ten times SIGKILL: watchers recover without a gap or a duplicate; providers keep their identity."""
    await kill_again_and_again(tmp_path, 10)


@pytest.mark.soak
async def test_nothing_acknowledged_is_lost_in_a_hundred_kills(tmp_path: Path) -> None:
    """The same, a hundred times."""
    await kill_again_and_again(tmp_path, 100)
