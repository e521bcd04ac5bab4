"""The tie to a real hub: what each of its refusals makes an agent do, and a gap that is filled."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from agent.backlog import Backlog
from agent.link import REGISTER, Link
from agent.sampler import Sample
from agent.sensors.gpu import NO_READING
from agent.target import Target
from qubix_tui.client import RetryPolicy
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.limits import Limits
from qubix_tui.protocol.records import Metrics, ProviderSpec
from qubix_tui.protocol.tokens import Role, new_token
from tests.client.scripted_hub import until
from tests.hub.wire import Running, running

SPEC = ProviderSpec(worker_id="worker-1", name="rig-7")

FAST = RetryPolicy(attempts=None, jitter=(0.01, 0.02), refused_every=60.0)


@pytest.fixture
async def hub() -> AsyncIterator[Running]:
    """A hub that listens."""
    async with running() as made:
        yield made


def new_link(hub: Running, token: str, complaints: list[str], **options: Any) -> Link:
    """A link, not started, and where it puts its complaints."""
    usual: dict[str, Any] = {"instance": "instance-1", "retry": FAST}
    return Link(
        Target(hub.hub.url, token),
        spec=lambda: SPEC,
        registered=lambda _: None,
        complain=complaints.append,
        **{**usual, **options},
    )


@asynccontextmanager
async def linked(hub: Running, token: str, **options: Any) -> AsyncIterator[tuple[Link, list[str]]]:
    """A link that is open, and what it complains of."""
    complaints: list[str] = []
    link = new_link(hub, token, complaints, **options)
    await link.start()
    try:
        await until(lambda: link.is_open)
        yield link, complaints
    finally:
        await link.close()


def sample(seq: int, **members: Any) -> Sample:
    """A sample with little more than its number."""
    return Sample(Metrics(seq=seq, **members), NO_READING)


async def stays_away(link: Link, complaints: list[str], because: str) -> None:
    """Check that a link that was cut off says why, once, and waits about a minute before it comes back."""
    await until(lambda: link._connection.next_attempt_at is not None)
    wait = (link._connection.next_attempt_at or 0) - asyncio.get_running_loop().time()
    assert 55 < wait <= 60
    for seq in range(3):
        link.send(sample(seq))
    assert len(complaints) == 1
    assert because in complaints[0]


async def test_a_revoked_token(hub: Running) -> None:
    """A token that is revoked while it is used: said, and tried again each minute, not at once."""
    async with await hub.client(Role.OPERATOR) as operator:
        issued = (await operator.ask("token:issue", {"role": "provider"}))["data"]
        async with linked(hub, issued["token"]) as (link, complaints):
            await operator.ask("token:revoke", {"tokenId": issued["tokenId"]})
            await stays_away(link, complaints, "4003")


async def test_an_unknown_token(hub: Running) -> None:
    """A handshake that is refused is repeated after a minute."""
    complaints: list[str] = []
    link = new_link(hub, new_token(Role.PROVIDER), complaints)
    await link.start()
    try:
        await stays_away(link, complaints, "401")
    finally:
        await link.close()


async def test_replaced_by_a_newer_session(hub: Running) -> None:
    """The older of two sessions gives way, and says so."""
    token = hub.provider_token()
    async with linked(hub, token) as (link, complaints), await hub.client(token=token) as other:
        newer = {"workerId": SPEC.worker_id, "name": SPEC.name, "instance": "instance-1"}
        assert (await other.ask(REGISTER, newer))["type"] == "registered"
        await stays_away(link, complaints, "4009")


async def test_flooding() -> None:
    """An agent that sends too much, whatever the reason, is cut off, says so and waits."""
    limits = Limits(messages_per_second=0.1, messages_burst=20, refusals_per_second=0.1, refusals_burst=3)
    async with (
        running(HubConfig(port=0, limits=limits)) as hub,
        linked(hub, hub.provider_token()) as (link, complaints),
    ):
        for seq in range(40):
            link.send(sample(seq))
        await until(lambda: not link.is_open)
        await stays_away(link, complaints, "4029")


async def test_a_duplicate_identity(hub: Running) -> None:
    """The second agent says what it is and what to do, and waits; the first is not disturbed."""
    token = hub.provider_token()
    async with linked(hub, token) as (first, first_complaints):
        complaints: list[str] = []
        second = new_link(hub, token, complaints, instance="instance-2")
        await second.start()
        try:
            await stays_away(second, complaints, "duplicate identity")
        finally:
            await second.close()
        assert "remove agent/worker-id" in complaints[0]
        assert (first.is_open, first_complaints) == (True, [])


async def test_a_gap_has_no_hole_afterwards(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sampled in ten minutes without a hub is in its history, at its time, whatever a clock says."""
    monkeypatch.setattr("agent.late.EVERY_SECONDS", 0.01)
    seconds_ago = 0.0
    backlog = Backlog(lambda: time.monotonic() - seconds_ago)
    for seq in range(590):
        seconds_ago = 590.0 - seq
        wrong = Metrics(seq=seq, cpu_percent=seq / 10, sampled_at="2001-01-01T00:00:00.000Z")
        backlog.keep(wrong, is_owed=True)
    seconds_ago = 0.0
    token = hub.provider_token()
    async with linked(hub, token, backlog=backlog) as (link, _), await hub.client() as viewer:
        link.send(sample(590, cpu_percent=59.0))
        (provider,) = hub.hub.providers()
        asked = {"providerId": provider.id, "seconds": 600}

        async def steps() -> list[float]:
            history = (await viewer.ask("provider:history", asked))["data"]
            return [point["cpuPercent"] for point in history["points"]]

        async with asyncio.timeout(20):
            while len(values := await steps()) < 118:  # noqa: ASYNC110 - the hub tells nobody
                await asyncio.sleep(0.02)
    # Half a percent a step: none is missing, and none is where another should be. The first and the last are
    # there in part.
    whole = values[1:-1]
    assert all(later - earlier == pytest.approx(0.5, abs=0.15) for earlier, later in pairwise(whole))
    assert values[0] < 1.0
    assert values[-1] == 59.0
    assert whole[-1] > 58.0
