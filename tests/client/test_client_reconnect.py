"""Lost and found again, against a real server that cuts, refuses, restarts and falls silent."""

import asyncio
import socket
import time
from typing import Any

import pytest

from qubix_tui.client import ConnectFailed, Connection, ConnectionState, Refused, RetryPolicy, session
from qubix_tui.client import connection as connection_module
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import Event
from qubix_tui.protocol.requests import SubscribeOptions
from tests.client.scripted_hub import DEADLINE, Peer, ScriptedHub, until

FAST = RetryPolicy(delays=(0.01,))
ONCE = RetryPolicy(attempts=0)


async def started(url: str, retry: RetryPolicy = FAST, **options: Any) -> Connection:
    """A connection that has begun."""
    connection = Connection(url, retry=retry, **options)
    await connection.start()
    return connection


async def given_up(connection: Connection) -> str:
    """Wait until it gave up; its sentence."""
    await until(lambda: connection.state is ConnectionState.DISCONNECTED)
    assert connection.last_error is not None
    return connection.last_error


def published(offset: int, channel: str = "marketplace") -> dict[str, Any]:
    """Envelope of an ordered event."""
    return {"channel": channel, "offset": offset}


async def test_it_comes_back_and_subscribes_to_everything_again(hub: ScriptedHub) -> None:
    """After a cut every subscription is sent again, with since where it can be; no event is heard twice."""
    connection = await started(hub.url)
    states: list[ConnectionState] = []
    heard: list[int | None] = []
    gaps: list[str] = []
    connection.on_state(states.append)
    connection.on("NEWS", lambda event: heard.append(event.offset))
    connection.on_gap(gaps.append)
    connection.subscribe("marketplace", snapshot=True, digest=2.0)
    connection.subscribe("provider:*")
    await connection.wait_open(DEADLINE)
    first = await hub.peer(1)
    await first.request("subscribe:provider")
    snapshot = {"kind": "snapshot", "providers": [], "page": 1, "pages": 1}
    await first.send("MARKETPLACE_UPDATE", snapshot, channel="marketplace")
    await first.send("NEWS", None, **published(1))
    await first.send("NEWS", None, **published(2))
    await until(lambda: heard == [1, 2])
    hub.offsets["marketplace"] = 3
    first.cut()
    second = await hub.peer(2)
    again = await second.request("subscribe:marketplace")
    assert again.data == SubscribeOptions(snapshot=True, digest=2.0, epoch="epoch-1", since=2)
    assert (await second.request("subscribe:provider")).data == SubscribeOptions()
    await second.send("NEWS", None, **published(2))
    await second.send("NEWS", None, **published(3))
    await until(lambda: heard == [1, 2, 3])
    assert states == [ConnectionState.OPEN, ConnectionState.RECONNECTING, ConnectionState.OPEN]
    assert gaps == ["provider:*"], "a wildcard can't be recovered, the marketplace was"
    await connection.close()


async def test_history_that_is_gone_is_told(hub: ScriptedHub) -> None:
    """A hub that restarted without its memory: recovered is false, the gap is told, and events go on."""
    connection = await started(hub.url)
    gaps: list[str] = []
    heard: list[int | None] = []
    connection.on_gap(gaps.append)
    connection.on("NEWS", lambda event: heard.append(event.offset))
    hub.offsets["marketplace"] = 40
    connection.subscribe("marketplace")
    await connection.wait_open(DEADLINE)
    await (await hub.peer(1)).request("subscribe:marketplace")
    await until(lambda: not gaps)
    await hub.stop()
    hub.epoch, hub.offsets = "epoch-2", {"marketplace": 1}
    await hub.listen()
    second = await hub.peer(2)
    assert (await second.request("subscribe:marketplace")).data.epoch == "epoch-1"
    await until(lambda: gaps == ["marketplace"])
    await second.send("NEWS", None, **published(2))
    await until(lambda: heard == [2])
    await connection.close()


async def test_too_slow_begins_afresh(hub: ScriptedHub) -> None:
    """After 4013 it asks for no replay, and for the snapshot where one was wanted."""
    connection = await started(hub.url)
    connection.subscribe("marketplace", snapshot=True)
    await connection.wait_open(DEADLINE)
    first = await hub.peer(1)
    await first.request("subscribe:marketplace")
    await first.close(4013, "unread for 20 s")
    second = await hub.peer(2)
    assert (await second.request("subscribe:marketplace")).data == SubscribeOptions(snapshot=True)
    await connection.close()


@pytest.mark.parametrize("code", [4001, 4003])
async def test_a_refused_token_stops_it(hub: ScriptedHub, code: int) -> None:
    """4001 and 4003: it says why and does not dial again."""
    connection = await started(hub.url)
    await connection.wait_open(DEADLINE)
    await (await hub.peer()).close(code, "revoked by an operator")
    assert "revoked by an operator" in await given_up(connection)
    assert hub.dials == 1
    await connection.close()


async def test_http_401_stops_it_and_says_why(hub: ScriptedHub) -> None:
    """401 at the handshake: wait_open raises the hub's sentence, and it counts as reached."""
    hub.refusal = (401, b'{"error": "this token is not known"}')
    connection = await started(hub.url, token="qbx_v0")
    with pytest.raises(ConnectFailed, match="this token is not known") as caught:
        await connection.wait_open(DEADLINE)
    assert not caught.value.unreachable
    assert hub.dials == 1
    await connection.close()


async def test_an_agent_goes_on_after_a_refusal(hub: ScriptedHub) -> None:
    """With refused_every set it tries again in that time, and opens once the token is good."""
    hub.refusal = (401, b"")
    connection = await started(hub.url, RetryPolicy(attempts=None, refused_every=0.01))
    await until(lambda: hub.dials >= 2)
    hub.refusal = None
    await connection.wait_open(DEADLINE)
    assert connection.last_error is None
    await connection.close()


async def test_unreachable_hub_gives_up_after_its_attempts() -> None:
    """Nothing listens: the attempts are counted, each failure has its sentence, then it is DISCONNECTED."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    connection = await started(f"ws://127.0.0.1:{port}", RetryPolicy(delays=(0.001,), attempts=3))
    with pytest.raises(ConnectFailed, match=rf"nothing listens at 127\.0\.0\.1:{port}") as caught:
        await connection.wait_open(DEADLINE)
    assert caught.value.unreachable
    assert (connection.attempt, connection.attempts_allowed) == (3, 3)
    await connection.close()


async def test_wait_open_ends_at_its_timeout(hub: ScriptedHub) -> None:
    """While it is still trying, the one who waits gets the latest sentence."""
    await hub.stop()
    connection = await started(hub.url)
    with pytest.raises(ConnectFailed, match="nothing listens"):
        await connection.wait_open(0.05)
    await connection.close()
    with pytest.raises(ConnectFailed, match="nothing listens"):
        await connection.wait_open(DEADLINE)


async def test_an_attempt_that_is_waited_for_can_be_made_at_once(hub: ScriptedHub) -> None:
    """next_attempt_at tells the moment; retry_now does not wait for it."""
    await hub.stop()
    connection = await started(hub.url, RetryPolicy(delays=(600,)))
    await until(lambda: connection.state is ConnectionState.RECONNECTING)
    waited_for = connection.next_attempt_at
    assert waited_for is not None
    assert waited_for - time.monotonic() == pytest.approx(600, abs=5)
    assert connection.attempt == 1
    await hub.listen()
    connection.retry_now()
    await connection.wait_open(DEADLINE)
    assert connection.next_attempt_at is None
    await connection.close()


async def test_retry_now_begins_again_after_giving_up(hub: ScriptedHub) -> None:
    """A person who presses the key starts anew, with all attempts."""
    hub.refusal = (401, b"")
    connection = await started(hub.url)
    await given_up(connection)
    hub.refusal = None
    connection.retry_now()
    await connection.wait_open(DEADLINE)
    assert connection.attempt == 0
    await connection.close()


async def test_retry_now_before_start_does_nothing(hub: ScriptedHub) -> None:
    """Only what was started can be tried again."""
    connection = Connection(hub.url)
    states: list[ConnectionState] = []
    connection.on_state(states.append)
    connection.retry_now()
    assert states == []
    await connection.close()


async def test_after_the_attempts_a_console_goes_on(hub: ScriptedHub) -> None:
    """With then_every the attempts go on being counted, and the state stays RECONNECTING."""
    await hub.stop()
    connection = await started(hub.url, RetryPolicy(delays=(0.001,), attempts=2, then_every=0.01))
    await until(lambda: connection.attempt > 4)
    assert connection.state is ConnectionState.RECONNECTING
    assert connection.attempts_allowed == 2
    await hub.listen()
    await connection.wait_open(DEADLINE)
    await connection.close()


async def test_a_hub_that_accepts_and_closes_is_given_up(hub: ScriptedHub) -> None:
    """A connection that was open for less than 10 s does not reset the count."""
    connection = await started(hub.url, RetryPolicy(delays=(0.001,), attempts=3))

    def close_each(state: ConnectionState) -> None:
        if state is ConnectionState.OPEN:
            hub.peers[-1].cut()

    connection.on_state(close_each)
    await given_up(connection)
    assert hub.dials == 4
    await connection.close()


async def test_a_steady_connection_resets_the_count(
    hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it was open for long enough, the next loss counts from one."""
    monkeypatch.setattr(connection_module, "STEADY_SECONDS", 0.0)
    connection = await started(hub.url, RetryPolicy(delays=(0.001,), attempts=1))
    states: list[ConnectionState] = []
    connection.on_state(states.append)
    for number in (1, 2, 3):
        peer = await hub.peer(number)
        await connection.wait_open(DEADLINE)
        states.clear()
        peer.cut()
        # It is away for a millisecond: a look at the state alone could miss it.
        await until(lambda: ConnectionState.RECONNECTING in states)
    await hub.peer(4)
    await connection.close()


async def test_the_hubs_restart_time_is_kept(hub: ScriptedHub) -> None:
    """1012 with seconds in its reason: the next attempt is then, whatever the backoff says."""
    connection = await started(hub.url, RetryPolicy(delays=(600,)))
    await connection.wait_open(DEADLINE)
    await (await hub.peer()).close(1012, "0.3")
    await until(lambda: connection.state is ConnectionState.RECONNECTING)
    assert connection.last_error == "the hub is restarting"
    before = time.monotonic()
    await hub.peer(2)
    assert 0.15 < time.monotonic() - before < 5
    await connection.wait_open(DEADLINE)
    await connection.close()


async def test_a_server_that_does_not_greet_is_no_hub(
    hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another WebSocket server: after the deadline it says so."""
    monkeypatch.setattr(session, "GREETING_TIMEOUT_SECONDS", 0.05)
    hub.greets = False
    connection = await started(hub.url, ONCE)
    assert "does not greet as a QUBIX hub" in await given_up(connection)
    await connection.close()


async def test_a_newer_protocol_stops_it(hub: ScriptedHub) -> None:
    """A hub of a later protocol: it says what to do and does not try again."""
    hub.greeting_changes = {"protocol": 2}
    connection = await started(hub.url)
    assert await given_up(connection) == "the hub speaks protocol 2, newer than this program: update it"
    assert hub.dials == 1
    await connection.close()


async def test_a_silent_hub_is_left(hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings in the hub's rhythm; when nothing of any kind comes for its timeout, the connection is left."""
    monkeypatch.setattr(session, "FASTEST_PING_SECONDS", 0.01)
    monkeypatch.setattr(session, "DOUBT_SECONDS", 0.02)
    hub.greeting_changes = {"heartbeat": {"pingEvery": 0.01, "timeout": 0.05}}
    connection = await started(hub.url, ONCE)
    await connection.wait_open(DEADLINE)
    peer = await hub.peer()
    await peer.request("ping", 5)
    assert connection.state is ConnectionState.OPEN, "answered pings keep it"

    async def ignore(_: Peer, __: object) -> None:
        return

    hub.answers["ping"] = ignore
    assert "the hub has been silent for" in await given_up(connection)
    await connection.close()


async def test_any_message_is_a_sign_of_life(hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that sends events but answers no ping is not silent."""
    monkeypatch.setattr(session, "FASTEST_PING_SECONDS", 0.01)
    monkeypatch.setattr(session, "DOUBT_SECONDS", 0.01)
    hub.greeting_changes = {"heartbeat": {"pingEvery": 0.01, "timeout": 0.02}}

    async def event_in_place_of_pong(peer: Peer, _: object) -> None:
        await peer.send("NEWS", None, channel="marketplace")

    hub.answers["ping"] = event_in_place_of_pong
    connection = await started(hub.url, ONCE)
    await (await hub.peer()).request("ping", 15)
    assert connection.state is ConnectionState.OPEN
    await connection.close()


async def test_pings_stay_within_reason(hub: ScriptedHub) -> None:
    """A hub that asks for pings without pause gets one a second at most."""
    hub.greeting_changes = {"heartbeat": {"pingEvery": 0, "timeout": 0}}
    connection = await started(hub.url, ONCE)
    peer = await hub.peer()
    await peer.request("ping")
    await asyncio.sleep(0.2)
    assert [request.type for request in peer.requests].count("ping") == 1
    await connection.close()


async def test_a_refused_registration_waits_as_told(hub: ScriptedHub) -> None:
    """The retryAfter of what the open hook was refused for is waited for."""
    connection = Connection(hub.url, retry=FAST)

    async def refused() -> None:
        raise Refused(ErrorCode.CONFLICT, "another agent has this identity", retry_after=60)

    connection.on_open(refused)
    await connection.start()
    await until(lambda: connection.state is ConnectionState.RECONNECTING)
    assert connection.next_attempt_at is not None
    assert connection.next_attempt_at - time.monotonic() == pytest.approx(60, abs=5)
    assert connection.last_error == "another agent has this identity"
    await connection.close()


async def test_a_frame_beyond_the_limit_ends_the_connection(hub: ScriptedHub) -> None:
    """More than 64 KiB in one frame breaks the contract: it is not taken, and the sentence says why."""
    connection = await started(hub.url, ONCE)
    await connection.wait_open(DEADLINE)
    await (await hub.peer()).send_raw(b'"' + b"x" * 70_000 + b'"')
    assert "broke the WebSocket protocol" in await given_up(connection)
    await connection.close()


async def test_what_is_no_websocket_server_is_told() -> None:
    """A server that answers something else, or nothing, each has its sentence."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await started(f"ws://127.0.0.1:{port}", ONCE)
        assert await given_up(connection) == f"what answers at 127.0.0.1:{port} is not a WebSocket server"
        await connection.close()
        with_tls = await started(f"wss://127.0.0.1:{port}", ONCE)
        assert "does not speak TLS" in await given_up(with_tls)
        await with_tls.close()


async def test_our_own_fault_on_a_message_dials_again(
    hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect in the client is logged and never leaves a connection that looks alive and hears nothing."""

    def broken(_: bytes) -> Event:
        raise RuntimeError("a defect")

    connection = await started(hub.url)
    await connection.wait_open(DEADLINE)
    with monkeypatch.context() as patch:
        patch.setattr(session, "decode_event", broken)
        await (await hub.peer()).send("NEWS", None, channel="marketplace")
        await until(lambda: connection.state is ConnectionState.RECONNECTING)
    await connection.wait_open(DEADLINE)
    assert "a defect" in caplog.text
    await connection.close()
