"""Who gets in, and what plain HTTP on the same port answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from qubix_tui.hub.config import HubConfig
from qubix_tui.protocol.tokens import Role, new_token
from tests.hub.stalled import Stalled
from tests.hub.wire import Running, running


@pytest.fixture
async def hub() -> AsyncIterator[Running]:
    """A hub that listens."""
    async with running() as made:
        yield made


async def http(hub: Running, request: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send a plain HTTP request line, and give status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.hub.port)
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"Host": "localhost", **headers}.items()]
    writer.write("\r\n".join([f"{request} HTTP/1.1", *lines, "", ""]).encode())
    async with asyncio.timeout(10):
        raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), {k.lower(): v for k, _, v in (f.partition(": ") for f in fields)}, body


async def refused(hub: Running, **options: Any) -> tuple[int, str]:
    """Try to connect, and give the status and the sentence that it was refused with."""
    with pytest.raises(InvalidStatus) as caught:
        await hub.client(**options)
    response = caught.value.response
    assert "server" not in response.headers
    return response.status_code, json.loads(response.body)["error"]


async def test_a_bad_token_is_refused_before_the_handshake(hub: Running) -> None:
    """401, so that nobody dials in a loop; after ten from one address 429."""
    statuses = [await refused(hub, token=new_token(Role.VIEWER)) for _ in range(11)]
    assert [status for status, _ in statuses] == [401] * 10 + [429]
    assert "does not know the token" in statuses[0][1]
    assert hub.hub.telemetry.auth_failures == 11
    async with await hub.client(Role.VIEWER) as client:
        assert (await client.ask("ping"))["type"] == "pong"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.PROVIDER])
async def test_a_bearer_token_gives_its_role(hub: Running, role: Role) -> None:
    """From the first message on."""
    async with await hub.client(role) as client:
        reply = await client.ask("auth", {"token": hub.tokens[role]})
        assert reply["data"]["role"] == role.value


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost.evil.example"])
async def test_foreign_pages_are_refused(hub: Running, origin: str) -> None:
    """403 with a sentence; loopback pages come in."""
    status, sentence = await refused(hub, origin=origin)
    assert status == 403
    assert origin in sentence
    async with await hub.client(origin="http://127.0.0.1:8080"):
        pass


async def test_a_foreign_host_is_refused(hub: Running) -> None:
    """421: a page whose name was re-pointed at this hub reads nothing, by WebSocket or by HTTP."""
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec_WebSocket_Version": "13",
    }
    status, _, body = await http(hub, "GET /", Host="rebound.example", **handshake)
    assert status == 421
    assert b"rebound.example" in body
    assert (await http(hub, "GET /api/providers", Host="rebound.example"))[0] == 421


async def test_other_paths_are_no_websockets(hub: Running) -> None:
    """404 with the one that is."""
    from websockets.asyncio.client import connect

    with pytest.raises(InvalidStatus) as caught:
        await connect(f"{hub.hub.url}/ws")
    assert caught.value.response.status_code == 404
    async with connect(f"{hub.hub.url}/?x=1"):
        pass


async def test_a_forwarded_request_is_nobodys(hub: Running) -> None:
    """Behind a proxy the loopback peer is not the client."""
    async with await hub.client(headers={"X-Forwarded-For": "127.0.0.1"}) as client:
        assert (await client.ask("subscribe:marketplace"))["data"]["code"] == "unauthenticated"


async def test_stats_have_the_guides_shape(hub: Running) -> None:
    """On the same port, by GET."""
    async with await hub.client() as one, await hub.client() as two:
        await one.subscribe("marketplace", "provider:abc123")
        await two.subscribe("marketplace")
        status, headers, body = await http(hub, "GET /api/websocket/stats")
        assert (status, headers["connection"]) == (200, "close")
        assert "server" not in headers
        assert json.loads(body) == {
            "success": True,
            "stats": {
                "totalClients": 2,
                "totalSubscriptions": 2,
                "subscriptionDetails": [
                    {"subscriptionId": "marketplace", "subscriberCount": 2},
                    {"subscriptionId": "provider:abc123", "subscriberCount": 1},
                ],
            },
        }


async def test_providers_are_shown_with_their_last_sample(hub: Running) -> None:
    """As the registry has them now."""
    async with await hub.agent() as agent:
        provider_id = (await agent.register())["data"]["providerId"]
        await agent.send("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": 4.5}})
        await agent.heard()
        _, _, body = await http(hub, "GET /api/providers")
        assert provider_id.encode() in body
        status, _, body = await http(hub, f"GET /api/providers/{provider_id}")
        assert status == 200
        assert b"4.5" in body
        assert (await http(hub, "GET /api/providers/nobody"))[0] == 404


async def test_http_needs_a_viewer(hub: Running) -> None:
    """A bad token is 401 here too; health answers anyone."""
    assert (await http(hub, "GET /api/providers", Authorization="Bearer no"))[0] == 401
    async with running(HubConfig(port=0, anonymous=False)) as closed:
        assert (await http(closed, "GET /api/providers"))[0] == 401
        token = closed.tokens[Role.VIEWER]
        assert (await http(closed, "GET /api/providers", Authorization=f"Bearer {token}"))[0] == 200
        assert (await http(closed, "GET /healthz"))[0] == 200
        assert (await http(closed, "GET /readyz"))[0] == 200


async def test_head_has_no_body(hub: Running) -> None:
    """Health checks often use it."""
    status, _, body = await http(hub, "HEAD /healthz")
    assert (status, body) == (200, b"")


async def test_strangers_of_one_address_are_limited() -> None:
    """Those with a token are not."""
    from qubix_tui.hub.limits import Limits

    config = HubConfig(port=0, anonymous=False, limits=Limits(strangers_per_address=2))
    async with running(config) as hub:
        clients = [await hub.client(), await hub.client()]
        assert (await refused(hub))[0] == 429
        clients.append(await hub.client(Role.VIEWER))
        await clients[0].ask("auth", {"token": hub.tokens[Role.VIEWER]})
        clients.append(await hub.client())
        for client in clients:
            await client.socket.close()


async def test_a_hasty_clients_messages_wait_for_the_greeting(hub: Running) -> None:
    """Sent in one go with the handshake, they are answered after `connected`."""
    hasty = await Stalled.subscribed(hub.hub, b'{"type":"ping","id":1}', hasty=True)
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(10):
        while b'"pong"' not in data:
            data += await loop.sock_recv(hasty.socket, 65_536)
    hasty.socket.close()
    assert 0 < data.index(b"101 Switching") < data.index(b'"connected"') < data.index(b'"pong"')
