"""Tokens and codes of hubs that share a store: what one does holds at all, and of two at once one does it.

A hub that is held hears of nothing, as one that is slow or was frozen; it decides by what it knows.
"""

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from qubix_tui.hub.access import Identity
from qubix_tui.hub.audit import AUDIT_TABLE, Actor
from qubix_tui.hub.credentials import MAX_REVOKED
from qubix_tui.hub.engine.base import Change, Conflict, EngineUnavailable, StoredEvent
from qubix_tui.hub.enrolment import CODES_TABLE
from qubix_tui.hub.tokens import TOKENS_TABLE
from qubix_tui.protocol.errors import CloseCode, ErrorCode, ProtocolError
from qubix_tui.protocol.requests import Register
from qubix_tui.protocol.tokens import Role, hash_token, new_token
from tests.hub.credentials_stage import OPERATOR, STRANGER, FakeSession, Hub, enroll, refused
from tests.hub.manual_clock import ManualClock
from tests.hub.shared_store import SharedEngine, SharedStore


class SharedHub(Hub):
    """A hub's parts that follow what other hubs do."""

    def __init__(self, store: SharedStore, name: str, clock: ManualClock) -> None:
        self.engine = SharedEngine(store, name)
        super().__init__(self.engine, clock)
        self.engine.listen(self)

    async def start(self) -> "SharedHub":
        """Open the store, and take over what it holds."""
        await self.engine.open()
        await self.credentials.load()
        return self

    def changed_elsewhere(self, changes: Sequence[Change]) -> None:
        self.credentials.follow(changes)

    def happened(self, events: Sequence[StoredEvent]) -> None:
        """Tokens have no events."""

    async def register(self, token: str, provider_id: str, worker_id: str) -> None:
        """Do with a token what registering a provider does."""
        identity = Identity(Role.PROVIDER, None, self.tokens.find(token)[0])
        assert identity.token_id is not None
        with self.tokens.claim(identity.token_id, provider_id, worker_id) as changes:
            await self.engine.commit(
                (), changes, (), lambda: self.tokens.bind(identity.token_id or "", provider_id, worker_id)
            )


T = TypeVar("T")
Hubs = tuple[SharedHub, SharedHub]


@pytest.fixture
async def hubs() -> Hubs:
    """Two hubs on one empty store."""
    store, clock = SharedStore(), ManualClock()
    return (await SharedHub(store, "a", clock).start(), await SharedHub(store, "b", clock).start())


async def heard(*hubs: SharedHub) -> None:
    """Have hubs hear of all that was stored."""
    for hub in hubs:
        hub.engine.held = False
        hub.engine.hear()


async def unaware(hub: SharedHub, work: Coroutine[Any, Any, T]) -> T:
    """Have a held hub decide something by what it knows; after that it hears of all that was stored."""
    assert hub.engine.held
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    await heard(hub)
    return await task


async def test_what_one_hub_issues_lets_in_at_the_other(hubs: Hubs) -> None:
    """With its role and name, as soon as the other has heard of it."""
    here, there = hubs
    token, token_id = await here.issue("viewer", "wall")
    await heard(there)
    assert there.tokens.find(token)[0] == token_id
    assert there.credentials.listing() == here.credentials.listing()


async def test_a_revocation_ends_connections_at_every_hub(hubs: Hubs) -> None:
    """Open ones with 4003, one in its handshake at once; those of other tokens stay."""
    here, there = hubs
    token, token_id = await here.issue()
    await heard(there)
    mine, shaking, other = FakeSession(token_id), FakeSession(token_id, opened=False), FakeSession("b" * 12)
    there.sessions = [mine, shaking, other]
    await here.credentials.revoke(OPERATOR, token_id)
    await heard(there)
    assert (mine.ended, shaking.ended, other.ended) == (CloseCode.REVOKED, "cut", None)
    with pytest.raises(ProtocolError, match="revoked"):
        there.tokens.find(token)


async def test_what_is_new_is_stored_however_long_ago_it_was_decided(
    hubs: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that can't tell any more what others have written since has it decided anew."""
    one, two = hubs
    commit, refusals = one.engine.commit, itertools.cycle([True, False])

    async def too_old(*args: Any, **options: Any) -> list[int]:
        if next(refusals):
            raise Conflict("tokens", "any")
        return await commit(*args, **options)

    monkeypatch.setattr(one.engine, "commit", too_old)
    token, token_id = await one.issue()
    code = await one.code()
    await heard(two)
    assert two.tokens.find(token)[0] == token_id
    assert (await two.credentials.enroll(STRANGER, enroll(code))).provider_id.startswith("rig-")


async def test_both_revoke_the_same_token(hubs: Hubs) -> None:
    """Nobody is refused: the second finds that it is revoked, and the first time stands."""
    here, there = hubs
    _, token_id = await here.issue()
    await heard(there)
    there.engine.held = True
    await here.credentials.revoke(OPERATOR, token_id)
    there.clock.advance(5)
    await unaware(there, there.credentials.revoke(OPERATOR, token_id))
    for hub in hubs:
        (record,) = hub.credentials.listing()
        assert record.revoked_at == "2027-01-15T08:00:00.000Z"
    assert await here.actions() == ["token_revoked", "token_revoked", "token_issued"]


async def test_a_revocation_that_was_not_stored_holds_against_another_hubs_word(hubs: Hubs) -> None:
    """The store failed here; there the token is bound meanwhile. It stays refused here."""
    here, there = hubs
    token, token_id = await here.issue("provider")
    await heard(there)
    here.engine.away = True
    with pytest.raises(EngineUnavailable):
        await here.credentials.revoke(OPERATOR, token_id)
    here.engine.away = False
    await there.register(token, "rig-1", "w1")
    await heard(here)
    with pytest.raises(ProtocolError, match="revoked"):
        here.tokens.find(token)


async def test_one_code_at_two_hubs(hubs: Hubs) -> None:
    """Used at the same moment: one agent gets a token, the other hears that the code was used."""
    here, there = hubs
    code = await here.code()
    await heard(there)
    there.engine.held = True
    enrolled = await here.credentials.enroll(STRANGER, enroll(code, "w1"))
    work = unaware(there, there.credentials.enroll(STRANGER, enroll(code, "w2")))
    assert "used already" in await refused(ErrorCode.UNAUTHENTICATED, work)
    for hub in hubs:
        assert [record.provider_id for record in hub.credentials.listing()] == [enrolled.provider_id]
    assert len(await here.engine.load(TOKENS_TABLE)) == 1


async def test_who_enrolled_at_one_hub_is_known_at_the_other(hubs: Hubs) -> None:
    """By its token, and by its id, whatever name its machine gives itself."""
    here, there = hubs
    enrolled = await here.credentials.enroll(STRANGER, enroll(await here.code("rig"), "w1"))
    await heard(there)
    spec = Register(worker_id="w1", name="another-host", instance="i")
    assert there.registry.provider_id(spec) == enrolled.provider_id
    token_id, known = there.tokens.find(enrolled.token)
    assert known.binding == (enrolled.provider_id, "w1")
    assert there.tokens.owner(enrolled.provider_id) == token_id


@pytest.mark.parametrize("name", ["rig", "other"])
async def test_two_codes_for_one_agent_at_two_hubs(hubs: Hubs, name: str) -> None:
    """Whether they name it alike or not it is one provider, with one token; the second code stays good."""
    here, there = hubs
    first, second = await here.code("rig"), await here.code(name)
    await heard(there)
    there.engine.held = True
    enrolled = await here.credentials.enroll(STRANGER, enroll(first, "w1"))
    work = unaware(there, there.credentials.enroll(STRANGER, enroll(second, "w1")))
    assert enrolled.provider_id in await refused(ErrorCode.CONFLICT, work)
    await there.credentials.enroll(STRANGER, enroll(second, "w2"))


async def test_two_tokens_for_one_provider_at_two_hubs(hubs: Hubs) -> None:
    """The store lets one of them have it; the other is free for another provider."""
    here, there = hubs
    (first, first_id), (second, _) = await here.issue("provider"), await here.issue("provider")
    await heard(there)
    there.engine.held = True
    await here.register(first, "rig-1", "w1")
    with pytest.raises(Conflict):
        await unaware(there, there.register(second, "rig-1", "w1"))
    with pytest.raises(ProtocolError, match=first_id):
        await there.register(second, "rig-1", "w1")
    await there.register(second, "rig-2", "w2")


async def test_one_token_for_two_providers_at_two_hubs(hubs: Hubs) -> None:
    """It is for the one that the store took; the other provider stays free."""
    here, there = hubs
    token, _ = await here.issue("provider")
    await heard(there)
    there.engine.held = True
    await here.register(token, "rig-1", "w1")
    with pytest.raises(Conflict):
        await unaware(there, there.register(token, "rig-2", "w2"))
    with pytest.raises(ProtocolError, match="another provider"):
        await there.register(token, "rig-2", "w2")
    assert there.tokens.owner("rig-2") is None
    await there.register(token, "rig-1", "w1")


async def test_a_token_that_is_revoked_elsewhere_binds_nothing(hubs: Hubs) -> None:
    """A hub that has not heard of it is refused by the store, and knows it then."""
    here, there = hubs
    token, token_id = await here.issue("provider")
    await heard(there)
    there.engine.held = True
    await here.credentials.revoke(OPERATOR, token_id)
    with pytest.raises(Conflict):
        await unaware(there, there.register(token, "rig-1", "w1"))
    with pytest.raises(ProtocolError, match="revoked"):
        await there.register(token, "rig-1", "w1")


async def test_who_is_revoked_hands_out_no_more_codes_anywhere(hubs: Hubs) -> None:
    """Neither those that the revoking hub knew of, nor one made at another before that heard of it."""
    here, there = hubs
    _, token_id = await here.issue("operator", None)
    holder = Actor(Identity(Role.OPERATOR, None, token_id), "192.0.2.2")
    first = (await here.credentials.new_code(holder, "rig")).code
    await heard(there)
    there.engine.held = True
    await here.credentials.revoke(OPERATOR, token_id)
    # It decides this after the revocation, and can't know.
    second = (await unaware(there, there.credentials.new_code(holder, "rig"))).code
    await heard(here)
    for hub in hubs:
        for code in (first, second):
            work = hub.credentials.enroll(STRANGER, enroll(code))
            assert "does not know" in await refused(ErrorCode.UNAUTHENTICATED, work)


async def test_a_code_that_is_used_while_its_maker_is_revoked(hubs: Hubs) -> None:
    """It was used first: the agent keeps its token, and the revocation goes through."""
    here, there = hubs
    _, token_id = await here.issue("operator", None)
    holder = Actor(Identity(Role.OPERATOR, None, token_id), "192.0.2.2")
    code = (await here.credentials.new_code(holder, "rig")).code
    await heard(there)
    there.engine.held = True
    enrolled = await here.credentials.enroll(STRANGER, enroll(code))
    await unaware(there, there.credentials.revoke(OPERATOR, token_id))
    await heard(here)
    for hub in hubs:
        hub.tokens.find(enrolled.token)
        work = hub.credentials.enroll(STRANGER, enroll(code, "w2"))
        assert "used already" in await refused(ErrorCode.UNAUTHENTICATED, work)
    assert hash_token(code) in await here.engine.load(CODES_TABLE)


async def test_the_local_token_of_another_machine_is_left_alone(hubs: Hubs) -> None:
    """Its row stays, it opens nothing here, and a code can't take its provider; revoking it frees that."""
    here, _ = hubs
    token = new_token(Role.PROVIDER)
    token_id = here.tokens.add_local(token, Role.PROVIDER, "local-provider")
    await here.register(token, "rig-1", "w1")
    third = await SharedHub(here.engine._store, "c", here.clock).start()
    assert list(await third.engine.load(TOKENS_TABLE)) == [hash_token(token)]
    with pytest.raises(ProtocolError, match="does not know"):
        third.tokens.find(token)
    third.registry.reserve("w1", "rig-1")
    code = await third.code("rig")
    assert token_id in await refused(ErrorCode.CONFLICT, third.credentials.enroll(STRANGER, enroll(code)))
    here.sessions = [FakeSession(token_id)]
    await third.credentials.revoke(OPERATOR, token_id)
    await heard(here)
    assert here.sessions[0].ended == CloseCode.REVOKED
    enrolled = await third.credentials.enroll(STRANGER, enroll(code))
    await heard(here)
    assert enrolled.provider_id == "rig-1"
    assert here.tokens.owner("rig-1") != token_id
    here.tokens.find(token)


async def test_a_local_token_of_a_machine_with_two_hubs_is_one_token(hubs: Hubs) -> None:
    """Both read the same file: what it is bound to at one counts at the other."""
    token = new_token(Role.PROVIDER)
    for hub in hubs:
        hub.tokens.add_local(token, Role.PROVIDER, "local-provider")
    here, there = hubs
    await here.register(token, "rig-1", "w1")
    await heard(there)
    assert there.tokens.find(token)[1].binding == ("rig-1", "w1")


async def test_forgotten_tokens_and_codes_are_forgotten_everywhere(
    hubs: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one hub deletes as too old the other does not keep."""
    monkeypatch.setattr("qubix_tui.hub.credentials.MAX_REVOKED", 1)
    assert MAX_REVOKED > 1
    here, there = hubs
    code = await here.code()
    issued = [await here.issue() for _ in range(2)]
    for _, token_id in issued:
        here.clock.advance(1)
        await here.credentials.revoke(OPERATOR, token_id)
    here.clock.advance(2 * 24 * 3600)
    await here.code()
    await heard(there)
    assert [record.token_id for record in there.credentials.listing()] == [issued[1][1]]
    work = there.credentials.enroll(STRANGER, enroll(code))
    assert "does not know" in await refused(ErrorCode.UNAUTHENTICATED, work)


async def test_the_audit_is_one_for_all_hubs(hubs: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lists what the others did, and the bound is one, whoever writes."""
    monkeypatch.setattr("qubix_tui.hub.audit.MAX_ENTRIES", 3)
    for number in range(4):
        for hub in hubs:
            hub.clock.advance(1)
            await hub.issue("viewer", f"wall {number}")
    await asyncio.sleep(0)
    for hub in hubs:
        entries = await hub.credentials.audit.newest(10)
        assert [entry.detail for entry in entries] == ["viewer wall 3", "viewer wall 3", "viewer wall 2"]
    assert len(await hubs[0].engine.load(AUDIT_TABLE)) == 3
