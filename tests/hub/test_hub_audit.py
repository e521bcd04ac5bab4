"""The audit: bounded, in order, and never pushed out by whoever knocks."""

import pytest

from qubix_tui.hub import audit as module
from qubix_tui.hub.access import Identity
from qubix_tui.hub.audit import AUDIT_TABLE, REFUSED_TABLE, Actor, Audit
from qubix_tui.hub.engine.base import Change
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


async def store(engine: MemoryEngine, audit: Audit, changes: list[Change]) -> None:
    """Write an entry, and have it known."""
    await engine.commit((), changes, (), lambda: audit.follow(changes))


async def test_entries_are_kept_up_to_a_number(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes with each new one; after a restart, too, and what came then stands later."""
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    clock = ManualClock()
    for start in (0, 2, 4):
        audit = Audit(engine, clock)
        await audit.load()
        for number in (start, start + 1):
            clock.advance(1)
            await store(engine, audit, audit.changes("token_issued", OPERATOR, f"t{number}"))
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
    await store(engine, audit, audit.changes("token_issued", OPERATOR, "t0"))
    for _ in range(5):
        clock.advance(10)
        await store(engine, audit, audit.refused("192.0.2.9", "no"))
    clock.advance(1)
    await store(engine, audit, audit.changes("token_revoked", OPERATOR, "t0"))
    assert len(await engine.load(REFUSED_TABLE)) == 2
    actions = [entry.action for entry in await audit.newest(10)]
    assert actions == ["token_revoked", "login_refused", "login_refused", "token_issued"]


async def test_entries_of_one_instant_keep_their_order(engine: MemoryEngine) -> None:
    """The newest first, also where the clock did not move."""
    audit = Audit(engine, ManualClock())
    for number in range(3):
        await store(engine, audit, audit.changes("token_issued", OPERATOR, f"t{number}"))
    assert [entry.subject for entry in await audit.newest(10)] == ["t2", "t1", "t0"]


async def test_an_address_that_is_not_known_is_null(engine: MemoryEngine) -> None:
    """A Unix socket has none; nothing is invented."""
    audit = Audit(engine, ManualClock())
    await store(engine, audit, audit.refused("", "no"))
    assert [entry.address for entry in await audit.newest(1)] == [None]


async def test_entries_are_in_order_where_the_clock_goes_back(engine: MemoryEngine) -> None:
    """What is said later stands later, and no entry takes another one's place."""
    clock = ManualClock()
    audit = Audit(engine, clock)
    for number in range(3):
        await store(engine, audit, audit.changes("token_issued", OPERATOR, f"t{number}"))
        clock.advance(-60)
    keys = sorted(rows := await engine.load(AUDIT_TABLE))
    assert [b"t0" in rows[keys[0]], b"t1" in rows[keys[1]], b"t2" in rows[keys[2]]] == [True] * 3


async def test_entries_from_before_stand_before(
    engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a hub that numbered them are the oldest, and go first."""
    monkeypatch.setattr(module, "MAX_ENTRIES", 2)
    audit = Audit(engine, ManualClock())
    old = [Change(AUDIT_TABLE, f"{number:012d}", b"{}") for number in (7, 8)]
    await engine.commit((), old, ())
    await audit.load()
    await store(engine, audit, audit.changes("token_issued", OPERATOR, "new"))
    first, second = sorted(await engine.load(AUDIT_TABLE))
    assert first == "000000000008"
    assert second > first


async def test_hubs_that_share_a_store_keep_one_bound(
    engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each deletes the oldest that it knows of; where both did that at once, the next makes up for it."""
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    audits = [Audit(engine, ManualClock()) for _ in range(2)]
    for number in range(4):
        decided = [audit.changes("token_issued", OPERATOR, f"{number}") for audit in audits]
        for changes in decided:
            assert all(change.blind for change in changes)
            await engine.commit((), changes, ())
            for audit in audits:
                audit.follow(changes)
    assert len(await engine.load(AUDIT_TABLE)) == 4
    last = audits[0].changes("token_issued", OPERATOR, "last")
    await engine.commit((), last, ())
    assert len(await engine.load(AUDIT_TABLE)) == 3
