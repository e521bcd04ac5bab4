"""A Redis that comes back without its end: the hubs that have it give it back, or begin a new history."""

import asyncio
import shutil
from collections.abc import Iterator

import pytest

from qubix_tui.hub.engine import redis_join, redis_pipe
from qubix_tui.hub.engine.base import EngineUnavailable
from tests.hub.redis_hubs import Hub, hubs, opened, wired
from tests.hub.wire import eventually
from tests.redis_server import RedisServer, redis_server


class Forgetful:
    """A Redis that can be put back to where it was, as a power cut or a lagging replica would.

    Args:
        server: The Redis.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._kept, self._copy = server.directory / "appendonlydir", server.directory / "copy"

    def remember(self) -> None:
        """Restart it, and note what it has."""
        self._server.kill()
        shutil.copytree(self._kept, self._copy)
        self._server.start()

    def lose(self) -> None:
        """Kill it, and take away what came since."""
        self._server.kill()
        shutil.rmtree(self._kept)
        self._copy.rename(self._kept)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    with redis_server() as server:
        yield server


@pytest.fixture
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long for what others have."""
    monkeypatch.setattr(redis_join, "HOLD_SECONDS", 0.3)


def at_work(hub: Hub) -> bool:
    """Whether a hub can write."""
    return hub.engine.available


async def back(*found: Hub) -> None:
    """Wait until hubs have noticed that their Redis was restarted, and are at work again."""
    before = [hub.engine.telemetry.reconnects for hub in found]
    await eventually(
        lambda: all(
            hub.engine.available and hub.engine.telemetry.reconnects > count
            for hub, count in zip(found, before, strict=True)
        )
    )


@pytest.mark.usefixtures("_brisk")
async def test_what_was_lost_is_written_again_as_it_was(server: RedisServer) -> None:
    """Rows, events and offsets; all hubs go on in the same history, and agree."""
    tail = Forgetful(server)
    async with hubs(server, 3) as found:
        one, two, three = found
        await one.put("a", b"1", "x")
        tail.remember()
        await back(*found)
        for number in range(20):
            await found[number % 3].put(f"{number}", b"%d" % number, "x", f"c{number}", blind=True)
        await two.put("a", None)
        await eventually(lambda: one.engine.position == two.engine.position == three.engine.position)
        tail.lose()
        server.start()
        await back(*found)
        assert await one.engine.load("t") == {f"{number}": b"%d" % number for number in range(20)}
        assert await three.put("b", b"2", "x") == [22]
        await eventually(lambda: len(one.heard) == len(two.heard) == len(three.heard) == 42)
        assert one.heard == two.heard == three.heard
        replay = await two.engine.replay("x", 0, limit=99)
        assert [(event.channel, event.offset, event.data) for event in replay.events] == [
            heard for heard in one.heard if heard[0] == "x"
        ]
        assert one.engine.epoch == two.engine.epoch == three.engine.epoch


async def test_who_has_more_comes_before_anybody_writes(server: RedisServer) -> None:
    """The hub that is back first has less: it waits for a moment, and then goes on from all there was."""
    tail = Forgetful(server)
    async with wired(server, "short") as short, wired(server, "long") as long:
        less, more = Hub(short.address), Hub(long.address)
        async with opened(less, more):
            await more.put("a", b"1", "x")
            tail.remember()
            await back(less, more)
            await more.put("a", b"2", "x")
            await eventually(lambda: less.rows["a"] == b"2")
            short.cut()
            await more.put("a", b"3", "x")
            await more.put("b", b"1", "x")
            long.cut()
            tail.lose()
            server.start()
            await short.mend()
            await eventually(lambda: server.command("HGET", "qubix:offsets", "x") == b"$1\r\n2\r\n")
            assert not at_work(less)
            await long.mend()
            await eventually(lambda: at_work(less) and at_work(more))
            assert less.rows == more.rows == {"a": b"3", "b": b"1"}
            assert less.heard == more.heard
            assert await less.put("a", b"4", "x") == [5]
            assert less.engine.epoch == more.engine.epoch


@pytest.mark.usefixtures("_brisk")
async def test_a_commit_that_was_in_doubt_happens_once_whoever_gives_it_back(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub that made it had not heard of it yet; another one had, and writes it again."""
    # A sign of life that is not answered would have it wait for that first.
    monkeypatch.setattr(redis_pipe, "RENEW_SECONDS", 60.0)
    tail = Forgetful(server)
    async with wired(server, "wire") as wire:
        maker, other = Hub(wire.address), Hub(server.address)
        async with opened(maker, other):
            await maker.put("n", b"0", "x")
            tail.remember()
            await back(maker, other)
            # Its answer, unlike news of a commit, comes by the way of the next question, which is free then.
            await maker.engine.read("t", ["n"])
            wire.mute()
            pending = asyncio.ensure_future(maker.put("n", b"1", "x"))
            await eventually(lambda: other.rows.get("n") == b"1")
            wire.cut()
            tail.lose()
            server.start()
            await wire.mend()
            assert await asyncio.wait_for(pending, 10) == [2]
            await eventually(lambda: other.engine.available)
            assert await other.put("n", b"2", "x") == [3]
            await eventually(lambda: maker.rows["n"] == b"2")
            assert maker.heard == other.heard


@pytest.mark.usefixtures("_brisk")
@pytest.mark.parametrize("written", [1, 2, 3])
async def test_histories_that_parted_end_all_hubs(server: RedisServer, written: int) -> None:
    """Who had more came too late, and others have written fewer, as many or more: all begin anew."""
    tail = Forgetful(server)
    async with wired(server, "first") as first, wired(server, "late") as second:
        early, late = Hub(first.address), Hub(second.address)
        async with opened(early, late):
            await late.put("a", b"1", "x")
            tail.remember()
            await back(early, late)
            first.cut()
            await late.put("a", b"2", "x")
            await late.put("a", b"3", "x")
            second.cut()
            tail.lose()
            server.start()
            await first.mend()
            await back(early)
            for number in range(written):
                await early.put("b", b"%d" % number, "x")
            epoch = early.engine.epoch
            await second.mend()
            for hub in (late, early):
                assert "not what this hub had written" in await asyncio.wait_for(hub.engine.lost(), 10)
                with pytest.raises(EngineUnavailable):
                    await hub.put("a", b"")
            assert late.rows == {"a": b"3"}, "others' commits under the same numbers are not its own"
        async with hubs(server, 1) as (again,):
            assert again.engine.epoch != epoch
            assert await again.engine.load("t") == {"a": b"1", "b": b"%d" % (written - 1)}


@pytest.mark.usefixtures("_brisk")
async def test_a_hub_that_began_in_what_was_lost_waits_for_those_that_have_it(server: RedisServer) -> None:
    """It has not read what came before it began: they give it back, and all go on."""
    tail = Forgetful(server)
    async with wired(server, "old") as first, wired(server, "new") as second:
        old, new = Hub(first.address), Hub(second.address)
        async with opened(old):
            tail.remember()
            await back(old)
            await old.put("a", b"1", "x")
            async with opened(new):
                await old.put("a", b"2", "x")
                await eventually(lambda: new.rows.get("a") == b"2")
                first.cut()
                second.cut()
                tail.lose()
                server.start()
                await second.mend()
                await eventually(lambda: b"cmd=evalsha" in server.command("CLIENT", "LIST"))
                await first.mend()
                await eventually(lambda: at_work(new) and at_work(old))
                assert await new.put("a", b"3", "x") == [3]
                assert await old.engine.load("t") == {"a": b"3"}
                assert new.engine.epoch == old.engine.epoch


@pytest.mark.usefixtures("_brisk")
async def test_a_hub_that_begins_waits_for_those_that_have_the_end(server: RedisServer) -> None:
    """They were there before Redis was restarted: it goes on in their history."""
    tail = Forgetful(server)
    async with wired(server, "wire") as wire:
        old, new = Hub(wire.address), Hub(server.address)
        async with opened(old):
            tail.remember()
            await back(old)
            await old.put("a", b"1", "x")
            wire.cut()
            tail.lose()
            server.start()
            opening = asyncio.ensure_future(new.engine.open())
            await eventually(lambda: b"cmd=evalsha" in server.command("CLIENT", "LIST"))
            assert not opening.done()
            await wire.mend()
            await asyncio.wait_for(opening, 10)
            assert new.engine.offset("x") == 1
            assert new.engine.epoch == old.engine.epoch
            assert await new.put("b", b"1", "x") == [2]
            await new.engine.close()


async def test_a_hub_that_begins_does_not_wait_for_ever(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that had the end are gone as well: it begins a new history, in which they don't go on."""
    monkeypatch.setattr(redis_join, "LEASE_SECONDS", 0.5)
    async with wired(server, "wire") as wire:
        old, new = Hub(wire.address), Hub(server.address)
        async with opened(old):
            await old.put("a", b"1", "x")
            wire.cut()
            server.kill()
            server.start()
            async with opened(new):
                assert new.engine.epoch != old.engine.epoch
                assert await new.put("b", b"1", "x") == [2]
                await wire.mend()
                assert "not what this hub had written" in await asyncio.wait_for(old.engine.lost(), 10)
                assert await new.put("b", b"2", "x") == [3]
