"""The tie to the hub: registers, sends, stays away where it is not wanted."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from agent.backlog import Backlog
from agent.late import METRICS
from agent.link import REGISTER, Link, new_instance
from agent.sampler import Sample
from agent.sensors.gpu import NO_READING
from agent.target import Target
from agent.transport import Transport
from qubix_tui.client import BadUrl, RetryPolicy
from qubix_tui.protocol.channels import is_id
from qubix_tui.protocol.records import Metrics, ProviderSpec
from qubix_tui.protocol.requests import Request
from qubix_tui.protocol.tokens import Role, new_token
from tests.client.scripted_hub import Peer, ScriptedHub, until

FAST = RetryPolicy(attempts=None, jitter=(0.01, 0.02), refused_every=60.0)


class Owner:
    """Everything around a link that a test looks at."""

    def __init__(self, hub: ScriptedHub) -> None:
        self.spec = ProviderSpec(worker_id="worker-1", name="rig-7", cpu_cores=8)
        self.registered: list[str] = []
        self.complaints: list[str] = []
        self.sessions = 0
        self.refusal: dict[str, Any] | None = None
        self.now = 1000.0
        self.last_sample: float | None = None
        self.link = Link(
            Target(hub.url, None),
            spec=lambda: self.spec,
            registered=self.registered.append,
            complain=self.complaints.append,
            instance="instance-1",
            backlog=Backlog(lambda: self.now),
            retry=FAST,
        )
        hub.answers[REGISTER] = self.register

    async def register(self, peer: Peer, request: Request) -> None:
        """Answer a registration."""
        self.sessions += 1
        if self.refusal is not None:
            await peer.send("error", self.refusal, request_id=request.id)
        else:
            data = {
                "providerId": "rig-7-abc123",
                "session": self.sessions,
                "jobs": [],
                "lastSampleSecondsAgo": self.last_sample,
            }
            await peer.send("registered", data, request_id=request.id)


def sample(seq: int) -> Sample:
    """A sample with nothing but its number."""
    return Sample(Metrics(seq=seq), NO_READING)


@pytest.fixture
async def hub() -> AsyncIterator[ScriptedHub]:
    """A hub that listens, and is stopped after the test."""
    async with ScriptedHub() as listening:
        yield listening


@pytest.fixture
async def owner(hub: ScriptedHub) -> AsyncIterator[Owner]:
    """A link to that hub, not started; closed after the test."""
    made = Owner(hub)
    try:
        yield made
    finally:
        await made.link.close()


async def test_it_registers_before_it_sends(hub: ScriptedHub, owner: Owner) -> None:
    """On every open the record comes first, with this start's instance; then the samples, as they are."""
    await owner.link.start()
    await until(lambda: owner.link.is_open)
    assert owner.registered == ["rig-7-abc123"]
    assert owner.link.send(sample(5))
    peer = await hub.peer()
    metrics = await peer.request(METRICS)
    assert metrics.data.metrics == Metrics(seq=5)
    assert metrics.data.late is False
    assert [request.type for request in peer.requests if request.type != "ping"] == [REGISTER, METRICS]
    record = peer.requests[0].data
    assert (record.worker_id, record.name, record.cpu_cores) == ("worker-1", "rig-7", 8)
    assert record.instance == "instance-1"


async def test_it_registers_again_after_a_loss(hub: ScriptedHub, owner: Owner) -> None:
    """A cut connection is dialled again by itself, with the same identity and the same instance."""
    await owner.link.start()
    peer = await hub.peer(1)
    await peer.request(REGISTER)
    await until(lambda: owner.link.is_open)
    peer.cut()
    again = await (await hub.peer(2)).request(REGISTER)
    assert (again.data.worker_id, again.data.instance) == ("worker-1", "instance-1")
    await until(lambda: len(owner.registered) == 2)


async def test_the_newest_sample_follows_the_registration(hub: ScriptedHub, owner: Owner) -> None:
    """Of what could not be sent the newest goes out once, with the registration; what is older is gone."""
    assert not owner.link.send(sample(1))
    assert not owner.link.send(sample(2))
    await owner.link.start()
    await until(lambda: owner.link.is_open)
    assert owner.link.send(sample(3))
    peer = await hub.peer(1)
    await peer.request(METRICS, 2)
    peer.cut()
    again = await hub.peer(2)
    await until(lambda: owner.link.is_open and len(owner.registered) == 2)
    owner.link.send(sample(4))
    await again.request(METRICS)
    sent = [[one.data.metrics.seq for one in each.requests if one.type == METRICS] for each in (peer, again)]
    assert sent == [[2, 3], [4]]


def send_one_a_second(owner: Owner, first: int, end: int) -> None:
    """Send, or fail to send, samples as their seconds go by."""
    for seq in range(first, end):
        owner.link.send(sample(seq))
        owner.now += 1


async def live_and_late(peer: Peer, count: int) -> tuple[list[int | None], list[tuple[int | None, float]]]:
    """Wait for so many samples; gives the numbers of the live ones, and number and age of the late ones."""
    await peer.request(METRICS, count)
    sent = [request.data for request in peer.requests if request.type == METRICS]
    live = [each.metrics.seq for each in sent if not each.late]
    return live, [(each.metrics.seq, each.age_seconds) for each in sent if each.late]


async def test_what_a_hub_was_away_for_is_sent_late(hub: ScriptedHub, owner: Owner) -> None:
    """After a gap each five seconds of it are sent once as late, with their age, newest first."""
    send_one_a_second(owner, 1, 32)
    await owner.link.start()
    await until(lambda: owner.link.is_open)
    owner.now += 0.5
    owner.link.send(sample(32))
    live, late = await live_and_late(await hub.peer(), 8)
    assert live == [31, 32]
    assert len(late) >= 6
    numbers = [seq for seq, _ in late]
    assert numbers == sorted(numbers, reverse=True)  # type: ignore[type-var]
    assert all(age == pytest.approx(32.5 - (seq or 0)) for seq, age in late)
    assert all(3 <= (later or 0) - (earlier or 0) <= 7 for later, earlier in pairwise(numbers))


async def test_only_what_the_hub_lacks_is_sent_late(hub: ScriptedHub, owner: Owner) -> None:
    """A hub that says when it last had a sample is sent what came since, though it seemed to be sent then."""
    await owner.link.start()
    peer = await hub.peer(1)
    await until(lambda: owner.link.is_open)
    send_one_a_second(owner, 1, 21)
    await peer.request(METRICS, 20)
    peer.cut()
    await until(lambda: not owner.link.is_open)
    owner.last_sample = 10.5
    again = await hub.peer(2)
    await until(lambda: owner.link.is_open)
    owner.link.send(sample(21))
    live, late = await live_and_late(again, 3)
    assert live == [21]
    assert {seq for seq, _ in late} <= set(range(11, 21))


async def test_a_hub_that_has_enough_is_spared(hub: ScriptedHub, owner: Owner) -> None:
    """A hub that limits this agent gets live samples alone until the time that it named is over."""
    send_one_a_second(owner, 1, 600)
    await owner.link.start()
    await until(lambda: owner.link.is_open)
    owner.link.send(sample(600))
    peer = await hub.peer()
    await live_and_late(peer, 3)
    await peer.send("error", {"code": "rate_limited", "message": "too many messages", "retryAfter": 60})
    await until(lambda: owner.link._late._not_before > 0)
    assert owner.link._late._timer is None
    owner.link.send(sample(601))
    assert owner.link._late._timer is None
    owner.link._late._not_before = 0.0
    before = len([request for request in peer.requests if request.type == METRICS])
    owner.link.send(sample(602))
    await peer.request(METRICS, before + 3)


async def test_a_hub_that_was_held_up_gets_what_it_asks_for(hub: ScriptedHub, owner: Owner) -> None:
    """On its wish what was sampled since then goes out again, as late, on the connection that there is."""
    await owner.link.start()
    peer = await hub.peer(1)
    await until(lambda: owner.link.is_open)
    send_one_a_second(owner, 1, 31)
    await peer.request(METRICS, 30)
    await peer.send("provider:backfill", {"secondsAgo": 20.5})
    await until(lambda: owner.link._backlog.owes)
    owner.link.send(sample(31))
    await until(lambda: len(numbers_sent_late(peer)) >= 4)
    assert set(numbers_sent_late(peer)) <= set(range(11, 31))


async def test_what_could_not_be_sent_late_is_sent_next_time(hub: ScriptedHub, owner: Owner) -> None:
    """A connection that is lost meanwhile costs none of them."""
    send_one_a_second(owner, 1, 61)
    await owner.link.start()
    await until(lambda: owner.link.is_open)
    owner.link.send(sample(61))
    peer = await hub.peer(1)
    await live_and_late(peer, 4)
    peer.cut()
    await until(lambda: not owner.link.is_open)
    owner.last_sample = 0.0
    again = await hub.peer(2)
    await until(lambda: owner.link.is_open)
    owner.link.send(sample(62))
    both = (peer, again)
    wanted = set(range(12))
    await until(lambda: wanted <= {(seq or 0) // 5 for each in both for seq in numbers_sent_late(each)})


def numbers_sent_late(peer: Peer) -> list[int | None]:
    """The numbers of the samples that came late on one connection."""
    sent = [request.data for request in peer.requests if request.type == METRICS]
    return [each.metrics.seq for each in sent if each.late]


async def test_each_reason_is_said_once(hub: ScriptedHub, owner: Owner) -> None:
    """A hub that is away is complained of once, however often it is tried; a new loss is said again."""
    await hub.stop()
    await owner.link.start()
    await until(lambda: owner.link._connection.attempt >= 3)
    for seq in range(5):
        owner.link.send(sample(seq))
    assert len(owner.complaints) == 1
    assert "connection refused" in owner.complaints[0]
    await hub.listen()
    await until(lambda: owner.link.is_open)
    await hub.stop()
    await until(lambda: owner.link._connection.attempt >= 2)
    for seq in range(5):
        owner.link.send(sample(seq))
    assert len(owner.complaints) == 2


@pytest.mark.parametrize("code", ["conflict", "forbidden", "unauthenticated", "invalid"])
async def test_a_refused_registration_is_not_hammered(code: str, hub: ScriptedHub, owner: Owner) -> None:
    """A hub that says no is left alone for a minute, and what it said is passed on in one sentence."""
    owner.refusal = {"code": code, "message": "another agent has this identity"}
    await owner.link.start()
    await until(lambda: owner.link._connection.next_attempt_at is not None)
    waited_for = owner.link._connection.next_attempt_at
    assert waited_for is not None
    assert waited_for - asyncio.get_running_loop().time() > 55
    owner.link.send(sample(1))
    owner.link.send(sample(2))
    expected = "the hub refuses to register this provider: another agent has this identity"
    assert owner.complaints == [expected]
    assert (owner.sessions, owner.registered) == (1, [])


async def test_a_busy_hub_is_asked_again_soon(hub: ScriptedHub, owner: Owner) -> None:
    """A refusal that has nothing to do with this provider is tried again like a loss."""
    owner.refusal = {"code": "unavailable", "message": "not now"}
    await owner.link.start()
    await until(lambda: owner.sessions >= 2)
    owner.refusal = None
    await until(lambda: owner.link.is_open)


async def test_a_refused_token_is_not_hammered(hub: ScriptedHub, owner: Owner) -> None:
    """A handshake that is refused is repeated after a minute, not before."""
    hub.refusal = (401, b'{"error": "this token is not known here"}')
    await owner.link.start()
    await until(lambda: owner.link._connection.next_attempt_at is not None)
    owner.link.send(sample(1))
    assert hub.dials == 1
    assert "this token is not known here" in owner.complaints[0]


async def test_a_changed_record_is_registered_again(hub: ScriptedHub, owner: Owner) -> None:
    """A GPU that comes later reaches the hub with the next sample, on the same connection, once."""
    await owner.link.start()
    peer = await hub.peer()
    await until(lambda: owner.link.is_open)
    owner.link.send(sample(1))
    owner.spec = ProviderSpec(worker_id="worker-1", gpu_count=1)
    for seq in range(2, 6):
        owner.link.send(sample(seq))
        await asyncio.sleep(0)
    second = await peer.request(REGISTER, 2)
    assert second.data.gpu_count == 1
    await until(lambda: owner.link._update is not None and owner.link._update.done())
    owner.link.send(sample(6))
    await peer.request(METRICS, 6)
    assert owner.sessions == 2
    assert owner.registered == ["rig-7-abc123"]


async def test_a_refused_change_is_said_and_not_repeated(hub: ScriptedHub, owner: Owner) -> None:
    """A changed record that the hub does not take is complained of, and not sent each second."""
    await owner.link.start()
    await until(lambda: owner.link.is_open)
    owner.refusal = {"code": "invalid", "message": "expected a number", "field": "data.gpuCount"}
    owner.spec = ProviderSpec(worker_id="worker-1", gpu_count=1)
    owner.link.send(sample(1))
    await until(lambda: bool(owner.complaints))
    owner.link.send(sample(2))
    await (await hub.peer()).request(METRICS, 2)
    assert "expected a number" in owner.complaints[0]
    assert owner.sessions == 2
    assert owner.link.is_open


async def test_it_says_goodbye(hub: ScriptedHub, owner: Owner) -> None:
    """Closing is a clean close, by which the hub knows at once that this provider is gone."""
    await owner.link.start()
    await until(lambda: owner.link.is_open)
    peer = await hub.peer()
    await owner.link.close()
    await peer.websocket.wait_closed()
    assert peer.websocket.close_code == 1000


def test_a_token_is_not_sent_in_the_clear() -> None:
    """A token for a hub beyond this machine needs TLS, or the owner's explicit word."""

    def link(*, insecure: bool) -> Link:
        return Link(
            Target("ws://192.0.2.1:3001", new_token(Role.PROVIDER), Transport(insecure=insecure)),
            spec=lambda: ProviderSpec(worker_id="worker-1"),
            registered=lambda _: None,
            complain=lambda _: None,
            instance="instance-1",
        )

    with pytest.raises(BadUrl, match="not sent in the clear"):
        link(insecure=False)
    assert link(insecure=True).target.url == "ws://192.0.2.1:3001"


def test_every_start_has_an_instance_of_its_own() -> None:
    """Two starts are told apart by a random id."""
    first, second = new_instance(), new_instance()
    assert is_id(first)
    assert first != second
