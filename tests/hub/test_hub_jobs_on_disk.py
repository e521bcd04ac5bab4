"""Jobs of a hub whose store outlives it: nothing that was acknowledged is lost, or happens twice."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.engine.database import Database
from qubix_tui.hub.job_archive import DROP_BATCH
from qubix_tui.hub.job_state import JobSettings
from qubix_tui.hub.jobs import RETENTION_SECONDS
from qubix_tui.hub.registry import UNREACHABLE_SECONDS
from qubix_tui.protocol.tokens import Role, new_token
from tests.hub.conftest import MakeStore
from tests.hub.manual_clock import ManualClock
from tests.hub.scripted_agent import ScriptedAgent, join, submit
from tests.hub.wire import Message, Running, running

Start = Callable[..., AbstractAsyncContextManager[Running]]

LEASE, MARGIN = 300.0, 30.0
DAY = 86_400.0


@pytest.fixture
def clock() -> ManualClock:
    """Time, which stands still."""
    return ManualClock()


@pytest.fixture
def start(make_store: MakeStore, clock: ManualClock) -> Start:
    """What starts a hub on one and the same store."""

    def start(**settings: Any) -> AbstractAsyncContextManager[Running]:
        engine = make_store(clock=clock, max_age=365 * DAY)
        config = HubConfig(port=0, jobs=JobSettings(**settings))
        return running(config, clock=clock, engine=engine)

    return start


TOKEN = new_token(Role.PROVIDER)


async def connected(hub: Running, *held: Message, **members: Any) -> ScriptedAgent:
    """An agent with the one token, that says which jobs it holds."""
    hub.access.add_token(TOKEN, Role.PROVIDER, "agent")
    client = await hub.client(token=TOKEN)
    jobs = [{"jobId": order["jobId"], "attempt": order["attempt"], "state": "running"} for order in held]
    return await join(hub, client, jobs=jobs, **members)


async def record(hub: Running, job_id: str) -> Any:
    """A job's record."""
    return await hub.hub.services.jobs.record(job_id)


async def pass_time(hub: Running, clock: ManualClock, seconds: float) -> None:
    """Let time pass; the hub looks at its deadlines all along, as one that may not be alone has to."""
    while seconds > 0:
        clock.advance(min(seconds, 3.0))
        seconds -= 3.0
        await hub.hub.services.providers.sweep()
        await hub.hub.services.jobs.sweep()


async def test_a_running_job_goes_on_over_a_restart_of_the_hub(start: Start, clock: ManualClock) -> None:
    """A hub upgrade ends no paid work: no event, the same attempt, each report once, time that counts."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        agent = await connected(hub)
        job_id = await submit(operator)
        order = await agent.start()
        clock.advance(10)
        await agent.progress(order, 25)
        epoch = hub.hub.services.engine.epoch
        offset = hub.hub.services.engine.offset(f"job:{job_id}")
    clock.advance(50)
    async with start() as hub, await hub.client() as watcher:
        again = await connected(hub, order)
        assert (await record(hub, job_id)).state == "running"
        await hub.hub.caretaker.sweep()
        since = {"epoch": epoch, "since": offset}
        reply = await watcher.ask("subscribe:job", since, subscriptionId=job_id)
        assert reply["data"]["recovered"] is True
        said = {"jobId": job_id, "attempt": 1, "progress": {"progress": 30.0}}
        assert (await again.client.ask("JOB_PROGRESS", said | {"seq": 1}))["data"]["seq"] == 1
        assert await watcher.heard() == []
        await again.client.ask(
            "JOB_COMPLETED", {"jobId": job_id, "attempt": 1, "seq": 2, "status": "completed"}
        )
        (completed,) = await watcher.heard()
        assert (completed["type"], completed["data"]["costMicros"]) == ("JOB_COMPLETED", 60_000)
        assert hub.hub.provider(again.provider_id).state == "available"  # type: ignore[union-attr]


async def test_nothing_is_lost_for_one_grace_period(start: Start, clock: ManualClock) -> None:
    """However long the hub was away: an agent has a whole lease to come back, then the job is lost."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        await connected(hub)
        job_id = await submit(operator)
        clock.advance(10)
    clock.advance(10 * LEASE)
    async with start() as hub:
        await hub.hub.caretaker.sweep()
        assert (await record(hub, job_id)).state == "assigned"
    async with start() as hub, await hub.client(Role.OPERATOR):
        agent = await connected(hub)
        order = await agent.start()
        assert order["attempt"] == 1
    clock.advance(10 * LEASE)
    async with start() as hub:
        await hub.hub.caretaker.sweep()
        assert (await record(hub, job_id)).state == "running"
        await pass_time(hub, clock, UNREACHABLE_SECONDS)
        assert (await record(hub, job_id)).state == "unknown"
        await pass_time(hub, clock, LEASE + MARGIN - UNREACHABLE_SECONDS)
        done = await record(hub, job_id)
        assert (done.state, done.reason, done.cost_micros) == ("failed", "lost", 0)


async def test_what_is_over_is_found_again(start: Start) -> None:
    """Record, receipts, log and key: as they were."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        agent = await connected(hub)
        job_id = await submit(operator, idempotencyKey="k")
        order = await agent.start()
        await agent.log(order, "out\n")
        await agent.log(order, "err\n", stream="stderr")
        await agent.complete(order, result={"x": [1]})
        before = await record(hub, job_id)
        waiting = await submit(operator, "other")
        token = hub.tokens[Role.OPERATOR]
    async with start() as hub:
        hub.access.add_token(token, Role.OPERATOR, "test-operator")
        async with await hub.client(token=token) as operator:
            assert await submit(operator, idempotencyKey="k") == job_id
            assert await record(hub, job_id) == before
            assert hub.hub.job_ids(None) == [waiting, job_id]
            assert [r.status for r in await hub.hub.receipts(job_id)] == ["completed"]
            assert [(p.stream, p.text) for p in await hub.hub.log(job_id)] == [
                ("stdout", "out\n"),
                ("stderr", "err\n"),
            ]
            error = await operator.ask("job:cancel", {"jobId": job_id})
            assert "is completed" in error["data"]["message"]
            again = await connected(hub, order)
            assert (await again.complete(order))["data"]["stale"] is True


async def test_a_wish_to_end_a_job_outlives_the_hub(start: Start) -> None:
    """An agent that comes back to the next hub is told to stop it."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        agent = await connected(hub)
        job_id = await submit(operator)
        order = await agent.start()
        await operator.ask("job:cancel", {"jobId": job_id})
    async with start() as hub:
        hub.access.add_token(TOKEN, Role.PROVIDER, "agent")
        client = await hub.client(token=TOKEN)
        held = [{"jobId": job_id, "attempt": 1, "state": "running"}]
        reply = await client.register(name="Rig", jobs=held)
        assert reply["data"]["jobs"] == [{"jobId": job_id, "attempt": 1, "do": "stop"}]
        await ScriptedAgent(client, reply["data"]["providerId"]).complete(order, "cancelled")
        done = await record(hub, job_id)
        assert (done.state, done.reason) == ("cancelled", "cancelled_by: test-operator")
        await client.socket.close()


async def test_the_order_in_the_queue_outlives_the_hub(start: Start, clock: ManualClock) -> None:
    """Who came first is served first, by the next hub as well."""
    jobs = []
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        for _ in range(5):
            jobs.append(await submit(operator))
    async with start() as hub:
        agent = await connected(hub)
        served = []
        for _ in range(5):
            order = await agent.start()
            served.append(order["jobId"])
            await agent.complete(order)
        assert served == jobs
        await agent.client.socket.close()


@pytest.mark.parametrize("make_store", ["local"], indirect=True)
async def test_a_full_disk_ends_no_job(
    start: Start, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submits are refused; leases go on; reports are asked for again, and taken once there is room."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        agent = await connected(hub)
        job_id = await submit(operator)
        order = await agent.start()
        with monkeypatch.context() as failing:

            def refuse(*_: object) -> None:
                raise EngineUnavailable("hub.sqlite3 can't grow, its disk is full: free some space there")

            failing.setattr(Database, "write", refuse)
            error = await operator.ask("job:submit", {"workload": "x"})
            assert (error["data"]["code"], "disk is full" in error["data"]["message"]) == (
                "unavailable",
                True,
            )
            assert error["data"]["retryAfter"] > 0
            for _ in range(4):
                clock.advance(LEASE / 3)
                assert (await agent.renew(order))["data"]["stop"] == []
                await hub.hub.services.jobs.sweep()
            report = {"jobId": job_id, "attempt": 1, "seq": 1, "stream": "stdout", "from": 0, "text": "a"}
            assert (await agent.client.ask("JOB_LOGS", report))["data"]["code"] == "unavailable"
            done = {"jobId": job_id, "attempt": 1, "seq": 2, "status": "completed"}
            assert (await agent.client.ask("JOB_COMPLETED", done))["data"]["code"] == "unavailable"
            assert (await record(hub, job_id)).state == "running"
        assert (await agent.client.ask("JOB_LOGS", report))["type"] == "ack"
        assert (await agent.client.ask("JOB_COMPLETED", done))["type"] == "ack"
        assert (await record(hub, job_id)).state == "completed"
        assert [piece.text for piece in await hub.hub.log(job_id)] == ["a"]


async def finish_jobs(hub: Running, count: int, text: str = "") -> list[str]:
    """Run some jobs to their end."""
    finished = []
    async with await hub.client(Role.OPERATOR) as operator:
        agent = await connected(hub)
        for number in range(count):
            finished.append(await submit(operator, idempotencyKey=f"{len(text)}-{number}"))
            order = await agent.start()
            if text:
                await agent.log(order, text)
            await agent.complete(order)
        await agent.client.socket.close()
    return finished


async def test_old_jobs_are_dropped_and_receipts_kept(start: Start, clock: ManualClock) -> None:
    """With their logs and keys, when they are too old; what each cost stays in the books."""
    async with start(retention_days=1) as hub:
        old = await finish_jobs(hub, DROP_BATCH + 2, "some output\n")
        clock.advance(DAY / 2)
        (young,) = await finish_jobs(hub, 1, "young\n")
        clock.advance(DAY / 2 + 1)
        await hub.hub.services.jobs.sweep()
        assert hub.hub.job_ids(None) == [young]
        engine = hub.hub.services.engine
        assert all(key.startswith(young) for key in await engine.load("job_logs"))
        assert len(await engine.load("job_keys")) == 1
        assert len(await engine.load("ledger")) == len(old) + 1
        assert await hub.hub.jobs(old) == []
    async with start(retention_days=1) as hub:
        assert hub.hub.job_ids(None) == [young]


async def test_the_oldest_jobs_go_when_all_together_are_too_large(start: Start, clock: ManualClock) -> None:
    """Logs count; the newest stay."""
    async with start(retention_bytes=64 * 1024) as hub:
        jobs = await finish_jobs(hub, 6, "x" * 20_000)
        clock.advance(RETENTION_SECONDS)
        await hub.hub.services.jobs.sweep()
        assert hub.hub.job_ids(None) == jobs[:2:-1]


async def test_a_benchmark_stays_with_its_provider(start: Start, clock: ManualClock) -> None:
    """The last one that was completed: over a restart, and after its job was dropped."""
    results = [{"benchmark": 1, "figures": []}, {"benchmark": 1, "notes": ["slower"]}]
    async with start(retention_days=1) as hub, await hub.client(Role.OPERATOR) as operator:
        agent = await connected(hub)
        assert await hub.hub.benchmark(agent.provider_id) is None
        for result in results:
            job_id = await submit(operator)
            await agent.complete(await agent.start(), result=result)
        failed = await submit(operator)
        await agent.complete(await agent.start(), "failed", reason="exit_code: 1")
        other = await submit(operator, "train")
        await agent.complete(await agent.start(), result={"loss": 1})
        clock.advance(2 * DAY)
        await hub.hub.services.jobs.sweep()
        assert await hub.hub.jobs([job_id, failed, other]) == []
    async with start(retention_days=1) as hub:
        kept = await hub.hub.benchmark(agent.provider_id)
        assert kept is not None
        assert (kept.id, kept.result) == (job_id, results[1])
        assert await hub.hub.benchmark("somebody-else") is None


async def test_what_a_job_can_not_have_run_is_not_charged(start: Start, clock: ManualClock) -> None:
    """While the hub was away for longer than a lease, the job can have run for a lease, and no longer."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        agent = await connected(hub)
        job_id = await submit(operator)
        order = await agent.start()
        for _ in range(10):
            clock.advance(100)
            await agent.renew(order)
            await hub.hub.caretaker.sweep()
    clock.advance(DAY)
    async with start() as hub:
        again = await connected(hub, order)
        said = {"jobId": job_id, "attempt": 1, "seq": 1, "status": "failed", "reason": "lease_expired"}
        await again.client.ask("JOB_COMPLETED", said)
        (receipt,) = await hub.hub.receipts(job_id)
        assert receipt.cost_micros == (await record(hub, job_id)).cost_micros == receipt.running_ms
        assert 1_000 + LEASE <= receipt.running_ms / 1000 <= 1_000 + LEASE + MARGIN


async def test_nor_is_it_while_the_hub_stood_still(start: Start, clock: ManualClock) -> None:
    """The same where the hub was there and did nothing; a stall that leases outlast is paid."""
    async with start() as hub, await hub.client(Role.OPERATOR) as operator:
        agent = await connected(hub)
        job_id = await submit(operator)
        order = await agent.start()
        for seconds in (100.0, DAY):
            clock.advance(seconds)
            hub.hub.caretaker.stalled(seconds)
        await agent.complete(order, "failed", reason="lease_expired")
        (receipt,) = await hub.hub.receipts(job_id)
        assert receipt.running_ms / 1000 == 100 + LEASE + MARGIN
