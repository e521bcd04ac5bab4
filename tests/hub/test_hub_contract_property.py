"""Whatever a client sends, the hub answers by the contract and goes on."""

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.conversation import HANDLERS
from qubix_tui.hub.limits import Limits
from qubix_tui.protocol import codec
from qubix_tui.protocol.requests import REQUESTS
from qubix_tui.protocol.tokens import Role
from tests.hub.wire import Client, running

REPLIES: dict[str, set[str]] = {
    "subscribe:marketplace": {"subscribed"},
    "subscribe:provider": {"subscribed"},
    "subscribe:job": {"subscribed"},
    "unsubscribe": {"unsubscribed"},
    "ping": {"pong"},
    "auth": {"authenticated"},
    "provider:register": {"registered"},
    "provider:status": {"ok"},
    "provider:remove": {"ok"},
    "provider:history": {"history"},
    "JOB_PROGRESS": {"ack"},
    "JOB_LOGS": {"ack"},
    "JOB_COMPLETED": {"ack"},
    "token:issue": {"issued"},
    "token:list": {"tokens"},
    "audit:list": {"audit"},
    "enroll:new": {"enrollment"},
    "hub:stats": {"hub_statistics"},
}
"""What answers each type, beside `error`, which answers all."""

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
IDS = st.sampled_from(["a", "b", "sim-a", "*", "", "../x", "x" * 65])
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "workerId": IDS,
        "instance": IDS,
        "providerId": IDS,
        "jobId": IDS,
        "attempt": st.integers(-1, 3) | ANYTHING,
        "seq": st.integers(-1, 3),
        "seconds": st.integers(0, 900) | st.floats(allow_nan=False, allow_infinity=False),
        "snapshot": st.booleans(),
        "digest": st.sampled_from([None, 0.1, 1, 60, 0, -1, 1e308, "1"]),
        "since": st.integers(-1, 5) | st.none(),
        "epoch": st.sampled_from(["x", None, 3]),
        "paused": st.booleans(),
        "draining": st.booleans(),
        "reason": st.text(max_size=5),
        "name": st.text(max_size=20) | SCALARS,
        "simulated": st.booleans(),
        "metrics": st.fixed_dictionaries({}, optional={"cpuPercent": SCALARS, "gpus": ANYTHING}),
        "late": st.booleans(),
        "progress": ANYTHING,
        "token": st.text(max_size=10),
        "workload": IDS,
        "status": st.sampled_from(["completed", "failed", "x"]),
        "stream": st.just("stdout"),
        "from": st.integers(0, 9),
        "text": st.text(max_size=9),
        "code": IDS,
    },
)
REQUEST = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(REQUESTS)) | st.text(max_size=5)},
    optional={"subscriptionId": IDS | st.sampled_from(["marketplace", "provider:a", "job:*"]) | SCALARS},
)


@settings(max_examples=60)
@given(
    st.sampled_from([Role.VIEWER, Role.OPERATOR, Role.PROVIDER]),
    st.lists(st.tuples(REQUEST, MEMBERS | ANYTHING), min_size=1, max_size=12),
)
def test_every_request_gets_exactly_its_reply(role: Role, requests: list[tuple[dict[str, Any], Any]]) -> None:
    """One reply of the right type or one precise error, each with its id, in order; every message decodes.

    The hub goes on, and has made no mistake of its own.
    """

    async def run() -> None:
        config = HubConfig(port=0, limits=Limits(refusals_burst=10_000))
        async with running(config) as hub, await hub.client(role) as client:
            for number, (request, data) in enumerate(requests):
                await client.socket.send(json.dumps({**request, "id": number, "data": data}))
            replies = await _replies(client)
            for number, (request, _) in enumerate(requests):
                answers = [reply for reply in replies if reply.get("id") == number]
                kind = request["type"]
                if kind == "GPU_METRICS_UPDATE" and not answers:
                    continue
                assert {reply["type"] for reply in answers} <= REPLIES.get(kind, set()) | {"error"}
                assert len(answers) == 1 or kind == "provider:history"
                assert answers[0]["data"].get("code") != "internal"
            order = [reply["id"] for reply in replies if "id" in reply]
            assert order == sorted(order)

    asyncio.run(run())


async def _replies(client: Client) -> list[dict[str, Any]]:
    messages = await client.heard()
    for message in messages:
        codec.decode_event(json.dumps(message).encode())
    return messages


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=10))
def test_arbitrary_bytes_are_answered_and_end_nothing(payloads: list[bytes]) -> None:
    """As text frames, UTF-8 or not: one error each."""

    async def run() -> None:
        async with running() as hub, await hub.client() as client:
            for payload in payloads:
                await client.socket.send(payload, text=True)
            replies = await client.heard()
            assert [reply["type"] for reply in replies] == ["error"] * len(payloads)
            assert {reply["data"]["code"] for reply in replies} <= {"bad_json", "invalid", "unknown_type"}

    asyncio.run(run())


def test_there_is_a_handler_for_every_request() -> None:
    """Of the contract, and for nothing else."""
    assert set(HANDLERS) == set(REQUESTS)
