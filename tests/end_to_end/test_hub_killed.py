"""The hub killed at random moments under load, again and again: nothing that it acknowledged is lost."""

import asyncio
import functools
import itertools
import random
import signal
from pathlib import Path

import pytest

from tests.end_to_end.followers import ChangingProvider, Follower, compare, dialled, newest_offset
from tests.end_to_end.processes import hub_process
from tests.hub.wire import eventually

SEED = 20_261_123
PROVIDERS = 3
WATCHERS = 3


async def issue(url: str, operator: str, name: str) -> str:
    """A provider's token."""
    async with dialled(itertools.repeat(url), operator) as client:
        issued = await client.ask("token:issue", {"role": "provider", "name": name})
    token: str = issued["data"]["token"]
    return token


def total(providers: list[ChangingProvider]) -> int:
    """How many changes were acknowledged so far."""
    return sum(len(provider.acknowledged) for provider in providers)


def have_come(watchers: list[Follower], offset: int) -> bool:
    """Whether all have got so far."""
    return all(watcher.offset >= offset for watcher in watchers)


async def kill_again_and_again(home: Path, rounds: int) -> None:
    """Kill and restart the hub under load, then compare what was acknowledged with what was told."""
    moments = random.Random(SEED)
    providers: list[ChangingProvider] = []
    watchers: list[Follower] = []
    port = 0
    async with asyncio.TaskGroup() as group:
        load: list[asyncio.Task[None]] = []
        for number in range(rounds + 1):
            # It blocks the loop for as long as the hub takes to start: its clients are as if frozen.
            with hub_process(home, port=port) as (process, url):
                port = int(url.rsplit(":", 1)[1])
                operator = (home / "tokens" / "operator").read_text().strip()
                if not load:
                    watchers = [Follower(operator, [url]) for _ in range(WATCHERS)]
                    for name in (f"rig-{index}" for index in range(PROVIDERS)):
                        providers.append(ChangingProvider(name, await issue(url, operator, name), [url]))
                    load = [group.create_task(watcher.work()) for watcher in watchers]
                    load += [group.create_task(provider.work()) for provider in providers]
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
                end = await newest_offset(url, operator)
                await eventually(functools.partial(have_come, watchers, end), 20)
                for task in load:
                    task.cancel()
    compare(providers, watchers)
    assert all(watcher.recoveries >= rounds for watcher in watchers)
    assert all(len(provider.acknowledged) > rounds for provider in providers)


async def test_nothing_acknowledged_is_lost_in_ten_kills(tmp_path: Path) -> None:
    """Ten times SIGKILL: watchers recover without a gap or a duplicate; providers keep their identity."""
    await kill_again_and_again(tmp_path, 10)


@pytest.mark.soak
async def test_nothing_acknowledged_is_lost_in_a_hundred_kills(tmp_path: Path) -> None:
    """The same, a hundred times."""
    await kill_again_and_again(tmp_path, 100)
