"""What any engine must keep. A new engine is added to `ENGINES` and has to pass as it is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from qubix_tui.hub.engine.base import (
    Change,
    Conflict,
    Engine,
    EngineUnavailable,
    NewEvent,
    Precondition,
    StoredEvent,
)
from qubix_tui.hub.engine.local import LocalEngine
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.engine.redis import RedisEngine
from tests.hub.manual_clock import ManualClock

EVENTS_KEPT = 5
SECONDS_KEPT = 60.0

EngineFactory = Callable[[Path, ManualClock], Engine]
"""Makes an engine on an empty store that keeps `EVENTS_KEPT` events per channel for `SECONDS_KEPT`."""


def make_memory_engine(directory: Path, clock: ManualClock) -> Engine:
    """Make the engine without a disk."""
    return MemoryEngine(clock=clock, max_events=EVENTS_KEPT, max_age=SECONDS_KEPT)


def make_local_engine(directory: Path, clock: ManualClock) -> Engine:
    """Make the engine on a database of its own."""
    return LocalEngine(directory / "hub.sqlite3", clock=clock, max_events=EVENTS_KEPT, max_age=SECONDS_KEPT)


ENGINES: dict[str, EngineFactory] = {"local": make_local_engine, "memory": make_memory_engine}


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the engines under test."""
    return ManualClock()


@pytest.fixture(params=[*sorted(ENGINES), "redis"])
def make_engine(request: pytest.FixtureRequest) -> EngineFactory:
    """Each engine in turn."""
    if request.param != "redis":
        return ENGINES[request.param]
    address = request.getfixturevalue("shared_redis").address

    def make_redis_engine(directory: Path, clock: ManualClock) -> Engine:
        prefix = f"{directory}:"
        return RedisEngine(address, clock=clock, max_events=EVENTS_KEPT, max_age=SECONDS_KEPT, prefix=prefix)

    return make_redis_engine


@pytest.fixture
async def engine(make_engine: EngineFactory, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Engine]:
    """An open engine on an empty store."""
    engine = make_engine(tmp_path, clock)
    await engine.open()
    yield engine
    await engine.close()


def event(channel: str, number: int = 0) -> NewEvent:
    """An event that says its number."""
    return NewEvent(channel, "PROVIDER_STATUS_CHANGED", b'{"number":%d}' % number)


async def append(engine: Engine, channel: str, count: int) -> None:
    """Commit events with the numbers 1 to ``count``, one by one."""
    for number in range(1, count + 1):
        await engine.commit([], [], [event(channel, number)])


async def test_offsets_count_the_events_of_each_channel(engine: Engine) -> None:
    """Offsets begin at 1 and grow by one per event of their channel, in the order of the events."""
    assert await engine.commit([], [], [event("a"), event("b"), event("a")]) == [1, 1, 2]
    assert await engine.commit([], [], [event("b"), event("a")]) == [2, 3]
    assert (engine.offset("a"), engine.offset("b"), engine.offset("c")) == (3, 2, 0)


async def test_a_commit_without_events_gives_no_offsets(engine: Engine) -> None:
    """Changes alone are a commit, and number nothing."""
    assert await engine.commit([], [Change("t", "k", b"v")], []) == []
    assert engine.offset("a") == 0


async def test_replay_gives_what_was_stored(engine: Engine) -> None:
    """An event comes back with its offset, channel, type and exact bytes."""
    await engine.commit([], [], [NewEvent("a", "T", b'{"x": 1.50, "\xc3\xa9":"\\u0000"}')])
    (stored,) = (await engine.replay("a", 0, limit=10)).events
    assert (stored.offset, stored.channel, stored.type) == (1, "a", "T")
    assert stored.data == b'{"x": 1.50, "\xc3\xa9":"\\u0000"}'


async def test_replay_goes_on_after_since(engine: Engine) -> None:
    """A replay is contiguous from the event after ``since`` to the newest, of that channel alone."""
    await append(engine, "b", 2)
    await append(engine, "a", 4)
    replay = await engine.replay("a", 2, limit=10)
    assert replay.complete
    assert [(stored.offset, stored.data) for stored in replay.events] == [
        (3, b'{"number":3}'),
        (4, b'{"number":4}'),
    ]


async def test_replay_for_who_missed_nothing_is_empty_and_complete(engine: Engine) -> None:
    """A reader that has the newest offset has missed nothing."""
    await append(engine, "a", 3)
    replay = await engine.replay("a", 3, limit=10)
    assert (replay.events, replay.complete) == ([], True)


async def test_replay_refuses_an_offset_from_the_future(engine: Engine) -> None:
    """An offset that was never given means another history: the reader has to start anew."""
    await append(engine, "a", 3)
    assert not (await engine.replay("a", 4, limit=10)).complete
    assert not (await engine.replay("unknown", 1, limit=10)).complete


async def test_replay_since_zero_gives_all_that_is_kept(engine: Engine) -> None:
    """0 asks for what there is, however much was dropped before; an unknown channel has nothing."""
    await append(engine, "a", EVENTS_KEPT + 3)
    replay = await engine.replay("a", 0, limit=100)
    assert replay.complete
    assert [stored.offset for stored in replay.events] == list(range(4, EVENTS_KEPT + 4))
    unknown = await engine.replay("unknown", 0, limit=100)
    assert (unknown.events, unknown.complete) == ([], True)


async def test_history_is_bounded_by_count(engine: Engine) -> None:
    """Where the event after ``since`` was dropped there is no replay; one event later it is whole."""
    await append(engine, "a", EVENTS_KEPT + 3)
    short = await engine.replay("a", 2, limit=100)
    assert (short.events, short.complete) == ([], False)
    whole = await engine.replay("a", 3, limit=100)
    assert whole.complete
    assert [stored.offset for stored in whole.events] == list(range(4, EVENTS_KEPT + 4))


async def test_history_is_bounded_by_age(engine: Engine, clock: ManualClock) -> None:
    """Events older than the bound are gone, the younger ones stay, and the offset goes on."""
    await append(engine, "a", 2)
    clock.advance(SECONDS_KEPT - 1)
    await append(engine, "a", 1)
    assert (await engine.replay("a", 1, limit=10)).complete
    clock.advance(2)
    assert not (await engine.replay("a", 1, limit=10)).complete
    assert [stored.offset for stored in (await engine.replay("a", 2, limit=10)).events] == [3]
    clock.advance(SECONDS_KEPT)
    assert (await engine.replay("a", 0, limit=10)).events == []
    assert not (await engine.replay("a", 2, limit=10)).complete
    assert (await engine.replay("a", 3, limit=10)).complete
    assert await engine.commit([], [], [event("a")]) == [4]


async def test_a_replay_is_never_cut_short_by_its_limit(engine: Engine) -> None:
    """More than ``limit`` missed events are no replay at all; since 0 the newest of them are given."""
    await append(engine, "a", 5)
    over = await engine.replay("a", 1, limit=3)
    assert (over.events, over.complete) == ([], False)
    exact = await engine.replay("a", 2, limit=3)
    assert [stored.offset for stored in exact.events] == [3, 4, 5]
    newest = await engine.replay("a", 0, limit=3)
    assert newest.complete
    assert [stored.offset for stored in newest.events] == [3, 4, 5]


async def test_tables_hold_what_was_changed_last(engine: Engine) -> None:
    """Changes apply in order; None deletes; deleting what is not there is no error; tables are apart."""
    await engine.commit([], [Change("t", "a", b"1"), Change("t", "b", b"2"), Change("u", "a", b"3")], [])
    await engine.commit([], [Change("t", "a", b"4"), Change("t", "b", None), Change("t", "c", None)], [])
    await engine.commit([], [Change("t", "d", b"5"), Change("t", "d", None), Change("t", "e", b"")], [])
    assert await engine.load("t") == {"a": b"4", "e": b""}
    assert await engine.load("u") == {"a": b"3"}
    assert await engine.load("never written") == {}


async def test_what_was_loaded_is_the_callers_own(engine: Engine) -> None:
    """Writing into a loaded table does not write to the store."""
    await engine.commit([], [Change("t", "a", b"1")], [])
    (await engine.load("t"))["a"] = b"2"
    assert await engine.load("t") == {"a": b"1"}


@pytest.mark.parametrize(
    "condition",
    [
        Precondition("t", "a", b"other"),
        Precondition("t", "a", b"1 "),
        Precondition("t", "a", None),
        Precondition("t", "missing", b""),
        Precondition("never written", "a", b"1"),
    ],
)
async def test_a_conflict_writes_nothing(engine: Engine, condition: Precondition) -> None:
    """Whichever precondition fails, no change and no event of that commit takes effect, and it is named."""
    await engine.commit([], [Change("t", "a", b"1")], [event("x")])
    with pytest.raises(Conflict) as caught:
        await engine.commit(
            [Precondition("t", "a", b"1"), condition],
            [Change("t", "a", b"2"), Change("t", "new", b"3")],
            [event("x"), event("y")],
        )
    assert (caught.value.table, caught.value.key) == (condition.table, condition.key)
    assert await engine.load("t") == {"a": b"1"}
    assert (engine.offset("x"), engine.offset("y")) == (1, 0)
    assert len((await engine.replay("x", 0, limit=10)).events) == 1


async def test_preconditions_see_what_was_stored_before(engine: Engine) -> None:
    """They are judged before the changes of the same commit, and None means that nothing is stored."""
    await engine.commit([Precondition("t", "a", None)], [Change("t", "a", b"1")], [])
    await engine.commit([Precondition("t", "a", b"1")], [Change("t", "a", None)], [])
    await engine.commit([Precondition("t", "a", None)], [Change("t", "a", b"")], [])
    with pytest.raises(Conflict):
        await engine.commit([Precondition("t", "a", None)], [], [])


async def test_of_commits_at_once_one_wins(engine: Engine) -> None:
    """Commits that wait together are judged one after another; a loser does not touch the others."""
    contested = [
        engine.commit([Precondition("t", "owner", None)], [Change("t", "owner", name)], [event("a")])
        for name in (b"1", b"2", b"3")
    ]
    bystander = engine.commit([], [Change("t", "other", b"4")], [event("a")])
    results = await asyncio.gather(*contested, bystander, return_exceptions=True)
    assert results[0] == [1]
    assert isinstance(results[1], Conflict)
    assert isinstance(results[2], Conflict)
    assert results[3] == [2]
    assert await engine.load("t") == {"owner": b"1", "other": b"4"}


async def test_load_by_prefix(engine: Engine) -> None:
    """The keys that begin with it and no others, whatever sorts beside them; an empty one begins all."""
    keys = ["j", "j/", "j/1", "j/2", "j0", "j/\U0010ffff/1", "k", "J/1", "", "\U0010ffff", "\ud7ff", "\ue000"]
    await engine.commit([], [Change("t", key, key.encode()) for key in keys], [])
    await engine.commit([], [Change("other", "j/3", b"")], [])
    for prefix in ("", "j/", "j", "j/1", "j/1/", "\U0010ffff", "\ud7ff", "z"):
        found = await engine.load("t", prefix=prefix)
        assert found == {key: key.encode() for key in keys if key.startswith(prefix)}


async def test_read_gives_the_keys_that_are_there(engine: Engine) -> None:
    """Of the table that is asked for, as the last commit left them."""
    await engine.commit([], [Change("t", "a", b"1"), Change("t", "b", b""), Change("u", "c", b"3")], [])
    pending = engine.commit([], [Change("t", "a", b"2")], [])
    written = asyncio.ensure_future(pending)
    await asyncio.sleep(0)
    assert await engine.read("t", ["a", "b", "c", "a"]) == {"a": b"2", "b": b""}
    await written
    assert await engine.read("t", []) == {}
    assert await engine.read("never written", ["a"]) == {}


class Told:
    """A listener that writes down what it is told, and what the engine says at that moment."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.heard: list[tuple[str, int, int]] = []

    def changed_elsewhere(self, changes: Sequence[Change]) -> None:
        raise AssertionError("no other hub is here")

    def happened(self, events: Sequence[StoredEvent]) -> None:
        for told in events:
            self.heard.append((told.channel, told.offset, self.engine.offset(told.channel)))

    def apply(self, name: str) -> Callable[[], None]:
        """What is to be called for a commit; writes down that it was."""
        return lambda: self.heard.append((name, 0, 0))


async def test_the_listener_is_told_of_each_commit_in_order_and_before_its_caller(
    make_engine: EngineFactory, tmp_path: Path, clock: ManualClock
) -> None:
    """First what it changes, then its events, at which moment the channel's offset has moved."""
    engine = make_engine(tmp_path, clock)
    told = Told(engine)
    engine.listen(told)
    await engine.open()
    try:
        before = engine.position
        commits = [
            asyncio.ensure_future(engine.commit([], [], [event("a"), event("b")], told.apply("one"))),
            asyncio.ensure_future(engine.commit([], [Change("t", "k", b"v")], [], told.apply("two"))),
            asyncio.ensure_future(engine.commit([], [], [event("a")], told.apply("three"))),
        ]
        refused = asyncio.ensure_future(
            engine.commit([Precondition("t", "k", b"other")], [], [event("a")], told.apply("never"))
        )
        await commits[0]
        assert told.heard[:3] == [("one", 0, 0), ("a", 1, 1), ("b", 1, 1)]
        await asyncio.gather(*commits)
        with pytest.raises(Conflict):
            await refused
        assert told.heard[3:] == [("two", 0, 0), ("three", 0, 0), ("a", 2, 2)]
        assert engine.position >= before
    finally:
        await engine.close()


async def test_what_apply_raises_goes_to_its_caller(
    make_engine: EngineFactory, tmp_path: Path, clock: ManualClock
) -> None:
    """It is stored and told of all the same, and the engine goes on."""
    engine = make_engine(tmp_path, clock)
    told = Told(engine)
    engine.listen(told)
    await engine.open()
    try:

        def fail() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await engine.commit([], [], [event("a")], fail)
        assert await engine.commit([], [], [event("a")]) == [2]
        assert told.heard == [("a", 1, 1), ("a", 2, 2)]
    finally:
        await engine.close()


async def test_an_engine_that_is_not_open_refuses(
    make_engine: EngineFactory, tmp_path: Path, clock: ManualClock
) -> None:
    """Before it is opened and after it is closed nothing is read or acknowledged; closing twice is fine."""
    engine = make_engine(tmp_path, clock)

    async def refuses() -> None:
        with pytest.raises(EngineUnavailable):
            await engine.commit([], [], [event("a")])
        with pytest.raises(EngineUnavailable):
            await engine.load("t")
        with pytest.raises(EngineUnavailable):
            await engine.read("t", ["a"])
        with pytest.raises(EngineUnavailable):
            await engine.replay("a", 0, limit=10)

    await refuses()
    await engine.open()
    assert await engine.commit([], [], [event("a")]) == [1]
    await engine.close()
    await engine.close()
    await refuses()


async def test_every_history_has_its_own_epoch(
    engine: Engine, make_engine: EngineFactory, tmp_path: Path, clock: ManualClock
) -> None:
    """An epoch stays while the engine is open, and no other store has the same."""
    (tmp_path / "other").mkdir()
    other = make_engine(tmp_path / "other", clock)
    await other.open()
    assert engine.epoch
    assert engine.epoch == engine.epoch
    assert engine.epoch != other.epoch
    await other.close()
