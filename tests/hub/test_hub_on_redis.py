"""A hub on a real Redis: what its clients see while that is killed or frozen, and after."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from qubix_tui.hub.engine.redis import RedisEngine
from qubix_tui.protocol.tokens import Role
from tests.hub.wire import Running, eventually, running
from tests.redis_server import RedisServer, redis_server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    with redis_server() as server:
        yield server


async def readiness(hub: Running) -> int:
    """What ``/readyz`` answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.hub.port)
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    return status


async def test_clients_stay_while_redis_is_killed_and_all_goes_on_after(server: RedisServer) -> None:
    """``/readyz`` says 503 unasked; live values flow; what can't be kept is refused."""
    async with (
        running(engine=RedisEngine(server.address)) as hub,
        await hub.client() as watcher,
        await hub.agent() as agent,
        await hub.agent() as newcomer,
    ):
        provider_id = (await agent.register("w"))["data"]["providerId"]
        await watcher.subscribe("marketplace", f"provider:{provider_id}")
        assert await readiness(hub) == 200
        server.kill()
        await eventually(lambda: not hub.hub.ready)
        assert await readiness(hub) == 503
        assert (await watcher.ask("hub:stats"))["data"]["storeUp"] is False
        refused = await newcomer.register("n")
        assert refused["data"]["code"] == "unavailable"
        assert "Redis at unix://" in refused["data"]["message"]
        await agent.send("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": 12.5}})
        sample = await watcher.until("GPU_METRICS_UPDATE")
        assert sample["data"]["metrics"]["cpuPercent"] == 12.5
        server.start()
        await eventually(lambda: hub.hub.ready)
        assert (await watcher.ask("hub:stats"))["data"]["storeUp"] is True
        assert (await newcomer.register("n"))["type"] == "registered"
        assert "PROVIDER_REGISTERED" in {message["type"] for message in await watcher.heard()}


async def test_a_registration_that_redis_was_frozen_over_is_answered_when_it_goes_on(
    server: RedisServer,
) -> None:
    """Once, and as what it came to; meanwhile others are served what needs no store, and refused the rest."""
    async with (
        running(engine=RedisEngine(server.address)) as hub,
        await hub.client() as watcher,
        await hub.agent() as agent,
        await hub.agent() as other,
    ):
        await watcher.subscribe("marketplace")
        server.send(signal.SIGSTOP)
        await agent.send("provider:register", {"workerId": "w", "instance": "i"}, id="r")
        await eventually(lambda: not hub.hub.ready)
        assert (await other.register("o"))["data"]["code"] == "unavailable"
        assert not (await watcher.until("MARKETPLACE_UPDATE"))["data"]["up"]
        assert await watcher.heard() == []
        server.send(signal.SIGCONT)
        assert (await agent.until("registered", "error"))["type"] == "registered"
        await eventually(lambda: hub.hub.ready)
        heard = [message["type"] for message in await watcher.heard()]
        assert heard.count("PROVIDER_REGISTERED") == 1


async def test_tokens_and_codes_are_those_of_all_hubs_on_a_redis(server: RedisServer) -> None:
    """A token works at all until it is revoked at any; of two that use a code at once one gets its token."""
    async with (
        running(engine=RedisEngine(server.address)) as here,
        running(engine=RedisEngine(server.address)) as there,
        await here.client(Role.OPERATOR) as operator,
        await here.client() as first,
        await there.client() as second,
    ):
        issued = (await operator.ask("token:issue", {"role": "viewer"}))["data"]
        code = (await operator.ask("enroll:new", {"name": "rig"}))["data"]["code"]
        known = there.access.tokens
        await eventually(lambda: known.get(issued["tokenId"]))
        async with await there.client(token=issued["token"]) as viewer:
            await operator.ask("token:revoke", {"tokenId": issued["tokenId"]})
            assert await viewer.closed() == (4003, "the token was revoked")
        answers = await asyncio.gather(
            first.ask("enroll", {"code": code, "workerId": "w1"}),
            second.ask("enroll", {"code": code, "workerId": "w1"}),
        )
        refused, enrolled = sorted(answers, key=lambda answer: answer["type"] == "enrolled")
        assert (refused["type"], enrolled["type"]) == ("error", "enrolled")
        assert "used already" in refused["data"]["message"]
        await eventually(lambda: known.owner(enrolled["data"]["providerId"]))
        async with await there.client(token=enrolled["data"]["token"]) as agent:
            assert (await agent.register("w1"))["data"]["providerId"] == enrolled["data"]["providerId"]
