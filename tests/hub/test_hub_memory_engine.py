"""The memory engine's own promises: its bounds, and that no bound makes it say something untrue."""

from typing import Any, ClassVar

from hypothesis import settings
from hypothesis.stateful import invariant

from qubix_tui.hub.engine.base import NewEvent
from qubix_tui.hub.engine.memory import OFFSETS_PER_CHANNEL, MemoryEngine
from tests.hub.engine_model import EngineMachine
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


class MemoryMachine(EngineMachine):
    """The model beside the memory engine, whose bounds can be looked at."""

    engine: MemoryEngine

    def make(self) -> MemoryEngine:
        return MemoryEngine(clock=self.clock, **self.bounds)

    @invariant()
    def stays_within_its_bounds(self) -> None:
        engine = self.engine
        kept = [entry for entries in engine._history.values() for entry in entries]
        assert engine._bytes == sum(len(entry.event.data) for entry in kept) <= self.bounds["max_bytes"]
        assert len(engine._history) <= self.bounds["max_channels"]
        assert len(engine._offsets) <= self.bounds["max_channels"] * OFFSETS_PER_CHANNEL
        assert all(0 < len(entries) <= self.bounds["max_events"] for entries in engine._history.values())


class RoomyMachine(MemoryMachine):
    """No channel is ever evicted: what is kept can be told exactly."""

    bounds: ClassVar[dict[str, Any]] = {
        "max_events": 4,
        "max_age": 10.0,
        "max_channels": 100,
        "max_bytes": 10_000,
    }
    exact = True


class TightMachine(MemoryMachine):
    """Everything is evicted and forgotten all the time: whatever is said must still be true."""

    bounds: ClassVar[dict[str, Any]] = {"max_events": 4, "max_age": 10.0, "max_channels": 1, "max_bytes": 12}
    exact = False


TestRoomyEngine = RoomyMachine.TestCase
TestRoomyEngine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTightEngine = TightMachine.TestCase
TestTightEngine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
