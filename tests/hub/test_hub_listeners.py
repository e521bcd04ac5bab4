"""Where a hub listens: TCP, TLS, a Unix socket."""

import asyncio
import contextlib
import json
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.client import connect, unix_connect

from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.server import Hub
from qubix_tui.hub.session import Session
from qubix_tui.protocol.records import Metrics
from tests.hub.wire import Client, Running, eventually, running


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who has signed the hub's certificates."""
    return trustme.CA()


def write_pair(directory: Path, authority: trustme.CA, name: str = "localhost") -> tuple[Path, Path]:
    """Write a certificate for the hub, and its key."""
    issued = authority.issue_cert(name, "127.0.0.1")
    certificate, key = directory / "tls.pem", directory / "tls.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """What a client needs that trusts this authority alone."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@contextlib.asynccontextmanager
async def greeted(url: str, context: ssl.SSLContext) -> AsyncIterator[Client]:
    """A client over TLS that has read ``connected``."""
    async with connect(url, ssl=context, compression=None, ping_interval=None, max_queue=None) as made:
        client = Client(made)
        assert (await client.recv())["type"] == "connected"
        yield client


async def test_tls_is_spoken_and_said(tmp_path: Path, authority: trustme.CA) -> None:
    """Events come over wss://; who speaks plainly to that port gets nothing."""
    certificate, key = write_pair(tmp_path, authority)
    async with running(HubConfig(port=0, tls_cert=certificate, tls_key=key)) as hub:
        assert hub.hub.url == f"wss://127.0.0.1:{hub.hub.port}"
        async with greeted(hub.hub.url, trusting(authority)) as client:
            await client.subscribe("provider:a")
            for seq in range(300):
                hub.hub.broadcast_gpu_metrics("a", Metrics(seq=seq, gpu_note="x" * 200))
            seen = [message["data"]["metrics"]["seq"] for message in await client.heard()]
            assert seen == sorted(set(seen))
            assert seen[-1] == 299
        with pytest.raises((OSError, EOFError, Exception), match=r"(?i)did not receive|reset|closed"):
            await connect(hub.hub.url.replace("wss", "ws"), open_timeout=5)


async def test_a_tls_client_that_does_not_read_is_cut_and_costs_little(
    tmp_path: Path, authority: trustme.CA
) -> None:
    """The bound on what waits for a reader holds beneath TLS too, and others hear everything."""
    certificate, key = write_pair(tmp_path, authority)
    config = HubConfig(port=0, tls_cert=certificate, tls_key=key)
    async with running(config) as hub, greeted(hub.hub.url, trusting(authority)) as client:
        (stalled,) = hub.hub.caretaker.clients
        assert isinstance(stalled, Session)
        async with greeted(hub.hub.url, trusting(authority)) as quick:
            await client.subscribe("job:*")
            await quick.subscribe("job:*")
            client.socket.transport.pause_reading()
            sent = heard = 0
            while stalled in hub.hub.caretaker.clients:
                assert sent < 50_000
                hub.hub.broadcast_job_progress(f"j{sent}", {"progress": 1, "message": "x" * 500})
                sent += 1
                if sent % 20 == 0:
                    heard += len(await quick.heard())
                assert stalled.outbox.waiting_bytes <= 256 * 1024
                assert stalled.transport.get_write_buffer_size() < 4 * 1024 * 1024
            heard += len(await quick.heard())
            assert heard == sent
            assert hub.hub.telemetry.slow_client_aborts == 1


async def test_new_files_are_for_new_connections(tmp_path: Path, authority: trustme.CA) -> None:
    """After a reload; bad ones are refused in a sentence and those from before stay."""
    certificate, key = write_pair(tmp_path, authority)
    config = HubConfig(port=0, tls_cert=certificate, tls_key=key)
    async with running(config) as hub, greeted(hub.hub.url, trusting(authority)) as old:
        other = trustme.CA()
        write_pair(tmp_path, other)
        hub.hub.reload_tls()
        async with greeted(hub.hub.url, trusting(other)):
            pass
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(hub.hub.url, ssl=trusting(authority))
        key.write_text("nonsense")
        with pytest.raises(ValueError, match="are no certificate"):
            hub.hub.reload_tls()
        async with greeted(hub.hub.url, trusting(other)):
            pass
        assert await old.heard() == []


async def test_tls_files_that_can_not_be_used_are_named(tmp_path: Path, authority: trustme.CA) -> None:
    """One sentence each: missing, not PEM, not a pair, locked by a password."""
    certificate, key = write_pair(tmp_path, authority)
    stranger = tmp_path / "other"
    stranger.mkdir()
    _, other_key = write_pair(stranger, authority)
    locked = tmp_path / "locked.key"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")
    for tls_cert, tls_key, said in (
        (tmp_path / "none.pem", key, r"can't read the TLS file .*none\.pem: No such file"),
        (certificate, tmp_path / "none.key", r"can't read the TLS file .*none\.key: No such file"),
        (key, key, "are no certificate"),
        (certificate, other_key, "are no certificate"),
        (certificate, locked, "are no certificate|password"),
    ):
        with pytest.raises(ValueError, match=said):
            await Hub(HubConfig(port=0, tls_cert=tls_cert, tls_key=tls_key)).start()
    with pytest.raises(ValueError, match="without TLS"):
        Hub(HubConfig(port=0)).reload_tls()


async def test_beyond_loopback_tls_is_asked_for(tmp_path: Path, authority: trustme.CA) -> None:
    """A hub that others can reach speaks TLS, or was told not to."""
    with pytest.raises(ValueError, match="--tls-cert"):
        Hub(HubConfig(host="0.0.0.0", port=0))
    certificate, key = write_pair(tmp_path, authority)
    async with running(HubConfig(host="0.0.0.0", port=0, tls_cert=certificate, tls_key=key)):
        pass


@contextlib.asynccontextmanager
async def over_unix(path: Path) -> AsyncIterator[Client]:
    """A client over a Unix socket that has read ``connected``."""
    async with unix_connect(str(path), "ws://localhost/", compression=None, ping_interval=None) as made:
        client = Client(made)
        assert (await client.recv())["type"] == "connected"
        yield client


async def test_a_unix_socket_beside_the_port(tmp_path: Path) -> None:
    """Its clients are this machine's; the file is its owner's alone, and is gone with the hub."""
    path = tmp_path / "hub.sock"
    async with running(HubConfig(port=0, unix_socket=path)) as hub:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with over_unix(path) as client, await hub.client() as beside:
            for one in (client, beside):
                await one.subscribe("provider:a")
            hub.hub.broadcast_gpu_metrics("a", Metrics(seq=1))
            assert [m["data"]["metrics"]["seq"] for m in await client.heard()] == [1]
            assert [m["data"]["metrics"]["seq"] for m in await beside.heard()] == [1]
    assert not path.exists()


async def test_a_unix_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    """By a hub that was killed, say; what somebody listens on, or is no socket, is left alone."""
    path = tmp_path / "hub.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with running(HubConfig(port=0, unix_socket=path)):
        with pytest.raises(ValueError, match="another program listens on"):
            await Hub(HubConfig(port=0, unix_socket=path)).start()
        async with over_unix(path) as client:
            assert await client.heard() == []
    path.write_text("precious")
    with pytest.raises(ValueError, match="is there and is no socket"):
        await Hub(HubConfig(port=0, unix_socket=path)).start()
    assert path.read_text() == "precious"
    with pytest.raises(ValueError, match="can't listen on the Unix socket"):
        await Hub(HubConfig(port=0, unix_socket=tmp_path / "none" / "hub.sock")).start()


async def ready_status(hub: Running) -> int:
    """What /readyz answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.hub.port)
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert json.loads(body)["status"] == ("ready" if status == 200 else "not ready")
    return status


async def test_a_draining_hub_is_not_ready_refuses_and_tells_when_to_come_back() -> None:
    """It answers /readyz to the end; clients get 1012 and their seconds; who does not leave is cut."""
    async with running() as hub:
        leaving = [await hub.client() for _ in range(3)]
        stays = await hub.client()
        stays.socket.transport.pause_reading()
        assert await ready_status(hub) == 200
        started = asyncio.get_running_loop().time()
        draining = asyncio.create_task(hub.hub.drain(1.0))
        await eventually(lambda: not hub.hub.ready)
        assert await ready_status(hub) == 503
        with pytest.raises(Exception, match="503"):
            await hub.client()
        for client in leaving:
            assert await client.closed() == (1012, "1")
        await draining
        assert asyncio.get_running_loop().time() - started < 3
        await hub.hub.stop(0)
        stays.socket.transport.abort()


async def test_clients_are_asked_back_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch has a delay of its own."""
    monkeypatch.setattr("qubix_tui.hub.server.RESTART_BATCH", 2)
    async with running() as hub:
        clients = [await hub.client() for _ in range(5)]
        ends = [asyncio.create_task(client.closed()) for client in clients]
        await hub.hub.stop(5)
        seconds = sorted(str(reason) for _, reason in await asyncio.gather(*ends))
        assert seconds == ["1", "1", "2", "2", "3"]
