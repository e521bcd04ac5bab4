"""What one client sends is handled in turns with the others."""

import asyncio
from types import SimpleNamespace

import pytest

from qubix_tui.hub.turns import Turns
from tests.hub.wire import eventually


class Reader:
    """Handles four bytes a turn."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.handled: list[bytes] = []
        self.held_up = False
        self.turns = Turns(self)

    def take_turn(self, data: bytes) -> bytes:
        self.handled.append(data[:4])
        return data[4:]

    def may_read(self) -> bool:
        return not self.held_up

    def waiting_changed(self) -> None:
        if self.may_read():
            self.turns.go_on()


@pytest.fixture
async def reader() -> Reader:
    """Whose data it is."""
    return Reader()


async def test_little_is_handled_at_once(reader: Reader) -> None:
    """What fits into one turn waits for nothing."""
    reader.turns.receive(b"abcd")
    assert reader.handled == [b"abcd"]
    assert not reader.turns.waiting


async def test_others_have_their_turn_in_between(reader: Reader) -> None:
    """Two clients with much to say take turns, and each is heard in order."""
    other = Reader()
    other.handled = reader.handled
    reader.turns.receive(b"aaaabbbbcc")
    other.turns.receive(b"AAAABBBBCC")
    await eventually(lambda: not (reader.turns.waiting or other.turns.waiting))
    assert reader.handled == [b"aaaa", b"AAAA", b"bbbb", b"BBBB", b"cc", b"CC"]


async def test_what_still_comes_goes_behind_what_waits(reader: Reader) -> None:
    """The socket may have been read before it was told to stop."""
    reader.turns.receive(b"aaaabb")
    reader.turns.receive(b"bbcc")
    await eventually(lambda: not reader.turns.waiting)
    assert reader.handled == [b"aaaa", b"bbbb", b"cc"]


async def test_nothing_is_handled_while_the_client_does_not_read(reader: Reader) -> None:
    """It waits where it is, and goes on when it may."""
    reader.turns.receive(b"aaaabbbb")
    reader.held_up = True
    await asyncio.sleep(0.01)
    assert reader.handled == [b"aaaa"]
    reader.held_up = False
    reader.turns.go_on()
    reader.turns.go_on()
    await asyncio.sleep(0.01)
    assert reader.handled == [b"aaaa", b"bbbb"]


async def test_the_end_of_the_connection_drops_what_waits(reader: Reader) -> None:
    """Nothing is handled after it."""
    reader.turns.receive(b"aaaabbbb")
    reader.turns.close()
    await asyncio.sleep(0.01)
    assert reader.handled == [b"aaaa"]


async def test_a_client_that_rests_is_not_read(reader: Reader) -> None:
    """For a while, however often it is said; what was read already is handled nevertheless."""
    reader.turns.rest()
    reader.turns.rest()
    assert reader.turns.waiting
    reader.turns.receive(b"abcd")
    assert reader.handled == [b"abcd"]
    await eventually(lambda: not reader.turns.waiting)


async def test_a_long_turn_is_followed_by_a_pause_as_long(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that one client has half of the hub's time at most."""
    now = 0.0
    pauses: list[float] = []

    def take_turn(data: bytes) -> bytes:
        nonlocal now
        now += 0.004
        return data[4:]

    monkeypatch.setattr("time.perf_counter", lambda: now)
    monkeypatch.setattr(reader, "take_turn", take_turn)
    monkeypatch.setattr(
        reader, "loop", SimpleNamespace(call_later=lambda seconds, _: pauses.append(seconds), call_soon=None)
    )
    reader.turns.receive(b"aaaabbbb")
    assert pauses == [pytest.approx(0.004)]
