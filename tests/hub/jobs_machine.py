"""What may happen to jobs, in any order: agents come, go, lie still and repeat themselves, time passes."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from itertools import pairwise
from random import Random
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
import msgspec
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qubix_tui.hub.engine.base import NewEvent, StoredEvent
from qubix_tui.hub.job_logs import LOGS_TABLE, job_of
from qubix_tui.hub.job_state import FINISHED_TABLE, KEPT_TABLE, Kept
from qubix_tui.protocol import codec
from qubix_tui.protocol.events import JOB_COMPLETED
from qubix_tui.protocol.job_records import Job
from qubix_tui.protocol.requests import SubmitJob
from tests.hub.job_agent import Agent, JobsOfHub
from tests.hub.job_world import Agents, JobHub

AGENTS = 3
PRICES = [3.6, 7.2, None]


class JobsMachine(RuleBasedStateMachine):
    """Three agents, and the hubs of a world."""

    agents = st.integers(0, AGENTS - 1)
    picks = st.integers(0, 5)
    """Which of the hubs, where there are several."""

    world: Agents

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        # Ids that are the same each time: else what failed once could not be tried again.
        self.letters = patch("qubix_tui.hub.job_state.secrets.choice", Random(0).choice)
        self.letters.start()
        self.submitted: list[str] = []
        self.keyed: set[str] = set()
        self.final: dict[str, Job] = {}

    def teardown(self) -> None:
        try:
            self.come_to_an_end()
        finally:
            self.letters.stop()
            self.runner.close()

    # What differs from world to world

    @property
    def published(self) -> Iterable[NewEvent | StoredEvent]:
        """All events."""
        raise NotImplementedError

    @property
    def witness(self) -> JobHub | None:
        """A hub that knows everything, if there is one now."""
        raise NotImplementedError

    @property
    def everywhere(self) -> Sequence[JobHub]:
        """All hubs, whatever is the matter with them."""
        return self.world.hubs

    def hub(self, pick: int) -> JobHub:
        """One that takes requests, though its answer may have to wait."""
        raise NotImplementedError

    # Doing things

    def do(self, hub: JobsOfHub | None, work: Coroutine[Any, Any, Any]) -> None:
        """Have a hub do something, if it can now, and what follows from it."""

        async def done() -> None:
            if hub is None:
                work.close()
                return
            hub.spawn(work)
            await self.world.settle()

        self.runner.run(done())

    def sweep(self) -> None:
        """Have all hubs look at their deadlines."""
        self.runner.run(self.world.sweep())

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, and hubs look at it."""
        self.world.clock.advance(seconds)
        self.sweep()

    def come_to_an_end(self) -> None:
        """With all agents there and willing, every job ends."""
        for _ in range(100):
            hub = self.hub(0)
            if not hub.jobs.book.live:
                break
            for agent in self.world.agents:
                self.serve(agent)
                for attempt, run in agent.alive().items():
                    run.ended = self.world.clock.monotonic()
                    agent.report(attempt, "completed")
                self.do(agent.hub, agent.flush())
            self.pass_seconds(20)
        self.check_everything(over=True)

    def serve(self, agent: Agent, pick: int = 0) -> None:
        """Do what a good agent does."""
        agent.frozen = False
        if agent.entry is None:
            hub = self.hub(pick)
            self.do(hub, agent.connect(hub))
        self.obey(agent, refuses=False)
        self.do(agent.hub, agent.renew())
        self.do(agent.hub, agent.flush())

    def obey(self, agent: Agent, *, refuses: bool) -> None:
        """Deal with what the hub has said, in its order."""
        inbox, agent.inbox = agent.inbox, []
        for kind, data in inbox:
            attempt = data.job_id, data.attempt
            if kind == "job:stop":
                agent.stop(attempt)
            elif refuses:
                self.do(agent.hub, agent.refuse(attempt))
            else:
                self.do(agent.hub, agent.accept(attempt))

    def agent(self, number: int) -> Agent:
        """One of the agents."""
        return self.world.agents[number]

    # What happens

    @rule(pick=picks, retries=st.integers(0, 2), key=st.sampled_from([None, "k"]))
    def submit(self, pick: int, retries: int, key: str | None) -> None:
        def submitted(job_id: str) -> None:
            self.submitted.append(job_id)
            if key is not None:
                self.keyed.add(job_id)

        request = SubmitJob(workload="work", retries=retries if key is None else 0, idempotency_key=key)
        hub = self.hub(pick)
        self.do(hub, hub.submit(request, submitted))

    @precondition(lambda self: self.submitted)
    @rule(pick=picks, data=st.data())
    def cancel(self, pick: int, data: st.DataObject) -> None:
        hub = self.hub(pick)
        self.do(hub, hub.cancel(data.draw(st.sampled_from(self.submitted))))

    @rule(number=agents, pick=picks)
    def connect(self, number: int, pick: int) -> None:
        agent, hub = self.agent(number), self.hub(pick)
        agent.frozen = False
        self.leave(agent, goodbye=False)
        self.do(hub, agent.connect(hub))

    @rule(number=agents, goodbye=st.booleans())
    def disconnect(self, number: int, goodbye: bool) -> None:
        self.leave(self.agent(number), goodbye=goodbye)

    def leave(self, agent: Agent, *, goodbye: bool) -> None:
        """Have an agent lose its connection."""

        async def leave() -> None:
            agent.disconnect(goodbye=goodbye)

        self.do(agent.hub, leave())

    @rule(number=agents, refuses=st.booleans())
    def read(self, number: int, refuses: bool) -> None:
        if self.agent(number).speaks:
            self.obey(self.agent(number), refuses=refuses)

    @rule(numbers=st.sets(agents, min_size=1), pick=picks)
    def work(self, numbers: set[int], pick: int) -> None:
        for number in numbers:
            self.serve(self.agent(number), pick)

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
            self.do(agent.hub, agent.progress(attempt))
        self.do(agent.hub, agent.flush())

    @rule(numbers=st.sets(agents, min_size=1))
    def say(self, numbers: set[int]) -> None:
        """What runs there prints something."""
        for agent in map(self.agent, numbers):
            if agent.speaks:
                for attempt in agent.alive():
                    self.do(agent.hub, agent.say(attempt, "x" * 100))

    @rule(number=agents, data=st.data())
    def repeat(self, number: int, data: st.DataObject) -> None:
        """Say again what was acknowledged: an agent that was killed does."""
        agent = self.agent(number)
        if agent.speaks and agent.sent:
            self.do(agent.hub, agent.send(data.draw(st.sampled_from(agent.sent))))

    @rule(number=agents)
    def renew(self, number: int) -> None:
        agent = self.agent(number)
        if agent.speaks:
            self.do(agent.hub, agent.renew())

    @rule(number=agents, frozen=st.booleans())
    def freeze(self, number: int, frozen: bool) -> None:
        self.agent(number).frozen = frozen

    @rule(seconds=st.sampled_from([0.5, 2.0, 11.0, 20.0, 50.0, 61.0, 67.0]))
    def pass_time(self, seconds: float) -> None:
        self.pass_seconds(seconds)

    @rule(number=agents, seconds=st.sampled_from([45.0, 52.0, 61.0, 66.0]), pick=picks)
    def outage(self, number: int, seconds: float, pick: int) -> None:
        """One agent is out of reach for about a lease; the others would take its job."""
        self.agent(number).frozen = True
        for step in (seconds, 2.0):
            self.pass_seconds(step)
            for other in {0, 1, 2} - {number}:
                self.serve(self.agent(other), pick)

    # What must always be so

    @invariant()
    def nothing_runs_twice(self) -> None:
        """Of each job one process at a time, as the machines themselves know it."""
        runs = [run for agent in self.world.agents for run in agent.runs.values()]
        runs.sort(key=lambda run: (run.job_id, run.started))
        for earlier, later in pairwise(runs):
            if earlier.job_id == later.job_id:
                assert earlier.ended is not None, f"{later.job_id} runs twice"
                assert earlier.ended <= later.started, f"{later.job_id} ran twice at once"

    @invariant()
    def hubs_make_no_mistakes(self) -> None:
        """Whatever a hub does, it copes with."""
        assert [failure for hub in self.everywhere for failure in hub.failures] == []

    @invariant()
    def what_is_over_stays_so(self) -> None:
        self.check_everything(over=False)

    def check_everything(self, *, over: bool) -> None:
        """One final state and one JOB_COMPLETED each; the books add up; providers have what they have."""
        hub = self.witness
        if hub is None:
            return
        completed = Counter(
            msgspec.json.decode(event.data)["jobId"]
            for event in self.published
            if event.type == JOB_COMPLETED
        )
        jobs: dict[str, Job] = {job.id: job for job in self.runner.run(hub.records())}
        assert jobs.keys() >= set(self.submitted)
        assert len(self.keyed) <= 1
        for job_id, job in jobs.items():
            assert completed[job_id] == job.state.is_final, f"{job_id}: {completed[job_id]} JOB_COMPLETED"
            assert job.state.is_final or not over, f"{job_id} is {job.state} in the end"
            assert self.final.get(job_id, job) == job or not self.final[job_id].state.is_final
            self.final[job_id] = job
            if job.state.is_final:
                self.check_books(hub, job)
        self.check_providers(hub)
        self.runner.run(self.check_sizes(hub))

    async def check_sizes(self, hub: JobHub) -> None:
        """What is remembered of the size of jobs that are over is what they take."""
        index, logs = await hub.engine.load(KEPT_TABLE), await hub.engine.load(LOGS_TABLE)
        for job_id, row in (await hub.engine.load(FINISHED_TABLE)).items():
            pieces = sum(len(piece) for key, piece in logs.items() if job_of(key) == job_id)
            assert codec.decode_record(index[job_id], Kept).size == len(row) + pieces

    def check_books(self, hub: JobHub, job: Job) -> None:
        receipts = self.runner.run(hub.jobs.book.archive.receipts(job.id))
        assert [receipt.attempt for receipt in receipts] == list(range(1, job.attempt + 1))
        known = [receipt.cost_micros for receipt in receipts if receipt.cost_micros is not None]
        assert job.cost_micros == (sum(known) if len(known) == len(receipts) else None)
        for receipt in receipts:
            rate = receipt.price_per_hour
            if rate is not None:
                assert receipt.cost_micros == round(rate * 1e6) * receipt.running_ms // 3_600_000

    def check_providers(self, hub: JobHub) -> None:
        # As it is at this moment: what a hub that lags has begun may go on with each turn of the loop.
        held = {live.stored.job.provider_id: job_id for job_id, live in hub.jobs.book.held.items()}
        for entry in hub.providers.registry:
            assert entry.stored.provider.current_job_id == held.get(entry.id)
