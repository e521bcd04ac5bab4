"""Silent clients, strangers, readers that do not read, and the end of the hub."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from qubix_tui.hub.caretaker import AUTH_SECONDS, UNREAD_SECONDS
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.server import Hub
from qubix_tui.hub.session import Session
from qubix_tui.protocol.records import Metrics
from qubix_tui.protocol.tokens import Role
from tests.hub.manual_clock import ManualClock
from tests.hub.stalled import Stalled, client_frame
from tests.hub.wire import SECONDS, Running, eventually, running


@pytest.fixture
def clock() -> ManualClock:
    """Time, which stands still."""
    return ManualClock()


@pytest.fixture
async def hub(clock: ManualClock) -> AsyncIterator[Running]:
    """A hub that listens."""
    async with running(clock=clock) as made:
        yield made


def sessions(hub: Running) -> list[Session]:
    """The open connections, as the hub has them."""
    return [client for client in hub.hub.caretaker.clients if isinstance(client, Session)]


# Silence


async def test_who_was_silent_for_a_minute_is_closed_and_nobody_else(
    hub: Running, clock: ManualClock
) -> None:
    """The hub looks every 30 s; any message is a sign of life."""
    silent, pinging, asking = await hub.client(), await hub.client(), await hub.client()
    for _ in range(2):
        clock.advance(30)
        await pinging.send("ping")
        await asking.ask("unsubscribe", subscriptionId="job:x")
        await pinging.until("pong")
        await hub.hub.caretaker.sweep()
    assert await silent.closed() == (4008, "silent for 60 s")
    await eventually(lambda: hub.hub.stats().clients == 2)
    for client in (pinging, asking):
        assert await client.heard() == []
        await client.socket.close()


async def test_it_looks_every_thirty_seconds(hub: Running, clock: ManualClock) -> None:
    """Not more often: one silent for 61 s may have to be looked at twice."""
    async with await hub.client() as client:
        clock.advance(31)
        await hub.hub.caretaker.sweep()
        await client.heard()
        clock.advance(29)
        await hub.hub.caretaker.sweep()
        assert await client.heard() == []


async def test_pings_of_the_websocket_layer_are_no_messages(hub: Running, clock: ManualClock) -> None:
    """The heartbeat is the contract's own `ping`."""
    client = await hub.client()
    for _ in range(2):
        clock.advance(30)
        await (await client.socket.ping())
        await hub.hub.caretaker.sweep()
    assert (await client.closed())[0] == 4008


async def test_a_message_that_never_ends_is_silence(
    hub: Running, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps no connection open."""
    # In mid-message the client's own close frame can't be told from the rest of the message.
    monkeypatch.setattr("qubix_tui.hub.session.CLOSING_SECONDS", 0.1)
    monkeypatch.setattr("qubix_tui.hub.framed_connection.CLOSING_SECONDS", 0.1)
    client = await hub.client()
    transport = client.socket.transport
    transport.write(b"\x81\xfe\x01\x00\x00\x00\x00\x00")
    for _ in range(3):
        clock.advance(30)
        transport.write(b"x")
        await hub.hub.caretaker.sweep()
    assert (await client.closed())[0] == 4008


async def test_who_does_not_say_who_it_is_has_ten_seconds(clock: ManualClock) -> None:
    """Where nobody may look without a token; one that shows its token in time stays."""
    async with running(HubConfig(port=0, anonymous=False), clock=clock) as hub:
        stranger, late = await hub.client(), await hub.client()
        assert (await stranger.ask("subscribe:marketplace"))["data"]["code"] == "unauthenticated"
        assert (await late.ask("auth", {"token": hub.tokens[Role.VIEWER]}))["type"] == "authenticated"
        clock.advance(AUTH_SECONDS)
        assert await stranger.closed() == (4001, "not authenticated within 10 s")
        await hub.hub.caretaker.sweep()
        assert await late.heard() == []
        await late.socket.close()


# Readers that do not read


MARKETPLACE = b'{"type":"subscribe:marketplace"}'
PROVIDER = b'{"type":"subscribe:provider","subscriptionId":"a"}'
EVENT = {"kind": "note", "text": "x" * 4_000}


async def test_a_reader_that_stalls_is_cut_and_the_others_go_on(clock: ManualClock) -> None:
    """Past its bound; every other reader gets every event; the hub's memory for it stays within the bound."""
    async with running(HubConfig(port=0, outbox_bytes=64 * 1024), clock=clock) as hub:
        stalled = await Stalled.subscribed(hub.hub, MARKETPLACE)
        async with await hub.client() as other:
            await other.subscribe("marketplace")
            await eventually(lambda: dict(hub.hub.stats().subscriptions) == {"marketplace": 2})
            sent = most = 0
            while hub.hub.telemetry.slow_client_aborts == 0:
                for _ in range(50):
                    await hub.hub.broadcast_marketplace_update(EVENT)
                sent += 50
                assert len(await other.heard()) == 50
                for session in sessions(hub):
                    unread = session.transport.get_write_buffer_size() + session.outbox.waiting_bytes
                    most = max(most, unread)
                assert sent < 20_000
            assert most <= 64 * 1024 + 2 * 64 * 1024 + 64 * 1024
            await hub.hub.broadcast_marketplace_update(EVENT)
            assert len(await other.heard()) == 1
            await eventually(lambda: hub.hub.stats().clients == 1)
        stalled.socket.close()


async def test_a_reader_that_was_too_slow_can_read_why(clock: ManualClock) -> None:
    """The close frame 4013 is behind what it did not read, and it has a second to get there."""
    async with running(HubConfig(port=0, outbox_bytes=16 * 1024), clock=clock) as hub:
        stalled = await Stalled.subscribed(hub.hub, MARKETPLACE)
        await eventually(lambda: hub.hub.stats().subscriptions)
        while hub.hub.telemetry.slow_client_aborts == 0:
            await hub.hub.broadcast_marketplace_update(EVENT)
        data = await stalled.read_to_the_end()
        assert b"\x0f\xad" + b"too slow" in data
        stalled.socket.close()


async def test_a_slow_reader_of_samples_gets_the_newest_and_stays(hub: Running) -> None:
    """Unread samples are replaced: they never fill its outbox, however many there are."""
    stalled = await Stalled.subscribed(hub.hub, PROVIDER)
    await eventually(lambda: hub.hub.stats().subscriptions)
    (session,) = sessions(hub)
    seq = 0
    while seq < 3_000 or not session.outbox.waiting_bytes:
        seq += 1
        hub.hub.broadcast_gpu_metrics("a", Metrics(seq=seq, gpu_note="x" * 1_000))
        if seq % 50 == 0:
            await asyncio.sleep(0)
    await eventually(lambda: session.outbox.waiting_bytes)
    assert session.outbox.waiting_bytes < 3_000
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(SECONDS):
        while b'"seq":%d,' % seq not in data:
            data += await loop.sock_recv(stalled.socket, 1 << 20)
    assert data.count(b"GPU_METRICS_UPDATE") < seq
    assert hub.hub.telemetry.slow_client_aborts == 0
    stalled.socket.close()


async def test_who_takes_nothing_for_twenty_seconds_is_cut(hub: Running, clock: ManualClock) -> None:
    """Although what waits for it is within the bound."""
    stalled = await Stalled.subscribed(hub.hub, PROVIDER)
    await eventually(lambda: hub.hub.stats().subscriptions)
    (session,) = sessions(hub)
    while not session.paused:
        hub.hub.broadcast_gpu_metrics("a", Metrics(gpu_note="x" * 1_000))
        hub.hub.services.fanout.flush()
    clock.advance(UNREAD_SECONDS - 1)
    await hub.hub.caretaker.sweep()
    assert hub.hub.telemetry.slow_client_aborts == 0
    clock.advance(1)
    await hub.hub.caretaker.sweep()
    assert hub.hub.telemetry.slow_client_aborts == 1
    await eventually(lambda: not hub.hub.caretaker.clients)
    stalled.socket.close()


async def test_a_flood_of_pings_piles_up_no_pongs(hub: Running) -> None:
    """The library answers each without looking at its buffer; pings are counted, and who goes on is cut."""
    stalled = await Stalled.subscribed(hub.hub)
    await eventually(lambda: hub.hub.caretaker.clients)
    (session,) = sessions(hub)
    pings = client_frame(0x89, b"x" * 125) * 1_000
    loop = asyncio.get_running_loop()
    most = sent = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            while True:
                await loop.sock_sendall(stalled.socket, pings)
                sent += len(pings)
                most = max(most, session.transport.get_write_buffer_size())
    stalled.socket.close()
    assert sent > 131 * 5_000
    assert session.protocol.close_sent is not None
    assert session.protocol.close_sent.code == 4029
    # High-water mark, and the answers to one turn.
    assert most < 2 * 64 * 1024
    await eventually(lambda: not hub.hub.caretaker.clients)


async def test_a_client_that_does_not_read_its_replies_is_read_no_more(hub: Running) -> None:
    """Requests can't be used to fill the hub's memory with answers."""
    stalled = await Stalled.subscribed(hub.hub)
    await eventually(lambda: hub.hub.caretaker.clients)
    (session,) = sessions(hub)
    ping = client_frame(0x81, b'{"type":"ping","data":"%b"}' % (b"x" * 10_000))
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError, ConnectionError):
        for _ in range(3_000):
            async with asyncio.timeout(1):
                await loop.sock_sendall(stalled.socket, ping)
    assert session.reading_paused or not session.is_open
    assert session.transport.get_write_buffer_size() + session.outbox.waiting_bytes < 1024 * 1024
    stalled.socket.close()
    await eventually(lambda: not hub.hub.caretaker.clients)


async def test_a_client_that_never_closes_its_side_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """After it asked for the end, and after it said that it sends no more."""
    monkeypatch.setattr("qubix_tui.hub.session.CLOSING_SECONDS", 0.1)
    monkeypatch.setattr("qubix_tui.hub.framed_connection.CLOSING_SECONDS", 0.1)
    async with running() as hub:
        loop = asyncio.get_running_loop()
        asking, half_closed = await Stalled.subscribed(hub.hub), await Stalled.subscribed(hub.hub)
        await eventually(lambda: len(hub.hub.caretaker.clients) == 2)
        await loop.sock_sendall(asking.socket, client_frame(0x88, b"\x03\xe8"))
        half_closed.socket.shutdown(socket.SHUT_WR)
        await eventually(lambda: not hub.hub.caretaker.clients)
        asking.socket.close()
        half_closed.socket.close()


# The end


async def test_stop_tells_every_client_when_to_come_back() -> None:
    """1012, and the seconds to wait as the reason."""
    async with running() as hub:
        clients = [await hub.client() for _ in range(3)]
        waits = [asyncio.create_task(client.closed()) for client in clients]
        await asyncio.sleep(0)
        await hub.hub.stop()
        for code, reason in await asyncio.gather(*waits):
            assert code == 1012
            assert float(reason or "") >= 1
        with pytest.raises(OSError, match=r"refused|failed"):
            await connect(f"ws://127.0.0.1:{clients[0].socket.remote_address[1]}")


async def test_what_was_published_before_the_end_arrives(hub: Running) -> None:
    """Events that wait for a flush come before the close frame."""
    client = await hub.client()
    await client.subscribe("provider:a")
    hub.hub.broadcast_gpu_metrics("a", Metrics(seq=1))
    hub.hub.broadcast_gpu_metrics("a", Metrics(seq=2))
    reading = asyncio.create_task(_all(client.socket))
    await hub.hub.stop()
    assert len(await reading) == 2


async def _all(connection: ClientConnection) -> list[str]:
    messages = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            messages.append(str(await connection.recv()))
    return messages


async def test_a_client_that_does_not_read_cant_hold_up_the_end(clock: ManualClock) -> None:
    """Nor one in mid-handshake: at the deadline they are cut, and no task is left."""
    async with running(HubConfig(port=0, outbox_bytes=8 * 1024 * 1024), clock=clock) as hub:
        stalled = await Stalled.subscribed(hub.hub, MARKETPLACE)
        silent = socket.create_connection(("127.0.0.1", hub.hub.port))
        await eventually(lambda: hub.hub.stats().subscriptions)
        (session,) = sessions(hub)
        while not session.paused:
            await hub.hub.broadcast_marketplace_update(EVENT)
        loop = asyncio.get_running_loop()
        started = loop.time()
        await hub.hub.stop(0.3)
        assert loop.time() - started < 2
        assert not hub.hub.ready
        others = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        assert others == set()
        stalled.socket.close()
        silent.close()


async def test_stop_is_idempotent_and_needs_no_start() -> None:
    """Whoever cleans up need not know how far it got."""
    hub = Hub(HubConfig(port=0))
    await hub.stop()
    await hub.start()
    await hub.stop()
    await hub.stop()


async def test_a_port_that_is_taken_is_said_and_leaves_nothing_behind() -> None:
    """`start` raises OSError with its errno."""
    async with running() as hub:
        second = Hub(HubConfig(port=hub.hub.port))
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        assert not second.ready
        await second.stop()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "hub.example.org", ""])
async def test_beyond_loopback_needs_to_be_told(host: str) -> None:
    """Without TLS, a hub that others could reach refuses to start, with a sentence that names the remedy."""
    with pytest.raises(ValueError, match="--insecure"):
        await Hub(HubConfig(host=host, port=0)).start()


async def test_it_listens_where_it_is_told() -> None:
    """IPv6 addresses are bracketed in the URL; any address when told --insecure."""
    for host, expected in (("::1", "ws://[::1]:"), ("0.0.0.0", "ws://0.0.0.0:")):
        hub = Hub(HubConfig(host=host, port=0, insecure=True))
        await hub.start()
        assert hub.url.startswith(expected)
        await hub.stop()


async def test_a_sweep_that_fails_is_logged_and_the_next_one_comes(
    hub: Running, clock: ManualClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in one rule does not end the looking after; nor is one about providers one about jobs."""
    jobs = 0

    async def sweep_jobs() -> None:
        nonlocal jobs
        jobs += 1

    monkeypatch.setattr(hub.hub.services.jobs, "sweep", sweep_jobs)
    monkeypatch.setattr("qubix_tui.hub.caretaker.SWEEP_SECONDS", 0.01)
    providers = hub.hub.services.providers
    calls = 0

    async def failing() -> None:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError

    monkeypatch.setattr(providers, "sweep", failing)
    with caplog.at_level(logging.ERROR):
        await eventually(lambda: calls >= 2)
        assert jobs >= 1
    assert "a sweep failed" in caplog.text


async def test_a_late_sweep_counts_nobodys_silence(
    hub: Running, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that was frozen for minutes finds its clients where they were."""
    monkeypatch.setattr("qubix_tui.hub.caretaker.STALL_SECONDS", -1.0)
    async with await hub.client() as client:
        clock.advance(300)
        before = hub.hub.caretaker._counted_from
        await eventually(lambda: hub.hub.caretaker._counted_from > before)
        assert await client.heard() == []


# Limits


async def test_a_full_hub_turns_away_with_a_sentence() -> None:
    """503 in place of the handshake; a place that becomes free is given again."""
    from qubix_tui.hub.limits import Limits

    async with running(HubConfig(port=0, limits=Limits(connections=2))) as hub:
        first, second = await hub.client(), await hub.client()
        with pytest.raises(InvalidHandshake, match="503"):
            await hub.client()
        assert hub.hub.telemetry.rate_limited == 1
        await first.socket.close()
        await eventually(lambda: hub.hub.stats().clients == 1)
        async with await hub.client():
            pass
        await second.socket.close()


async def test_only_some_wait_to_be_told_that_the_hub_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that ask for nothing can't use up its descriptors."""
    from qubix_tui.hub.limits import Limits

    monkeypatch.setattr("qubix_tui.hub.server.MAX_TURNED_AWAY", 1)
    config = HubConfig(port=0, limits=Limits(connections=1))
    async with running(config) as hub, await hub.client():
        _, waiting = await asyncio.open_connection("127.0.0.1", hub.hub.port)
        await eventually(lambda: hub.hub.telemetry.rate_limited == 1)
        reader, cut = await asyncio.open_connection("127.0.0.1", hub.hub.port)
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        cut.close()
        waiting.close()


async def test_a_flood_is_refused_then_closed() -> None:
    """Each refusal says when to try again and which message it was; who goes on is closed with 4029."""
    from qubix_tui.hub.limits import Limits

    limits = Limits(messages_per_second=1, messages_burst=5, refusals_burst=3)
    async with running(HubConfig(port=0, limits=limits)) as hub:
        client = await hub.client()
        for number in range(12):
            await client.send("ping", id=number)
        replies = [await client.recv() for _ in range(9)]
        assert [reply["id"] for reply in replies] == list(range(9))
        assert [reply["type"] for reply in replies] == ["pong"] * 5 + ["error"] * 4
        assert replies[5]["data"]["code"] == "rate_limited"
        assert replies[5]["data"]["retryAfter"] > 0
        assert (await client.closed())[0] == 4029


async def test_subscriptions_are_limited() -> None:
    """In number; repeating one is no new one."""
    from qubix_tui.hub.limits import Limits

    async with (
        running(HubConfig(port=0, limits=Limits(subscriptions=2))) as hub,
        await hub.client() as client,
    ):
        await client.subscribe("provider:a", "provider:b", "provider:a")
        error = await client.ask("subscribe:provider", subscriptionId="c")
        assert error["data"]["code"] == "rate_limited"
        await client.subscribe("provider:b")
