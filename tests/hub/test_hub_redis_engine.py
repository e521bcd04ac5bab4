"""The Redis engine's own promises to a hub that is alone: what it does while Redis is away, and after."""

import asyncio
import contextlib
import random
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import rule

from qubix_tui.hub.engine import redis_pipe
from qubix_tui.hub.engine.base import Change, Conflict, Engine, EngineUnavailable, NewEvent, Precondition
from qubix_tui.hub.engine.redis import RedisEngine
from tests.hub.engine_model import EngineMachine
from tests.hub.manual_clock import ManualClock
from tests.hub.wire import eventually
from tests.redis_server import RedisServer, redis_server

KILL_ROUNDS = 4


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    with redis_server() as server:
        yield server


@asynccontextmanager
async def opened(server: RedisServer, **options: Any) -> AsyncIterator[RedisEngine]:
    """An engine, closed with the block."""
    engine = RedisEngine(server.address, **options)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def append(engine: RedisEngine, channel: str, data: bytes = b"{}") -> int:
    """Commit one event and give its offset."""
    (offset,) = await engine.commit([], [], [NewEvent(channel, "T", data)])
    return offset


async def back(engine: RedisEngine) -> None:
    """Wait until an engine has noticed that its Redis was away, and is back."""
    async with asyncio.timeout(10):
        while True:
            # One that is sent into the broken connection waits for the new one.
            with contextlib.suppress(EngineUnavailable):
                await engine.commit([], [], [])
                return
            await asyncio.sleep(0.005)


async def refusal(server: RedisServer) -> str:
    """The sentence with which an engine does not open."""
    with pytest.raises(EngineUnavailable) as caught:
        await RedisEngine(server.address).open()
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_the_next_hub_finds_everything(server: RedisServer) -> None:
    """Offsets, events, tables and the epoch outlive the hub."""
    async with opened(server) as engine:
        await engine.commit([], [Change("t", "a", b"1"), Change("t", "b", b"")], [NewEvent("x", "T", b"{}")])
        await append(engine, "x", b'{"n":2}')
        epoch = engine.epoch
    async with opened(server) as engine:
        assert engine.epoch == epoch
        assert engine.offset("x") == 2
        replay = await engine.replay("x", 1, limit=9)
        assert [(event.offset, event.type, event.data) for event in replay.events] == [(2, "T", b'{"n":2}')]
        assert await engine.load("t") == {"a": b"1", "b": b""}
        assert await append(engine, "x") == 3


async def test_more_rows_than_one_step_reads(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is read in pages, without losing or repeating a row; so are the offsets."""
    monkeypatch.setattr("qubix_tui.hub.engine.redis.LOAD_ROWS", 7)
    rows = {f"k{number}": b"%d" % number for number in range(50)}
    async with opened(server) as engine:
        events = [NewEvent(f"c{number}", "T", b"{}") for number in range(50)]
        await engine.commit([], [Change("t", key, value) for key, value in rows.items()], events)
        assert await engine.load("t") == rows
        found = await engine.load("t", prefix="k1")
        assert found == {key: value for key, value in rows.items() if key.startswith("k1")}
    async with opened(server) as engine:
        assert [engine.offset(f"c{number}") for number in range(50)] == [1] * 50


async def test_every_stream_has_a_bound_and_runs_out(server: RedisServer) -> None:
    """No channel holds many more events than it is to, and one that falls silent is gone by itself."""
    async with opened(server, max_events=20, max_age=100.0) as engine:
        await asyncio.gather(*(append(engine, "x") for _ in range(400)))
        assert int(server.command("XLEN", "qubix:events:x")[1:]) < 20 + 200
        assert 90_000 < int(server.command("PTTL", "qubix:events:x")[1:]) <= 100_000
        assert int(server.command("HLEN", f"qubix:results:{engine.cluster.node}")[1:]) <= 401
        await append(engine, "x")
        assert int(server.command("HLEN", f"qubix:results:{engine.cluster.node}")[1:]) == 2
    assert server.command("KEYS", "qubix:results:*") == b"*0\r\n"


async def test_aged_events_leave_the_stream_as_others_come(server: RedisServer) -> None:
    """A channel that never falls silent does not keep what is too old to be asked for."""
    clock = ManualClock()
    async with opened(server, clock=clock, max_age=100.0) as engine:
        for _ in range(10):
            await append(engine, "x")
        clock.advance(200)
        for _ in range(10):
            await append(engine, "x")
        assert int(server.command("XLEN", "qubix:events:x")[1:]) == 10


async def test_a_killed_redis_is_whole_again_soon_after_its_return(server: RedisServer) -> None:
    """Meanwhile all is refused at once with a sentence; afterwards nothing acknowledged is missing."""
    async with opened(server) as engine:
        assert await append(engine, "x") == 1
        server.kill()
        await eventually(lambda: not engine.available)
        for _ in range(3):
            with pytest.raises(EngineUnavailable, match=r"Redis at unix://.* can't be reached: see"):
                await append(engine, "x")
        with pytest.raises(EngineUnavailable):
            await engine.load("t")
        with pytest.raises(EngineUnavailable):
            await engine.replay("x", 0, limit=9)
        server.start()
        await eventually(lambda: engine.available)
        assert await append(engine, "x") == 2
        assert len((await engine.replay("x", 0, limit=9)).events) == 2


async def test_what_a_frozen_redis_was_sent_is_settled_once_it_goes_on(server: RedisServer) -> None:
    """It is neither refused nor acknowledged before; it is done once. What came later is refused at once."""
    async with opened(server) as engine:
        await append(engine, "x")
        server.send(signal.SIGSTOP)
        sent = [asyncio.ensure_future(append(engine, "x")) for _ in range(5)]
        contested = asyncio.ensure_future(
            engine.commit([Precondition("t", "a", b"1")], [Change("t", "a", b"2")], [])
        )
        await eventually(lambda: not engine.available)
        with pytest.raises(EngineUnavailable, match="does not answer"):
            await append(engine, "x")
        assert not any(one.done() for one in sent)
        server.send(signal.SIGCONT)
        assert await asyncio.gather(*sent) == [2, 3, 4, 5, 6]
        with pytest.raises(Conflict):
            await contested
        assert await append(engine, "x") == 7
        assert len((await engine.replay("x", 0, limit=99)).events) == 7


async def test_a_connection_that_breaks_while_commits_are_under_way_loses_and_doubles_none(
    server: RedisServer,
) -> None:
    """Whether the reply was lost, or the request: each commit happens once, and each waits for its result."""
    async with opened(server) as engine:
        total = 0
        for _ in range(20):
            sent = [asyncio.ensure_future(append(engine, "x")) for _ in range(50)]
            await asyncio.sleep(0)
            server.command("CLIENT", "KILL", "TYPE", "normal")
            results = await asyncio.gather(*sent, return_exceptions=True)
            done = [result for result in results if isinstance(result, int)]
            assert all(isinstance(result, int | EngineUnavailable) for result in results)
            assert done == list(range(total + 1, total + len(done) + 1))
            total += len(done)
            await eventually(lambda: engine.available)
        replay = await engine.replay("x", 0, limit=10_000)
        assert [event.offset for event in replay.events] == list(range(1, total + 1))[-1000:]


async def test_kills_at_any_moment_lose_nothing_acknowledged(server: RedisServer) -> None:
    """SIGKILL of Redis in the midst of commits, again and again: tables and events agree with the answers."""
    randomness = random.Random(7)
    acknowledged: dict[int, bytes] = {}
    refused: set[bytes] = set()

    async def write(engine: RedisEngine, name: bytes) -> None:
        try:
            (offset,) = await engine.commit([], [Change("t", name.decode(), b"")], [NewEvent("x", "T", name)])
        except EngineUnavailable:
            refused.add(name)
        else:
            assert offset not in acknowledged
            acknowledged[offset] = name

    async with opened(server) as engine:
        for number in range(KILL_ROUNDS):
            writers = [asyncio.ensure_future(write(engine, b"%d-%d" % (number, one))) for one in range(200)]
            for _ in range(randomness.randrange(8)):
                await asyncio.sleep(0)
            server.kill()
            server.start()
            await asyncio.gather(*writers)
            await eventually(lambda: engine.available)
        events = (await engine.replay("x", 0, limit=10_000)).events
        assert {event.offset: event.data for event in events} == acknowledged
        assert {key.encode() for key in await engine.load("t")} == set(acknowledged.values())
        assert not refused & set(acknowledged.values())


async def test_what_redis_lost_of_the_last_seconds_is_written_again(server: RedisServer) -> None:
    """One that comes back without its end (power cut, failover) gets it from the hub that wrote it."""
    kept, copy = server.directory / "appendonlydir", server.directory / "copy"
    async with opened(server) as engine:
        await engine.commit([], [Change("t", "a", b"1")], [NewEvent("x", "T", b"1")])
        server.kill()
        shutil.copytree(kept, copy)
        server.start()
        await back(engine)
        await engine.commit(
            [Precondition("t", "a", b"1")], [Change("t", "a", b"2")], [NewEvent("x", "T", b"2")]
        )
        epoch = engine.epoch
        server.kill()
        shutil.rmtree(kept)
        copy.rename(kept)
        server.start()
        await back(engine)
        assert await engine.load("t") == {"a": b"2"}
        assert await append(engine, "x", b"3") == 3
        assert [event.data for event in (await engine.replay("x", 0, limit=9)).events] == [b"1", b"2", b"3"]
        assert engine.epoch == epoch


async def test_a_failover_to_a_replica_loses_nothing_while_the_hub_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A replica that had not received the end is promoted: it gets that from the hub, which goes on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    at_once = {"repl-diskless-sync-delay": "0"}
    with (
        redis_server(port=str(port), bind="127.0.0.1", **at_once) as primary,
        redis_server(replicaof=f"127.0.0.1 {port}") as replica,
    ):
        await eventually(lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
        async with opened(primary) as engine:
            epoch = engine.epoch
            assert await append(engine, "x", b"1") == 1
            await eventually(lambda: replica.command("HGET", "qubix:offsets", "x") == b"$1\r\n1\r\n")
            replica.send(signal.SIGSTOP)
            primary.command("CLIENT", "KILL", "TYPE", "replica")
            assert await append(engine, "x", b"2") == 2
            primary.kill()
            primary.socket.unlink(missing_ok=True)
            replica.send(signal.SIGCONT)
            primary.socket.symlink_to(replica.socket)
            await eventually(lambda: "is a replica" in str(engine._pipe.trouble))
            replica.command("REPLICAOF", "NO", "ONE")
            await eventually(lambda: engine.available)
            assert "came back without the last 1 commits" in caplog.text
            assert await append(engine, "x", b"3") == 3
            events = (await engine.replay("x", 0, limit=9)).events
            assert [event.data for event in events] == [b"1", b"2", b"3"]
            assert engine.epoch == epoch


async def test_a_redis_that_was_emptied_is_not_written_on(server: RedisServer) -> None:
    """The hub says so and takes nothing more; the next one begins with another epoch."""
    async with opened(server) as engine:
        await append(engine, "x")
        epoch = engine.epoch
        server.command("FLUSHALL")
        await eventually(lambda: not engine.available)
        with pytest.raises(EngineUnavailable):
            await append(engine, "x")
        assert "(emptied, an older copy, or moved)" in await asyncio.wait_for(engine.lost(), 10)
    async with opened(server) as engine:
        assert engine.epoch != epoch
        assert engine.offset("x") == 0


@pytest.mark.parametrize(("policy", "keeps"), [("always", True), ("everysec", False)])
async def test_a_history_whose_end_may_be_lost_has_another_epoch(policy: str, keeps: bool) -> None:
    """Redis and hub were both restarted: only where each commit was on the disk do clients go on."""
    with redis_server(appendfsync=policy) as server:
        async with opened(server) as engine:
            epoch = engine.epoch
            await append(engine, "x")
        server.kill()
        server.start()
        async with opened(server) as engine:
            assert (engine.epoch == epoch) is keeps
            assert engine.offset("x") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"appendonly": "no"}, "would forget what it acknowledged: set appendonly yes"),
        ({"maxmemory-policy": "allkeys-lru"}, r"\(allkeys-lru\): set maxmemory-policy noeviction"),
        ({"replicaof": "127.0.0.1 1"}, "is a replica: give the hub the address of the primary"),
        ({"requirepass": "secret"}, "does not let this hub in: see its user and password"),
    ],
)
async def test_a_redis_that_is_not_set_up_for_a_hub_is_refused(
    options: dict[str, str], sentence: str
) -> None:
    """Before anything is written, with what is to be set."""
    with redis_server(**options) as server:
        found = await refusal(server)
        assert re.search(sentence, found), found
        assert server.command("KEYS", "*").startswith((b"*0", b"-NOAUTH"))


async def test_a_store_of_another_form_is_left_alone(server: RedisServer) -> None:
    """A newer hub's store is refused, and not touched."""
    server.command("HSET", "qubix:meta", "form", "99")
    assert "another version of the hub (form 99; this one knows 2)" in await refusal(server)
    assert server.command("HLEN", "qubix:meta") == b":1\r\n"


async def test_nobody_there(server: RedisServer) -> None:
    """An address where nothing listens is a sentence."""
    server.kill()
    assert (await refusal(server)).endswith(
        "can't be reached: see whether it runs there (Connection refused)"
    )


async def test_a_full_redis_refuses_what_grows_and_takes_what_shrinks(server: RedisServer) -> None:
    """A refused commit has written nothing at all; once there is room again, all is as before."""
    async with opened(server) as engine:
        await engine.commit([], [Change("t", "a", b"1" * 100_000)], [])
        server.command("CONFIG", "SET", "maxmemory", "100kb")
        with pytest.raises(EngineUnavailable, match=r"is full: raise its maxmemory$"):
            await engine.commit([], [Change("t", "b", b"2")], [NewEvent("x", "T", b"{}")])
        assert (await engine.load("t")).keys() == {"a"}
        assert engine.offset("x") == 0
        await engine.commit([], [Change("t", "a", None)], [])
        assert engine.available
        server.command("CONFIG", "SET", "maxmemory", "0")
        assert await append(engine, "x") == 1
        assert await engine.load("t") == {}


async def test_what_waits_is_bounded(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that is slower than what it is asked gets no endless queue: the rest is refused."""
    monkeypatch.setattr(redis_pipe, "MAX_WAITING", 50)
    async with opened(server) as engine:
        results = await asyncio.gather(*(append(engine, "x") for _ in range(80)), return_exceptions=True)
        assert [result for result in results if isinstance(result, int)] == list(range(1, 51))
        refused = [str(result) for result in results if isinstance(result, EngineUnavailable)]
        assert len(refused) == 30
        assert "slower than what it is asked" in refused[0]


async def test_one_commit_that_no_store_takes_does_not_touch_the_others(server: RedisServer) -> None:
    """Half a surrogate pair is no text; whoever sent it is told, and nobody else."""
    async with opened(server) as engine:
        good, bad = await asyncio.gather(
            append(engine, "x"), engine.commit([], [Change("t", "\ud800", b"")], []), return_exceptions=True
        )
        assert good == 1
        assert isinstance(bad, ValueError)
        with pytest.raises(ValueError, match="surrogates"):
            await engine.read("t", ["\ud800"])
        with pytest.raises(ValueError, match="surrogates"):
            await engine.replay("\ud800", 0, limit=9)
        assert await append(engine, "x") == 2


class RedisMachine(EngineMachine):
    """The model beside two hubs' engines on one store, either of which may be closed and opened again."""

    server: ClassVar[RedisServer]
    stores: ClassVar[int] = 0

    def __init__(self) -> None:
        type(self).stores += 1
        self.prefix = f"{type(self).__name__}-{self.stores}:"
        super().__init__()
        self.epoch = self.engine.epoch
        self.other: Engine = self.make()
        self.runner.run(self.other.open())

    def teardown(self) -> None:
        self.runner.run(self.other.close())
        super().teardown()

    def make(self) -> RedisEngine:
        return RedisEngine(self.server.address, clock=self.clock, prefix=self.prefix, **self.bounds)

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.engine.close())
        self.engine = self.make()
        self.runner.run(self.engine.open())
        assert self.engine.epoch == self.epoch

    @rule()
    def turn_to_the_other(self) -> None:
        position = self.engine.position
        self.runner.run(eventually(lambda: self.other.position == position))
        self.engine, self.other = self.other, self.engine


class RoomyRedisMachine(RedisMachine):
    """No channel is ever forgotten: what is kept can be told exactly."""

    bounds: ClassVar[dict[str, Any]] = {"max_events": 4, "max_age": 10.0, "max_channels": 100}
    exact = True


class TightRedisMachine(RedisMachine):
    """Channels are forgotten all the time: whatever is said must still be true."""

    bounds: ClassVar[dict[str, Any]] = {"max_events": 4, "max_age": 10.0, "max_channels": 1}
    exact = False


@pytest.fixture(scope="module")
def machines() -> Iterator[None]:
    """The Redis of the machines."""
    with redis_server() as RedisMachine.server:
        yield


TestRoomyRedisEngine = pytest.mark.usefixtures("machines")(RoomyRedisMachine.TestCase)
TestRoomyRedisEngine.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestTightRedisEngine = pytest.mark.usefixtures("machines")(TightRedisMachine.TestCase)
TestTightRedisEngine.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
