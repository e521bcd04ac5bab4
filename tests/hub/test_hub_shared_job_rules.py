"""Who decides about jobs, and who watches over them, where hubs share a store: rules, without sockets."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from qubix_tui.hub.engine.base import Conflict, EngineUnavailable
from qubix_tui.hub.job_logs import LOGS_TABLE
from qubix_tui.hub.job_state import REPORTS_TABLE
from qubix_tui.hub.provider_state import PROVIDERS_TABLE
from qubix_tui.protocol.job_records import JobState
from qubix_tui.protocol.requests import JobAnswer, JobAttempt, RenewLeases, ReportLogs, SubmitJob
from tests.hub.job_agent import SETTINGS, Agent
from tests.hub.job_world import OPERATOR
from tests.hub.shared_job_world import SharedWorld, SharingHub

WORK = SubmitJob(workload="work")
GIVEN_UP = SETTINGS.lease_seconds + SETTINGS.margin_seconds


class Duo:
    """Two hubs, of which the first one leads, and an agent."""

    def __init__(self, world: SharedWorld, first: SharingHub, second: SharingHub) -> None:
        self.world = world
        self.first = first
        self.second = second
        self.agent: Agent = world.agents[0]

    async def pass_time(self, seconds: float) -> None:
        """Let time pass; hubs look at their deadlines all along."""
        while seconds > 0:
            self.world.clock.advance(min(seconds, 1.0))
            await self.world.sweep()
            seconds -= 1.0

    async def running(self, hub: SharingHub) -> str:
        """A job that the agent runs, connected to a hub."""
        await self.agent.connect(hub)
        job_id = await self.first.jobs.submit(OPERATOR, WORK)
        await self.world.settle()
        await self.obey()
        assert self.state(self.first, job_id) == self.state(self.second, job_id) == JobState.RUNNING
        return job_id

    async def obey(self) -> None:
        """The agent takes what it is offered."""
        for kind, order in self.agent.inbox:
            assert kind == "job:assign"
            await self.agent.accept((order.job_id, order.attempt))
        self.agent.inbox.clear()
        await self.world.settle()

    def state(self, hub: SharingHub, job_id: str) -> JobState | None:
        """A job's state, as a hub knows it."""
        live = hub.jobs.book.live.get(job_id)
        return hub.jobs.book.archive.state(job_id) if live is None else live.state


@pytest.fixture
async def duo() -> Duo:
    """Two hubs and an agent."""
    world = SharedWorld([3.6])
    return Duo(world, await world.start(), await world.start())


async def test_two_hubs_that_take_a_key_at_once_take_one_job(duo: Duo) -> None:
    """The one that the store takes second gives the first one's id, and knows the job by then."""
    request = SubmitJob(workload="work", idempotency_key="k")
    taken = [hub.jobs.submit(OPERATOR, request) for hub in (duo.first, duo.second)]
    ids = await asyncio.gather(*taken)
    assert ids[0] == ids[1]
    assert duo.first.jobs.book.ids() == duo.second.jobs.book.ids() == ids[:1]


async def test_a_leader_that_was_held_up_takes_no_key_from_a_newer_job(
    duo: Duo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it dropped an old job the next leader did so, and the key came to stand for another job."""
    request = SubmitJob(workload="work", idempotency_key="k")
    old = await duo.first.jobs.submit(OPERATOR, request)
    await duo.first.jobs.cancel(OPERATOR, old)
    await duo.world.settle()
    duo.world.clock.advance(31 * 86_400)
    reading, goes_on, read = asyncio.Event(), asyncio.Event(), duo.first.engine.read

    async def read_slowly(table: str, keys: Sequence[str]) -> dict[str, bytes]:
        rows = await read(table, keys)
        reading.set()
        await goes_on.wait()
        return rows

    monkeypatch.setattr(duo.first.engine, "read", read_slowly)
    dropping = asyncio.create_task(duo.first.jobs.book.archive.drop_old())
    await reading.wait()
    assert await duo.second.jobs.book.archive.drop_old()
    new = await duo.second.jobs.submit(OPERATOR, request)
    goes_on.set()
    assert not await dropping
    assert await duo.second.jobs.submit(OPERATOR, request) == new != old
    assert duo.first.jobs.book.ids() == duo.second.jobs.book.ids() == [new]


async def test_a_job_is_taken_however_long_ago_that_was_decided(
    duo: Duo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that can't tell any more what others have written since has it decided anew: it is one job."""
    commit, refusals = duo.first.engine.commit, iter([True])

    async def too_old(*args: Any, **options: Any) -> list[int]:
        if next(refusals, False):
            raise Conflict("jobs", "any")
        return await commit(*args, **options)

    monkeypatch.setattr(duo.first.engine, "commit", too_old)
    job_id = await duo.first.jobs.submit(OPERATOR, WORK)
    assert duo.second.jobs.book.ids() == [job_id]


async def test_two_hubs_that_decide_at_once_decide_one_after_the_other(duo: Duo) -> None:
    """A completion that another hub's cancellation comes before is still a completion; both are known."""
    job_id = await duo.running(duo.second)
    duo.agent.report((job_id, 1), "completed")
    await asyncio.gather(duo.first.cancel(job_id), duo.agent.flush())
    await duo.world.settle()
    assert duo.state(duo.first, job_id) == duo.state(duo.second, job_id) == JobState.COMPLETED
    [record] = await duo.first.jobs.book.records([job_id])
    assert record.cancel_requested_at is not None
    attempts = [hub.jobs.book.attempts.total() for hub in (duo.first, duo.second)]
    assert attempts == [0, 1]


async def test_the_leader_gives_out_jobs_and_the_next_one_does_when_it_is_gone(duo: Duo) -> None:
    """By itself, with its next sweep."""
    await duo.agent.connect(duo.second)
    duo.world.trouble(duo.first, "lag")
    job_id = await duo.second.jobs.submit(OPERATOR, WORK)
    await duo.world.sweep()
    assert duo.state(duo.second, job_id) is JobState.QUEUED
    await duo.world.kill(duo.first)
    await duo.world.sweep()
    assert [kind for kind, _ in duo.agent.inbox] == ["job:assign"]


async def test_a_provider_that_comes_to_any_hub_gets_what_waits_at_once(duo: Duo) -> None:
    """The leader hears of it, and waits for no sweep."""
    await duo.first.jobs.submit(OPERATOR, WORK)
    await duo.agent.connect(duo.second)
    await duo.world.settle()
    assert [kind for kind, _ in duo.agent.inbox] == ["job:assign"]


async def test_an_order_is_given_once_in_a_session(duo: Duo) -> None:
    """Even where a hub hears of a registration and of the assignment after it in one go."""
    await duo.agent.connect(duo.first)
    duo.agent.disconnect(goodbye=False)
    await duo.world.settle()
    await duo.first.jobs.submit(OPERATOR, WORK)
    duo.world.trouble(duo.second, "lag")
    duo.second.spawn(duo.agent.connect(duo.second))
    await duo.world.settle()
    await duo.world.sweep()
    assert duo.first.jobs.book.held
    await duo.world.heal(duo.second)
    assert [kind for kind, _ in duo.agent.inbox] == ["job:assign"]
    await duo.agent.connect(duo.second)
    assert [kind for kind, _ in duo.agent.inbox] == ["job:assign"]


async def test_only_one_hub_watches(duo: Duo) -> None:
    """Another one has not heard the agent renew its lease, and does not mind."""
    job_id = await duo.running(duo.second)
    for _ in range(12):
        await duo.pass_time(20)
        await duo.agent.renew()
    assert duo.state(duo.first, job_id) == duo.state(duo.second, job_id) == JobState.RUNNING
    assert duo.agent.alive()


async def test_a_hub_that_takes_over_gives_a_whole_lease(duo: Duo) -> None:
    """The other one may have renewed until it was gone; what it ran until then is paid."""
    job_id = await duo.running(duo.second)
    await duo.pass_time(50)
    await duo.agent.renew()
    await duo.pass_time(10)
    await duo.world.kill(duo.second)
    await duo.pass_time(GIVEN_UP - 1)
    assert duo.state(duo.first, job_id) is JobState.UNKNOWN
    assert not duo.agent.alive()
    await duo.pass_time(3)
    assert duo.state(duo.first, job_id) is JobState.FAILED
    [receipt] = await duo.first.jobs.book.archive.receipts(job_id)
    assert 60_000 <= receipt.running_ms <= 62_000


async def test_a_hub_that_takes_over_before_it_looked_at_anything_does_so_too(duo: Duo) -> None:
    """It has just started, and knows from the store who watched until then."""
    job_id = await duo.running(duo.second)
    third = await duo.world.start()
    duo.world.clock.advance(3)
    await duo.agent.renew()
    for hub in (duo.first, duo.second):
        await duo.world.kill(hub)
    await duo.pass_time(GIVEN_UP - 1)
    assert duo.state(third, job_id) is JobState.UNKNOWN
    await duo.pass_time(3)
    assert duo.state(third, job_id) is JobState.FAILED


async def test_what_was_heard_at_another_hub_is_paid(duo: Duo) -> None:
    """As that one told, when it was gone before it saw that the agent had fallen silent."""
    job_id = await duo.running(duo.second)
    await duo.pass_time(60)
    entry = next(iter(duo.first.providers.registry), None)
    assert entry is not None
    duo.first.providers.registry.heard_elsewhere(entry, 9.0)
    await duo.world.kill(duo.second)
    await duo.pass_time(20)
    live = duo.first.jobs.book.live[job_id]
    assert live.state is JobState.UNKNOWN
    assert 50_000 <= live.running_ms() <= 52_000


async def test_a_hub_to_which_an_agent_returns_gives_a_whole_lease(duo: Duo) -> None:
    """Even where it looked at no deadline while another hub had that agent, and renewed."""
    job_id = await duo.running(duo.first)
    await duo.pass_time(50)
    await duo.agent.connect(duo.second)
    await duo.agent.renew()
    await duo.world.settle()
    await duo.agent.connect(duo.first)
    duo.agent.frozen = True
    await duo.pass_time(GIVEN_UP - 2)
    assert duo.state(duo.first, job_id) is JobState.UNKNOWN
    await duo.pass_time(3)
    assert duo.state(duo.first, job_id) is JobState.FAILED


async def test_what_another_hub_has_heard_of_a_job_counts(duo: Duo) -> None:
    """An agent that did not name it here, and did so there, is one that holds it."""
    job_id = await duo.running(duo.first)
    run = duo.agent.runs.pop((job_id, 1))
    await duo.agent.connect(duo.first)
    await duo.pass_time(1)
    assert duo.state(duo.first, job_id) is JobState.UNKNOWN
    duo.agent.runs[job_id, 1] = run
    await duo.agent.connect(duo.second)
    await duo.pass_time(1)
    assert duo.state(duo.first, job_id) is JobState.RUNNING
    await duo.world.kill(duo.second)
    await duo.pass_time(5)
    assert duo.state(duo.first, job_id) is JobState.RUNNING


async def test_a_job_that_its_agent_never_names_is_over_in_the_end(duo: Duo) -> None:
    """However often that goes from hub to hub: none of them renews anything."""
    job_id = await duo.running(duo.second)
    duo.agent.runs.clear()
    for number in range(int(GIVEN_UP / 10) + 2):
        duo.agent.disconnect(goodbye=False)
        await duo.agent.connect((duo.first, duo.second)[number % 2])
        await duo.pass_time(10)
    assert duo.state(duo.first, job_id) == duo.state(duo.second, job_id) == JobState.FAILED


async def test_a_hub_that_others_may_take_for_gone_renews_nothing(duo: Duo) -> None:
    """It stops nothing either: the agent asks again."""
    job_id = await duo.running(duo.second)
    duo.world.trouble(duo.second, "cut")
    await duo.pass_time(6)
    assert duo.agent.entry is not None
    held = RenewLeases(jobs=[JobAttempt(job_id=job_id, attempt=1)])
    with pytest.raises(EngineUnavailable, match="lost touch"):
        await duo.second.jobs.agents.renew(duo.agent.entry, held)
    await duo.world.heal(duo.second)
    answer = await duo.second.jobs.agents.renew(duo.agent.entry, held)
    assert answer.jobs == held.jobs


async def test_a_hub_that_others_may_take_for_gone_starts_nothing(duo: Duo) -> None:
    """Not even what was accepted before: its answer would give a lease."""
    job_id = await duo.running(duo.second)
    duo.world.trouble(duo.second, "cut")
    await duo.pass_time(6)
    assert duo.agent.entry is not None
    with pytest.raises(EngineUnavailable, match="lost touch"):
        await duo.second.jobs.agents.accept(duo.agent.entry, JobAnswer(job_id=job_id, attempt=1))


async def test_a_log_is_as_large_as_what_is_kept_of_it(duo: Duo) -> None:
    """Also where a piece had to be decided anew, for another hub was faster."""
    job_id = await duo.running(duo.second)
    entry = duo.agent.entry
    assert entry is not None
    piece = ReportLogs(job_id=job_id, attempt=1, seq=1, stream="stdout", from_=0, text="hello\n")
    taken, _ = await asyncio.gather(duo.second.jobs.agents.report(entry, piece), duo.first.cancel(job_id))
    assert (taken.seq, taken.stale) == (1, False)
    rows = await duo.world.store.memory.load(LOGS_TABLE)
    assert await duo.second.jobs.book.logs.size(job_id) == sum(map(len, rows.values())) > 0


async def test_a_hub_that_was_cut_off_takes_no_provider_for_gone(duo: Duo) -> None:
    """The leader had those of another hub to look after, when it lost sight of that one's return."""
    await duo.running(duo.second)
    duo.world.trouble(duo.second, "cut")
    await duo.pass_time(8)
    duo.world.trouble(duo.first, "cut")
    await duo.world.heal(duo.second)
    await duo.pass_time(60)
    entries = len(duo.world.store.log)
    await duo.world.heal(duo.first)
    written = [change.table for entry in duo.world.store.log[entries:] for change in entry.changes]
    assert PROVIDERS_TABLE not in written


async def test_a_hub_that_was_cut_off_gives_up_nothing_for_that(duo: Duo) -> None:
    """It could not know that the first one came back, and renewed meanwhile."""
    job_id = await duo.running(duo.first)
    duo.world.trouble(duo.first, "cut")
    await duo.pass_time(8)
    assert duo.second.jobs.book.live[job_id].watched
    duo.world.trouble(duo.second, "cut")
    await duo.world.heal(duo.first)
    for _ in range(8):
        await duo.pass_time(10)
        await duo.agent.renew()
    await duo.world.heal(duo.second)
    await duo.pass_time(5)
    assert duo.state(duo.first, job_id) == duo.state(duo.second, job_id) == JobState.RUNNING


async def test_out_of_reach_a_job_is_renewed_once_the_others_know_that_it_runs(duo: Duo) -> None:
    """They let its lease end otherwise."""
    job_id = await duo.running(duo.second)
    duo.agent.frozen = True
    await duo.pass_time(20)
    assert duo.state(duo.first, job_id) is JobState.UNKNOWN
    entries = len(duo.world.store.log)
    await duo.agent.renew()
    written = [change.table for entry in duo.world.store.log[entries:] for change in entry.changes]
    assert REPORTS_TABLE in written
    await duo.world.settle()
    assert duo.state(duo.first, job_id) is JobState.RUNNING


async def test_a_hub_that_starts_takes_over_what_is_left(duo: Duo) -> None:
    """All hubs were killed: a job goes on with the next one."""
    job_id = await duo.running(duo.second)
    for hub in (duo.first, duo.second):
        await duo.world.kill(hub)
    duo.first = duo.second = await duo.world.start()
    await duo.agent.connect(duo.first)
    await duo.pass_time(5)
    assert duo.state(duo.first, job_id) is JobState.RUNNING
    duo.agent.report((job_id, 1), "completed")
    await duo.agent.flush()
    assert duo.state(duo.first, job_id) is JobState.COMPLETED
