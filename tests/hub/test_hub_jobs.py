"""Jobs over real sockets: an operator, a watcher, and agents that say what a test wants."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from qubix_tui.hub import job_watch
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.job_state import Decision, JobSettings, LiveJob
from qubix_tui.hub.job_watch import OVERTIME_SECONDS
from qubix_tui.hub.registry import OFFLINE_SECONDS, UNREACHABLE_SECONDS
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import from_timestamp
from tests.hub.manual_clock import ManualClock
from tests.hub.scripted_agent import ScriptedAgent, join, submit
from tests.hub.wire import Client, Message, Running, eventually, running

LEASE, MARGIN, ACCEPT = 300.0, 30.0, 10.0
CONFIG = HubConfig(port=0, jobs=JobSettings(lease_seconds=LEASE, accept_seconds=ACCEPT))


@pytest.fixture
def clock() -> ManualClock:
    """Time, which stands still."""
    return ManualClock()


@pytest.fixture
async def hub(clock: ManualClock) -> AsyncIterator[Running]:
    """A hub that listens."""
    async with running(CONFIG, clock=clock) as made:
        yield made


@pytest.fixture
async def operator(hub: Running) -> AsyncIterator[Client]:
    """Who submits."""
    async with await hub.client(Role.OPERATOR) as client:
        yield client


@pytest.fixture
async def watcher(hub: Running) -> AsyncIterator[Client]:
    """Who looks on."""
    async with await hub.client() as client:
        await client.subscribe("marketplace", "job:*", "provider:*")
        yield client


@pytest.fixture
async def agent(hub: Running) -> AsyncIterator[ScriptedAgent]:
    """A provider at 3.6 an hour: a thousandth of the currency each second."""
    made = await join(hub)
    yield made
    await made.client.socket.close()


def job(hub: Running, job_id: str) -> Any:
    """A job that is not over, as it is now."""
    return hub.hub.services.jobs.book.live[job_id].record()


async def finished(hub: Running, job_id: str) -> Any:
    """A job's record, wherever it is."""
    return await hub.hub.services.jobs.record(job_id)


async def receipts(hub: Running, job_id: str) -> list[Any]:
    """What a job's attempts came to."""
    return await hub.hub.services.jobs.book.archive.receipts(job_id)


async def pass_time(hub: Running, clock: ManualClock, seconds: float) -> None:
    """Let time pass, and the hub look at its deadlines."""
    clock.advance(seconds)
    await hub.hub.services.jobs.sweep()


def words(messages: list[Message]) -> list[str]:
    """What each event about jobs and providers says, in a word or two."""
    said = []
    for message in messages:
        data = message["data"]
        match message["type"]:
            case "MARKETPLACE_UPDATE" if "job" in data:
                said.append(f"{data['kind']} {data['job']['state']}")
            case "JOB_PROGRESS":
                said.append(f"progress {data['progress']['status']}")
            case "JOB_COMPLETED":
                said.append(f"JOB_COMPLETED {data['status']}")
            case "PROVIDER_STATUS_CHANGED" if message["channel"] == "marketplace":
                said.append(f"provider {data['status']['state']}")
    return said


async def test_a_job_from_submit_to_result(
    hub: Running, operator: Client, watcher: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """Every step is told once and in order; the provider is busy at once, and free again with the result."""
    await watcher.heard()
    job_id = await submit(operator, "train", params={"epochs": 5}, timeoutSeconds=60)
    order = await agent.assigned()
    assert order == {
        "jobId": job_id,
        "attempt": 1,
        "workload": "train",
        "params": {"epochs": 5},
        "gpus": [],
        "timeoutSeconds": 60,
    }
    start = await agent.accept(order)
    assert start["data"] == {
        "jobId": job_id,
        "attempt": 1,
        "leaseSeconds": LEASE,
        "marginSeconds": MARGIN,
    }
    clock.advance(10)
    await agent.progress(order, 42.5, message="epoch 2", etaSeconds=13.5)
    clock.advance(5)
    ack = await agent.complete(order, result={"loss": 0.25})
    assert ack["data"] == {"jobId": job_id, "attempt": 1, "seq": 2, "stale": False}
    heard = await watcher.heard()
    assert words(heard) == [
        "job_created queued",
        "progress queued",
        "job_state assigned",
        "progress assigned",
        "provider busy",
        "job_state running",
        "progress running",
        "progress running",
        "job_state completed",
        "JOB_COMPLETED completed",
        "provider available",
    ]
    progress = next(m["data"]["progress"] for m in heard if (m["data"].get("progress") or {}).get("progress"))
    assert progress == {
        "progress": 42.5,
        "status": "running",
        "message": "epoch 2",
        "source": "reported",
        "etaSeconds": 13.5,
        "elapsedSeconds": 10.0,
        "costMicros": 10_000,
    }
    completed = next(m["data"] for m in heard if m["type"] == "JOB_COMPLETED")
    assert completed == {
        "jobId": job_id,
        "providerId": agent.provider_id,
        "status": "completed",
        "reason": None,
        "result": {"loss": 0.25},
        "costMicros": 15_000,
        "timestamp": "2027-01-15T08:00:15.000Z",
    }
    (receipt,) = await receipts(hub, job_id)
    assert (receipt.running_ms, receipt.cost_micros, receipt.status) == (15_000, 15_000, "completed")


async def test_the_provider_says_whose_job_it_has(
    operator: Client, watcher: Client, agent: ScriptedAgent
) -> None:
    """While it runs, status and job go together, in the commit that assigned it."""
    job_id = await submit(operator)
    await agent.start()
    busy = next(
        m["data"]["status"]
        for m in await watcher.heard()
        if m["type"] == "PROVIDER_STATUS_CHANGED" and m["channel"] == "marketplace"
    )
    assert busy["currentJobId"] == job_id
    assert (busy["isOnline"], busy["isAvailable"]) == (True, False)


async def test_a_provider_has_one_job_at_a_time(hub: Running, operator: Client, agent: ScriptedAgent) -> None:
    """The second waits, and is given to it when the first is over."""
    first, second = await submit(operator), await submit(operator)
    order = await agent.start()
    assert order["jobId"] == first
    assert job(hub, second).state == "queued"
    await agent.complete(order)
    assert (await agent.assigned())["jobId"] == second


async def test_the_price_is_that_of_the_assignment(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """A provider that raises its price meanwhile is paid what was agreed."""
    job_id = await submit(operator)
    order = await agent.start()
    held = [{"jobId": job_id, "attempt": 1, "state": "running", "lastSeq": 0}]
    await join(hub, agent.client, pricePerHour=99.0, jobs=held)
    clock.advance(3600)
    await agent.complete(order)
    done = await finished(hub, job_id)
    assert (done.price_per_hour, done.cost_micros) == (3.6, 3_600_000)


async def test_a_job_that_can_not_be_dealt_with_holds_up_no_other(
    hub: Running,
    operator: Client,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mistake in one rule, for one job: the deadlines of all others are kept."""
    rules = hub.hub.services.jobs.book.rules
    end, agents = rules.end, [await join(hub, workerId=name) for name in ("w1", "w2")]
    bad, good = [await submit(operator) for _ in agents]
    for agent in agents:
        await agent.assigned()

    def fail_for_one(live: LiveJob, *args: Any) -> Decision | None:
        return end(live, *args) if live.id == good else 1 // 0  # type: ignore[return-value]

    monkeypatch.setattr(job_watch, "_BATCH", 1)
    monkeypatch.setattr(rules, "end", fail_for_one)
    clock.advance(ACCEPT)
    await hub.hub.services.jobs.sweep()
    assert (job(hub, bad).state, job(hub, good).state) == ("assigned", "queued")
    assert f"{bad}: accept_timeout could not be dealt with" in caplog.text
    for agent in agents:
        await agent.client.socket.close()


async def test_an_unknown_price_is_an_unknown_cost(
    hub: Running, operator: Client, clock: ManualClock
) -> None:
    """Null, and not for nothing."""
    agent = await join(hub, pricePerHour=None)
    job_id = await submit(operator)
    order = await agent.start()
    clock.advance(5)
    assert job(hub, job_id).cost_micros is None
    await agent.complete(order)
    assert (await finished(hub, job_id)).cost_micros is None
    await agent.client.socket.close()


async def test_a_submit_with_a_key_is_taken_once(operator: Client, hub: Running) -> None:
    """The same request gives the same job; another one under that key is refused, with the job's id."""
    first = await submit(operator, idempotencyKey="k")
    assert await submit(operator, idempotencyKey="k") == first
    assert await submit(operator, idempotencyKey="l") != first
    error = await operator.ask("job:submit", {"workload": "other", "idempotencyKey": "k"})
    assert error["data"]["code"] == "conflict"
    assert first in error["data"]["message"]
    assert len(hub.hub.services.jobs.book.live) == 2


async def test_two_submits_with_one_key_at_the_same_time(operator: Client, hub: Running) -> None:
    """From two connections: one job."""
    async with await hub.client(Role.OPERATOR) as other:
        for client in (operator, other):
            await client.send("job:submit", {"workload": "x", "idempotencyKey": "k"}, id=1)
        ids = {(await client.until("submitted"))["data"]["jobId"] for client in (operator, other)}
        assert len(ids) == 1


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        ({"workload": "other", "params": {"x": "a" * 20_000}}, "invalid", "at most 16384 bytes"),
        ({"retries": 11}, "invalid", "at most 10 retries"),
        ({"timeoutSeconds": 0}, "invalid", "more than 0"),
        ({"requires": {"providerId": "nobody"}}, "no_provider", "there is no provider nobody"),
        (
            {"workload": "nope", "requires": {"providerId": "RIG"}},
            "no_provider",
            "it offers benchmark, train",
        ),
        ({"params": {"epochs": 0}, "requires": {"providerId": "RIG"}}, "invalid", "at least 1, not 0"),
        ({"params": {"epoch": 5}, "requires": {"providerId": "RIG"}}, "invalid", "it has epochs"),
        ({"params": {"epochs": 101}}, "invalid", "at most 100, not 101"),
    ],
)
async def test_a_submit_that_can_not_be_is_refused(
    operator: Client, agent: ScriptedAgent, data: dict[str, Any], code: str, said: str
) -> None:
    """In a sentence that says what to change; nothing is stored."""
    if data.get("requires", {}).get("providerId") == "RIG":
        data = data | {"requires": {"providerId": agent.provider_id}}
    error = await operator.ask("job:submit", {"workload": "train"} | data)
    assert error["data"]["code"] == code
    assert said in error["data"]["message"]


async def test_a_viewer_may_ask_why_and_no_more(hub: Running, operator: Client) -> None:
    """Submitting and cancelling need an operator."""
    job_id = await submit(operator)
    async with await hub.client() as viewer:
        for kind, data in (("job:submit", {"workload": "x"}), ("job:cancel", {"jobId": job_id})):
            assert (await viewer.ask(kind, data))["data"]["code"] == "forbidden"
        assert (await viewer.ask("job:why", {"jobId": job_id}))["type"] == "match"


async def test_the_cheapest_provider_gets_it(hub: Running, operator: Client) -> None:
    """Whoever came first; one without a price comes last."""
    agents = [
        await join(hub, workerId=f"w{number}", name=f"r{number}", pricePerHour=price)
        for number, price in enumerate([2.0, None, 1.0, 3.0])
    ]
    order = []
    for _ in agents:
        job_id = await submit(operator)
        await eventually(lambda job_id=job_id: job(hub, job_id).state == "assigned")
        order.append(job(hub, job_id).price_per_hour)
    assert order == [1.0, 2.0, 3.0, None]
    for one in agents:
        await one.client.socket.close()


async def test_why_names_the_nearest_miss(hub: Running, operator: Client, agent: ScriptedAgent) -> None:
    """For each rule how many meet it, and what would have to be different."""
    async with await hub.agent() as other:
        # Who takes such parameters leaves again: the job has to wait for one like it.
        generous = [{"name": "train", "params": [{"name": "epochs", "type": "integer"}]}]
        await join(hub, other, workerId="w2", name="other", workloads=generous, pricePerHour=0.5)
        job_id = await submit_demanding(operator)
    await eventually(lambda: len([one for one in hub.hub.providers() if one.is_online]) == 1)
    gone = next(one.id for one in hub.hub.providers() if not one.is_online)
    assert (await operator.ask("provider:remove", {"providerId": gone}))["type"] == "ok"
    await check_why(operator, agent, job_id)


async def submit_demanding(operator: Client) -> str:
    """Submit a job that hardly any provider can run."""
    return await submit(
        operator,
        "train",
        params={"epochs": 500},
        requires={"gpuModel": "4090", "minGpuMemMb": 20_000, "maxPricePerHour": 1},
    )


async def check_why(operator: Client, agent: ScriptedAgent, job_id: str) -> None:
    """What a bare provider lacks for that job."""
    match = (await operator.ask("job:why", {"jobId": job_id}))["data"]
    rig = agent.provider_id
    assert match["providers"] == 1
    assert {rule["rule"]: (rule["passing"], rule["nearest"]) for rule in match["rules"]} == {
        "simulated": (1, None),
        "gpu_model": (0, f"{rig} has no known GPU, not 4090"),
        "gpu_memory": (0, f"{rig} has GPUs of unknown memory; 20000 MiB are asked for"),
        "price": (0, f"{rig} takes 3.6 an hour; 1 is the most that the job pays"),
        "workload": (1, None),
        "params": (0, f"{rig}: epochs: expected at most 100, not 500"),
        "online": (1, None),
        "available": (1, None),
        "all": (0, f"{rig} has no known GPU, not 4090; 3 more rules are not met"),
    }


async def test_why_speaks_of_waiting_jobs_only(hub: Running, operator: Client, agent: ScriptedAgent) -> None:
    """Of others it says what they are."""
    job_id = await submit(operator)
    order = await agent.start()
    error = await operator.ask("job:why", {"jobId": job_id})
    assert f"it is running on {agent.provider_id}" in error["data"]["message"]
    await agent.complete(order)
    error = await operator.ask("job:why", {"jobId": job_id})
    assert (error["data"]["code"], "is completed" in error["data"]["message"]) == ("conflict", True)
    assert (await operator.ask("job:why", {"jobId": "j"}))["data"]["code"] == "not_found"


async def test_reports_are_taken_once_and_in_order(
    hub: Running, operator: Client, watcher: Client, agent: ScriptedAgent
) -> None:
    """A report that comes again is acknowledged up to the last, and changes nothing."""
    await submit(operator)
    order = await agent.start()
    await watcher.heard()
    said = {"jobId": order["jobId"], "attempt": 1, "progress": {"progress": 5.0, "source": "reported"}}
    for seq, acked in ((1, 1), (2, 2), (1, 2), (2, 2), (7, 7)):
        ack = await agent.client.ask("JOB_PROGRESS", said | {"seq": seq})
        assert ack["data"] == {"jobId": order["jobId"], "attempt": 1, "seq": acked, "stale": False}
    assert words(await watcher.heard()) == ["progress running"] * 3


async def test_nobody_reports_on_anothers_job(hub: Running, operator: Client, agent: ScriptedAgent) -> None:
    """Whatever another provider says of it is stale, and it can neither take nor end it."""
    job_id = await submit(operator)
    order = await agent.start()
    async with await hub.agent() as client:
        thief = await join(hub, client, workerId="w2", name="thief", workloads=[])
        assert (await thief.complete(order))["data"]["stale"]
        assert (await thief.accept(order))["type"] == "job:stop"
        assert (await client.ask("job:refuse", {"jobId": job_id, "attempt": 1}))["type"] == "job:stop"
        assert (await thief.renew(order))["data"]["stop"] == [{"jobId": job_id, "attempt": 1}]
    assert job(hub, job_id).state == "running"


async def test_a_refused_job_goes_to_another_provider(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """After a second, and to the one that refused it last only; it costs no retry, and nothing."""
    async with await hub.agent() as client:
        other = await join(hub, client, workerId="w2", name="dear", pricePerHour=9.0)
        job_id = await submit(operator)
        order = await agent.assigned()
        answer = await agent.client.ask(
            "job:refuse", {"jobId": job_id, "attempt": 1, "reason": "no space left"}
        )
        assert (answer["type"], answer["data"]["reason"]) == ("job:stop", "refused")
        assert job(hub, job_id).reason == "refused: no space left"
        await pass_time(hub, clock, 1)
        again = await other.start()
        assert (again["jobId"], again["attempt"]) == (order["jobId"], 2)
        (receipt,) = await receipts(hub, job_id)
        assert (receipt.cost_micros, receipt.started_at) == (0, None)


async def test_a_job_that_everybody_refuses_fails_in_the_end(
    hub: Running, operator: Client, watcher: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """It does not go round for ever."""
    job_id = await submit(operator)
    for attempt in range(1, 7):
        order = await agent.assigned()
        assert order["attempt"] == attempt
        await agent.client.ask("job:refuse", {"jobId": job_id, "attempt": attempt})
        await pass_time(hub, clock, 2.0**attempt)
    done = await finished(hub, job_id)
    assert (done.state, done.reason) == ("failed", "refused")
    assert [w for w in words(await watcher.heard()) if w.startswith("JOB_COMPLETED")] == [
        "JOB_COMPLETED failed"
    ]


async def test_an_assignment_that_is_not_accepted_in_time_is_taken_back(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """Accepted too late that attempt gets job:stop, never job:start."""
    job_id = await submit(operator)
    order = await agent.assigned()
    await pass_time(hub, clock, ACCEPT - 0.1)
    assert job(hub, job_id).state == "assigned"
    await pass_time(hub, clock, 0.1)
    assert (job(hub, job_id).state, job(hub, job_id).reason) == ("queued", "accept_timeout")
    stop = await agent.client.until("job:stop")
    assert (stop["data"]["jobId"], stop["data"]["attempt"]) == (job_id, 1)
    answer = await agent.accept(order)
    assert (answer["type"], answer["data"]["reason"]) == ("job:stop", "accept_timeout")
    await pass_time(hub, clock, 1)
    assert (await agent.start())["attempt"] == 2


async def test_an_acceptance_may_be_said_again(hub: Running, operator: Client, agent: ScriptedAgent) -> None:
    """An agent that missed the answer asks again, and gets it: the job starts once."""
    await submit(operator)
    order = await agent.start()
    assert (await agent.accept(order))["type"] == "job:start"
    assert job(hub, order["jobId"]).attempt == 1


async def test_a_failed_job_is_tried_again_elsewhere(
    hub: Running, operator: Client, watcher: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """As often as was asked for, with a delay that grows; only the last failure completes it."""
    async with await hub.agent() as client:
        other = await join(hub, client, workerId="w2", name="dear", pricePerHour=9.0)
        job_id = await submit(operator, retries=2)
        for attempt, runner, delay in ((1, agent, 1), (2, other, 2), (3, agent, 0)):
            order = await runner.start()
            assert order["attempt"] == attempt
            clock.advance(10)
            await runner.complete(order, "failed", reason="exit_code: 3", result={"n": attempt})
            await pass_time(hub, clock, delay)
        done = await finished(hub, job_id)
        assert (done.state, done.reason, done.result) == ("failed", "exit_code: 3", {"n": 3})
        ledger = await receipts(hub, job_id)
        assert [(r.attempt, r.provider_id, r.cost_micros) for r in ledger] == [
            (1, agent.provider_id, 10_000),
            (2, other.provider_id, 25_000),
            (3, agent.provider_id, 10_000),
        ]
        assert done.cost_micros == 45_000
        assert [w for w in words(await watcher.heard()) if w.startswith("JOB_COMPLETED")] == [
            "JOB_COMPLETED failed"
        ]


async def test_its_own_time_limit_is_not_tried_again(
    hub: Running, operator: Client, agent: ScriptedAgent
) -> None:
    """It would be over another time."""
    job_id = await submit(operator, retries=2)
    order = await agent.start()
    await agent.complete(order, "failed", reason="timeout")
    assert (await finished(hub, job_id)).reason == "timeout"


async def test_an_agent_that_ends_no_job_in_time_is_told_to(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """The hub is the second to look at the time: job:stop, and a lease that is not renewed."""
    job_id = await submit(operator, timeoutSeconds=60)
    order = await agent.start()
    await pass_time(hub, clock, 60 + OVERTIME_SECONDS)
    stop = (await agent.client.until("job:stop"))["data"]
    assert (stop["jobId"], stop["reason"]) == (job_id, "timeout")
    assert (await agent.renew(order))["data"]["stop"] == [{"jobId": job_id, "attempt": 1}]
    await agent.complete(order, "cancelled")
    done = await finished(hub, job_id)
    assert (done.state, done.reason) == ("failed", "timeout")


async def go_silent(hub: Running, clock: ManualClock, seconds: float) -> None:
    """Let all agents be silent, as the hub's own sweep would see it."""
    clock.advance(seconds)
    await hub.hub.services.providers.sweep()
    await hub.hub.services.jobs.sweep()


async def test_out_of_reach_and_back_it_goes_on(
    hub: Running, operator: Client, watcher: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """`unknown` meanwhile, which is not charged; nothing else has changed."""
    job_id = await submit(operator)
    order = await agent.start()
    clock.advance(10)
    await agent.progress(order, 5)
    await watcher.heard()
    await go_silent(hub, clock, UNREACHABLE_SECONDS)
    assert job(hub, job_id).state == "unknown"
    assert job(hub, job_id).lease_ends_at is not None
    assert job(hub, job_id).cost_micros == 10_000
    clock.advance(30)
    await agent.renew(order)
    await eventually(lambda: hub.hub.provider(agent.provider_id).state == "busy")  # type: ignore[union-attr]
    await hub.hub.services.jobs.sweep()
    assert job(hub, job_id).state == "running"
    assert job(hub, job_id).lease_ends_at is None
    clock.advance(5)
    await agent.complete(order)
    assert words(await watcher.heard()) == [
        "provider unreachable",
        "job_state unknown",
        "progress unknown",
        "provider busy",
        "job_state running",
        "progress running",
        "job_state completed",
        "JOB_COMPLETED completed",
        "provider available",
    ]
    assert (await finished(hub, job_id)).cost_micros == 15_000


async def test_a_report_brings_an_unknown_job_back(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """Progress from its attempt is as good as a renewal; so is a result."""
    job_id = await submit(operator)
    order = await agent.start()
    await go_silent(hub, clock, OFFLINE_SECONDS)
    assert job(hub, job_id).state == "unknown"
    await agent.progress(order, 7)
    assert job(hub, job_id).state == "running"
    await go_silent(hub, clock, OFFLINE_SECONDS)
    await agent.complete(order)
    assert (await finished(hub, job_id)).state == "completed"


async def test_a_lease_that_is_over_gives_the_job_to_another(
    hub: Running, operator: Client, clock: ManualClock
) -> None:
    """A margin after it, and never before; what the first one says later is stale."""
    gone = await join(hub, workerId="w1", name="gone", pricePerHour=1.0)
    job_id = await submit(operator, retries=1)
    order = await gone.start()
    other = await join(hub, workerId="w2", name="other", pricePerHour=9.0)
    await go_silent(hub, clock, LEASE + MARGIN - 0.1)
    assert job(hub, job_id).state == "unknown"
    told = job(hub, job_id).lease_ends_at
    assert told is not None
    assert from_timestamp(told) - clock.time() == pytest.approx(0.1, abs=0.01)
    await other.client.heard()
    await pass_time(hub, clock, 0.1)
    assert (job(hub, job_id).state, job(hub, job_id).reason) == ("queued", "lost")
    await pass_time(hub, clock, 1)
    again = await other.start()
    assert (again["jobId"], again["attempt"]) == (job_id, 2)
    assert (await gone.complete(order))["data"]["stale"]
    await other.complete(again)
    done = await finished(hub, job_id)
    assert (done.state, done.attempt, done.provider_id) == ("completed", 2, other.provider_id)
    for one in (gone, other):
        await one.client.socket.close()


async def test_a_renewal_is_what_a_lease_is_counted_from(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """Each gives the whole lease again, and needs no store."""
    job_id = await submit(operator)
    order = await agent.start()
    for _ in range(5):
        clock.advance(LEASE / 3)
        renewed = await agent.renew(order)
        assert renewed["data"] == {"jobs": [{"jobId": job_id, "attempt": 1}], "stop": []}
        await hub.hub.services.jobs.sweep()
    assert job(hub, job_id).state == "running"


async def test_without_retries_a_lost_job_fails(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """Reason `lost`; its provider, which may come back, is free."""
    job_id = await submit(operator)
    await agent.start()
    await go_silent(hub, clock, LEASE + MARGIN)
    done = await finished(hub, job_id)
    assert (done.state, done.reason) == ("failed", "lost")
    assert hub.hub.provider(agent.provider_id).current_job_id is None  # type: ignore[union-attr]


async def test_a_stalled_hub_gives_up_no_job(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """Every deadline counts from the end of its own stall."""
    first = await submit(operator)
    await agent.start()
    async with await hub.agent() as client:
        other = await join(hub, client, workerId="w2", name="r2")
        second = await submit(operator)
        await other.assigned()
        clock.advance(LEASE * 10)
        hub.hub.caretaker.stalled(60)
        await hub.hub.caretaker.sweep()
        assert job(hub, first).state == "running"
        assert job(hub, second).state == "assigned"
        await go_silent(hub, clock, ACCEPT)
        assert job(hub, second).state == "queued"


async def test_a_job_that_waits_is_cancelled_at_once(hub: Running, operator: Client, watcher: Client) -> None:
    """And says by whom."""
    job_id = await submit(operator)
    assert (await operator.ask("job:cancel", {"jobId": job_id}))["type"] == "ok"
    done = await finished(hub, job_id)
    assert (done.state, done.reason) == ("cancelled", "cancelled_by: test-operator")
    assert done.cancel_requested_at == done.finished_at
    assert words(await watcher.heard())[-2:] == ["job_state cancelled", "JOB_COMPLETED cancelled"]
    assert await receipts(hub, job_id) == []


async def test_an_assigned_job_is_cancelled_before_it_starts(
    hub: Running, operator: Client, agent: ScriptedAgent
) -> None:
    """Its provider is free at once, and an acceptance that crosses the wish gets job:stop."""
    job_id = await submit(operator)
    order = await agent.assigned()
    await operator.ask("job:cancel", {"jobId": job_id})
    assert (await finished(hub, job_id)).state == "cancelled"
    stop = await agent.client.until("job:stop")
    assert stop["data"] == {
        "jobId": job_id,
        "attempt": 1,
        "reason": "cancelled_by",
        "graceSeconds": 10.0,
    }
    assert (await agent.accept(order))["type"] == "job:stop"
    assert hub.hub.provider(agent.provider_id).is_available  # type: ignore[union-attr]


async def test_a_running_job_is_cancelled_when_it_is_gone(
    hub: Running, operator: Client, watcher: Client, agent: ScriptedAgent
) -> None:
    """Wanted is told at once, done when the agent says so; retries are off."""
    job_id = await submit(operator, retries=3)
    order = await agent.start()
    await watcher.heard()
    for _ in range(2):
        assert (await operator.ask("job:cancel", {"jobId": job_id}))["type"] == "ok"
    assert (await agent.client.until("job:stop"))["data"]["reason"] == "cancelled_by"
    assert job(hub, job_id).state == "running"
    assert job(hub, job_id).cancel_requested_at is not None
    assert (await agent.renew(order))["data"] == {"jobs": [], "stop": [{"jobId": job_id, "attempt": 1}]}
    await agent.complete(order, "cancelled", reason="cancelled_by")
    done = await finished(hub, job_id)
    assert (done.state, done.reason) == ("cancelled", "cancelled_by: test-operator")
    assert words(await watcher.heard()) == [
        "job_state running",
        "progress running",
        "job_state cancelled",
        "JOB_COMPLETED cancelled",
        "provider available",
    ]


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_job_that_ends_by_itself_before_it_is_ended_has_ended_so(
    hub: Running, operator: Client, agent: ScriptedAgent, status: str
) -> None:
    """What really happened stands; it is not tried again."""
    job_id = await submit(operator, retries=3)
    order = await agent.start()
    await operator.ask("job:cancel", {"jobId": job_id})
    await agent.complete(order, status)
    assert (await finished(hub, job_id)).state == status
    error = await operator.ask("job:cancel", {"jobId": job_id})
    assert (error["data"]["code"], f"is {status}" in error["data"]["message"]) == ("conflict", True)


async def test_cancelled_while_out_of_reach_it_is_over_with_its_lease(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """No further attempt, whatever retries are left."""
    job_id = await submit(operator, retries=3)
    await agent.start()
    await go_silent(hub, clock, OFFLINE_SECONDS)
    await operator.ask("job:cancel", {"jobId": job_id})
    assert job(hub, job_id).state == "unknown"
    await go_silent(hub, clock, LEASE + MARGIN - OFFLINE_SECONDS)
    done = await finished(hub, job_id)
    assert (done.state, done.reason) == ("cancelled", "lease_expired")


async def test_a_job_that_can_not_be_killed_pauses_its_provider(
    hub: Running, operator: Client, agent: ScriptedAgent
) -> None:
    """It is failed, cancelled or not: nobody says that it is gone while it is not."""
    job_id = await submit(operator, retries=3)
    order = await agent.start()
    await operator.ask("job:cancel", {"jobId": job_id})
    await agent.complete(order, "failed", reason="unkillable")
    done = await finished(hub, job_id)
    assert (done.state, done.reason) == ("failed", "unkillable")
    provider = hub.hub.provider(agent.provider_id)
    assert provider is not None
    assert (provider.state, provider.current_job_id) == ("paused", None)
    await submit(operator)
    assert "job:assign" not in {m["type"] for m in await agent.client.heard()}
    await agent.client.ask("provider:status", {"paused": False})
    await hub.hub.services.jobs.sweep()
    await agent.start()


async def test_an_agent_that_comes_back_goes_on_with_its_job(
    hub: Running, operator: Client, clock: ManualClock
) -> None:
    """`registered` says what to do with each job that it names: its own goes on, all else stops."""
    token = hub.provider_token()
    client = await hub.client(token=token)
    agent = await join(hub, client)
    job_id = await submit(operator)
    order = await agent.start()
    await client.socket.close()
    await eventually(lambda: not hub.hub.provider(agent.provider_id).is_online)  # type: ignore[union-attr]
    await hub.hub.services.jobs.sweep()
    assert job(hub, job_id).state == "unknown"
    held = [
        {"jobId": job_id, "attempt": 1, "state": "running", "lastSeq": 0},
        {"jobId": job_id, "attempt": 7, "state": "running"},
        {"jobId": "j-other", "attempt": 1, "state": "running"},
    ]
    async with await hub.client(token=token) as again:
        reply = await again.register(name="Rig", jobs=held, workloads=[{"name": "benchmark"}])
        assert reply["data"]["jobs"] == [
            {"jobId": job_id, "attempt": 1, "do": "continue"},
            {"jobId": job_id, "attempt": 7, "do": "stop"},
            {"jobId": "j-other", "attempt": 1, "do": "stop"},
        ]
        await hub.hub.services.jobs.sweep()
        assert job(hub, job_id).state == "running"
        assert (await ScriptedAgent(again, agent.provider_id).complete(order))["data"]["stale"] is False
    assert (await finished(hub, job_id)).state == "completed"


async def test_an_agent_that_does_not_name_its_job_has_it_until_the_lease_is_over(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """Its old self may still run it: `unknown`, and the provider gets no other one meanwhile."""
    job_id = await submit(operator)
    await agent.start()
    await join(hub, agent.client, jobs=[])
    await hub.hub.services.jobs.sweep()
    assert job(hub, job_id).state == "unknown"
    assert hub.hub.provider(agent.provider_id).current_job_id == job_id  # type: ignore[union-attr]
    await pass_time(hub, clock, LEASE + MARGIN)
    assert (await finished(hub, job_id)).reason == "lost"


async def test_an_assignment_that_was_lost_on_the_way_is_said_again(
    hub: Running, operator: Client, agent: ScriptedAgent
) -> None:
    """To an agent that registers and does not name it."""
    job_id = await submit(operator)
    await agent.assigned()
    await join(hub, agent.client, jobs=[])
    assert (await agent.start())["jobId"] == job_id


async def test_a_cancelled_job_is_stopped_when_its_agent_comes_back(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """`registered` says stop, and its report of the end makes it cancelled."""
    job_id = await submit(operator)
    order = await agent.start()
    await go_silent(hub, clock, OFFLINE_SECONDS)
    await operator.ask("job:cancel", {"jobId": job_id})
    held = [{"jobId": job_id, "attempt": 1, "state": "running"}]
    reply = await agent.client.register(name="Rig", jobs=held)
    assert reply["data"]["jobs"] == [{"jobId": job_id, "attempt": 1, "do": "stop"}]
    await agent.complete(order, "cancelled")
    assert (await finished(hub, job_id)).state == "cancelled"


async def test_a_provider_with_a_job_can_not_be_removed(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """Not before the lease is over."""
    job_id = await submit(operator)
    await agent.start()
    await go_silent(hub, clock, OFFLINE_SECONDS)
    error = await operator.ask("provider:remove", {"providerId": agent.provider_id})
    assert (error["data"]["code"], job_id in error["data"]["message"]) == ("conflict", True)
    await go_silent(hub, clock, LEASE + MARGIN)
    assert (await operator.ask("provider:remove", {"providerId": agent.provider_id}))["type"] == "ok"


async def test_a_too_large_result_or_log_is_refused(operator: Client, agent: ScriptedAgent) -> None:
    """Before anything of it is stored."""
    await submit(operator)
    order = await agent.start()
    error = await agent.complete(order, result="x" * 32 * 1024)
    assert (error["data"]["code"], error["data"]["field"]) == ("too_large", "data.result")
    error = await agent.log(order, "\x00" * 6_000)
    assert (error["data"]["code"], error["data"]["field"]) == ("too_large", "data.text")


async def test_only_a_job_that_asks_for_it_is_simulated(hub: Running, operator: Client) -> None:
    """A made-up provider takes no real job, and no real provider a made-up one."""
    async with await hub.client(Role.OPERATOR) as simulator:
        fake = await join(hub, simulator, workerId="sim-1", simulated=True, pricePerHour=0.0)
        real = await submit(operator)
        match = (await operator.ask("job:why", {"jobId": real}))["data"]["rules"][0]
        assert (match["rule"], match["passing"], match["nearest"]) == (
            "simulated",
            0,
            f"{fake.provider_id} is a simulated provider",
        )
        made_up = await submit(operator, requires={"simulated": True})
        assert (await fake.start())["jobId"] == made_up


async def test_a_hub_takes_so_many_jobs_and_no_more(
    hub: Running, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in memory: by number, and by what their parameters take. One that is over makes room."""
    first = await submit(operator, params={"x": "y" * 100})
    for name in ("MAX_LIVE_JOBS", "MAX_LIVE_BYTES"):
        with monkeypatch.context() as limits:
            limits.setattr(f"qubix_tui.hub.jobs.{name}", 1)
            error = await operator.ask("job:submit", {"workload": "x"})
            assert (error["data"]["code"], "takes no more" in error["data"]["message"]) == (
                "unavailable",
                True,
            )
    await operator.ask("job:cancel", {"jobId": first})
    assert hub.hub.services.jobs.book.live_bytes == 0


async def test_a_snapshot_fits_into_a_frame(
    hub: Running, operator: Client, agent: ScriptedAgent, clock: ManualClock
) -> None:
    """However long parameters, result and reasons are: then the receipts are left to HTTP."""
    job_id = await submit(operator, retries=10)
    for attempt in range(11):
        order = await agent.start()
        assert order["attempt"] == attempt + 1
        await agent.progress(order, 1, message="é" * 1_000)
        await agent.complete(order, "failed", reason="€" * 1_000, result="x" * 32_000)
        await pass_time(hub, clock, 60)
    reply = await operator.ask("subscribe:job", {"snapshot": True}, subscriptionId=job_id)
    assert reply["type"] == "subscribed"
    (shown,) = await operator.heard()
    assert (shown["data"]["job"]["state"], shown["data"]["receipts"]) == ("failed", [])
    assert len(await receipts(hub, job_id)) == 11


async def test_parameters_that_somebody_takes_are_taken(
    hub: Running, operator: Client, agent: ScriptedAgent
) -> None:
    """A declaration that came a moment ago counts as well, and what nobody offers yet may wait."""
    asked = {"workload": "train", "params": {"epochs": 500}}
    assert (await operator.ask("job:submit", asked))["data"]["code"] == "invalid"
    async with await hub.agent() as client:
        generous = [{"name": "train", "params": [{"name": "epochs", "type": "integer"}]}]
        other = await join(hub, client, workerId="w2", name="other", workloads=generous)
        assert (await operator.ask("job:submit", asked))["type"] == "submitted"
        assert (await other.start())["params"] == {"epochs": 500}
    assert (await operator.ask("job:submit", asked | {"workload": "nobody-offers-this"}))[
        "type"
    ] == "submitted"


async def test_a_queue_is_as_old_as_its_oldest_job(
    hub: Running, clock: ManualClock, operator: Client
) -> None:
    """From its submission on, whatever came later; without a job that waits there is no age."""
    assert hub.hub.picture().queue_age is None
    first = await submit(operator)
    clock.advance(60)
    second = await submit(operator)
    clock.advance(30)
    assert hub.hub.picture().queue_age == 90
    await operator.ask("job:cancel", {"jobId": first})
    assert hub.hub.picture().queue_age == 30
    await operator.ask("job:cancel", {"jobId": second})
    assert hub.hub.picture().queue_age is None
