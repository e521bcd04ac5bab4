"""Several hubs on one Redis: one order for all, conflicts, who is alive, and what breaks between them."""

import asyncio
from collections.abc import Iterator

import pytest

from qubix_tui.hub.engine.base import Change, Conflict
from tests.hub.redis_hubs import hubs
from tests.hub.wire import eventually
from tests.redis_server import RedisServer, redis_server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    with redis_server() as server:
        yield server


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
        await eventually(lambda: len(one.heard) == len(two.heard) == len(three.heard) == 600)
        assert one.heard == two.heard == three.heard
        assert [offset for channel, offset, _ in one.heard if channel == "x"] == list(range(1, 301))
        stored = {("t", key): value for key, value in (await one.engine.load("t")).items()}
        assert one.rows == two.rows == three.rows == stored
        assert one.engine.epoch == two.engine.epoch == three.engine.epoch
        assert one.engine.position == two.engine.position == three.engine.position
        for channel in ("x", "c0", "c1", "c2"):
            assert len({hub.engine.offset(channel) for hub in (one, two, three)}) == 1


async def test_a_row_that_another_has_written_since_is_a_conflict(server: RedisServer) -> None:
    """Nothing of it is written, and what the other wrote is known by the time that the loser is told."""
    async with hubs(server, 2) as (one, two):
        before = two.engine.position
        await one.put("a", b"1", "x")
        with pytest.raises(Conflict) as caught:
            await two.put("a", b"2", "x", decided_at=before)
        assert (caught.value.table, caught.value.key) == ("t", "a")
        assert two.value("a") == b"1"
        assert await two.put("a", b"2", "x") == [2]
        assert await two.put("b", b"1", decided_at=before) == []
        assert await two.put("a", b"3", "x", decided_at=before + 1, blind=True) == [3]


async def test_what_a_hub_wrote_itself_is_no_conflict(server: RedisServer) -> None:
    """It orders its own writes; but one that another made between is, however often it wrote since."""
    async with hubs(server, 2) as (one, two):
        before = one.engine.position
        await asyncio.gather(*(one.put("a", b"%d" % number) for number in range(20)))
        await one.put("a", b"own", decided_at=before)
        await eventually(lambda: two.value("a") == b"own")
        await two.put("a", b"other")
        await one.put("a", b"again", blind=True)
        with pytest.raises(Conflict):
            await one.put("a", b"late", decided_at=before)
        await eventually(lambda: two.value("a") == b"again")
        with pytest.raises(Conflict):
            await two.engine.commit([], [Change("t", "a", b"")], [], decided_at=before)
