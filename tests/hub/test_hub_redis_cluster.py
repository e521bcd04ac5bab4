"""Who is alive on one Redis, by its own clock, and what hubs send each other."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator

import pytest

from qubix_tui.hub.engine import cluster as cluster_rules
from qubix_tui.hub.engine import redis_cluster, redis_pipe
from qubix_tui.hub.engine.redis_cluster import RedisCluster
from qubix_tui.hub.engine.redis_link import LinkDown, RedisLink
from qubix_tui.hub.engine.telemetry import EngineTelemetry
from tests.hub.manual_clock import ManualClock
from tests.hub.redis_hubs import Hub, hubs, opened, wired
from tests.hub.wire import eventually
from tests.redis_server import RedisServer, redis_server

LEASE_SECONDS = 1.5


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    with redis_server() as server:
        yield server


@pytest.fixture
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life come more often, and are waited for less long."""
    monkeypatch.setattr(redis_cluster, "LEASE_SECONDS", LEASE_SECONDS)
    monkeypatch.setattr(redis_pipe, "RENEW_SECONDS", 0.2)


@pytest.mark.usefixtures("_brisk")
async def test_the_oldest_leads_until_it_leaves(server: RedisServer) -> None:
    """All see all, in the order in which they came; who leaves is gone at once, and the next one leads."""
    async with hubs(server, 3) as (one, two, three):
        everybody = [one.node, two.node, three.node]
        assert three.sees == everybody
        await eventually(lambda: one.sees == two.sees == everybody)
        assert [hub.engine.cluster.leads for hub in (one, two, three)] == [True, False, False]
        assert all(hub.engine.cluster.may_renew for hub in (one, two, three))
        assert two.engine.cluster.is_live(one.node)
        assert not two.engine.cluster.is_live(None)
        await one.engine.cluster.leave()
        assert not one.engine.cluster.may_renew
        await eventually(lambda: two.engine.cluster.leads and three.sees == everybody[1:])
        assert not two.engine.cluster.is_live(one.node)
        assert await one.put("a", b"1", "x") == [1], "it is not gone yet"
        await eventually(lambda: one.sees == everybody[1:])


@pytest.mark.usefixtures("_brisk")
async def test_who_has_left_stays_gone_when_its_connection_breaks(server: RedisServer) -> None:
    """It is about to end: others look after its providers all along."""
    async with wired(server, "wire") as wire:
        one, two = Hub(wire.address), Hub(server.address)
        async with opened(one, two):
            await one.engine.cluster.leave()
            await eventually(lambda: two.sees == [two.node])
            wire.cut()
            await wire.mend()
            await eventually(lambda: one.engine.telemetry.reconnects == 1)
            known = two.engine.cluster.nodes
            await eventually(lambda: two.engine.cluster.nodes is not known)
            assert two.sees == [two.node]


@pytest.mark.usefixtures("_brisk")
async def test_who_is_killed_counts_as_gone_when_its_lease_is_over(server: RedisServer) -> None:
    """And who comes back by itself is where it was in the order: a minute is short."""
    async with wired(server, "wire") as wire:
        one, two = Hub(wire.address), Hub(server.address)
        async with opened(one, two):
            assert not two.engine.cluster.leads
            wire.cut()
            await eventually(lambda: not one.engine.cluster.may_renew)
            await eventually(lambda: two.engine.cluster.leads)
            assert two.sees == [two.node]
            await wire.mend()
            await eventually(lambda: two.sees == [one.node, two.node])
            await eventually(lambda: one.engine.cluster.may_renew and one.engine.cluster.leads)


@pytest.mark.usefixtures("_brisk")
async def test_nobody_is_taken_for_gone_because_redis_was(server: RedisServer) -> None:
    """While it can hear nobody no lease runs: who is back first does not find itself alone."""
    async with hubs(server, 1) as (near,), wired(server, "wire") as wire:
        far = Hub(wire.address)
        async with opened(far):
            await eventually(lambda: near.sees == [near.node, far.node])
            server.send(signal.SIGSTOP)
            wire.cut()
            # Two seconds until it is given up, and some more than a lease.
            await eventually(lambda: not near.engine.available)
            await eventually(lambda: not near.engine.cluster.may_renew)
            server.send(signal.SIGCONT)
            await eventually(lambda: near.engine.cluster.may_renew)
            assert near.sees == [near.node, far.node]
            await eventually(lambda: near.sees == [near.node])


@pytest.mark.usefixtures("_brisk")
async def test_what_a_hub_tells_of_itself_is_known_to_all(server: RedisServer) -> None:
    """As it told it last, with how long ago it was heard."""
    async with hubs(server, 2) as (one, two):
        one.engine.cluster.describe(b'{"clients":1}')
        await eventually(
            lambda: [node.words for node in two.engine.cluster.nodes] == [b'{"clients":1}', b"{}"]
        )
        assert all(0 <= node.age < LEASE_SECONDS for node in two.engine.cluster.nodes)


async def test_a_message_comes_to_whom_it_was_sent(server: RedisServer) -> None:
    """Any bytes, in order, with who sent it; to one that is not there it goes nowhere."""
    async with hubs(server, 2) as (one, two):
        messages = [b"", b"a\nb", bytes(range(256)), random.Random(1).randbytes(100_000)]
        for message in messages:
            one.engine.cluster.send(two.node, message)
            one.engine.cluster.send("nobody", message)
            two.engine.cluster.send(two.node, message)
        await eventually(lambda: len(two.inbox) == 8)
        assert [message for node, message in two.inbox if node == one.node] == messages
        assert [message for node, message in two.inbox if node == two.node] == messages
        assert one.inbox == []


@pytest.mark.parametrize(("count", "size"), [(20_000, 1), (1_000, 65_536)], ids=["many", "long"])
async def test_what_hubs_say_to_each_other_keeps_no_commit_out(
    server: RedisServer, count: int, size: int
) -> None:
    """More than waits for Redis is dropped: it is soon out of date. Commits are taken all along."""
    async with hubs(server, 2) as (one, two):
        for _ in range(count):
            one.engine.cluster.send(two.node, bytes(size))
        assert await one.put("a", b"1", "x") == [1]
        assert await two.put("b", b"1", "x") == [2]
        one.engine.cluster.send(two.node, b"last")
        await eventually(lambda: two.inbox[-1:] == [(one.node, b"last")])
        assert 100 < len(two.inbox) < count


async def test_an_inbox_that_breaks_is_opened_again(server: RedisServer) -> None:
    """What was sent meanwhile is lost; commits are not held up by it."""
    async with hubs(server, 2) as (one, two):
        server.command("CLIENT", "KILL", "TYPE", "pubsub")

        async def send_until_heard() -> None:
            while not two.inbox:
                one.engine.cluster.send(two.node, b"hello")
                assert await one.put("a", b"") == []
                await asyncio.sleep(0.01)

        await asyncio.wait_for(send_until_heard(), 10)
        assert set(two.inbox) == {(one.node, b"hello")}
        assert (one.engine.telemetry.reconnects, two.engine.telemetry.reconnects) == (0, 0)


def test_a_hub_that_hears_nothing_of_the_others_renews_nothing() -> None:
    """Redis hears it, but what the others write does not come: it can't know what became of jobs."""
    positions = iter([7, 7, 8])
    cluster = RedisCluster("qubix:", ManualClock(), EngineTelemetry(), lambda: next(positions))
    cluster.begin("term")
    now = time.monotonic()
    allowed = []
    for newest, noticed in ((7, now), (8, now - cluster_rules.LEASE_SECONDS), (8, now)):
        cluster.renewed([b"ok", 0, newest, []], now, noticed)
        allowed.append(cluster.may_renew)
    assert allowed == [True, False, True]


async def test_an_inbox_that_nothing_comes_through_is_given_up(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection may be dead without a word: a hub sends itself a sign of life, and misses it."""
    monkeypatch.setattr(redis_cluster, "INBOX_SECONDS", 0.05)
    cluster = RedisCluster("qubix:", ManualClock(), EngineTelemetry(), lambda: 0)
    link = await RedisLink.dial(server.address, ())
    await cluster.open_inbox(link)
    with pytest.raises(LinkDown):
        await cluster.read_inbox(link)


async def test_a_receiver_that_fails_does_not_end_the_inbox(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said in the log; the next message comes all the same."""
    one, two = Hub(server.address), Hub(server.address)

    def receive(node: str, message: bytes) -> None:
        two.inbox.append((node, message))
        if message == b"bad":
            raise ZeroDivisionError

    two.engine.cluster.receive(receive)
    async with opened(one, two):
        one.engine.cluster.send(two.node, b"bad")
        one.engine.cluster.send(two.node, b"good")
        await eventually(lambda: [message for _, message in two.inbox] == [b"bad", b"good"])
        assert "could not be taken" in caplog.text


@pytest.mark.usefixtures("_brisk")
async def test_the_clock_of_redis_is_compared(server: RedisServer) -> None:
    """How far it is ahead, how far behind the log the hub is, and what was asked of it, in numbers."""
    async with hubs(server, 1) as (hub,):
        telemetry = hub.engine.telemetry
        assert abs(telemetry.clock_skew) < 1
        for _ in range(5):
            await hub.put("a", b"")
        assert 0 <= telemetry.lag < 5
        await eventually(lambda: telemetry.lag == 0)
        assert telemetry.calls["commit"].count == 5
        assert telemetry.calls["commit"].seconds > 0
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await eventually(lambda: telemetry.reconnects == 1)
