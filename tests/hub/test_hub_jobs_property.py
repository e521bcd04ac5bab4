"""Jobs under anything that may happen: agents come, go, lie still and repeat themselves, hubs die."""

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qubix_tui.hub.access import Identity
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.protocol.events import JOB_COMPLETED
from qubix_tui.protocol.job_records import Job, JobState
from qubix_tui.protocol.requests import SubmitJob
from qubix_tui.protocol.tokens import Role
from tests.hub.job_world import Agent, World

OPERATOR = Identity(Role.OPERATOR, "op", "t")
AGENTS = 3


class JobsMachine(RuleBasedStateMachine):
    """Three agents, a hub that may be killed, and a store that may be full."""

    agents = st.integers(0, AGENTS - 1)

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.world = World([3.6, 7.2, None])
        self.submitted: list[str] = []
        self.final: dict[str, Job] = {}
        self.run(self.world.start())
        for agent in self.world.agents:
            self.run(agent.connect())

    def run(self, work: Any) -> Any:
        """Do something, and what follows from it."""

        async def done() -> Any:
            result = await work
            await self.world.settle()
            return result

        return self.runner.run(done())

    def teardown(self) -> None:
        self.world.store.full = False
        self.run(self.come_to_an_end())
        self.check_everything(over=True)
        self.runner.close()

    async def come_to_an_end(self) -> None:
        """With all agents there and willing, every job ends."""
        for _ in range(100):
            if not self.world.jobs.book.live:
                return
            for agent in self.world.agents:
                await self.serve(agent)
                for attempt, run in agent.alive().items():
                    run.ended = self.world.clock.monotonic()
                    agent.report(attempt, "completed")
                await agent.flush()
            self.world.clock.advance(20)
            await self.world.sweep()

    async def serve(self, agent: Agent) -> None:
        """Do what a good agent does."""
        agent.frozen = False
        if agent.entry is None:
            await agent.connect()
        await self.world.settle()
        await self.obey(agent, refuses=False)
        if agent.entry is not None:
            await agent.renew()
            await agent.flush()

    async def obey(self, agent: Agent, *, refuses: bool) -> None:
        """Deal with what the hub has said, in its order."""
        inbox, agent.inbox = agent.inbox, []
        for kind, data in inbox:
            attempt = data.job_id, data.attempt
            if kind == "job:stop":
                agent.stop(attempt)
            elif refuses:
                await agent.refuse(attempt)
            else:
                await agent.accept(attempt)

    def agent(self, number: int) -> Agent:
        """One of the agents."""
        return self.world.agents[number]

    @rule(retries=st.integers(0, 2), key=st.sampled_from([None, "k"]))
    def submit(self, retries: int, key: str | None) -> None:
        request = SubmitJob(workload="work", retries=retries if key is None else 0, idempotency_key=key)
        try:
            job_id = self.run(self.world.jobs.submit(OPERATOR, request))
        except EngineUnavailable:
            assert self.world.store.full
            return
        if job_id not in self.submitted:
            self.submitted.append(job_id)

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.run(self.world.cancel(data.draw(st.sampled_from(self.submitted))))

    @rule(number=agents)
    def connect(self, number: int) -> None:
        self.agent(number).frozen = False
        self.agent(number).disconnect(goodbye=False)
        self.run(self.agent(number).connect())

    @rule(number=agents, goodbye=st.booleans())
    def disconnect(self, number: int, goodbye: bool) -> None:
        async def leave() -> None:
            self.agent(number).disconnect(goodbye=goodbye)

        self.run(leave())

    @rule(number=agents, refuses=st.booleans())
    def read(self, number: int, refuses: bool) -> None:
        if self.agent(number).speaks:
            self.run(self.obey(self.agent(number), refuses=refuses))

    @rule(numbers=st.sets(agents, min_size=1))
    def work(self, numbers: set[int]) -> None:
        for number in numbers:
            self.run(self.serve(self.agent(number)))

    @rule(number=agents, status=st.sampled_from(["completed", "failed"]))
    def end(self, number: int, status: str) -> None:
        """What runs there ends by itself; the report waits until it can be sent."""
        agent = self.agent(number)
        for attempt, run in agent.alive().items():
            run.ended = self.world.clock.monotonic()
            agent.report(attempt, status, "exit_code: 1" if status == "failed" else None)

    @rule(number=agents)
    def report(self, number: int) -> None:
        agent = self.agent(number)
        if not agent.speaks:
            return
        for attempt in agent.alive():
            self.run(agent.progress(attempt))
        self.run(agent.flush())

    @rule(number=agents, data=st.data())
    def repeat(self, number: int, data: st.DataObject) -> None:
        """Say again what was acknowledged: an agent that was killed does."""
        agent = self.agent(number)
        if agent.speaks and agent.sent:
            self.run(agent.send(data.draw(st.sampled_from(agent.sent))))

    @rule(number=agents)
    def renew(self, number: int) -> None:
        if self.agent(number).speaks:
            self.run(self.agent(number).renew())

    @rule(number=agents, frozen=st.booleans())
    def freeze(self, number: int, frozen: bool) -> None:
        self.agent(number).frozen = frozen

    @rule(seconds=st.sampled_from([0.5, 2.0, 11.0, 20.0, 50.0, 61.0, 67.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.run(self.world.sweep())

    @rule(number=agents, seconds=st.sampled_from([45.0, 52.0, 61.0, 66.0]))
    def outage(self, number: int, seconds: float) -> None:
        """One agent is out of reach for about a lease; the others would take its job."""
        self.agent(number).frozen = True
        for step in (seconds, 2.0):
            self.world.clock.advance(step)
            self.run(self.world.sweep())
            for other in {0, 1, 2} - {number}:
                self.run(self.serve(self.agent(other)))

    @rule()
    def restart(self) -> None:
        self.run(self.world.restart())

    @rule(full=st.booleans())
    def fill_the_disk(self, full: bool) -> None:
        self.world.store.full = full

    @invariant()
    def nothing_runs_twice(self) -> None:
        """Of each job one process at a time, as the machines themselves know it."""
        for job_id in self.submitted:
            runs = [run for agent in self.world.agents for run in agent.runs.values() if run.job_id == job_id]
            runs.sort(key=lambda run: run.started)
            for earlier, later in pairwise(runs):
                assert earlier.ended is not None, f"{job_id} runs twice"
                assert earlier.ended <= later.started, f"{job_id} ran twice at once"

    @invariant()
    def what_is_over_stays_so(self) -> None:
        self.check_everything(over=False)

    def check_everything(self, *, over: bool) -> None:
        """One final state and one JOB_COMPLETED each; the books add up; providers have what they have."""
        completed = Counter(
            msgspec.json.decode(event.data)["jobId"]
            for event in self.world.store.published
            if event.type == JOB_COMPLETED
        )
        jobs: dict[str, Job] = {job.id: job for job in self.runner.run(self.records())}
        assert jobs.keys() == set(self.submitted)
        for job_id, job in jobs.items():
            assert completed[job_id] == job.state.is_final, f"{job_id}: {completed[job_id]} JOB_COMPLETED"
            assert job.state.is_final or not over, f"{job_id} is {job.state} in the end"
            assert self.final.get(job_id, job) == job or not self.final[job_id].state.is_final
            self.final[job_id] = job
            if job.state.is_final:
                self.check_books(job)
        self.check_providers(jobs)

    async def records(self) -> list[Job]:
        """All jobs."""
        book = self.world.jobs.book
        return await book.records(book.ids())

    def check_books(self, job: Job) -> None:
        receipts = self.runner.run(self.world.jobs.book.archive.receipts(job.id))
        assert [receipt.attempt for receipt in receipts] == list(range(1, job.attempt + 1))
        known = [receipt.cost_micros for receipt in receipts if receipt.cost_micros is not None]
        assert job.cost_micros == (sum(known) if len(known) == len(receipts) else None)
        for receipt in receipts:
            rate = receipt.price_per_hour
            if rate is not None:
                assert receipt.cost_micros == round(rate * 1e6) * receipt.running_ms // 3_600_000

    def check_providers(self, jobs: dict[str, Job]) -> None:
        held = {
            job.provider_id: job_id
            for job_id, job in jobs.items()
            if job.state in {JobState.ASSIGNED, JobState.RUNNING, JobState.UNKNOWN}
        }
        for entry in self.world.providers.registry:
            assert entry.stored.provider.current_job_id == held.get(entry.id)


TestJobs = JobsMachine.TestCase
TestJobs.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
