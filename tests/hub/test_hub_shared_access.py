"""Who shows a hub what another hub of the same store has handed out a moment ago."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from qubix_tui.hub.engine.base import Replay
from qubix_tui.protocol.tokens import Role, new_token
from tests.hub.shared_store import SharedEngine, SharedStore
from tests.hub.wire import Client, Running, eventually, running


class Hubs:
    """A hub, and another one that hears of what others have written only when it asks what there is."""

    def __init__(self, near: Running, late: Running, engine: SharedEngine, operator: Client) -> None:
        self.near = near
        self.late = late
        self.engine = engine
        self.operator = operator

    async def issue(self) -> str:
        """A token of the first hub, of which the second one has not heard."""
        self.engine.held = True
        token: str = (await self.operator.ask("token:issue", {"role": "operator"}))["data"]["token"]
        return token


@pytest.fixture
async def hubs() -> AsyncIterator[Hubs]:
    """Two hubs on one store."""
    store = SharedStore()
    late = SharedEngine(store, "b")
    late.held = late.hears_when_asked = True
    async with contextlib.AsyncExitStack() as stack:
        near = await stack.enter_async_context(running(engine=SharedEngine(store, "a")))
        far = await stack.enter_async_context(running(engine=late))
        yield Hubs(near, far, late, await stack.enter_async_context(await near.client(Role.OPERATOR)))


async def test_a_token_opens_the_next_hub_at_once(hubs: Hubs) -> None:
    """However late that hears of it: an agent that is refused its token does not come again by itself."""
    async with await hubs.late.client(token=await hubs.issue()) as client:
        assert (await client.ask("token:list"))["type"] == "tokens"
    async with await hubs.late.client() as client:
        reply = await client.ask("auth", {"token": await hubs.issue()})
        assert (reply["type"], reply["data"]["role"]) == ("authenticated", "operator")


async def test_a_code_is_good_at_the_next_hub_at_once(hubs: Hubs) -> None:
    """Whoever trades it there gets its token."""
    code = (await hubs.operator.ask("enroll:new", {"name": "rig"}))["data"]["code"]
    async with await hubs.late.client() as client:
        reply = await client.ask("enroll", {"code": code, "workerId": "w1"})
        assert reply["type"] == "enrolled", reply


async def test_a_token_that_nobody_handed_out_is_refused(hubs: Hubs) -> None:
    """And counted as before."""
    token = new_token(Role.OPERATOR)
    with pytest.raises(InvalidStatus) as refused:
        await hubs.late.client(token=token)
    assert refused.value.response.status_code == 401
    async with await hubs.late.client() as client:
        assert (await client.ask("auth", {"token": token}))["data"]["code"] == "unauthenticated"
    assert hubs.late.hub.telemetry.auth_failures == 2


async def test_a_token_can_not_be_judged_while_the_store_is_away(hubs: Hubs) -> None:
    """It may be good: its holder is asked to come again. Tokens that are known open the hub as ever."""
    token = await hubs.issue()
    hubs.engine.away = True
    with pytest.raises(InvalidStatus) as refused:
        await hubs.late.client(token=token)
    assert refused.value.response.status_code == 503
    async with await hubs.late.client(Role.VIEWER) as client:
        assert (await client.ask("auth", {"token": token}))["data"]["code"] == "unavailable"
    hubs.engine.away = False
    async with await hubs.late.client(token=token) as client:
        assert (await client.ask("token:list"))["type"] == "tokens"


async def test_who_goes_while_its_token_is_judged_leaves_nothing(
    hubs: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection is counted, or looked after, that has ended in its handshake."""
    token, replay = await hubs.issue(), hubs.engine.replay
    asked, goes_on, judged = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slowly(*args: Any, **options: Any) -> Replay:
        asked.set()
        await goes_on.wait()
        judged.set()
        return await replay(*args, **options)

    monkeypatch.setattr(hubs.engine, "replay", slowly)
    hub = hubs.late.hub
    connecting = asyncio.create_task(hubs.late.client(token=token))
    await asked.wait()
    connecting.cancel()
    await eventually(lambda: hub.services.admission.connections == 0)
    goes_on.set()
    await judged.wait()
    async with await hubs.late.client(token=token):
        assert len(hub.caretaker.clients) == hub.services.admission.connections == 1
    await eventually(lambda: len(hub.caretaker.clients) == hub.services.admission.connections == 0)
