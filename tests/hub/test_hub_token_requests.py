"""Tokens, codes and the audit as clients of a hub see them, on a store that outlives it."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.engine.base import Change, NewEvent, Precondition
from qubix_tui.hub.engine.local import LocalEngine
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.protocol.tokens import Role, new_code
from tests.hub.shared_store import SharedEngine, SharedStore
from tests.hub.wire import Client, Message, Running, eventually, running

Start = Callable[[], AbstractAsyncContextManager[Running]]

WITHIN = 1.0
"""Seconds in which a revoked token's connections are closed."""


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """What starts a hub on one and the same directory, where nobody is anonymous."""
    return lambda: running(HubConfig(port=0, anonymous=False), engine=LocalEngine(tmp_path / "hub.sqlite3"))


async def issued(operator: Client, role: str = "viewer", name: str = "wall") -> tuple[str, str]:
    """A new token and its id."""
    reply = await operator.ask("token:issue", {"role": role, "name": name})
    assert reply["type"] == "issued", reply
    return reply["data"]["token"], reply["data"]["tokenId"]


async def refused(hub: Running, token: str) -> int:
    """Connect with a token that is no good; gives the status."""
    with pytest.raises(InvalidStatus) as caught:
        await hub.client(token=token)
    return caught.value.response.status_code


async def pages(client: Client, request: str, reply: str, member: str, data: Any = None) -> list[Message]:
    """All items of a reply that comes in pages."""
    await client.send(request, data, id="pages")
    items: list[Message] = []
    while True:
        page = (await client.until(reply))["data"]
        items += page[member]
        if page["page"] == page["pages"]:
            return items


async def test_issue_use_revoke(start: Start) -> None:
    """A token lets its holder in until it is revoked; then its connections close with 4003 in a second."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        token, token_id = await issued(operator)
        async with await hub.client(token=token) as first, await hub.client() as second:
            await second.ask("auth", {"token": token})
            for client in (first, second):
                await client.subscribe("marketplace")
            listed = {one["tokenId"]: one for one in await pages(operator, "token:list", "tokens", "tokens")}
            assert listed[token_id]["connections"] == 2
            assert (listed[token_id]["role"], listed[token_id]["name"]) == ("viewer", "wall")
            assert listed[token_id]["createdBy"] == "test-operator"
            assert token not in repr(listed)
            assert (await operator.ask("token:revoke", {"tokenId": token_id}))["type"] == "ok"
            async with asyncio.timeout(WITHIN):
                for client in (first, second):
                    assert await client.closed() == (4003, "the token was revoked")
        assert await refused(hub, token) == 401


async def test_what_was_issued_and_revoked_holds_after_a_restart(start: Start) -> None:
    """On the same directory: a token lets in, a revoked one does not, and both are listed."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        good, good_id = await issued(operator, "viewer")
        bad, bad_id = await issued(operator, "operator")
        await operator.ask("token:revoke", {"tokenId": bad_id})
    async with start() as hub:
        await (await hub.client(token=good)).socket.close()
        assert await refused(hub, bad) == 401
        async with await hub.client(Role.OPERATOR) as operator:
            listed = {one["tokenId"]: one for one in await pages(operator, "token:list", "tokens", "tokens")}
            assert listed[good_id]["revokedAt"] is None
            assert listed[bad_id]["revokedAt"] is not None


async def test_who_revokes_its_own_token_is_told_before_it_goes(start: Start) -> None:
    """`ok` first, then 4003, on this and every other connection of it."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        token, token_id = await issued(operator, "operator")
        async with await hub.client(token=token) as mine:
            assert (await mine.ask("token:revoke", {"tokenId": token_id}))["type"] == "ok"
            assert (await mine.closed())[0] == 4003


async def test_a_guess_and_a_local_token_are_refused(start: Start) -> None:
    """Each with its code, and the connection stays."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        guess = await operator.ask("token:revoke", {"tokenId": "000000000000"})
        assert guess["data"]["code"] == "not_found"
        listed = await pages(operator, "token:list", "tokens", "tokens")
        own = next(one for one in listed if one["role"] == "operator")
        assert own["local"] is True
        assert (await operator.ask("token:revoke", {"tokenId": own["tokenId"]}))["data"]["code"] == "conflict"
        assert (await operator.ask("ping"))["type"] == "pong"


async def test_a_bound_token_stays_bound_after_a_restart(start: Start) -> None:
    """The binding is stored as well: no other provider by this token, no other token for this provider."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        (mine, _), (other, _) = await issued(operator, "provider"), await issued(operator, "provider")
        async with await hub.client(token=mine) as agent:
            provider_id = (await agent.register("w1"))["data"]["providerId"]
    async with start() as hub:
        async with await hub.client(token=mine) as agent:
            assert (await agent.register("w2"))["data"]["code"] == "forbidden"
            assert (await agent.register("w1"))["data"]["providerId"] == provider_id
        async with await hub.client(token=other) as thief:
            assert (await thief.register("w1"))["data"]["code"] == "forbidden"


async def test_a_binding_and_its_registration_are_one_commit() -> None:
    """A crash can't leave a provider without its token, nor a token without its provider."""

    class Watched(MemoryEngine):
        async def commit(
            self,
            preconditions: Sequence[Precondition],
            changes: Sequence[Change],
            events: Sequence[NewEvent],
            apply: Callable[[], None] | None = None,
            *,
            decided_at: int | None = None,
        ) -> list[int]:
            commits.append({change.table for change in changes})
            return await super().commit(preconditions, changes, events, apply)

    commits: list[set[str]] = []
    async with running(engine=Watched()) as hub, await hub.agent() as agent:
        await agent.register("w1")
        await agent.register("w1")
        registrations = [tables for tables in commits if "providers" in tables]
    assert registrations == [{"providers", "tokens", "bindings"}, {"providers"}]


async def test_an_agent_enrolls(start: Start) -> None:
    """From a connection without a role; the token it gets registers that provider, by whatever name."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        code = (await operator.ask("enroll:new", {"name": "rig"}))["data"]["code"]
        async with await hub.client() as newcomer:
            enrolled = await newcomer.ask("enroll", {"code": code.lower(), "workerId": "w1"})
            assert enrolled["type"] == "enrolled"
            assert (await newcomer.register("w1"))["data"]["code"] == "unauthenticated"
        token, provider_id = enrolled["data"]["token"], enrolled["data"]["providerId"]
        assert provider_id.startswith("rig-")
        async with await hub.client(token=token) as agent:
            assert (await agent.register("w2"))["data"]["code"] == "forbidden"
            registered = await agent.register("w1", name="some-host")
            assert registered["data"]["providerId"] == provider_id
            again = await agent.ask("enroll", {"code": new_code(), "workerId": "w1"})
            assert again["data"]["code"] == "forbidden"


async def test_two_agents_race_for_a_code_and_a_restart_changes_nothing(start: Start) -> None:
    """One gets a token; the other, and whoever comes after the restart, hears that it was used."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        code = (await operator.ask("enroll:new"))["data"]["code"]
        spare = (await operator.ask("enroll:new"))["data"]["code"]
        async with await hub.client() as one, await hub.client() as two:
            replies = await asyncio.gather(
                one.ask("enroll", {"code": code, "workerId": "w1"}),
                two.ask("enroll", {"code": code, "workerId": "w2"}),
            )
        assert sorted(reply["type"] for reply in replies) == ["enrolled", "error"]
    async with start() as hub, await hub.client() as late:
        error = await late.ask("enroll", {"code": code, "workerId": "w3"})
        assert "used already" in error["data"]["message"]
        assert (await late.ask("enroll", {"code": spare, "workerId": "w3"}))["type"] == "enrolled"


async def test_guessing_codes_is_a_failed_login(start: Start) -> None:
    """Each counts for its address, until the guesser is told to wait; a good code is still taken."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator, await hub.client() as guesser:
        code = (await operator.ask("enroll:new"))["data"]["code"]
        answers = [await guesser.ask("enroll", {"code": new_code(), "workerId": "w"}) for _ in range(12)]
        assert [answer["data"]["code"] for answer in answers] == ["unauthenticated"] * 10 + [
            "rate_limited"
        ] * 2
        assert answers[-1]["data"]["retryAfter"] > 1
        assert hub.hub.telemetry.auth_failures == 12
        assert (await guesser.ask("enroll", {"code": code, "workerId": "w"}))["type"] == "enrolled"


async def test_a_damaged_code_is_named(start: Start) -> None:
    """The member at fault, and what a code looks like."""
    async with start() as hub, await hub.client() as client:
        error = (await client.ask("enroll", {"code": "7KQ2", "workerId": "w"}))["data"]
        assert (error["code"], error["field"]) == ("unauthenticated", "data.code")
        assert "four groups" in error["message"]


async def test_the_audit_tells_who_did_what(start: Start) -> None:
    """Also after a restart, the newest first, and no more than asked for."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        token, token_id = await issued(operator, "provider", "lab")
        assert await refused(hub, new_code()) == 401
        async with await hub.client(token=token) as agent:
            provider_id = (await agent.register("w1"))["data"]["providerId"]
        await eventually(lambda: hub.hub.provider(provider_id).state == "offline")  # type: ignore[union-attr]
        assert (await operator.ask("provider:remove", {"providerId": provider_id}))["type"] == "ok"
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        entries = await pages(operator, "audit:list", "audit", "entries")
        by_action = {entry["action"]: entry for entry in entries}
        assert set(by_action) == {"token_issued", "login_refused", "provider_bound", "provider_removed"}
        assert by_action["token_issued"]["subject"] == token_id
        assert by_action["provider_bound"] | {"at": ""} == {
            "at": "",
            "action": "provider_bound",
            "who": provider_id,
            "tokenId": token_id,
            "address": "127.0.0.1",
            "subject": provider_id,
            "detail": None,
        }
        assert by_action["provider_removed"]["who"] == "test-operator"
        assert [entry["at"] for entry in entries] == sorted((entry["at"] for entry in entries), reverse=True)
        (newest,) = await pages(operator, "audit:list", "audit", "entries", {"limit": 1})
        assert newest == entries[0]


async def test_long_lists_come_in_pages(start: Start) -> None:
    """Each page is a frame that the contract allows (the client checks that), and none is missing."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        for number in range(300):
            await operator.send("token:issue", {"role": "viewer", "name": f"{number} {'x' * 100}"})
        for _ in range(300):
            await operator.until("issued")
        listed = await pages(operator, "token:list", "tokens", "tokens")
        assert len({one["tokenId"] for one in listed}) == 303
        assert len(await pages(operator, "audit:list", "audit", "entries", {"limit": 300})) == 300


async def test_hubs_that_share_a_store_let_the_same_clients_in() -> None:
    """A token issued at one works at the other; once it is revoked its connections there close with 4003.

    Who enrolled at one registers at the other.
    """
    store = SharedStore()
    async with (
        running(engine=SharedEngine(store, "a")) as here,
        running(engine=SharedEngine(store, "b")) as there,
        await here.client(Role.OPERATOR) as operator,
        await here.client() as newcomer,
    ):
        token, token_id = await issued(operator)
        code = (await operator.ask("enroll:new", {"name": "rig"}))["data"]["code"]
        enrolled = (await newcomer.ask("enroll", {"code": code, "workerId": "w1"}))["data"]
        await eventually(lambda: there.access.tokens.owner(enrolled["providerId"]))
        async with await there.client(token=token) as viewer:
            assert (await operator.ask("token:revoke", {"tokenId": token_id}))["type"] == "ok"
            async with asyncio.timeout(WITHIN):
                assert await viewer.closed() == (4003, "the token was revoked")
        assert await refused(there, token) == 401
        async with await there.client(token=enrolled["token"]) as agent:
            assert (await agent.register("w1"))["data"]["providerId"] == enrolled["providerId"]


async def test_two_tokens_register_one_provider_at_two_hubs() -> None:
    """At once: one of them has it, and the other is told whose it is."""
    store = SharedStore()
    async with (
        running(engine=SharedEngine(store, "a")) as here,
        running(engine=SharedEngine(store, "b")) as there,
    ):
        hubs = (here, there)
        agents = [await hub.agent() for hub in hubs]
        replies = await asyncio.gather(*(agent.register("w1") for agent in agents))
        assert sorted(reply["type"] for reply in replies) == ["error", "registered"]
        for agent in agents:
            await agent.socket.close()


@pytest.mark.parametrize(
    "request_type", ["token:issue", "token:list", "token:revoke", "audit:list", "enroll:new"]
)
async def test_an_operator_alone(start: Start, request_type: str) -> None:
    """A viewer and a provider are refused, whatever they ask."""
    data = {"role": "viewer", "tokenId": "000000000000"}
    async with start() as hub:
        for role in (Role.VIEWER, Role.PROVIDER):
            async with await hub.client(role) as client:
                assert (await client.ask(request_type, data))["data"]["code"] == "forbidden"
