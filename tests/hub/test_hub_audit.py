"""The audit: bounded, in order, and never pushed out by whoever knocks."""

import pytest

from qubix_tui.hub import audit as module
from qubix_tui.hub.access import Identity
from qubix_tui.hub.audit import AUDIT_TABLE, REFUSED_TABLE, Actor, Audit
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.protocol.tokens import Role
from tests.hub.manual_clock import ManualClock

OPERATOR = Actor(Identity(Role.OPERATOR, "ops", "aaaaaaaaaaaa"), "192.0.2.1")


@pytest.fixture
async def engine() -> MemoryEngine:
    """An open store."""
    made = MemoryEngine()
    await made.open()
    return made


async def test_entries_are_kept_up_to_a_number(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes with each new one; numbers go on after a restart, and so does the bound."""
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    clock = ManualClock()
    for start in (0, 2, 4):
        audit = Audit(engine, clock)
        await audit.load()
        for number in (start, start + 1):
            clock.advance(1)
            await engine.commit((), audit.changes("token_issued", OPERATOR, f"t{number}"), ())
    assert len(await engine.load(AUDIT_TABLE)) == 3
    assert [entry.subject for entry in await audit.newest(10)] == ["t5", "t4", "t3"]
    assert [entry.subject for entry in await audit.newest(2)] == ["t5", "t4"]
    assert await audit.newest(0) == []


async def test_refused_logins_push_nothing_else_out(
    engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have a table and a bound of their own, and are listed in their place in time."""
    monkeypatch.setattr(module, "MAX_REFUSED", 2)
    clock = ManualClock()
    audit = Audit(engine, clock)
    await engine.commit((), audit.changes("token_issued", OPERATOR, "t0"), ())
    for _ in range(5):
        clock.advance(10)
        await engine.commit((), audit.refused("192.0.2.9", "no"), ())
    clock.advance(1)
    await engine.commit((), audit.changes("token_revoked", OPERATOR, "t0"), ())
    assert len(await engine.load(REFUSED_TABLE)) == 2
    actions = [entry.action for entry in await audit.newest(10)]
    assert actions == ["token_revoked", "login_refused", "login_refused", "token_issued"]


async def test_entries_of_one_instant_keep_their_order(engine: MemoryEngine) -> None:
    """The newest first, also where the clock did not move."""
    audit = Audit(engine, ManualClock())
    for number in range(3):
        await engine.commit((), audit.changes("token_issued", OPERATOR, f"t{number}"), ())
    assert [entry.subject for entry in await audit.newest(10)] == ["t2", "t1", "t0"]


async def test_an_address_that_is_not_known_is_null(engine: MemoryEngine) -> None:
    """A Unix socket has none; nothing is invented."""
    audit = Audit(engine, ManualClock())
    await engine.commit((), audit.refused("", "no"), ())
    assert [entry.address for entry in await audit.newest(1)] == [None]
