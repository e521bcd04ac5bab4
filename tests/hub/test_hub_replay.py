"""Being away and coming back: snapshots, replays, and no event lost or doubled."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from qubix_tui.hub.engine.base import EngineUnavailable, NewEvent, Replay
from qubix_tui.protocol.tokens import Role
from tests.hub.shared_store import SharedEngine, SharedStore
from tests.hub.wire import Client, Running, running


@pytest.fixture
async def hub() -> AsyncIterator[Running]:
    """A hub that listens."""
    async with running() as made:
        yield made


async def progress(hub: Running, job_id: str, number: int) -> None:
    """Publish one more event of a job."""
    await hub.hub.broadcast_job_progress(job_id, {"progress": number, "status": "running"})


async def test_who_was_away_gets_what_it_missed_then_goes_on_live(hub: Running) -> None:
    """From the offset it had, each event once, with its offset; then live."""
    epoch = hub.hub.services.engine.epoch
    for number in range(5):
        await progress(hub, "j", number)
    async with await hub.client() as client:
        reply = await client.ask("subscribe:job", {"epoch": epoch, "since": 2}, subscriptionId="j")
        assert reply["data"] == {"subscription": "job:j", "epoch": epoch, "offset": 5, "recovered": True}
        await progress(hub, "j", 5)
        heard = await client.heard()
        assert [(m["offset"], m["data"]["progress"]["progress"]) for m in heard] == [
            (3, 2),
            (4, 3),
            (5, 4),
            (6, 5),
        ]
        assert {m["channel"] for m in heard} == {"job:j"}


async def test_since_nothing_needs_no_epoch_and_gives_all_that_is_kept(hub: Running) -> None:
    """How a late watcher reads a job from its beginning."""
    for number in range(3):
        await progress(hub, "j", number)
    async with await hub.client() as client:
        reply = await client.ask("subscribe:job", {"since": 0}, subscriptionId="j")
        assert reply["data"]["recovered"] is True
        assert [m["offset"] for m in await client.heard()] == [1, 2, 3]


@pytest.mark.parametrize("snapshot", [True, False])
async def test_lost_history_is_said_and_never_replayed_in_part(hub: Running, snapshot: bool) -> None:
    """Another epoch, or an offset out of reach: `recovered` is false, and the snapshot comes if asked for."""
    await hub.hub.broadcast_marketplace_update({"kind": "note"})
    async with await hub.client() as client:
        for since, epoch in ((1, "other"), (9, hub.hub.services.engine.epoch)):
            options = {"since": since, "epoch": epoch, "snapshot": snapshot}
            reply = await client.ask("subscribe:marketplace", options)
            assert (reply["data"]["recovered"], reply["data"]["offset"]) == (False, 1)
            kinds = [m["data"]["kind"] for m in await client.heard()]
            assert kinds == (["snapshot"] if snapshot else [])


async def test_a_snapshot_comes_beside_since_only_where_it_is_needed(hub: Running) -> None:
    """Recovered, the client's own state is up to date."""
    await hub.hub.broadcast_marketplace_update({"kind": "note"})
    async with await hub.client() as client:
        options = {"since": 0, "snapshot": True}
        assert (await client.ask("subscribe:marketplace", options))["data"]["recovered"] is True
        assert [m["data"]["kind"] for m in await client.heard()] == ["note"]


async def test_a_snapshot_comes_before_every_later_event(hub: Running) -> None:
    """Also those published while its pages are on their way; the digest's full set comes after it."""
    async with await hub.client(Role.OPERATOR) as operator, await hub.client() as client:
        await operator.register("a", simulated=True)
        await operator.ask("ping")
        await operator.send("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": 1}})
        await operator.heard()
        await client.send("subscribe:marketplace", {"snapshot": True, "digest": 60}, id=1)
        assert (await client.recv())["type"] == "subscribed"
        await operator.register("a", simulated=True, name="renamed")
        heard = await client.heard()
        assert [m["data"]["kind"] for m in heard] == ["snapshot", "metrics", "provider_updated"]


async def test_three_thousand_providers_over_a_real_socket(hub: Running) -> None:
    """Snapshot and digest in frames of 64 KiB (the client checks each), every provider once."""
    from qubix_tui.protocol.records import Metrics
    from qubix_tui.protocol.requests import Register

    registry = hub.hub.services.providers.registry
    for number in range(3_000):
        request = Register(worker_id=f"w{number}", name=f"rig-{number}", instance="i")
        registry.sampled(registry.registered(registry.register(request)), Metrics(cpu_percent=5))
    async with await hub.client() as client:
        await client.send("subscribe:marketplace", {"snapshot": True, "digest": 0.1})
        await client.until("subscribed")
        seen: dict[str, list[str]] = {"snapshot": [], "metrics": []}
        while len(seen["metrics"]) < 3_000:
            data = (await client.recv())["data"]
            seen[data["kind"]] += [p.get("id") or p["providerId"] for p in data["providers"]]
            assert len(seen["snapshot"]) == 3_000 or not seen["metrics"]
        for ids in seen.values():
            assert len(ids) == len(set(ids)) == 3_000
        assert data["kind"] == "metrics"


async def test_who_comes_from_a_hub_that_was_ahead_gets_nothing_twice() -> None:
    """The event that it has already is awaited here before it joins."""
    store = SharedStore()
    engine, other = SharedEngine(store, "a"), SharedEngine(store, "b")
    async with running(engine=engine) as hub, await hub.client() as client:
        await other.open()
        engine.held = True
        for number in range(2):
            event = NewEvent("marketplace", "MARKETPLACE_UPDATE", b'{"kind":"note","number":%d}' % number)
            await other.commit([], [], [event])
        await client.send("subscribe:marketplace", {"since": 2, "epoch": engine.epoch})
        for _ in range(100):
            await asyncio.sleep(0)
        engine.hear()
        engine.held = False
        reply = await client.until("subscribed")
        assert (reply["data"]["recovered"], reply["data"]["offset"]) == (True, 2)
        event = NewEvent("marketplace", "MARKETPLACE_UPDATE", b'{"kind":"note","number":2}')
        await other.commit([], [], [event])
        assert [message["offset"] for message in await client.heard()] == [3]


class LazyEngine(SharedEngine):
    """Takes its time for everything, as a disk does: at random, but repeatably."""

    def __init__(self, seed: int) -> None:
        super().__init__(SharedStore(), "a")
        self._random = random.Random(seed)
        self.failing_replays = 0

    async def _wait(self) -> None:
        for _ in range(self._random.randrange(6)):
            await asyncio.sleep(0)

    def hear(self) -> None:
        if self._random.randrange(3):
            asyncio.get_running_loop().call_soon(self.hear)
        else:
            super().hear()

    async def replay(self, channel: str, since: int, *, limit: int) -> Replay:
        await self._wait()
        if self.failing_replays:
            self.failing_replays -= 1
            raise EngineUnavailable("the disk is gone")
        replay = await super().replay(channel, since, limit=limit)
        await self._wait()
        return replay


@pytest.mark.parametrize("seed", range(5))
async def test_coming_and_going_under_load_loses_nothing_and_doubles_nothing(seed: int) -> None:
    """All see 1, 2, 3 … to the end.

    Events are committed without pause, by an engine that answers when it likes, while clients connect,
    disconnect, and resubscribe in place with the offset they have.
    """
    total = 400
    engine = LazyEngine(seed)
    async with running(engine=engine) as hub:

        async def publish() -> None:
            for number in range(total):
                hub.hub.broadcast_job_progress("j", {"progress": number % 100, "status": "running"})
                if number % 3 == 0:
                    await asyncio.sleep(0)

        async def follow(choices: random.Random) -> list[int]:
            offsets: list[int] = []
            while not offsets or offsets[-1] < total:
                async with await hub.client() as client:
                    for _ in range(choices.randrange(1, 5)):
                        await _take_some(client, offsets, engine.epoch, choices.randrange(1, 60), total)
            return offsets

        readers = [asyncio.create_task(follow(random.Random(seed * 100 + n))) for n in range(6)]
        async with asyncio.timeout(30):
            await asyncio.gather(publish(), *readers)
        for reader in readers:
            assert reader.result() == list(range(1, total + 1))


async def _take_some(client: Client, offsets: list[int], epoch: str, count: int, total: int) -> None:
    """Resubscribe with the last offset, and note the offsets of some more events."""
    since = offsets[-1] if offsets else 0
    await client.send("subscribe:job", {"since": since, "epoch": epoch}, subscriptionId="j")
    while True:
        message = await client.recv()
        if message["type"] == "subscribed":
            break
        # Still live by the subscription before: newer than the replay that was asked for, which repeats it.
        if message["offset"] > offsets[-1]:
            offsets.append(message["offset"])
    assert message["data"]["recovered"] is True
    upto = message["data"]["offset"]
    expected = since
    while count and (not offsets or offsets[-1] < total):
        message = await client.recv()
        expected += 1
        assert message["offset"] == expected
        if message["offset"] > (offsets[-1] if offsets else 0):
            offsets.append(message["offset"])
            count -= 1
        else:
            assert message["offset"] <= upto


async def test_a_replay_that_fails_is_said_and_leaves_no_subscription() -> None:
    """`unavailable`; what was published meanwhile, and comes later, is not heard; the next attempt works."""
    engine = LazyEngine(1)
    engine.failing_replays = 1
    async with running(engine=engine) as hub, await hub.client() as client:
        await progress(hub, "j", 1)
        error = await client.ask("subscribe:job", {"since": 0}, subscriptionId="j")
        assert (error["data"]["code"], error["data"]["message"]) == ("unavailable", "the disk is gone")
        assert hub.hub.stats().subscriptions == []
        await progress(hub, "j", 2)
        assert await client.heard() == []
        await client.ask("subscribe:job", {"since": 0}, subscriptionId="j")
        assert [m["offset"] for m in await client.heard()] == [1, 2]


async def test_requests_behind_a_replay_keep_their_order() -> None:
    """Their replies come after it, in the order they were asked."""
    async with running(engine=LazyEngine(2)) as hub, await hub.client() as client:
        for number in range(3):
            await progress(hub, "j", number)
        for request_id in range(40):
            await client.send("subscribe:job", {"since": 0}, subscriptionId="j", id=request_id)
            await client.send("ping", id=1_000 + request_id)
        ids: list[int] = []
        while len(ids) < 80:
            message = await client.recv()
            if "id" in message:
                ids.append(message["id"])
        assert ids == [number for request_id in range(40) for number in (request_id, 1_000 + request_id)]
