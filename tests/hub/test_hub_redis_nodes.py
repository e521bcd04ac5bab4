"""Several hubs on one Redis: one order for all, conflicts, and nothing lost when something breaks."""

import asyncio
import functools
import itertools
import random
import signal
import sys
from collections.abc import Iterator

import pytest

from qubix_tui.hub.engine import redis, redis_join, redis_link, redis_pipe
from qubix_tui.hub.engine.base import Change, Conflict, EngineUnavailable, Precondition, settled
from tests.hub.redis_hubs import Hub, hubs, opened, wired
from tests.hub.wire import eventually
from tests.redis_server import RedisServer, redis_server

ROUNDS = 12
KILL_ROUNDS = 3


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    with redis_server() as server:
        yield server


def check_alike(*hubs: Hub) -> None:
    """All have heard the same in the same order, each channel without a gap, and know the same rows."""
    first = hubs[0]
    for hub in hubs[1:]:
        assert hub.heard == first.heard
        assert hub.rows == first.rows
        assert hub.engine.position == first.engine.position
        assert hub.engine.epoch == first.engine.epoch
    for channel in {channel for channel, _, _ in first.heard}:
        offsets = [offset for name, offset, _ in first.heard if name == channel]
        assert offsets == list(range(1, len(offsets) + 1))
        assert {hub.engine.offset(channel) for hub in hubs} == {len(offsets)}


def heard(hub: Hub, count: int) -> bool:
    """Whether it has heard as many events."""
    return len(hub.heard) >= count


async def level(*hubs: Hub) -> None:
    """Wait until all have applied what any of them has."""
    await eventually(lambda: len({hub.engine.position for hub in hubs}) == 1)


async def test_all_hear_the_same_in_one_order(server: RedisServer) -> None:
    """Whoever wrote it; rows, offsets and epoch are the same, and no event is missing or there twice."""
    async with hubs(server, 3) as (one, two, three):
        writes = [
            hub.put(f"{number % 7}", b"%d-%d" % (index, number), "x", f"c{number % 3}", blind=True)
            for number in range(100)
            for index, hub in enumerate((one, two, three))
        ]
        offsets = await asyncio.gather(*writes)
        assert sorted(pair[0] for pair in offsets) == list(range(1, 301))
        await level(one, two, three)
        check_alike(one, two, three)
        assert len(one.heard) == 600
        assert await one.engine.load("t") == one.rows


async def test_who_comes_while_others_write_goes_on_where_they_are(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its offsets are those of the commits that it was not told of, and it is told of each that follows."""
    monkeypatch.setattr("qubix_tui.hub.engine.redis_session.LOAD_ROWS", 5)
    async with hubs(server, 1) as (one,):
        await asyncio.gather(*(one.put("a", b"", f"c{number}") for number in range(50)))

        async def write() -> None:
            for number in itertools.count():
                await one.put("a", b"%d" % number, f"c{number % 60}")

        writing = asyncio.create_task(write())
        for _ in range(5):
            late = Hub(server.address)
            async with opened(late):
                started = {f"c{number}": late.engine.offset(f"c{number}") for number in range(60)}
                await eventually(functools.partial(heard, late, 100))
                for channel, before in started.items():
                    offsets = [offset for name, offset, _ in late.heard if name == channel]
                    assert offsets == list(range(before + 1, before + 1 + len(offsets)))
        writing.cancel()


async def test_a_row_that_another_has_written_since_is_a_conflict(server: RedisServer) -> None:
    """Nothing of it is written, and what the other wrote is known by the time that the loser is told."""
    async with hubs(server, 2) as (one, two):
        before = two.engine.position
        await one.put("a", b"1", "x")
        with pytest.raises(Conflict) as caught:
            await two.put("a", b"2", "x", decided_at=before)
        assert (caught.value.table, caught.value.key) == ("t", "a")
        assert two.rows["a"] == b"1"
        assert await two.put("a", b"2", "x") == [2]
        assert await two.put("b", b"1", decided_at=before) == []
        assert await two.put("a", b"3", "x", decided_at=before + 1, blind=True) == [3]


async def test_what_a_hub_wrote_itself_is_no_conflict(server: RedisServer) -> None:
    """It orders its own writes; but one that another made between is, however often it wrote since."""
    async with hubs(server, 2) as (one, two):
        before = one.engine.position
        await asyncio.gather(*(one.put("a", b"%d" % number) for number in range(20)))
        await one.put("a", b"own", decided_at=before)
        await eventually(lambda: two.rows.get("a") == b"own")
        await two.put("a", b"other")
        await one.put("a", b"again", blind=True)
        with pytest.raises(Conflict):
            await one.put("a", b"late", decided_at=before)
        await eventually(lambda: two.rows["a"] == b"again")
        with pytest.raises(Conflict):
            await two.put("a", b"", decided_at=before)


async def test_a_precondition_that_another_has_broken_is_told_once_it_is_known_here(
    server: RedisServer,
) -> None:
    """What stands there now is what the loser was told of before."""
    async with hubs(server, 2) as (one, two):
        for number in range(20):
            await one.put("a", b"%d" % number)
            with pytest.raises(Conflict):
                await two.engine.commit([Precondition("t", "a", b"")], [Change("t", "b", b"")], [])
            assert two.rows["a"] == b"%d" % number


async def test_a_replay_has_been_told_of_by_the_time_that_it_is_given(server: RedisServer) -> None:
    """However lately another hub has written it: nobody gets it once more, as news."""
    async with hubs(server, 2) as (one, two):
        for number in range(1, 50):
            await one.put("a", b"", "x")
            replay = await two.engine.replay("x", number - 1, limit=9)
            assert [event.offset for event in replay.events] == [number]
            assert two.engine.offset("x") == number == len(two.heard)


async def test_counting_together_misses_nothing(server: RedisServer) -> None:
    """Hubs that read, decide and write a few rows at once end with the same sums, which are right."""
    randomness = random.Random(11)
    async with hubs(server, 3) as found:
        counted: dict[str, int] = {}

        async def count(hub: Hub, keys: list[str]) -> None:
            for key in keys:
                await settled(functools.partial(hub.count_up, key))
                counted[key] = counted.get(key, 0) + 1

        await asyncio.gather(*(count(hub, randomness.choices("abc", k=60)) for hub in found))
        await level(*found)
        check_alike(*found)
        assert {key: int(value) for key, value in found[0].rows.items()} == counted
        assert sum(counted.values()) == 180


async def test_a_log_that_has_moved_on_keeps_no_more_than_it_is_to(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither commits nor bytes, nor what is known of rows that only older commits have written."""
    monkeypatch.setattr(redis, "LOG_COMMITS", 200)
    monkeypatch.setattr(redis, "LOG_BYTES", 100_000)
    async with hubs(server, 2) as (one, two):
        for number in range(1000):
            await one.put(f"a{number}", b"x")
        assert 100 <= int(server.command("XLEN", "qubix:log")[1:]) <= 200
        assert 100 <= int(server.command("HLEN", "qubix:versions")[1:]) <= 200
        for _ in range(50):
            await two.put("b", b"x" * 10_000)
        assert 5 <= int(server.command("XLEN", "qubix:log")[1:]) <= 10
        assert int(server.command("HLEN", "qubix:versions")[1:]) == 1
        await level(one, two)
        assert one.rows == two.rows


async def test_a_hub_that_was_away_for_longer_than_the_log_reaches_back_ends(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't know what it missed: it says so, and writes nothing; the next that is opened finds it all."""
    monkeypatch.setattr(redis, "LOG_COMMITS", 50)
    async with wired(server, "wire") as wire:
        near, far = Hub(server.address), Hub(wire.address)
        async with opened(near, far):
            await far.put("a", b"1")
            wire.cut()
            await eventually(lambda: not far.engine.available)
            for number in range(200):
                await near.put("a", b"%d" % number)
            await wire.mend()
            why = await asyncio.wait_for(far.engine.lost(), 10)
            assert "no longer keeps what others wrote while this hub was held up" in why
            with pytest.raises(EngineUnavailable, match="no longer keeps"):
                await far.put("a", b"")
        async with hubs(server, 1) as (again,):
            assert await again.engine.load("t") == {"a": b"199"}


async def test_a_hub_that_can_not_follow_another_begins_anew(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it knows is not what is so any more: it must not decide, nor have clients believe, anything by it.

    The other one goes on, and so does whoever reads what is stored.
    """
    async with hubs(server, 2) as (one, two):
        monkeypatch.setattr(two, "changed_elsewhere", bytes.fromhex)
        await one.put("a", b"1", "x")
        async with asyncio.timeout(10):
            assert "can't follow" in await two.engine.lost()
        with pytest.raises(EngineUnavailable, match="can't follow"):
            await two.put("a", b"2")
        assert await one.engine.load("t") == {"a": b"1"}
        assert await one.put("a", b"3", "x") == [2]


async def test_no_connection_that_breaks_loses_or_doubles_anything(server: RedisServer) -> None:
    """Whichever it is, at whatever moment, while all write: what was acknowledged is there once, for all."""
    randomness = random.Random(5)
    acknowledged: list[tuple[int, bytes]] = []
    refused: set[bytes] = set()

    async def write(hub: Hub, name: bytes) -> None:
        try:
            (offset,) = await hub.put(name.decode(), name, "x")
        except EngineUnavailable:
            refused.add(name)
        else:
            acknowledged.append((offset, name))

    async with hubs(server, 3) as found:
        for number in range(ROUNDS):
            writers = [
                asyncio.ensure_future(write(hub, b"%d-%d-%d" % (number, index, one)))
                for one in range(40)
                for index, hub in enumerate(found)
            ]
            for _ in range(randomness.randrange(6)):
                await asyncio.sleep(0)
            lines = server.command("CLIENT", "LIST").decode().splitlines()
            connections = [line.split()[0].removeprefix("id=") for line in lines if "name=qubix-hub" in line]
            for connection in randomness.sample(connections, k=min(len(connections), 2)):
                server.command("CLIENT", "KILL", "ID", connection)
            await asyncio.gather(*writers)
            await eventually(lambda: all(hub.engine.available for hub in found))
        await level(*found)
        check_alike(*found)
        told = [(offset, data) for _, offset, data in found[0].heard]
        assert told == sorted(acknowledged)
        assert not refused & {name for _, name in acknowledged}
        assert set(await found[0].engine.load("t")) == {name.decode() for _, name in acknowledged}


async def test_a_redis_that_is_killed_while_all_write_loses_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters that several hubs count up end where the acknowledged counts say, and all agree."""
    monkeypatch.setattr(redis_join, "HOLD_SECONDS", 0.1)
    counted = 0

    def reached(number: int) -> bool:
        return counted >= number

    async def count(hub: Hub, until: asyncio.Event) -> None:
        nonlocal counted
        while not until.is_set():
            try:
                await settled(lambda: hub.count_up("n"))
            except EngineUnavailable:
                await asyncio.sleep(0.01)
            else:
                counted += 1

    async with hubs(server, 3) as found:
        until = asyncio.Event()
        counting = [asyncio.create_task(count(hub, until)) for hub in found]
        for number in range(KILL_ROUNDS):
            await eventually(functools.partial(reached, 30 * (number + 1)))
            server.kill()
            server.start()
            await eventually(lambda: all(hub.engine.available for hub in found))
        until.set()
        await asyncio.gather(*counting)
        await level(*found)
        check_alike(*found)
        assert {int(hub.rows["n"]) for hub in found} == {counted}


async def test_a_redis_that_stood_still_goes_on_for_all(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent to it meanwhile is done once, and told of in one order."""
    monkeypatch.setattr(redis_link, "ANSWER_SECONDS", 0.5)
    async with hubs(server, 2) as found:
        server.send(signal.SIGSTOP)
        sent = [
            asyncio.ensure_future(hub.put("a", b"%d" % n, "x", blind=True)) for n in range(5) for hub in found
        ]
        await eventually(lambda: not any(hub.engine.available for hub in found))
        assert not any(one.done() for one in sent)
        server.send(signal.SIGCONT)
        offsets = [offset for (offset,) in await asyncio.gather(*sent)]
        assert sorted(offsets) == list(range(1, 11))
        await level(*found)
        check_alike(*found)


async def test_a_hub_that_was_frozen_decides_from_what_is_so_when_it_goes_on(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had decided before is decided again; Redis, which answered in time, is not taken for away."""
    monkeypatch.setattr(redis_pipe, "RENEW_SECONDS", 0.2)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.hub.redis_counting",
        server.url,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        async with hubs(server, 1) as (here,):
            assert await child.stdout.readline() == b"counting\n"
            await eventually(lambda: int(here.rows.get("n", b"0")) > 20)
            await eventually(lambda: len(here.sees) == 2)
            child.send_signal(signal.SIGSTOP)
            await eventually(lambda: here.sees == [here.node])
            for _ in range(100):
                await settled(lambda: here.count_up("n"))
            child.send_signal(signal.SIGCONT)
            at = int(here.rows["n"])
            await eventually(lambda: int(here.rows["n"]) > at + 20)
            await eventually(lambda: len(here.sees) == 2)
            child.send_signal(signal.SIGTERM)
            counted = int(await child.stdout.readline())
            await child.wait()
            await eventually(lambda: here.sees == [here.node])
            assert int(here.rows["n"]) == counted + 100
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
