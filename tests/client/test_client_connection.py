"""One connection to a real server on loopback: greeting, subscriptions, requests, handlers, goodbye."""

import asyncio
import logging
import time
from typing import Any

import pytest

from qubix_tui.client import (
    BadUrl,
    Connection,
    ConnectionLost,
    ConnectionState,
    Refused,
    RequestTimeout,
    RetryPolicy,
    session,
)
from qubix_tui.client import link as link_module
from qubix_tui.protocol import codec
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import Event
from qubix_tui.protocol.requests import Request, SubscribeOptions
from qubix_tui.protocol.types import to_timestamp
from tests.client.scripted_hub import DEADLINE, Peer, ScriptedHub, until

TOKEN = "qbx_v" + "0" * 72
ONCE = RetryPolicy(attempts=0)


async def opened(hub: ScriptedHub, **options: Any) -> tuple[Connection, Peer]:
    """An open connection, and the hub's end of it."""
    connection = Connection(hub.url, retry=ONCE, **options)
    await connection.start()
    await connection.wait_open(DEADLINE)
    return connection, await hub.peer()


async def test_states_from_made_to_closed(hub: ScriptedHub) -> None:
    """DISCONNECTED, CONNECTING, OPEN, CLOSING, CLOSED, in this order, and the hub hears a clean goodbye."""
    connection = Connection(hub.url)
    states = [connection.state]
    connection.on_state(states.append)
    await connection.start()
    await connection.start()
    await connection.wait_open(DEADLINE)
    peer = await hub.peer()
    await connection.close()
    await connection.close()
    assert states == [
        ConnectionState.DISCONNECTED,
        ConnectionState.CONNECTING,
        ConnectionState.OPEN,
        ConnectionState.CLOSING,
        ConnectionState.CLOSED,
    ]
    await until(lambda: peer.websocket.close_code == 1000)
    assert len(hub.peers) == 1


async def test_the_greeting_says_who_is_there(hub: ScriptedHub) -> None:
    """Role and version come from `connected`, and `authenticated` changes the role."""
    connection, peer = await opened(hub)
    assert (connection.role, connection.hub_version) == ("viewer", "0.1.0")
    await peer.send("authenticated", {"role": "operator", "subject": None})
    await until(lambda: connection.role == "operator")
    await connection.close()


async def test_the_token_is_a_bearer_and_in_no_log(
    hub: ScriptedHub, caplog: pytest.LogCaptureFixture
) -> None:
    """The token goes into the Authorization header; even at DEBUG no log holds it."""
    with caplog.at_level(logging.DEBUG):
        connection, peer = await opened(hub, token=TOKEN, user_agent="a-test/1")
    assert peer.headers["Authorization"] == f"Bearer {TOKEN}"
    assert peer.headers["User-Agent"] == "a-test/1"
    assert "Sec-WebSocket-Extensions" not in peer.headers
    await connection.close()
    ours = [record for record in caplog.records if not record.name.startswith("websockets.server")]
    assert all(TOKEN not in record.getMessage() for record in ours)


async def test_without_a_token_none_is_sent(hub: ScriptedHub) -> None:
    """No token, no Authorization header."""
    connection, peer = await opened(hub)
    assert "Authorization" not in peer.headers
    await connection.close()


def test_a_bad_address_is_refused_at_once() -> None:
    """The constructor says what is wrong, before anything is dialled."""
    with pytest.raises(BadUrl):
        Connection("http://localhost")


async def test_subscriptions_made_before_and_after_it_opens(hub: ScriptedHub) -> None:
    """Both are sent, each with its options; unsubscribing sends the full key once the last watcher left."""
    connection = Connection(hub.url, retry=ONCE)
    connection.subscribe("marketplace", snapshot=True, digest=1.0)
    connection.subscribe("provider:rig-7")
    connection.unsubscribe("provider:rig-7")
    await connection.start()
    await connection.wait_open(DEADLINE)
    peer = await hub.peer()
    assert (await peer.request("subscribe:marketplace")).data == SubscribeOptions(snapshot=True, digest=1.0)
    connection.subscribe("job:j1")
    connection.subscribe("job:j1")
    assert (await peer.request("subscribe:job")).channel == "job:j1"
    connection.unsubscribe("job:j1")
    connection.unsubscribe("job:j1")
    connection.unsubscribe("job:j1")
    assert (await peer.request("unsubscribe")).channel == "job:j1"
    connection.subscribe("job:last")
    await peer.request("subscribe:job", 2)
    assert [request.channel for request in peer.requests if request.type != "ping"] == [
        "marketplace",
        "job:j1",
        "job:j1",
        "job:last",
    ]
    await connection.close()


async def test_events_reach_handlers_by_type_and_star(hub: ScriptedHub) -> None:
    """`on` by type and for all, `off` ends it, `on_raw` gives the exact bytes, in the order they came."""
    connection, peer = await opened(hub)
    by_type: list[Event] = []
    everything: list[str] = []
    raw: list[bytes] = []

    def take(event: Event) -> None:
        by_type.append(event)
        connection.off("MARKETPLACE_UPDATE", take)

    connection.on("MARKETPLACE_UPDATE", take)
    connection.on("*", lambda event: everything.append(event.type))
    connection.on_raw(raw.append)
    payload = b'{"type": "MARKETPLACE_UPDATE", "data": {"kind": "new_kind"}, "channel": "marketplace"}'
    await peer.send_raw(payload)
    await peer.send_raw(payload)
    await until(lambda: everything.count("MARKETPLACE_UPDATE") == 2)
    assert [event.data for event in by_type] == [{"kind": "new_kind"}]
    assert raw.count(payload) == 2
    await connection.close()


async def test_a_failing_handler_does_not_end_the_connection(
    hub: ScriptedHub, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler's exception is logged, and the next event comes as usual."""
    connection, peer = await opened(hub)
    heard: list[Event] = []

    def fail(event: Event) -> None:
        heard.append(event)
        raise RuntimeError("on purpose")

    connection.on("JOB_X", fail)
    await peer.send_raw(b'{"type": "JOB_X", "channel": "job:j"}')
    await peer.send_raw(b'{"type": "JOB_X", "channel": "job:j"}')
    await until(lambda: len(heard) == 2)
    assert connection.state is ConnectionState.OPEN
    assert "on purpose" in caplog.text
    await connection.close()


async def test_a_message_that_breaks_the_contract_is_left_out(
    hub: ScriptedHub, caplog: pytest.LogCaptureFixture
) -> None:
    """Nonsense is logged, reaches raw handlers alone, and the connection lives."""

    async def answer_later(_: Peer, __: Request) -> None:
        return

    hub.answers["ping"] = answer_later
    connection, peer = await opened(hub)
    raw: list[bytes] = []
    events: list[Event] = []
    connection.on_raw(raw.append)
    connection.on("*", events.append)
    await peer.send_raw(b'{"type": 7}')
    await peer.send_raw(b'{"type": "pong", "data": {"timestamp": "2026-99-99T99:99:99.000Z"}, "id": 1}')
    await until(lambda: len(raw) >= 2)
    assert raw[0] == b'{"type": 7}'
    assert [event.type for event in events] == ["pong"]
    assert "breaks the contract" in caplog.text
    assert connection.state is ConnectionState.OPEN
    await connection.close()


async def test_requests_get_their_own_reply(hub: ScriptedHub) -> None:
    """Replies are matched by id, whatever their order."""
    held: list[Request] = []

    async def answer_backwards(peer: Peer, request: Request) -> None:
        held.append(request)
        if len(held) == 2:
            for late in reversed(held):
                await peer.send("submitted", {"jobId": late.data.workload}, request_id=late.id)

    hub.answers["job:submit"] = answer_backwards
    connection, _ = await opened(hub)
    first, second = await asyncio.gather(
        connection.request("job:submit", {"workload": "one"}),
        connection.request("job:submit", {"workload": "two"}),
    )
    assert (first.data.job_id, second.data.job_id) == ("one", "two")
    await connection.close()


async def test_an_error_reply_is_raised(hub: ScriptedHub) -> None:
    """`Refused` carries the hub's code, sentence, field and retryAfter."""

    async def refuse(peer: Peer, request: Request) -> None:
        error = {"code": "rate_limited", "message": "too many", "field": "data.x", "retryAfter": 3}
        await peer.send("error", error, request_id=request.id)

    hub.answers["job:cancel"] = refuse
    connection, _ = await opened(hub)
    with pytest.raises(Refused, match=r"too many \(data\.x\)") as caught:
        await connection.request("job:cancel", {"jobId": "j"})
    assert caught.value.code is ErrorCode.RATE_LIMITED
    assert caught.value.retry_after == 3
    await connection.close()


async def test_a_request_without_an_answer_times_out(hub: ScriptedHub) -> None:
    """The timeout names the request; the late reply then reaches handlers alone."""

    async def ignore(_: Peer, __: Request) -> None:
        return

    hub.answers["job:cancel"] = ignore
    connection, peer = await opened(hub)
    with pytest.raises(RequestTimeout, match=r"did not answer job:cancel within 0\.01 s"):
        await connection.request("job:cancel", {"jobId": "j"}, timeout=0.01)
    late: list[Event] = []
    connection.on("ok", late.append)
    await peer.send("ok", {}, request_id=(await peer.request("job:cancel")).id)
    await until(lambda: late)
    await connection.close()


async def test_a_lost_connection_fails_what_waits(hub: ScriptedHub) -> None:
    """Requests that wait when the link drops, and later ones, raise ConnectionLost; send says False."""

    async def cut(peer: Peer, _: Request) -> None:
        peer.cut()

    hub.answers["job:cancel"] = cut
    connection, _ = await opened(hub)
    with pytest.raises(ConnectionLost, match="was lost"):
        await connection.request("job:cancel", {"jobId": "j"})
    await until(lambda: connection.state is ConnectionState.DISCONNECTED)
    with pytest.raises(ConnectionLost, match="was lost"):
        await connection.request("job:cancel", {"jobId": "j"})
    assert not connection.send("job:cancel", {"jobId": "j"})
    await connection.close()


async def test_send_reaches_the_hub(hub: ScriptedHub) -> None:
    """An open connection sends at once."""
    connection, peer = await opened(hub)
    assert connection.send("GPU_METRICS_UPDATE", {"metrics": {"cpuPercent": 5}})
    assert (await peer.request("GPU_METRICS_UPDATE")).data.metrics.cpu_percent == 5
    await connection.close()


async def test_send_is_bounded_where_the_hub_does_not_read(
    hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the limit of unsent bytes `send` says False, and a subscription ends the link: the next has it."""
    monkeypatch.setattr(link_module, "MAX_UNSENT_BYTES", 256 * 1024)
    connection, peer = await opened(hub)
    peer.websocket.transport.pause_reading()
    sent = 0
    for filler in ("x" * 1000, ""):
        while connection.send("GPU_METRICS_UPDATE", {"metrics": {"gpuNote": filler}}):
            sent += 1
            assert sent < 100_000
    # Nothing shorter than what is asked next fits any more.
    while connection.send("ping"):
        sent += 1
        assert sent < 100_000
    with pytest.raises(ConnectionLost, match="does not read"):
        await connection.request("job:cancel", {"jobId": "j"})
    connection.subscribe("marketplace")
    await until(lambda: connection.state is ConnectionState.DISCONNECTED)
    assert connection.last_error == "the hub does not read what is sent to it"
    peer.cut()
    await connection.close()


async def test_close_does_not_wait_for_a_hub_that_does_not_read(
    hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full socket can't hold a goodbye up for longer than its deadline."""
    monkeypatch.setattr(link_module, "CLOSE_TIMEOUT_SECONDS", 0.1)
    connection, peer = await opened(hub)
    peer.websocket.transport.pause_reading()
    while connection.send("GPU_METRICS_UPDATE", {"metrics": {"gpuNote": "x" * 1000}}):
        pass
    async with asyncio.timeout(2):
        await connection.close()
    peer.cut()


async def test_the_open_hook_comes_before_everything_else(hub: ScriptedHub) -> None:
    """Until the hook is done nothing else is sent, from whatever task, and the state is not OPEN."""

    async def register(peer: Peer, request: Request) -> None:
        assert not connection.send("GPU_METRICS_UPDATE", {"metrics": {}})
        with pytest.raises(ConnectionLost):
            await connection.request("job:cancel", {"jobId": "j"})
        await peer.send("registered", {"providerId": "rig", "session": 1}, request_id=request.id)

    hub.answers["provider:register"] = register
    registered: list[str] = []
    connection = Connection(hub.url, retry=ONCE)

    async def hook() -> None:
        reply = await connection.request("provider:register", {"workerId": "w", "instance": "i"})
        connection.subscribe("job:*")
        assert connection.state is ConnectionState.CONNECTING
        registered.append(reply.data.provider_id)

    connection.on_open(hook)
    connection.subscribe("marketplace")
    await connection.start()
    await connection.wait_open(DEADLINE)
    peer = await hub.peer()
    await peer.request("subscribe:job")
    assert registered == ["rig"]
    kinds = [request.type for request in peer.requests if request.type != "ping"]
    assert kinds == ["provider:register", "subscribe:marketplace", "subscribe:job"]
    await connection.close()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Refused(ErrorCode.CONFLICT, "another agent has this identity"), "another agent has this identity"),
        (RequestTimeout("the hub did not answer"), "the hub did not answer"),
        (RuntimeError("on purpose"), "this program failed while it greeted the hub; its log says where"),
    ],
)
async def test_a_failing_open_hook_ends_the_connection(
    hub: ScriptedHub, error: Exception, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its sentence becomes last_error, the hub hears a goodbye, and only a bug is logged with a traceback."""
    connection = Connection(hub.url, retry=ONCE)

    async def hook() -> None:
        raise error

    connection.on_open(hook)
    await connection.start()
    await until(lambda: connection.state is ConnectionState.DISCONNECTED)
    assert connection.last_error == sentence
    assert ("Traceback" in caplog.text) is isinstance(error, RuntimeError)
    peer = await hub.peer()
    await until(lambda: peer.websocket.close_code == 1000)
    await connection.close()


async def test_close_inside_the_open_hook(hub: ScriptedHub) -> None:
    """A hook may decide that all is over; it does not wait for itself."""
    connection = Connection(hub.url, retry=ONCE)
    connection.on_open(connection.close)
    await connection.start()
    await until(lambda: connection.state is ConnectionState.CLOSED)
    peer = await hub.peer()
    await until(lambda: peer.websocket.close_code is not None)
    await connection.close()


async def test_hub_time_follows_the_hub_and_no_local_step(
    hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's clock is told within the round trip, and a step of the local wall clock moves nothing."""
    hub.clock_offset = 3600.0
    connection, peer = await opened(hub)
    await peer.request("ping")
    before = time.time()
    assert connection.hub_time() == pytest.approx(before + 3600, abs=0.5)
    monkeypatch.setattr(time, "time", lambda: before - 86_400)
    assert connection.hub_time() == pytest.approx(before + 3600, abs=0.5)
    await connection.close()


def test_hub_time_before_any_greeting_is_local() -> None:
    """Until the hub said anything, its clock is taken to be ours."""
    assert Connection("ws://localhost").hub_time() == pytest.approx(time.time(), abs=1)


async def test_a_limited_subscription_is_asked_for_again(hub: ScriptedHub) -> None:
    """`rate_limited` on a subscription is waited for as long as the hub says, then it is sent again."""
    refused = False

    async def limit_once(peer: Peer, request: Request) -> None:
        nonlocal refused
        if refused:
            await hub.confirm(peer, request)
            return
        refused = True
        error = {"code": "rate_limited", "message": "slow down", "retryAfter": 0.02}
        await peer.send("error", error, request_id=request.id)

    hub.answers["subscribe:job"] = limit_once
    connection, peer = await opened(hub)
    confirmed: list[Event] = []
    connection.on("subscribed", confirmed.append)
    connection.subscribe("job:j", snapshot=True)
    await until(lambda: confirmed)
    assert [request.data.snapshot for request in peer.requests if request.type == "subscribe:job"] == [
        True,
        True,
    ]
    await connection.close()


async def test_a_refused_subscription_is_logged_and_not_repeated(
    hub: ScriptedHub, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other error on a subscription reaches the log and `error` handlers, once."""

    async def refuse(peer: Peer, request: Request) -> None:
        await peer.send("error", {"code": "forbidden", "message": "not yours"}, request_id=request.id)

    hub.answers["subscribe:job"] = refuse
    connection, peer = await opened(hub)
    errors: list[Event] = []
    connection.on("error", errors.append)
    connection.subscribe("job:j")
    await until(lambda: errors)
    assert "refused the subscription of job:j: not yours" in caplog.text
    assert [request.type for request in peer.requests].count("subscribe:job") == 1
    await connection.close()


async def test_no_task_is_left_behind(hub: ScriptedHub) -> None:
    """After close() no task of the client is left, whatever it was doing: dialling, open, or waiting."""
    connection, _ = await opened(hub)
    connection.subscribe("marketplace")
    waiting = Connection("ws://127.0.0.1:1", retry=RetryPolicy(delays=(60,)))
    dialling = Connection(hub.url)
    await waiting.start()
    await until(lambda: waiting.state is ConnectionState.RECONNECTING)
    await dialling.start()
    for each in (connection, waiting, dialling):
        await each.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("qubix")]


async def test_cancelling_the_one_who_waits_leaves_the_connection_alone(hub: ScriptedHub) -> None:
    """A cancelled request does not disturb others."""

    async def ignore(_: Peer, __: Request) -> None:
        return

    hub.answers["job:cancel"] = ignore
    connection, peer = await opened(hub)
    task = asyncio.create_task(connection.request("job:cancel", {"jobId": "j"}))
    await peer.request("job:cancel")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert connection.state is ConnectionState.OPEN
    await connection.close()


async def test_a_message_is_decoded_once(hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many handlers there are, all are given the same decoded event."""
    decoded: list[bytes] = []

    def count(raw: bytes) -> Event:
        decoded.append(raw)
        return codec.decode_event(raw)

    monkeypatch.setattr(session, "decode_event", count)
    connection, peer = await opened(hub)
    heard: list[Event] = []
    for _ in range(3):
        connection.on("GPU_METRICS_UPDATE", heard.append)
    connection.on_raw(lambda _: None)
    decoded.clear()
    data = {"providerId": "a", "metrics": {}, "timestamp": to_timestamp(0)}
    await peer.send("GPU_METRICS_UPDATE", data, channel="provider:a")
    await until(lambda: heard)
    assert len([raw for raw in decoded if b"GPU_METRICS_UPDATE" in raw]) == 1
    assert heard[0] is heard[1] is heard[2]
    await connection.close()
