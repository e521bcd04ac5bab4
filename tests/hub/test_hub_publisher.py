"""Commit first, then publish, in the order of the offsets."""

import asyncio
from collections.abc import Sequence

import pytest

from qubix_tui.hub.engine.base import Change, EngineUnavailable, NewEvent, Precondition
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.fanout import Fanout, Subscriber
from qubix_tui.hub.framing import MAX_ITEMS_BYTES
from qubix_tui.hub.outbox import Outbox
from qubix_tui.hub.publisher import Publisher
from qubix_tui.hub.telemetry import Telemetry
from tests.hub.frames import FakeSocket, messages


class SlowEngine(MemoryEngine):
    """Takes effect at the call, as any engine, but returns when it is let to; or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[asyncio.Event] = []
        self.failing = False

    async def commit(
        self, preconditions: Sequence[Precondition], changes: Sequence[Change], events: Sequence[NewEvent]
    ) -> list[int]:
        gate = asyncio.Event()
        self.gates.append(gate)
        failing = self.failing
        offsets = [] if failing else await super().commit(preconditions, changes, events)
        await gate.wait()
        if failing:
            raise EngineUnavailable("the disk is full")
        return offsets


class Fixture:
    """A publisher on a slow engine, and one reader of everything."""

    def __init__(self) -> None:
        self.engine = SlowEngine()
        self.fanout = Fanout(Telemetry())
        self.publisher = Publisher(self.engine, self.fanout)
        self.socket = FakeSocket()
        reader = Subscriber(Outbox(self.socket))
        for channel in ("marketplace", "job:*"):
            self.fanout.subscribe(reader, channel)

    def commit(self, *names: str, channel: str = "marketplace") -> asyncio.Task[None]:
        events = [NewEvent(channel, name, b"{}") for name in names]
        return asyncio.create_task(self.publisher.commit((), events))

    def heard(self) -> list[tuple[str, int]]:
        self.fanout.flush()
        return [(message["type"], message["offset"]) for message in messages(self.socket.sent)]


@pytest.fixture
async def fixture() -> Fixture:
    """A publisher on a slow engine, opened."""
    made = Fixture()
    await made.engine.open()
    return made


async def test_nobody_hears_of_what_is_not_stored(fixture: Fixture) -> None:
    """Events are published when the commit returns, after the hub's own state was brought up to date."""
    applied: list[int] = []
    task = asyncio.create_task(
        fixture.publisher.commit(
            (), [NewEvent("marketplace", "A", b"{}")], lambda: applied.append(len(fixture.heard()))
        )
    )
    await asyncio.sleep(0)
    assert fixture.heard() == []
    assert applied == []
    fixture.engine.gates[0].set()
    await task
    assert applied == [0]
    assert fixture.heard() == [("A", 1)]


async def test_commits_that_return_in_another_order_are_published_in_theirs(fixture: Fixture) -> None:
    """The second's caller is answered first, but its events wait for those before."""
    first, second = fixture.commit("A", "B"), fixture.commit("C")
    await asyncio.sleep(0)
    fixture.engine.gates[1].set()
    await second
    assert fixture.heard() == []
    fixture.engine.gates[0].set()
    await first
    assert fixture.heard() == [("A", 1), ("B", 2), ("C", 3)]


async def test_published_is_what_was_fanned_out_not_what_is_stored(fixture: Fixture) -> None:
    """A replay up to it, and all that follows live, is every event once."""
    assert fixture.publisher.published("marketplace") == 0
    first, second = fixture.commit("A"), fixture.commit("B")
    await asyncio.sleep(0)
    assert fixture.engine.offset("marketplace") == 2
    assert fixture.publisher.published("marketplace") == 0
    fixture.engine.gates[0].set()
    await first
    assert fixture.publisher.published("marketplace") == 1
    fixture.engine.gates[1].set()
    await second
    assert fixture.publisher.published("marketplace") == 2
    assert fixture.publisher.published("job:x") == 0


async def test_a_commit_that_fails_publishes_nothing_and_holds_nothing_up(fixture: Fixture) -> None:
    """The caller gets the engine's error, its state is not applied, and the others go on."""
    fixture.engine.failing = True
    applied: list[str] = []
    events = [NewEvent("marketplace", "A", b"{}")]
    failing = asyncio.create_task(fixture.publisher.commit((), events, lambda: applied.append("A")))
    await asyncio.sleep(0)
    fixture.engine.failing = False
    following = fixture.commit("B")
    await asyncio.sleep(0)
    fixture.engine.gates[1].set()
    await following
    assert fixture.heard() == []
    fixture.engine.gates[0].set()
    with pytest.raises(EngineUnavailable, match="the disk is full"):
        await failing
    assert applied == []
    assert fixture.heard() == [("B", 1)]
    assert fixture.publisher.published("marketplace") == 1


async def test_what_is_refused_does_not_wait_for_a_commit_that_is_held_up(fixture: Fixture) -> None:
    """However many an engine that is away refuses, nothing is kept of them; the held one is published."""
    held = fixture.commit("A")
    await asyncio.sleep(0)
    await fixture.engine.close()
    for _ in range(100):
        with pytest.raises(EngineUnavailable):
            await fixture.commit("B")
    assert len(fixture.publisher._commits) == 1
    assert not fixture.publisher.stores
    fixture.engine.gates[0].set()
    await held
    assert fixture.heard() == [("A", 1)]
    assert len(fixture.publisher._commits) == len(fixture.publisher._in_flight) == 0


async def test_one_commit_reaches_several_channels_in_its_order(fixture: Fixture) -> None:
    """Each event has the offset of its own channel."""
    events = [
        NewEvent("job:a", "A", b"{}"),
        NewEvent("marketplace", "B", b"{}"),
        NewEvent("job:a", "C", b"{}"),
    ]
    task = asyncio.create_task(fixture.publisher.commit((), events))
    await asyncio.sleep(0)
    fixture.engine.gates[0].set()
    await task
    assert fixture.heard() == [("A", 1), ("B", 1), ("C", 2)]


async def test_an_event_too_long_for_a_frame_is_refused_before_it_is_stored(fixture: Fixture) -> None:
    """Else it would be in history, where nobody could ever be given it."""
    with pytest.raises(ValueError, match="bytes"):
        await fixture.publisher.commit((), [NewEvent("marketplace", "A", b"x" * (MAX_ITEMS_BYTES + 1))])
    assert fixture.engine.gates == []
