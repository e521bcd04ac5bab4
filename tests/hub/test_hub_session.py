"""The hub over real sockets: greeting, subscriptions, broadcasts, replies in their place."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import qubix_tui
from qubix_tui.hub.server import Hub
from qubix_tui.protocol.records import Metrics
from qubix_tui.protocol.tokens import Role
from tests.hub.wire import Client, Message, Running, eventually, running

OPERATOR = Role.OPERATOR


@pytest.fixture
async def hub() -> AsyncIterator[Running]:
    """A hub that listens."""
    async with running() as made:
        yield made


async def test_connected_comes_first_and_says_who_is_who(hub: Running) -> None:
    """Protocol, version, role, heartbeat and the hub's time, before anything else."""
    client = await hub.client()
    async with client, Client(await _connect(hub)) as other:
        await other.send("ping")
        greeting = await other.recv()
        assert greeting["type"] == "connected"
        data = greeting["data"]
        assert (data["protocol"], data["version"], data["role"]) == (1, qubix_tui.__version__, "viewer")
        assert data["heartbeat"] == {"pingEvery": 30, "timeout": 60}
        assert data["timestamp"].endswith("Z")
        assert data["clientId"]
        assert (await other.recv())["type"] == "pong"


async def _connect(hub: Running) -> Any:
    from websockets.asyncio.client import connect

    return await connect(hub.hub.url)


async def test_ping_is_answered_with_the_time_and_what_it_carried(hub: Running) -> None:
    """Any JSON value is echoed; none is left out."""
    async with await hub.client() as client:
        pong = await client.ask("ping", {"n": [1, None]})
        assert pong["type"] == "pong"
        assert pong["data"]["echo"] == {"n": [1, None]}
        assert "echo" not in (await client.ask("ping"))["data"]


BROADCASTS: list[tuple[Callable[[Hub], Awaitable[None] | None], set[str], Message]] = [
    (
        lambda hub: hub.broadcast_provider_registered(
            {"id": "a", "workerId": "w", "gpuModel": "RTX 4090", "pricePerHour": 0.45}
        ),
        {"marketplace"},
        {
            "type": "PROVIDER_REGISTERED",
            "data": {
                "id": "a",
                "workerId": "w",
                "gpuModel": "RTX 4090",
                "pricePerHour": 0.45,
                "state": "available",
                "isOnline": True,
                "isAvailable": True,
            },
        },
    ),
    (
        lambda hub: hub.broadcast_provider_status_changed("a", {"isOnline": True, "isAvailable": True}),
        {"marketplace", "provider:a", "provider:*"},
        {
            "type": "PROVIDER_STATUS_CHANGED",
            "data": {
                "providerId": "a",
                "status": {"isOnline": True, "isAvailable": True, "state": "available"},
            },
        },
    ),
    (
        lambda hub: hub.broadcast_gpu_metrics(
            "a", {"cpuPercent": 45.2, "ramPercent": 60.1, "gpuPercent": 80.5, "gpuTemp": 72}
        ),
        {"provider:a", "provider:*"},
        {
            "type": "GPU_METRICS_UPDATE",
            "data": {
                "providerId": "a",
                "metrics": {"cpuPercent": 45.2, "ramPercent": 60.1, "gpuPercent": 80.5, "gpuTemp": 72},
            },
        },
    ),
    (
        lambda hub: hub.broadcast_job_progress("j", {"progress": 75, "status": "running"}),
        {"job:j", "job:*"},
        {
            "type": "JOB_PROGRESS",
            "data": {"jobId": "j", "providerId": None, "progress": {"progress": 75, "status": "running"}},
        },
    ),
    (
        lambda hub: hub.broadcast_job_completed("j", {"status": "completed", "result": {"x": 1}}),
        {"job:j", "job:*"},
        {
            "type": "JOB_COMPLETED",
            "data": {
                "jobId": "j",
                "providerId": None,
                "status": "completed",
                "reason": None,
                "result": {"x": 1},
                "costMicros": None,
            },
        },
    ),
    (
        lambda hub: hub.broadcast_marketplace_update({"kind": "provider_removed", "providerId": "a"}),
        {"marketplace"},
        {"type": "MARKETPLACE_UPDATE", "data": {"kind": "provider_removed", "providerId": "a"}},
    ),
]


@pytest.mark.parametrize(("broadcast", "hearing", "expected"), BROADCASTS, ids=lambda value: _name(value))
async def test_each_broadcast_reaches_exactly_those_subscribed(
    hub: Running,
    broadcast: Callable[[Hub], Awaitable[None] | None],
    hearing: set[str],
    expected: Message,
) -> None:
    """One client per channel key, and one with none: who should hear it hears it once, the others do not."""
    keys = ["marketplace", "provider:a", "provider:b", "provider:*", "job:j", "job:k", "job:*", ""]
    clients = {key: await hub.client() for key in keys}
    for key, client in clients.items():
        if key:
            await client.subscribe(key)
    done = broadcast(hub.hub)
    if done is not None:
        await done
    for key, client in clients.items():
        heard = await client.heard()
        assert len(heard) == (key in hearing), key
        for message in heard:
            assert message["channel"] in {key, "provider:a", "job:j"}
            message["data"].pop("timestamp", None)
            message["data"].pop("registeredAt", None)
            assert {"type": message["type"], "data": message["data"]} == expected
        await client.socket.close()


def _name(value: Any) -> str | None:
    return value["type"] if isinstance(value, dict) else None


async def test_overlapping_subscriptions_hear_an_event_once_per_channel(hub: Running) -> None:
    """A status change is an event of two channels; a provider and its wildcard are one."""
    async with await hub.client() as client:
        await client.subscribe("provider:*", "provider:a", "marketplace", "provider:a")
        await hub.hub.broadcast_provider_status_changed("a", {"isOnline": False, "isAvailable": False})
        hub.hub.broadcast_gpu_metrics("a", Metrics())
        heard = await client.heard()
        assert [(message["type"], message["channel"]) for message in heard] == [
            ("PROVIDER_STATUS_CHANGED", "marketplace"),
            ("PROVIDER_STATUS_CHANGED", "provider:a"),
            ("GPU_METRICS_UPDATE", "provider:a"),
        ]


async def test_an_ordered_event_has_its_channels_offset_a_sample_none(hub: Running) -> None:
    """Offsets grow by one per event of a channel, also for those who hear it by a wildcard."""
    async with await hub.client() as client:
        await client.subscribe("job:*", "provider:a")
        for _ in range(2):
            hub.hub.broadcast_job_progress("j", {"progress": 1, "status": "running"})
        await hub.hub.broadcast_job_progress("k", {"progress": 1, "status": "running"})
        hub.hub.broadcast_gpu_metrics("a", Metrics())
        heard = await client.heard()
        assert [(m["channel"], m.get("offset")) for m in heard] == [
            ("job:j", 1),
            ("job:j", 2),
            ("job:k", 1),
            ("provider:a", None),
        ]


async def test_unsubscribing_ends_it_and_twice_is_no_error(hub: Running) -> None:
    """By the full key, as in the guide; also what was never subscribed."""
    async with await hub.client() as client:
        await client.subscribe("provider:a")
        for key in ("provider:a", "provider:a", "job:never"):
            reply = await client.ask("unsubscribe", subscriptionId=key)
            assert (reply["type"], reply["data"]) == ("unsubscribed", {"subscription": key})
        hub.hub.broadcast_gpu_metrics("a", Metrics())
        assert await client.heard() == []


async def test_subscribed_says_where_the_channel_is(hub: Running) -> None:
    """Key, epoch, newest offset; a wildcard has no offset."""
    await hub.hub.broadcast_job_progress("j", {"progress": 1, "status": "running"})
    async with await hub.client() as client:
        epoch = hub.hub.services.engine.epoch
        reply = await client.ask("subscribe:job", subscriptionId="j")
        assert reply["data"] == {"subscription": "job:j", "epoch": epoch, "offset": 1, "recovered": False}
        reply = await client.ask("subscribe:job", subscriptionId="*")
        assert reply["data"] == {"subscription": "job:*", "epoch": epoch, "offset": None, "recovered": False}


@pytest.mark.parametrize(
    ("raw", "code", "request_id"),
    [
        (b"{", "bad_json", None),
        (b"[]", "invalid", None),
        (b'{"id": 7, "type": "no:such"}', "unknown_type", 7),
        (b'{"id": "x", "type": "subscribe:provider"}', "invalid", "x"),
        (b'{"id": 1.5, "type": "subscribe:provider", "subscriptionId": "../x"}', "invalid", 1.5),
        (b'{"id": 1, "type": "ping", "data": "\xff"}', "bad_json", 1),
        (b'{"id": 1, "type": "ping", "data": ' + b"[" * 50 + b"]" * 50 + b"}", "invalid", None),
        (b'{"id": 2, "type": "job:submit", "data": {"workload": "x"}}', "forbidden", 2),
        (b'{"id": 3, "type": "provider:history", "data": {"providerId": "x", "seconds": 5}}', "not_found", 3),
        (b'{"id": 4, "type": "auth", "data": {"token": "qbx_no"}}', "unauthenticated", 4),
        (b'{"id": 5, "type": "enroll", "data": {"code": "x", "workerId": "w"}}', "unauthenticated", 5),
    ],
)
async def test_what_is_wrong_gets_a_precise_error_and_the_connection_stays(
    hub: Running, raw: bytes, code: str, request_id: object
) -> None:
    """Each with its id where that could be read, and a sentence."""
    async with await hub.client() as client:
        await client.socket.send(raw, text=True)
        error = await client.recv()
        assert (error["type"], error["data"]["code"], error.get("id")) == ("error", code, request_id)
        assert error["data"]["message"]
        assert (await client.ask("ping"))["type"] == "pong"


async def test_binary_messages_are_refused_politely(hub: Running) -> None:
    """The contract knows text frames only."""
    async with await hub.client() as client:
        await client.socket.send(b'{"type":"ping"}')
        error = await client.recv()
        assert error["data"]["code"] == "bad_json"
        assert "text" in error["data"]["message"]


async def test_too_long_a_message_is_refused_and_a_far_too_long_one_ends_the_connection(hub: Running) -> None:
    """The first gets the error `too_large`, the second 1009: the hub would not read it to its end."""
    async with await hub.client() as client:
        await client.send("ping", "x" * 65_000)
        assert (await client.recv())["type"] == "pong"
        await client.send("ping", "x" * 66_000)
        assert (await client.recv())["data"]["code"] == "too_large"
        await client.send("ping", "x" * 200_000)
        assert (await client.closed())[0] == 1009


async def test_fragments_are_put_together_and_endless_ones_end_the_connection(hub: Running) -> None:
    """Any client may fragment; nobody needs a thousand fragments for 64 KiB."""
    async with await hub.client() as client:
        await client.socket.send(iter(['{"type":', ' "ping", ', '"id": 1}']))
        assert (await client.recv())["id"] == 1
        await client.socket.send(iter([b'{"type":', b' "ping"}']))
        assert (await client.recv())["data"]["code"] == "bad_json"

        async def forever() -> AsyncIterator[str]:
            for _ in range(3_000):
                yield ""

        sending = asyncio.create_task(client.socket.send(forever()))
        assert (await client.closed())[0] == 1009
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_reply_comes_after_the_events_before_it(hub: Running) -> None:
    """And before those after it, although events wait for the flush and replies do not."""
    async with await hub.client() as client:
        await client.subscribe("job:j")
        numbers = []
        for number in range(30):
            await hub.hub.broadcast_job_progress("j", {"progress": number, "status": "running"})
            await client.send("ping", number)
            message = await client.recv()
            while message["type"] != "pong":
                numbers.append(message["data"]["progress"]["progress"])
                message = await client.recv()
            assert numbers == list(range(number + 1))


async def test_auth_gives_the_role_of_the_token(hub: Running) -> None:
    """What was forbidden is allowed from then on; a provider's token ends what only readers hear."""
    async with await hub.client() as client:
        await client.subscribe("marketplace")
        assert (await client.ask("provider:remove", {"providerId": "x"}))["data"]["code"] == "forbidden"
        reply = await client.ask("auth", {"token": hub.tokens[OPERATOR]})
        assert reply["data"] == {"role": "operator", "subject": "test-operator"}
        assert (await client.ask("provider:remove", {"providerId": "x"}))["data"]["code"] == "not_found"
        assert hub.hub.stats().subscriptions == [("marketplace", 1)]
        reply = await client.ask("auth", {"token": hub.tokens[Role.PROVIDER]})
        assert reply["data"]["role"] == "provider"
        assert hub.hub.stats().subscriptions == []


async def test_failed_logins_are_counted_and_limited(hub: Running) -> None:
    """After ten, wrong tokens get rate_limited; the right one is let in all the same."""
    async with await hub.client() as client:
        codes = [(await client.ask("auth", {"token": "qbx_no"}))["data"]["code"] for _ in range(11)]
        assert codes == ["unauthenticated"] * 10 + ["rate_limited"]
        assert hub.hub.telemetry.auth_failures == 11
        assert (await client.ask("auth", {"token": hub.tokens[OPERATOR]}))["type"] == "authenticated"


async def test_stats_follow_connections_and_subscriptions(hub: Running) -> None:
    """As the guide's endpoint shows them."""
    one, two = await hub.client(), await hub.client()
    await one.subscribe("marketplace", "provider:abc")
    await two.subscribe("marketplace")
    stats = hub.hub.stats()
    assert stats.clients == 2
    assert dict(stats.subscriptions) == {"marketplace": 2, "provider:abc": 1}
    await one.socket.close()
    await eventually(lambda: hub.hub.stats().clients == 1)
    assert dict(hub.hub.stats().subscriptions) == {"marketplace": 1}
    await two.socket.close()


async def test_reports_of_unknown_jobs_are_acknowledged_as_stale(hub: Running) -> None:
    """They are never to be sent again; only who is no provider yet is refused."""
    async with await hub.agent() as agent:
        report = {"jobId": "j", "attempt": 1, "seq": 4, "progress": {"progress": 5}}
        assert (await agent.ask("JOB_PROGRESS", report))["data"]["code"] == "conflict"
        await agent.register()
        ack = await agent.ask("JOB_PROGRESS", report)
        assert (ack["type"], ack["data"]) == ("ack", {"jobId": "j", "attempt": 1, "seq": 4, "stale": True})


async def test_a_mistake_of_the_hub_is_said_and_logged_and_ends_nothing(
    hub: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets `internal` with its id; the log has the traceback."""
    from qubix_tui.hub import conversation

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(conversation.HANDLERS, "ping", broken)
    async with await hub.client() as client:
        await client.send("ping", id=9)
        error = await client.recv()
        assert (error["data"]["code"], error["id"]) == ("internal", 9)
        assert "ZeroDivisionError" in caplog.text
        assert (await client.ask("unsubscribe", subscriptionId="job:x"))["type"] == "unsubscribed"


async def test_the_guides_snippet_works_as_written(hub: Running) -> None:
    """Connect, subscribe, print what comes: nothing else is needed."""
    from websockets.asyncio.client import connect

    async with connect(hub.hub.url, origin="http://localhost:3000") as socket:  # type: ignore[arg-type]
        await socket.send(json.dumps({"type": "subscribe:marketplace"}))
        types = [json.loads(await socket.recv())["type"] for _ in range(2)]
        assert types == ["connected", "subscribed"]
        async with await hub.agent() as agent:
            await agent.register(gpuModel="RTX 4090", pricePerHour=0.5)
        message = json.loads(await socket.recv())
        assert message["type"] == "PROVIDER_REGISTERED"
        assert message["data"]["gpuModel"] == "RTX 4090"
