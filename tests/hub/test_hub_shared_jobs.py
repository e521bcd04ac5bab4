"""Jobs of hubs that share a store, over real sockets: one marketplace, whichever hub somebody speaks to."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qubix_tui.hub import job_archive, job_watch
from qubix_tui.hub.job_state import FINISHED_TABLE, Kept
from qubix_tui.hub.jobs import RETENTION_SECONDS
from qubix_tui.protocol import codec
from qubix_tui.protocol.job_records import JobState
from qubix_tui.protocol.tokens import Role, new_token
from tests.hub.manual_clock import ManualClock
from tests.hub.scripted_agent import WORKLOADS, ScriptedAgent, join, submit
from tests.hub.shared_store import SharedEngine
from tests.hub.sharing import Sharing, sharing
from tests.hub.wire import Client, Message, eventually, running


class Hubs:
    """Two hubs on one store: a, which leads, and b."""

    def __init__(self, made: Sharing) -> None:
        self.store = made.store
        self.a, self.b = made.hubs["a"], made.hubs["b"]
        self.engines = made.engines

    async def watch(self, job_id: str) -> list[Client]:
        """A client of each hub that follows a job, and the marketplace."""
        clients = [await hub.client() for hub in (self.a, self.b)]
        for client in clients:
            await client.subscribe("marketplace", f"job:{job_id}")
            await client.heard()
        return clients


@pytest.fixture
def clock() -> ManualClock:
    """The clock of both hubs."""
    return ManualClock()


@pytest.fixture
async def hubs(clock: ManualClock) -> AsyncIterator[Hubs]:
    """Two hubs."""
    async with sharing("ab", clock=clock) as made:
        yield Hubs(made)


@pytest.fixture
async def operator(hubs: Hubs) -> AsyncIterator[Client]:
    """Who submits, at a."""
    async with await hubs.a.client(Role.OPERATOR) as client:
        yield client


@pytest.fixture
async def agent(hubs: Hubs) -> AsyncIterator[ScriptedAgent]:
    """A provider at b, at 3.6 an hour: a thousandth of the currency each second."""
    made = await join(hubs.b)
    await eventually(lambda: len(hubs.a.hub.providers()) == 1)
    yield made
    await made.client.socket.close()


def _held(job_id: str, last_seq: int) -> dict[str, Any]:
    """What an agent that registers says of its first attempt at a job."""
    return {"jobId": job_id, "attempt": 1, "state": "running", "lastSeq": last_seq}


def told(messages: list[Message]) -> list[Any]:
    """What each event says: all of it but when it was sent."""
    return [{**message, "timestamp": None} for message in messages if message["type"] != "pong"]


async def test_a_job_is_the_same_on_all_hubs(
    hubs: Hubs, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """Submitted at one and run at another: same events and offsets, same log, record, costs and receipts."""
    job_id = await submit(operator)
    watchers = await hubs.watch(job_id)
    order = await agent.start()
    assert order["jobId"] == job_id
    clock.advance(10)
    await agent.progress(order, 50.0, message="half")
    await agent.log(order, "hello\n")
    clock.advance(5)
    for hub in (hubs.a, hubs.b):
        [job] = await hub.hub.jobs([job_id])
        assert (job.state, job.cost_micros) == ("running", 15_000)
        assert job.progress is not None
        assert (job.progress.progress, job.progress.message, job.progress.elapsed_seconds) == (50, "half", 15)
    await agent.complete(order, result={"score": 7})
    heard = [await watcher.heard() for watcher in watchers]
    assert told(heard[0]) == told(heard[1])
    kinds = [message["type"] for message in heard[0]]
    assert kinds.count("JOB_LOGS") == kinds.count("JOB_COMPLETED") == 1
    views = []
    for hub in (hubs.a, hubs.b):
        [job] = await hub.hub.jobs([job_id])
        views.append((job, await hub.hub.receipts(job_id), await hub.hub.log(job_id)))
    assert views[0] == views[1]
    assert (views[0][0].state, views[0][0].cost_micros) == ("completed", 15_000)
    assert [piece.text for piece in views[0][2]] == ["hello\n"]
    assert hubs.a.hub.services.jobs.book.attempts.total() == 0
    assert hubs.b.hub.services.jobs.book.attempts.total() == 1


async def test_a_job_is_cancelled_at_any_hub(hubs: Hubs, operator: Client, agent: ScriptedAgent) -> None:
    """Its agent is told once, by the hub that it is connected to, to end it."""
    job_id = await submit(operator)
    order = await agent.start()
    assert (await operator.ask("job:cancel", {"jobId": job_id}))["type"] == "ok"
    stop = await agent.client.until("job:stop")
    assert (stop["data"]["jobId"], stop["data"]["attempt"]) == (job_id, 1)
    assert stop["data"]["reason"].startswith("cancelled_by")
    assert not [one for one in await agent.client.heard() if one["type"].startswith("job:")]
    await agent.complete(order, "cancelled")
    for hub in (hubs.a, hubs.b):
        [job] = await hub.hub.jobs([job_id])
        assert job.state == "cancelled"


async def test_an_assigned_job_is_taken_back_at_any_hub(
    hubs: Hubs, operator: Client, agent: ScriptedAgent
) -> None:
    """It is over at once; its agent hears of it, and is told not to start should it have accepted."""
    job_id = await submit(operator)
    order = await agent.assigned()
    await operator.ask("job:cancel", {"jobId": job_id})
    assert (await agent.client.until("job:stop"))["data"]["jobId"] == job_id
    assert (await agent.accept(order))["type"] == "job:stop"
    assert hubs.b.hub.services.jobs.book.held == {}


async def test_an_agent_hears_that_it_is_registered_first(hubs: Hubs, operator: Client) -> None:
    """And then of the job that it got meanwhile, even if its hub hears of both in one go."""
    job_id = await submit(operator)
    client = await hubs.b.agent()
    hubs.engines["b"].held = True
    await client.send(
        "provider:register", {"workerId": "w1", "instance": "i", "workloads": WORKLOADS}, id="r"
    )
    await eventually(lambda: hubs.a.hub.services.jobs.book.held)
    hubs.engines["b"].held = False
    hubs.engines["b"].hear()
    assert (await client.until("registered", "job:assign"))["type"] == "registered"
    assert (await client.until("job:assign"))["data"]["jobId"] == job_id
    assert not [one for one in await client.heard() if one["type"] == "job:assign"]


async def test_why_it_waits_is_told_by_all_hubs(hubs: Hubs, operator: Client, agent: ScriptedAgent) -> None:
    """A provider is connected whichever hub has its connection."""
    await agent.client.ask("provider:status", {"paused": True})
    job_id = await submit(operator)
    other = await hubs.b.client()
    answers = [await client.ask("job:why", {"jobId": job_id}) for client in (operator, other)]
    assert answers[0]["data"] == answers[1]["data"]
    rules = {rule["rule"]: rule["passing"] for rule in answers[0]["data"]["rules"]}
    assert (rules["online"], rules["available"]) == (1, 0)


async def test_a_key_is_known_where_its_job_is_not_yet(hubs: Hubs, operator: Client) -> None:
    """Who is given a job's id can ask for that job at once."""
    token = hubs.a.tokens[Role.OPERATOR]
    hubs.b.access.add_token(token, Role.OPERATOR, "op")
    elsewhere = await hubs.b.client(token=token)
    hubs.engines["b"].held = hubs.engines["b"].hears_when_asked = True
    first = await submit(operator, idempotencyKey="k")
    assert await submit(elsewhere, idempotencyKey="k") == first
    assert (await elsewhere.ask("job:cancel", {"jobId": first}))["type"] == "ok"


async def test_a_job_is_known_at_the_next_hub_at_once(hubs: Hubs, operator: Client) -> None:
    """However late that hears of it: it is shown there, with why it waits, and can be cancelled."""
    other, late = await hubs.b.client(Role.OPERATOR), hubs.engines["b"]
    late.hears_when_asked = True
    for kind, answer in (("job:why", "match"), ("job:cancel", "ok")):
        late.held = True
        job_id = await submit(operator)
        assert (await other.ask(kind, {"jobId": job_id}))["type"] == answer
    late.held = True
    job_id = await submit(operator)
    await other.ask("subscribe:job", {"snapshot": True}, subscriptionId=job_id)
    shown = [one for one in await other.heard() if one["type"] == "MARKETPLACE_UPDATE"]
    assert [one["data"]["job"]["id"] for one in shown] == [job_id]


async def test_an_agent_goes_on_at_another_hub(hubs: Hubs, operator: Client, clock: ManualClock) -> None:
    """And back: with its job, and its log, of which each hub knows what the other wrote."""
    token = new_token(Role.PROVIDER)
    for hub in (hubs.a, hubs.b):
        hub.access.add_token(token, Role.PROVIDER, "agent")
    agent = await join(hubs.b, await hubs.b.client(token=token))
    job_id = await submit(operator)
    watchers = await hubs.watch(job_id)
    order = await agent.start()
    await agent.log(order, "one ")
    for number, hub in enumerate((hubs.a, hubs.b)):
        clock.advance(10)
        client, agent.client = agent.client, await hub.client(token=token)
        reply = await agent.client.register("w1", name="Rig", jobs=[_held(job_id, 1)])
        assert [(one["jobId"], one["do"]) for one in reply["data"]["jobs"]] == [(job_id, "continue")]
        assert (await client.closed())[0] == 4009
        assert (await agent.renew(order))["data"]["jobs"] == [{"jobId": job_id, "attempt": 1}]
        await agent.log(order, f"{number} ", 4 + 2 * number)
    await agent.complete(order)
    heard = [await watcher.heard() for watcher in watchers]
    assert told(heard[0]) == told(heard[1])
    assert "".join(one["data"]["text"] for one in heard[0] if one["type"] == "JOB_LOGS") == "one 0 1 "
    book = hubs.a.hub.services.jobs.book
    [receipt] = await hubs.a.hub.receipts(job_id)
    assert receipt.running_ms == 20_000
    rows = await hubs.store.memory.load("job_logs")
    finished = await hubs.store.memory.load("finished_jobs")
    kept = codec.decode_record((await hubs.store.memory.load("finished_index"))[job_id], Kept)
    assert kept.size == sum(len(row) for row in [*rows.values(), *finished.values()])
    await eventually(lambda: book.archive.state(job_id) == "completed")


async def test_a_log_is_told_in_order_where_a_hub_was_held_up(
    hubs: Hubs, operator: Client, clock: ManualClock
) -> None:
    """It took a piece, and heard of that only with the next one, which its agent sent to another hub."""
    token = new_token(Role.PROVIDER)
    for hub in (hubs.a, hubs.b):
        hub.access.add_token(token, Role.PROVIDER, "agent")
    agent = await join(hubs.a, await hubs.a.client(token=token))
    job_id = await submit(operator)
    order = await agent.start()
    follower = (await hubs.watch(job_id))[0]
    hubs.engines["a"].held = True
    entries = len(hubs.store.log)
    unheard = asyncio.create_task(agent.log(order, "one "))
    await eventually(lambda: len(hubs.store.log) > entries)
    unheard.cancel()
    agent.client = await hubs.b.client(token=token)
    await agent.client.register("w1", name="Rig", jobs=[_held(job_id, 0)])
    await agent.log(order, "two", 4)
    hubs.engines["a"].held = False
    hubs.engines["a"].hear()
    logs = [one["data"]["text"] for one in await follower.heard() if one["type"] == "JOB_LOGS"]
    assert logs == ["one ", "two"]


@pytest.mark.parametrize("price", [1e12, 1e300], ids=str)
async def test_what_costs_more_than_can_be_told_ends_all_the_same(
    hubs: Hubs, operator: Client, clock: ManualClock, price: float
) -> None:
    """Its cost is not known; all hubs know how it ended, and one that starts can read it."""
    agent = await join(hubs.b, pricePerHour=price)
    job_id = await submit(operator)
    order = await agent.start()
    clock.advance(100)
    await agent.progress(order, 50.0)
    assert (await agent.complete(order))["type"] == "ack"
    async with running(clock=clock, engine=SharedEngine(hubs.store, "c")) as third:
        for hub in (hubs.a, hubs.b, third):
            [job] = await hub.hub.jobs([job_id])
            assert (job.state, job.cost_micros) == ("completed", None)
            [receipt] = await hub.hub.receipts(job_id)
            assert (receipt.running_ms, receipt.cost_micros) == (100_000, None)


async def test_what_a_hub_has_begun_to_decide_is_decided_when_it_leaves(
    hubs: Hubs,
    operator: Client,
    agent: ScriptedAgent,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody decides about the same job meanwhile: an agent that accepts too late is told so."""
    monkeypatch.setattr(job_watch, "LEASE_SECONDS", 60)
    await submit(operator)
    order = await agent.assigned()
    other = await hubs.b.client(Role.OPERATOR)
    entries = len(hubs.store.log)
    hubs.engines["b"].held = True
    clock.advance(11)
    await eventually(lambda: any(entry.node == "b" for entry in hubs.store.log[entries:]))
    taken = asyncio.create_task(submit(other))
    draining = asyncio.create_task(hubs.b.hub.drain(10.0))
    await eventually(lambda: not hubs.b.hub.ready)
    await agent.client.heard()
    answer = asyncio.create_task(agent.accept(order))
    await eventually(lambda: hubs.b.hub.telemetry.messages_received["job:accept"] == 1)
    hubs.engines["b"].held = False
    hubs.engines["b"].hear()
    assert (await answer)["type"] == "job:stop"
    await taken
    [job] = await hubs.a.hub.jobs([order["jobId"]])
    assert (job.state, job.reason) == ("queued", "accept_timeout")
    for client in (agent.client, other):
        await client.socket.close()
    await draining


async def test_old_jobs_are_gone_from_all_hubs(
    hubs: Hubs,
    operator: Client,
    agent: ScriptedAgent,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The leader drops them, so many rows in a commit, and the others forget them."""
    monkeypatch.setattr(job_archive, "DROP_CHANGES", 4)
    for _ in range(5):
        await submit(operator)
        order = await agent.start()
        await agent.log(order, "hello\n")
        await agent.complete(order)
    await eventually(lambda: len(hubs.a.hub.job_ids(JobState.COMPLETED)) == 5)
    clock.advance(31 * 86_400 + RETENTION_SECONDS)
    written = len(hubs.store.log)

    def dropped() -> list[int]:
        commits = hubs.store.log[written:]
        return [len(one.changes) for one in commits if one.changes[0].table == FINISHED_TABLE]

    await hubs.b.hub.services.jobs.sweep()
    assert dropped() == []
    await hubs.a.hub.services.jobs.sweep()
    assert dropped() == [6, 6, 3]
    assert list(hubs.a.hub.job_ids(None)) == []
    await eventually(lambda: list(hubs.b.hub.job_ids(None)) == [])
    assert await hubs.store.memory.load("job_logs") == {}
