"""A hub's state carried from one engine to the other: everything, once, and never from under a hub."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from qubix_tui.hub.engine import redis_pipe, transfer
from qubix_tui.hub.engine.base import Change, Engine, EngineUnavailable, NewEvent
from qubix_tui.hub.engine.local import LocalEngine
from qubix_tui.hub.engine.redis import PREFIX, RedisEngine
from qubix_tui.hub.engine.redis_transfer import RedisStore
from qubix_tui.hub.engine.transfer import Event, MoveFailed, Piece, Tally, copy
from qubix_tui.hub.engine.transfer_sqlite import DatabaseSource, DatabaseTarget
from tests.hub.manual_clock import ManualClock
from tests.redis_server import RedisServer, redis_server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """The Redis of the test."""
    with redis_server() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database of the test lies."""
    return tmp_path / "hub.sqlite3"


@pytest.fixture
def clock() -> ManualClock:
    """The clock of all engines."""
    return ManualClock()


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything takes several steps."""
    for name in ("redis_transfer", "transfer_sqlite"):
        monkeypatch.setattr(f"qubix_tui.hub.engine.{name}.BATCH", 7)


@asynccontextmanager
async def opened(engine: Engine) -> AsyncIterator[Engine]:
    """An engine, closed with the block."""
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


def store(server: RedisServer) -> RedisStore:
    """The Redis as one side of a move."""
    return RedisStore(server.address, prefix=PREFIX, max_age=3_600)


async def fill(engine: Engine, clock: ManualClock) -> None:
    """Commit rows and events as a hub would: channels mixed, keys of all kinds, a clock that is set back."""
    for number in range(40):
        clock.advance(-5 if number == 20 else 1)
        changes = [
            Change("jobs", f"j{number}", b"%d" % number),
            Change("ledger", f"j{number}/1", b"\xff\x00"),
        ]
        changes.append(Change("ledger", f"j{number - 9}/1", None))
        events = [NewEvent(f"c{number % 5}", "T", b"%d" % number), NewEvent("all", "U", '{"é":1}'.encode())]
        await engine.commit([], changes, events)
    await engine.commit([], [Change("strange", key, b"") for key in ("", "\U0010ffff", "a b:*")], [])


async def contents(engine: Engine) -> object:
    """All that can be seen of an engine."""
    channels = [f"c{number}" for number in range(5)] + ["all", "unknown"]
    return (
        engine.epoch,
        [await engine.load(table) for table in ("jobs", "ledger", "strange")],
        [(engine.offset(name), await engine.replay(name, 0, limit=1000)) for name in channels],
        [await engine.replay(name, 3, limit=1000) for name in channels],
    )


async def test_there_and_back(path: Path, server: RedisServer, clock: ManualClock) -> None:
    """What a hub sees is the same on the other engine, and on the first again; each goes on where it was."""
    async with opened(LocalEngine(path, clock=clock)) as engine:
        await fill(engine, clock)
        before = await contents(engine)
    async with store(server) as redis:
        source = DatabaseSource(path)
        tally = await copy(source, redis)
        await source.leave()
    assert tally.counts == {
        "table jobs": 40,
        "table ledger": 9,
        "table strange": 3,
        "channels": 6,
        "events": 80,
    }
    assert not path.exists()
    async with opened(RedisEngine(server.address, clock=clock)) as engine:
        assert await contents(engine) == before
        assert await engine.commit([], [], [NewEvent("all", "U", b"{}")]) == [41]
        assert int(server.command("PTTL", "qubix:events:c1")[1:]) > 0
        later = await contents(engine)
    path.with_name("hub.sqlite3.moved").unlink()
    async with store(server) as redis:
        await copy(redis, DatabaseTarget(path))
        await redis.leave()
    async with opened(LocalEngine(path, clock=clock)) as engine:
        assert await contents(engine) == later
        assert await engine.commit([], [], [NewEvent("all", "U", b"{}")]) == [42]
    assert [one.name for one in path.parent.iterdir() if "partial" in one.name] == []
    with pytest.raises(EngineUnavailable, match="was moved to sqlite: start the hub with that engine"):
        await RedisEngine(server.address).open()


async def test_events_are_freed_in_the_order_in_which_they_came(
    path: Path, server: RedisServer, clock: ManualClock
) -> None:
    """Over all channels, after a move too: of none is a younger one gone and an older one there."""
    async with opened(RedisEngine(server.address, clock=clock)) as engine:
        await fill(engine, clock)
    async with store(server) as redis:
        await copy(redis, DatabaseTarget(path))
    clock.advance(-18)
    async with opened(LocalEngine(path, clock=clock, max_age=1.0)) as engine:
        clock.advance(10)
        await engine.commit([], [], [NewEvent("c1", "T", b"{}")])
        kept = [event async for pieces in DatabaseSource(path).pieces() for event in pieces]
    offsets: dict[str, list[int]] = {}
    for event in kept:
        if isinstance(event, Event):
            offsets.setdefault(event.channel, []).append(event.offset)
    assert offsets
    for found in offsets.values():
        assert found == list(range(found[0], found[0] + len(found)))


async def test_nothing_is_taken_from_a_hub_that_runs(path: Path, server: RedisServer) -> None:
    """A Redis that a hub has is neither source nor target."""
    async with opened(RedisEngine(server.address)):
        with pytest.raises(MoveFailed, match=r"a hub \(process \d+ on .*\) has the store"):
            await store(server).__aenter__()


async def test_a_hub_that_slept_through_the_move_writes_nothing(
    path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease was over; it finds that out with its next commit."""
    monkeypatch.setattr(redis_pipe, "RENEW_SECONDS", 60.0)
    async with opened(RedisEngine(server.address)) as frozen:
        server.command("DEL", "qubix:nodes")
        async with store(server) as redis:
            await copy(redis, DatabaseTarget(path))
            await redis.leave()
            with pytest.raises(EngineUnavailable, match="or moved"):
                await frozen.commit([], [Change("t", "a", b"")], [])


async def test_what_is_there_is_not_written_over(path: Path, server: RedisServer, clock: ManualClock) -> None:
    """Neither a database nor a hub's state on Redis; the source stays as it was."""
    async with opened(LocalEngine(path, clock=clock)) as engine:
        await fill(engine, clock)
    async with opened(RedisEngine(server.address, clock=clock)) as engine:
        await engine.commit([], [Change("jobs", "mine", b"")], [])
    async with store(server) as redis:
        with pytest.raises(MoveFailed, match=r"hub's state on Redis at .*, which is not written over"):
            await copy(DatabaseSource(path), redis)
        with pytest.raises(MoveFailed, match="which is not written over: move it away"):
            await copy(redis, DatabaseTarget(path))
    async with opened(RedisEngine(server.address, clock=clock)) as engine:
        assert await engine.load("jobs") == {"mine": b""}


async def test_nothing_to_move_is_a_sentence(path: Path, server: RedisServer) -> None:
    """No database, or a Redis that no hub has written to."""
    async with store(server) as redis:
        with pytest.raises(MoveFailed, match="there is no database"):
            await copy(DatabaseSource(path), redis)
        with pytest.raises(MoveFailed, match="there is no hub's state on Redis at"):
            await copy(redis, DatabaseTarget(path))
    assert not path.exists()
    assert server.command("KEYS", "*") == b"*0\r\n"


class Forgetful(RedisStore):
    """A Redis that loses a row on the way, or cuts the move short."""

    stop_at = 10**9

    async def write(self, pieces: Sequence[Piece]) -> None:
        self.stop_at -= len(pieces)
        if self.stop_at < 0:
            raise EngineUnavailable("cut short")
        await super().write(pieces[1:] if isinstance(pieces[0], Event) else pieces)


async def test_a_move_that_did_not_arrive_whole_leaves_the_source(
    path: Path, server: RedisServer, clock: ManualClock
) -> None:
    """No hub starts on the half of it; the next move begins anew, and clears up."""
    async with opened(LocalEngine(path, clock=clock)) as engine:
        await fill(engine, clock)
        before = await contents(engine)
    async with Forgetful(server.address, prefix=PREFIX, max_age=3_600) as redis:
        with pytest.raises(MoveFailed, match=r"not what was sent \(.*events: 80.* sent, .*events: "):
            await copy(DatabaseSource(path), redis)
        redis.stop_at = 30
        with pytest.raises(EngineUnavailable, match="cut short"):
            await copy(DatabaseSource(path), redis)
    with pytest.raises(EngineUnavailable, match="half of a move that was cut short: run qubix hub move"):
        await RedisEngine(server.address).open()
    async with store(server) as redis:
        await copy(DatabaseSource(path), redis)
    async with opened(RedisEngine(server.address, clock=clock)) as engine:
        assert await contents(engine) == before


async def test_a_move_that_was_held_up_takes_nothing_away(path: Path, server: RedisServer) -> None:
    """Its hold on the store ran out: a hub may have come since."""
    async with opened(RedisEngine(server.address)) as engine:
        await engine.commit([], [Change("jobs", "a", b"")], [])
    async with store(server) as redis:
        await redis.head()
        server.command("DEL", "qubix:lease")
        with pytest.raises(MoveFailed, match="held up for too long"):
            await redis.leave()


def test_a_tally_tells_stores_apart() -> None:
    """By any byte, whatever the order."""
    rows: list[Piece] = [transfer.Row("t", "a", b"1"), transfer.Row("t", "b", b"2"), transfer.Channel("c", 1)]
    first, same, other = Tally(), Tally(), Tally()
    first.add(rows)
    same.add(rows[::-1])
    other.add([transfer.Row("t", "a", b"2"), transfer.Row("t", "b", b"1"), transfer.Channel("c", 1)])
    assert first == same
    assert first != other
