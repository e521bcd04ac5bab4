"""The memory engine's own promises: its bounds, and that no bound makes it say something untrue."""

import asyncio
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qubix_tui.hub.engine.base import Change, Conflict, NewEvent, Precondition, Replay
from qubix_tui.hub.engine.memory import OFFSETS_PER_CHANNEL, MemoryEngine
from tests.hub.manual_clock import ManualClock


async def opened(engine: MemoryEngine) -> MemoryEngine:
    """Open an engine and give it back."""
    await engine.open()
    return engine


async def append(engine: MemoryEngine, channel: str, data: bytes = b"{}") -> int:
    """Commit one event and give its offset."""
    (offset,) = await engine.commit([], [], [NewEvent(channel, "T", data)])
    return offset


async def test_the_channel_idle_longest_loses_its_history_first() -> None:
    """With too many channels the idle one is evicted: its readers are refused, and its offset goes on."""
    engine = await opened(MemoryEngine(max_channels=2))
    for channel in ("a", "b", "a", "c"):
        await append(engine, channel)
    assert (await engine.replay("a", 1, limit=9)).complete
    assert (await engine.replay("b", 0, limit=9)).events == []
    assert engine.offset("b") == 1
    assert await append(engine, "b") == 2
    assert not (await engine.replay("a", 1, limit=9)).complete


async def test_all_events_together_are_bounded_in_bytes() -> None:
    """Whole channels go, idle longest first, until the rest fits."""
    engine = await opened(MemoryEngine(max_bytes=10))
    await append(engine, "a", b"1234")
    await append(engine, "b", b"1234")
    await append(engine, "c", b"1234")
    assert (await engine.replay("a", 0, limit=9)).events == []
    assert [len((await engine.replay(channel, 0, limit=9)).events) for channel in "bc"] == [1, 1]


async def test_latest_values_are_bounded_in_number() -> None:
    """The value written longest ago goes first."""
    engine = await opened(MemoryEngine(max_channels=2))
    for subject in ("a", "b", "a", "c"):
        engine.latest("x", subject, subject.encode())
    assert [engine.read_latest("x", subject) for subject in "abc"] == [b"a", None, b"c"]


async def test_a_forgotten_channel_starts_after_every_offset_that_was_forgotten() -> None:
    """Even when offsets are dropped none is ever given twice, and a reader from before is refused."""
    engine = await opened(MemoryEngine(max_channels=1))
    for _ in range(3):
        await append(engine, "old")
    for number in range(OFFSETS_PER_CHANNEL):
        await append(engine, f"new-{number}")
    assert engine.offset("old") == 3
    assert not (await engine.replay("old", 2, limit=9)).complete
    assert await append(engine, "old") == 4
    assert engine.offset("never seen") == 3


async def test_idle_channels_are_let_go_when_their_events_are_too_old() -> None:
    """A commit anywhere frees what nobody could be given any more."""
    clock = ManualClock()
    engine = await opened(MemoryEngine(clock=clock, max_age=60))
    await append(engine, "a", b"1234")
    clock.advance(61)
    await append(engine, "b", b"12")
    assert list(engine._history) == ["b"]
    assert engine._bytes == 2
    assert engine.offset("a") == 1


class EngineMachine(RuleBasedStateMachine):
    """The engine beside a list of everything that was ever committed."""

    bounds: ClassVar[dict[str, Any]]
    exact: ClassVar[bool]
    """Whether nothing is evicted, so that the model knows what is kept and not only what is true."""

    channels = st.sampled_from([f"c{number}" for number in range(14)])
    keys = st.sampled_from("ab")
    values = st.sampled_from([None, b"", b"1", b"2"])

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.engine = MemoryEngine(clock=self.clock, **self.bounds)
        self.runner.run(self.engine.open())
        self.all: dict[str, list[tuple[int, float, bytes]]] = {}
        self.table: dict[str, bytes] = {}
        self.reported: dict[str, int] = {}
        self.number = 0

    def teardown(self) -> None:
        self.runner.close()

    @rule(
        conditions=st.lists(st.tuples(keys, values), max_size=2),
        changes=st.lists(st.tuples(keys, values), max_size=2),
        into=st.lists(channels, max_size=4),
    )
    def commit(
        self,
        conditions: list[tuple[str, bytes | None]],
        changes: list[tuple[str, bytes | None]],
        into: list[str],
    ) -> None:
        events = []
        for channel in into:
            self.number += 1
            events.append(NewEvent(channel, "T", b"%04d" % self.number))
        attempt = self.engine.commit(
            [Precondition("t", key, value) for key, value in conditions],
            [Change("t", key, value) for key, value in changes],
            events,
        )
        if any(self.table.get(key) != value for key, value in conditions):
            try:
                self.runner.run(attempt)
            except Conflict:
                return
            raise AssertionError("a precondition did not hold, and the commit went through")
        offsets = self.runner.run(attempt)
        for key, value in changes:
            if value is None:
                self.table.pop(key, None)
            else:
                self.table[key] = value
        for event, offset in zip(events, offsets, strict=True):
            assert offset > self.reported.get(event.channel, 0), "an offset went back"
            self.reported[event.channel] = offset
            entry = (offset, self.clock.monotonic(), event.data)
            self.all.setdefault(event.channel, []).append(entry)

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(channel=channels)
    def look_at_the_offset(self, channel: str) -> None:
        offset = self.engine.offset(channel)
        assert offset >= self.reported.get(channel, 0), "an offset went back"
        if self.exact:
            assert offset == len(self.all.get(channel, []))
        self.reported[channel] = offset

    @rule(channel=channels, since=st.integers(0, 12), limit=st.integers(1, 8))
    def replay(self, channel: str, since: int, limit: int) -> None:
        replay = self.runner.run(self.engine.replay(channel, since, limit=limit))
        ever = self.all.get(channel, [])
        if replay.complete and since:
            missed = [(offset, data) for offset, _, data in ever if offset > since]
            assert [(event.offset, event.data) for event in replay.events] == missed
        if not replay.complete:
            assert since
            assert replay.events == []
        self.check_exactly(replay, ever, since, limit)

    def check_exactly(
        self, replay: Replay, ever: list[tuple[int, float, bytes]], since: int, limit: int
    ) -> None:
        if not self.exact:
            return
        oldest = self.clock.monotonic() - self.bounds["max_age"]
        kept = [entry for entry in ever[-self.bounds["max_events"] :] if entry[1] >= oldest]
        if since == 0:
            assert [event.offset for event in replay.events] == [offset for offset, _, _ in kept[-limit:]]
            return
        missed = len(ever) - since
        assert replay.complete == (0 <= missed <= min(limit, len(kept)))

    @precondition(lambda self: self.exact)
    @rule()
    def load(self) -> None:
        assert self.runner.run(self.engine.load("t")) == self.table

    @invariant()
    def stays_within_its_bounds(self) -> None:
        engine = self.engine
        kept = [entry for entries in engine._history.values() for entry in entries]
        assert engine._bytes == sum(len(entry.event.data) for entry in kept) <= self.bounds["max_bytes"]
        assert len(engine._history) <= self.bounds["max_channels"]
        assert len(engine._offsets) <= self.bounds["max_channels"] * OFFSETS_PER_CHANNEL
        assert all(0 < len(entries) <= self.bounds["max_events"] for entries in engine._history.values())


class RoomyMachine(EngineMachine):
    """No channel is ever evicted: what is kept can be told exactly."""

    bounds: ClassVar[dict[str, Any]] = {
        "max_events": 4,
        "max_age": 10.0,
        "max_channels": 100,
        "max_bytes": 10_000,
    }
    exact = True


class TightMachine(EngineMachine):
    """Everything is evicted and forgotten all the time: whatever is said must still be true."""

    bounds: ClassVar[dict[str, Any]] = {"max_events": 4, "max_age": 10.0, "max_channels": 1, "max_bytes": 12}
    exact = False


TestRoomyEngine = RoomyMachine.TestCase
TestRoomyEngine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTightEngine = TightMachine.TestCase
TestTightEngine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
