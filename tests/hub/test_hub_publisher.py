"""Commit first, then publish, in the order of the offsets."""

import asyncio

import pytest

from qubix_tui.hub.engine.base import Change, EngineUnavailable, NewEvent
from qubix_tui.hub.fanout import Fanout, Subscriber
from qubix_tui.hub.framing import MAX_ITEMS_BYTES
from qubix_tui.hub.outbox import Outbox
from qubix_tui.hub.publisher import Publisher
from qubix_tui.hub.telemetry import Telemetry
from tests.hub.frames import FakeSocket, messages
from tests.hub.shared_store import SharedEngine, SharedStore


class Fixture:
    """A publisher on an engine that tells of commits when it is let to, and one reader of everything."""

    def __init__(self) -> None:
        self.store = SharedStore()
        self.engine = SharedEngine(self.store, "a")
        self.engine.held = True
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
    """A publisher on an engine that is open."""
    made = Fixture()
    await made.engine.open()
    return made


async def test_nobody_hears_of_what_is_not_stored(fixture: Fixture) -> None:
    """Events are published when the engine tells of them, after the hub's state was brought up to it."""
    applied: list[int] = []
    task = asyncio.create_task(
        fixture.publisher.commit(
            (), [NewEvent("marketplace", "A", b"{}")], lambda: applied.append(len(fixture.heard()))
        )
    )
    await asyncio.sleep(0)
    assert fixture.heard() == []
    assert applied == []
    fixture.engine.hear()
    await task
    assert applied == [0]
    assert fixture.heard() == [("A", 1)]


async def test_published_is_what_was_fanned_out_not_what_is_stored(fixture: Fixture) -> None:
    """A replay up to it, and all that follows live, is every event once."""
    first, second = fixture.commit("A", "B"), fixture.commit("C")
    await asyncio.sleep(0)
    assert fixture.store.memory.offset("marketplace") == 3
    assert fixture.publisher.published("marketplace") == 0
    fixture.engine.hear()
    await asyncio.gather(first, second)
    assert fixture.publisher.published("marketplace") == 3
    assert fixture.heard() == [("A", 1), ("B", 2), ("C", 3)]
    assert fixture.publisher.published("job:x") == 0


async def test_what_another_hub_commits_is_published_after_its_changes_are_known(fixture: Fixture) -> None:
    """With the offsets that it got there, in the order in which all hubs see it."""
    known: list[tuple[list[str], int]] = []
    fixture.publisher.follow = lambda changes: known.append(
        ([change.key for change in changes], len(fixture.heard()))
    )
    other = SharedEngine(fixture.store, "b")
    await other.open()
    own = fixture.commit("A")
    await asyncio.sleep(0)
    await other.commit((), [Change("t", "k", b"v")], [NewEvent("marketplace", "B", b"{}")])
    fixture.engine.hear()
    await own
    assert known == [(["k"], 1)]
    assert fixture.heard() == [("A", 1), ("B", 2)]


async def test_a_commit_that_fails_publishes_nothing(fixture: Fixture) -> None:
    """The caller gets the engine's error, its state is not applied, and the others go on."""
    held = fixture.commit("A")
    await asyncio.sleep(0)
    fixture.engine.away = True
    applied: list[str] = []
    with pytest.raises(EngineUnavailable, match="the store is away"):
        await fixture.publisher.commit((), [NewEvent("marketplace", "B", b"{}")], lambda: applied.append("B"))
    assert not fixture.publisher.stores
    fixture.engine.away = False
    fixture.engine.hear()
    await held
    assert applied == []
    assert fixture.heard() == [("A", 1)]
    assert fixture.publisher.stores


async def test_an_engine_that_is_there_and_takes_nothing_is_logged_once(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason, and again when it takes something: the engine itself logs only that it is gone."""
    fixture.engine.held = False
    with monkeypatch.context() as patched:

        async def full(*_args: object, **_options: object) -> None:
            raise EngineUnavailable("Redis is full")

        patched.setattr(fixture.engine, "commit", full)
        for _ in range(2):
            with pytest.raises(EngineUnavailable):
                await fixture.publisher.commit((), ())
    await fixture.publisher.commit((), ())
    await fixture.publisher.commit((), ())
    assert [one.message for one in caplog.records] == [
        "changes are refused: Redis is full",
        "changes are stored again",
    ]


async def test_one_commit_reaches_several_channels_in_its_order(fixture: Fixture) -> None:
    """Each event has the offset of its own channel."""
    events = [
        NewEvent("job:a", "A", b"{}"),
        NewEvent("marketplace", "B", b"{}"),
        NewEvent("job:a", "C", b"{}"),
    ]
    task = asyncio.create_task(fixture.publisher.commit((), events))
    await asyncio.sleep(0)
    fixture.engine.hear()
    await task
    assert fixture.heard() == [("A", 1), ("B", 1), ("C", 2)]


async def test_an_event_too_long_for_a_frame_is_refused_before_it_is_stored(fixture: Fixture) -> None:
    """Else it would be in history, where nobody could ever be given it."""
    with pytest.raises(ValueError, match="bytes"):
        await fixture.publisher.commit((), [NewEvent("marketplace", "A", b"x" * (MAX_ITEMS_BYTES + 1))])
    assert fixture.store.log == []
