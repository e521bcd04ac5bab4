"""Three hubs whose Redis goes away and comes back: their clients stay, and soon they are whole again."""

import asyncio
import contextlib
import itertools
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.end_to_end.followers import AGAIN_SECONDS, dialled, is_unavailable
from tests.end_to_end.hubs import Hub, Hubs, running_hubs
from tests.end_to_end.processes import until
from tests.hub.wire import Client
from tests.redis_server import RedisServer, redis_server

FAULTS: Final = ("kill", "freeze")
SOAK_ROUNDS: Final = 5


class Watcher:
    """Hears of everything at one hub.

    Args:
        client: Subscribed to the marketplace.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reasons: set[str] = set()
        self._is_up = True

    async def heard(self, reasons: set[str]) -> None:
        """Wait until providers have given these reasons for their states."""
        while not reasons <= self._reasons:
            await self._take()

    async def told(self, *, up: bool) -> None:
        """Wait until the hub has said that its store is there, or is not."""
        while self._is_up is not up:
            await self._take()

    async def _take(self) -> None:
        message = await self._client.recv()
        data = message["data"]
        if message["type"] == "PROVIDER_STATUS_CHANGED":
            self._reasons.add(data["status"]["reason"])
        elif data.get("kind") == "store":
            self._is_up = data["up"]


class Audience:
    """A provider at each hub, and somebody at each who hears of all of them; they never reconnect.

    Args:
        providers: Registered, one at each hub.
        watchers: One at each hub.
    """

    def __init__(self, providers: list[Client], watchers: list[Watcher]) -> None:
        self._providers = providers
        self._watchers = watchers
        self._round = 0

    async def refused(self) -> None:
        """See that what can't be stored is refused, and that everybody is told why."""
        for watcher in self._watchers:
            await watcher.told(up=False)
        for provider in self._providers:
            assert is_unavailable(await provider.ask("provider:status", {"paused": True, "reason": "lost"}))

    async def served(self) -> None:
        """Wait until a change at each hub is acknowledged there, and heard at all of them."""
        self._round += 1
        reasons = [f"{self._round} at {number}" for number in range(len(self._providers))]
        changes = [
            _change(provider, reason) for provider, reason in zip(self._providers, reasons, strict=True)
        ]
        await asyncio.gather(*changes, *(watcher.heard(set(reasons)) for watcher in self._watchers))

    async def reassured(self) -> None:
        """Wait until everybody was told that the store is back."""
        for watcher in self._watchers:
            await watcher.told(up=True)


async def _change(provider: Client, reason: str) -> None:
    while True:
        answer = await provider.ask("provider:status", {"paused": True, "reason": reason})
        if not is_unavailable(answer):
            break
        await asyncio.sleep(AGAIN_SECONDS)
    assert answer["type"] == "ok", answer


@asynccontextmanager
async def audience(hubs: Hubs) -> AsyncIterator[Audience]:
    """The clients, for as long as the block runs."""
    async with contextlib.AsyncExitStack() as stack:

        async def dial(url: str, token: str) -> Client:
            return await stack.enter_async_context(dialled(itertools.repeat(url), token))

        providers, watchers = [], []
        for number, hub in enumerate(hubs.all):
            operator = await dial(hub.url, hubs.operator)
            issued = await operator.ask("token:issue", {"role": "provider", "name": f"rig-{number}"})
            providers.append(await dial(hub.url, issued["data"]["token"]))
            assert (await providers[-1].register(f"rig-{number}"))["type"] == "registered"
            await operator.subscribe("marketplace")
            watchers.append(Watcher(operator))
        yield Audience(providers, watchers)


async def _ready(hub: Hub) -> None:
    while True:
        if await hub.is_ready():
            return
        await asyncio.sleep(AGAIN_SECONDS)


async def seconds_until_whole(hubs: Hubs, redis: RedisServer, clients: Audience, fault: str) -> float:
    """Have Redis go away and come back; gives how long after that all was well again."""
    if fault == "kill":
        redis.kill()
    else:
        redis.send(signal.SIGSTOP)
    await until(lambda: not any(hubs.is_ready(hub.port) for hub in hubs.all), "the hubs to find out")
    await clients.refused()
    if fault == "kill":
        await asyncio.to_thread(redis.start)
    else:
        redis.send(signal.SIGCONT)
    back = time.monotonic()
    async with asyncio.timeout(10):
        await asyncio.gather(*(_ready(hub) for hub in hubs.all), clients.served())
    took = time.monotonic() - back
    await clients.reassured()
    return took


async def go_through(root: Path, rounds: int) -> dict[str, list[float]]:
    """Have Redis killed and frozen so many times; gives how long it took each time."""
    found: dict[str, list[float]] = {fault: [] for fault in FAULTS}
    with redis_server() as redis:
        async with running_hubs(root, redis) as hubs, audience(hubs) as clients:
            await clients.served()
            for fault in FAULTS * rounds:
                found[fault].append(await seconds_until_whole(hubs, redis, clients, fault))
    return found


async def test_hubs_are_whole_once_redis_is_back(tmp_path: Path) -> None:
    """After SIGKILL and after SIGSTOP all serve within 10 s, on a busy machine too; their clients stayed."""
    await go_through(tmp_path, 1)


@pytest.mark.soak
async def test_hubs_are_whole_within_three_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five times each, on a quiet machine: ready, a commit at each, and its event at all of them."""
    found = await go_through(tmp_path, SOAK_ROUNDS)
    with capsys.disabled():
        for fault, seconds in found.items():
            told = ", ".join(f"{one:.2f}" for one in seconds)
            sys.stdout.write(f"\nwhole again after Redis came back from a {fault}: {told} s\n")
    assert max(max(seconds) for seconds in found.values()) < 3, found
