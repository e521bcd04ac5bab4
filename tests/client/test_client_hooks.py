"""The guide's hooks as async iterators, over a real socket."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from qubix_tui.client import (
    Client,
    ConnectFailed,
    ConnectionLost,
    ConnectionState,
    RetryPolicy,
    SlowConsumer,
    connect,
    hooks,
)
from qubix_tui.protocol.events import JobCompleted, JobProgressed, MetricsUpdate
from qubix_tui.protocol.marketplace import StoreState
from qubix_tui.protocol.requests import SubscribeOptions
from qubix_tui.protocol.types import to_timestamp
from tests.client.scripted_hub import Peer, ScriptedHub, until

NOW = to_timestamp(1_800_000_000)
FAST = RetryPolicy(delays=(0.01,))


async def send_metrics(peer: Peer, provider_id: str, seq: int) -> None:
    """Publish one sample of a provider."""
    data = {"providerId": provider_id, "metrics": {"cpuPercent": 5.0, "seq": seq}, "timestamp": NOW}
    await peer.send("GPU_METRICS_UPDATE", data, channel=f"provider:{provider_id}")


async def send_progress(peer: Peer, job_id: str, percent: float, offset: int) -> None:
    """Publish a job's progress."""
    data = {"jobId": job_id, "progress": {"progress": percent, "status": "running"}, "timestamp": NOW}
    await peer.send("JOB_PROGRESS", data, channel=f"job:{job_id}", offset=offset)


async def send_marketplace(peer: Peer, **data: Any) -> None:
    """Publish a MARKETPLACE_UPDATE."""
    await peer.send("MARKETPLACE_UPDATE", data, channel="marketplace")


async def test_provider_metrics_subscribes_while_it_is_open(hub: ScriptedHub) -> None:
    """Entering subscribes, updates come as typed data of that provider alone, leaving unsubscribes."""
    async with connect(hub.url) as client:
        peer = await hub.peer()
        async with client.provider_metrics("rig-7") as updates:
            assert (await peer.request("subscribe:provider")).channel == "provider:rig-7"
            await send_metrics(peer, "rig-8", 1)
            await send_metrics(peer, "rig-7", 2)
            update = await anext(updates)
            assert isinstance(update, MetricsUpdate)
            assert (update.provider_id, update.metrics.cpu_percent, update.metrics.seq) == ("rig-7", 5.0, 2)
        assert (await peer.request("unsubscribe")).channel == "provider:rig-7"


async def test_a_slow_watcher_of_metrics_gets_the_latest(hub: ScriptedHub) -> None:
    """Samples not taken yet are replaced by newer ones of the same provider; each provider keeps its own."""
    async with connect(hub.url) as client, client.provider_metrics("*") as updates:
        peer = await hub.peer()
        heard: list[int] = []
        client.connection.on("GPU_METRICS_UPDATE", lambda event: heard.append(event.data.metrics.seq))
        for seq in range(100):
            await send_metrics(peer, "a", seq)
        await send_metrics(peer, "b", 7)
        await until(lambda: len(heard) == 101)
        taken = [await anext(updates), await anext(updates)]
        assert [(update.provider_id, update.metrics.seq) for update in taken] == [("a", 99), ("b", 7)]


async def test_two_watchers_share_one_subscription(hub: ScriptedHub) -> None:
    """The channel is subscribed once, both hear it, and it ends with the second one."""
    async with connect(hub.url) as client:
        peer = await hub.peer()
        async with client.provider_metrics("a") as first:
            async with client.provider_metrics("a") as second:
                await peer.request("subscribe:provider")
                await send_metrics(peer, "a", 1)
                assert (await anext(first)).metrics.seq == (await anext(second)).metrics.seq == 1
            await send_metrics(peer, "a", 2)
            assert (await anext(first)).metrics.seq == 2
            assert not any(request.type == "unsubscribe" for request in peer.requests)
        await peer.request("unsubscribe")
        kinds = [request.type for request in peer.requests]
        assert (kinds.count("subscribe:provider"), kinds.count("unsubscribe")) == (1, 1)


async def test_job_progress_ends_with_the_completion(hub: ScriptedHub) -> None:
    """Progress of this job in order, then its completion, then the loop ends by itself."""
    async with connect(hub.url) as client, client.job_progress("j1") as updates:
        peer = await hub.peer()
        await send_progress(peer, "other", 1, 1)
        await send_progress(peer, "j1", 10, 1)
        await send_progress(peer, "j1", 75, 2)
        completed = {"jobId": "j1", "status": "completed", "result": {"x": 1}, "timestamp": NOW}
        await peer.send("JOB_COMPLETED", completed, channel="job:j1", offset=3)
        heard = [update async for update in updates]
    progress = [update.progress.progress for update in heard if isinstance(update, JobProgressed)]
    assert progress == [10, 75]
    last = heard[-1]
    assert isinstance(last, JobCompleted)
    assert last.result == {"x": 1}
    assert len(heard) == 3


async def test_marketplace_updates_gives_each_watcher_what_it_asked_for(hub: ScriptedHub) -> None:
    """One who asked for neither gets no snapshot and no digest that another asked for."""
    async with AsyncExitStack() as stack:
        client: Client = await stack.enter_async_context(connect(hub.url))
        plain = await stack.enter_async_context(client.marketplace_updates())
        full = await stack.enter_async_context(client.marketplace_updates(snapshot=True, digest=1.0))
        peer = await hub.peer()
        second = await peer.request("subscribe:marketplace", 2)
        assert second.data == SubscribeOptions(snapshot=True, digest=1.0)
        await send_marketplace(peer, kind="snapshot", providers=[], page=1, pages=1)
        await send_marketplace(peer, kind="metrics", providers=[])
        await send_metrics(peer, "a", 1)
        await send_marketplace(peer, kind="provider_removed", providerId="a")
        assert [type((await anext(full)).data).__name__ for _ in range(3)] == [
            "FleetSnapshot",
            "FleetDigest",
            "ProviderRemoved",
        ]
        assert (await anext(plain)).data.provider_id == "a"


async def test_marketplace_updates_tell_of_the_hubs_store(hub: ScriptedHub) -> None:
    """That it went away, and why, and that it is back: to every watcher, as often as the hub says it."""
    async with connect(hub.url) as client, client.marketplace_updates() as updates:
        peer = await hub.peer()
        await peer.request("subscribe:marketplace")
        for up, reason in ((False, "no room"), (False, "no room"), (True, None)):
            await send_marketplace(peer, kind="store", up=up, reason=reason, since=NOW)
        told = [(await anext(updates)).data for _ in range(3)]
        away, back = StoreState(up=False, reason="no room", since=NOW), StoreState(up=True, since=NOW)
        assert told == [away, away, back]


async def test_a_slow_watcher_of_ordered_updates_is_told(
    hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is bounded: past it, iteration raises and goes on raising, and nothing is kept."""
    monkeypatch.setattr(hooks, "QUEUE_LIMIT", 5)
    async with connect(hub.url) as client, client.marketplace_updates() as updates:
        peer = await hub.peer()
        heard: list[object] = []
        client.connection.on("MARKETPLACE_UPDATE", heard.append)
        for _ in range(7):
            await send_marketplace(peer, kind="provider_removed", providerId="a")
        await until(lambda: len(heard) == 7)
        for _ in range(2):
            with pytest.raises(SlowConsumer, match="more than 5 updates"):
                await anext(updates)


async def test_iteration_waits_through_a_reconnect(hub: ScriptedHub) -> None:
    """A loss is not seen by the loop: it goes on with what comes after."""
    async with connect(hub.url, retry=FAST) as client, client.provider_metrics("a") as updates:
        first = await hub.peer(1)
        await first.request("subscribe:provider")
        task = asyncio.create_task(anext(updates))
        first.cut()
        second = await hub.peer(2)
        await second.request("subscribe:provider")
        await send_metrics(second, "a", 9)
        assert (await task).metrics.seq == 9


async def test_iteration_ends_when_the_connection_gives_up(hub: ScriptedHub) -> None:
    """A refused token ends the loop with the sentence, and not with silence."""
    async with connect(hub.url) as client, client.provider_metrics("a") as updates:
        peer = await hub.peer()
        task = asyncio.create_task(anext(updates))
        await peer.close(4003, "revoked")
        with pytest.raises(ConnectionLost, match="revoked"):
            await task


async def test_iteration_ends_when_the_connection_is_closed(hub: ScriptedHub) -> None:
    """Closing the connection elsewhere ends the loop."""
    async with connect(hub.url) as client, client.marketplace_updates() as updates:
        await client.connection.close()
        with pytest.raises(ConnectionLost, match="was closed"):
            await anext(updates)


async def test_connect_raises_what_keeps_it_from_opening(hub: ScriptedHub) -> None:
    """An unreachable hub is an error of the `async with`, within its timeout, and leaves nothing behind."""
    await hub.stop()
    with pytest.raises(ConnectFailed, match="nothing listens"):
        async with connect(hub.url, timeout=0.1):
            pass
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("qubix")]


async def test_leaving_by_an_exception_unsubscribes(hub: ScriptedHub) -> None:
    """A consumer that fails leaves no subscription and no connection."""

    async def fail() -> None:
        async with connect(hub.url) as client:
            clients.append(client)
            async with client.job_progress("j1"):
                await (await hub.peer()).request("subscribe:job")
                raise RuntimeError("on purpose")

    clients: list[Client] = []
    with pytest.raises(RuntimeError, match="on purpose"):
        await fail()
    assert (await (await hub.peer()).request("unsubscribe")).channel == "job:j1"
    assert clients[0].connection.state is ConnectionState.CLOSED
