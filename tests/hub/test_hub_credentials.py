"""Tokens and codes on a store: nothing is acknowledged before it is there, and what fails leaves nothing."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from qubix_tui.hub import credentials as module
from qubix_tui.hub.access import Identity
from qubix_tui.hub.audit import AUDIT_TABLE, REFUSALS_BURST, Actor
from qubix_tui.hub.engine.base import Change, EngineUnavailable, NewEvent, Precondition
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.enrolment import CODE_SECONDS
from qubix_tui.hub.tokens import TOKENS_TABLE
from qubix_tui.protocol.errors import CloseCode, ErrorCode, ProtocolError
from qubix_tui.protocol.requests import IssueToken, Register
from qubix_tui.protocol.tokens import Role, hash_token, is_token, new_token
from tests.hub.credentials_stage import OPERATOR, STRANGER, FakeSession, Hub, enroll, refused
from tests.hub.manual_clock import ManualClock


class Store(MemoryEngine):
    """A store that takes a moment, and fails when it is told to."""

    failing = False

    async def commit(
        self,
        preconditions: Sequence[Precondition],
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        apply: Callable[[], None] | None = None,
        *,
        decided_at: int | None = None,
    ) -> list[int]:
        await asyncio.sleep(0)
        if self.failing:
            raise EngineUnavailable("the disk is full")
        return await super().commit(preconditions, changes, events, apply)


@pytest.fixture
async def store() -> Store:
    """An empty store."""
    made = Store()
    await made.open()
    return made


@pytest.fixture
async def hub(store: Store) -> Hub:
    """A hub on it."""
    made = Hub(store, ManualClock())
    await made.credentials.load()
    return made


@pytest.mark.parametrize("role", ["viewer", "operator", "provider"])
async def test_an_issued_token_works_and_survives_a_restart(hub: Hub, role: str) -> None:
    """It is one of its role; its record says who made it and when; the store never holds it."""
    token, token_id = await hub.issue(role)
    assert is_token(token)
    again = await hub.restarted()
    for some in (hub, again):
        assert some.tokens.find(token)[0] == token_id
        (record,) = some.credentials.listing()
        assert (record.role, record.name, record.created_by) == (role, "wall", "ops")
        assert record.created_at == "2027-01-15T08:00:00.000Z"
    for table in (TOKENS_TABLE, AUDIT_TABLE):
        assert token not in repr(await hub.store.load(table))


async def test_a_token_that_was_not_stored_is_none(hub: Hub, store: Store) -> None:
    """The operator hears that the store failed; nothing new is known."""
    store.failing = True
    with pytest.raises(EngineUnavailable):
        await hub.issue()
    assert hub.credentials.listing() == []


async def test_there_are_only_so_many_tokens(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is a conflict that says what to do."""
    monkeypatch.setattr(module, "MAX_TOKENS", 1)
    await hub.issue()
    wanted = IssueToken(role="viewer")
    assert "revoke" in await refused(ErrorCode.CONFLICT, hub.credentials.issue(OPERATOR, wanted))


async def test_revoking_ends_the_connections_of_that_token(hub: Hub) -> None:
    """Open ones with 4003, one in its handshake at once; others stay, and the one to be told last."""
    token, token_id = await hub.issue()
    mine, shaking, last = FakeSession(token_id), FakeSession(token_id, opened=False), FakeSession(token_id)
    others = [FakeSession("bbbbbbbbbbbb"), FakeSession(None)]
    hub.sessions = [mine, shaking, last, *others]
    assert [record.connections for record in hub.credentials.listing()] == [3]
    await hub.credentials.revoke(OPERATOR, token_id, last=last)
    assert (mine.ended, shaking.ended, last.ended) == (CloseCode.REVOKED, "cut", None)
    assert [session.ended for session in others] == [None, None]
    for some in (hub, await hub.restarted()):
        with pytest.raises(ProtocolError, match="revoked"):
            some.tokens.find(token)
    assert await hub.actions() == ["token_revoked", "token_issued"]


async def test_a_revocation_takes_effect_even_where_the_store_fails(hub: Hub, store: Store) -> None:
    """The operator is told, the token is refused all the same, and asking again writes it."""
    token, token_id = await hub.issue()
    hub.sessions = [FakeSession(token_id)]
    store.failing = True
    with pytest.raises(EngineUnavailable):
        await hub.credentials.revoke(OPERATOR, token_id)
    assert hub.sessions[0].ended == CloseCode.REVOKED
    with pytest.raises(ProtocolError, match="revoked"):
        hub.tokens.find(token)
    store.failing = False
    await hub.credentials.revoke(OPERATOR, token_id)
    with pytest.raises(ProtocolError, match="revoked"):
        (await hub.restarted()).tokens.find(token)


async def test_only_what_is_there_can_be_revoked(hub: Hub) -> None:
    """A guess is not found; a local token is refused with the file that is to be deleted."""
    revoke = hub.credentials.revoke
    assert "no token" in await refused(ErrorCode.NOT_FOUND, revoke(OPERATOR, "000000000000"))
    local = hub.tokens.add_local(new_token(Role.OPERATOR), Role.OPERATOR, "local-operator")
    assert "tokens/operator" in await refused(ErrorCode.CONFLICT, revoke(OPERATOR, local))
    assert await hub.actions() == []


async def test_old_revoked_tokens_are_forgotten(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest revoked ones are listed, behind those in use; of older ones the store keeps nothing."""
    monkeypatch.setattr(module, "MAX_REVOKED", 1)
    (_, first), (_, second), (_, third) = [await hub.issue() for _ in range(3)]
    for token_id in (first, second):
        hub.clock.advance(1)
        await hub.credentials.revoke(OPERATOR, token_id)
    for some in (hub, await hub.restarted()):
        assert [record.token_id for record in some.credentials.listing()] == [third, second]


async def test_a_code_becomes_a_token_for_one_provider(hub: Hub) -> None:
    """Bound to the id that begins with the code's name, and to the agent's workerId; also after a restart."""
    enrolled = await hub.credentials.enroll(STRANGER, enroll(await hub.code()))
    assert enrolled.provider_id.startswith("rig-")
    for some in (hub, await hub.restarted()):
        (record,) = some.credentials.listing()
        assert (record.role, record.name, record.created_by) == (Role.PROVIDER, "rig", "ops")
        assert (record.provider_id, record.worker_id) == (enrolled.provider_id, "w1")
        spec = Register(worker_id="w1", name="another-host", instance="i")
        assert some.registry.provider_id(spec) == enrolled.provider_id
        token_id, _ = some.tokens.find(enrolled.token)
        with some.tokens.claim(token_id, enrolled.provider_id, "w1") as changes:
            assert changes == []
        with (
            pytest.raises(ProtocolError, match="another provider"),
            some.tokens.claim(token_id, "rig-9", "w9"),
        ):
            pass


async def test_a_code_without_a_name_names_nobody_after_it(hub: Hub) -> None:
    """The id is made of the workerId alone, and the token is called after it."""
    enrolled = await hub.credentials.enroll(STRANGER, enroll(await hub.code(None)))
    assert enrolled.provider_id.startswith("provider-")
    assert hub.credentials.listing()[0].name == enrolled.provider_id


async def test_two_agents_with_one_code(hub: Hub) -> None:
    """They ask at the same moment: one gets a token, the other hears that the code was used."""
    code = await hub.code()
    answers = await asyncio.gather(
        hub.credentials.enroll(STRANGER, enroll(code, "w1")),
        hub.credentials.enroll(STRANGER, enroll(code, "w2")),
        return_exceptions=True,
    )
    assert [isinstance(answer, ProtocolError) for answer in answers].count(True) == 1
    assert "used already" in str(next(answer for answer in answers if isinstance(answer, ProtocolError)))
    assert len(hub.credentials.listing()) == 1
    again = await hub.restarted()
    work = again.credentials.enroll(STRANGER, enroll(code, "w3"))
    assert "used already" in await refused(ErrorCode.UNAUTHENTICATED, work)


async def test_a_code_is_good_again_where_the_store_failed(hub: Hub, store: Store) -> None:
    """Nobody got a token for it."""
    code = await hub.code()
    store.failing = True
    with pytest.raises(EngineUnavailable):
        await hub.credentials.enroll(STRANGER, enroll(code))
    assert hub.credentials.listing() == []
    store.failing = False
    await hub.credentials.enroll(STRANGER, enroll(code))


async def test_a_code_that_was_not_stored_is_none(hub: Hub, store: Store) -> None:
    """The operator hears so, and the code that was made is known to nobody."""
    store.failing = True
    with pytest.raises(EngineUnavailable):
        await hub.code()
    assert hub.credentials._codes._known == {}


async def test_a_code_outlives_the_hub_but_not_its_time(hub: Hub) -> None:
    """After a restart it works; a quarter of an hour after it was made it does not."""
    first, second = await hub.code("a"), await hub.code("b")
    again = await hub.restarted()
    await again.credentials.enroll(STRANGER, enroll(first, "w1"))
    hub.clock.advance(CODE_SECONDS)
    work = again.credentials.enroll(STRANGER, enroll(second, "w2"))
    assert "15 minutes" in await refused(ErrorCode.UNAUTHENTICATED, work)


async def test_a_provider_with_a_token_is_not_given_away(hub: Hub) -> None:
    """A workerId is public: a code is no key to another's provider. Once its token is revoked it is free."""
    first = await hub.credentials.enroll(STRANGER, enroll(await hub.code()))
    code = await hub.code()
    owner = hub.tokens.owner(first.provider_id)
    assert owner is not None
    assert owner in await refused(ErrorCode.CONFLICT, hub.credentials.enroll(STRANGER, enroll(code)))
    await hub.credentials.revoke(OPERATOR, owner)
    second = await hub.credentials.enroll(STRANGER, enroll(code))
    assert second.provider_id == first.provider_id
    assert second.token != first.token


async def test_an_id_that_is_another_providers_is_not_given(hub: Hub) -> None:
    """Where two workerIds would get the same id the second is asked for another name."""
    outcome = hub.registry.register(Register(worker_id="w1", name="rig", instance="i"))
    hub.registry.apply(outcome)
    hub.registry.reserve("w2", outcome.provider_id)
    work = hub.credentials.enroll(STRANGER, enroll(await hub.code(), "w2"))
    assert "another name" in await refused(ErrorCode.CONFLICT, work)


async def test_who_is_revoked_hands_out_no_more_codes(hub: Hub) -> None:
    """Codes that a token made and nobody used are void with it."""
    _, token_id = await hub.issue("operator", None)
    holder = Actor(Identity(Role.OPERATOR, None, token_id), "192.0.2.2")
    code = (await hub.credentials.new_code(holder, "rig")).code
    await hub.credentials.revoke(OPERATOR, token_id)
    for some in (hub, await hub.restarted()):
        work = some.credentials.enroll(STRANGER, enroll(code))
        assert "does not know" in await refused(ErrorCode.UNAUTHENTICATED, work)


async def test_what_was_done_is_in_the_audit(hub: Hub) -> None:
    """Who, from where, what and to what; never a token, never a code."""
    token, token_id = await hub.issue()
    code = await hub.code()
    enrolled = await hub.credentials.enroll(STRANGER, enroll(code))
    hub.credentials.provider_bound(STRANGER, enrolled.provider_id)
    hub.credentials.login_refused("192.0.2.7", "not a whole token")
    for work in hub.spawned:
        await work
    entries = await hub.credentials.audit.newest(100)
    assert {entry.action for entry in entries} == {
        "token_issued",
        "code_made",
        "enrolled",
        "provider_bound",
        "login_refused",
    }
    issued = next(entry for entry in entries if entry.action == "token_issued")
    assert (issued.who, issued.token_id, issued.address) == ("ops", "aaaaaaaaaaaa", "192.0.2.1")
    assert (issued.subject, issued.detail) == (token_id, "viewer wall")
    knock = next(entry for entry in entries if entry.action == "login_refused")
    assert (knock.who, knock.token_id, knock.address) == (None, None, "192.0.2.7")
    text = repr(await hub.store.load(AUDIT_TABLE)) + repr(entries)
    for secret in (token, code, enrolled.token):
        assert secret not in text
        assert hash_token(secret) not in text


async def test_an_audit_that_can_not_be_written_is_said(
    hub: Hub, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nobody waits for the entry the log has one line, and nothing is raised."""
    store.failing = True
    hub.credentials.login_refused("192.0.2.7", "no")
    for work in hub.spawned:
        await work
    assert "disk is full" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_knocker_fills_neither_store_nor_time(hub: Hub) -> None:
    """Past the burst nothing is spawned; the next entry says how many were left out."""
    for _ in range(REFUSALS_BURST + 30):
        hub.credentials.login_refused("192.0.2.7", "no")
    assert len(hub.spawned) == REFUSALS_BURST
    hub.clock.advance(60)
    hub.credentials.login_refused("192.0.2.7", "no")
    for work in hub.spawned:
        await work
    hub.clock.advance(1)
    newest = (await hub.credentials.audit.newest(100))[0]
    assert newest.detail == "no (30 more refused before it)"
