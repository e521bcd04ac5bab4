"""A hub's jobs without sockets, and agents that really run something: intervals of time.

What an agent runs begins with ``job:start`` and ends when it says so, when it is told to stop, or by its
supervisor, a margin before the lease is over. The world remembers when, so that a test can see that no job
ever ran twice at once.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from qubix_tui.hub.access import Access, Identity
from qubix_tui.hub.engine.base import Change, EngineUnavailable, NewEvent, Precondition
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.history import History
from qubix_tui.hub.job_state import JobSettings
from qubix_tui.hub.jobs import Jobs
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.providers import Providers
from qubix_tui.hub.publisher import Publisher
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol import events
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.records import Workload
from qubix_tui.protocol.requests import (
    HeldJob,
    JobAnswer,
    JobAttempt,
    Register,
    RenewLeases,
    ReportCompletion,
    ReportedProgress,
    ReportProgress,
)
from qubix_tui.protocol.tokens import Role, new_token
from tests.hub.manual_clock import ManualClock

SETTINGS = JobSettings(lease_seconds=60.0)

Attempt = tuple[str, int]


class Store(MemoryEngine):
    """A store that remembers what was published, and may be out of order."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock, max_age=1e12, max_events=10_000)
        self.published: list[NewEvent] = []
        self.full = False

    async def commit(
        self,
        preconditions: Sequence[Precondition],
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        apply: Callable[[], None] | None = None,
        *,
        decided_at: int | None = None,
    ) -> list[int]:
        # A disk takes its time: others come in between.
        await asyncio.sleep(0)
        if self.full:
            raise EngineUnavailable("the disk is full")
        offsets = await super().commit(preconditions, changes, events, apply)
        self.published += events
        return offsets


class Running:
    """What an agent runs for one attempt."""

    def __init__(self, job_id: str, started: float, renewed: float) -> None:
        self.job_id = job_id
        self.started = started
        self.renewed = renewed
        """When it sent what the hub last answered by a lease."""
        self.ended: float | None = None


class Agent:
    """One provider's agent, and what it would do with a real machine."""

    def __init__(self, world: "World", number: int, price: float | None) -> None:
        self.world = world
        self.name = f"rig{number}"
        self.price = price
        self.token = new_token(Role.PROVIDER)
        self.connection: Connection | None = None
        self.frozen = False
        """It is connected and says nothing; its supervisors go on."""
        self.inbox: list[tuple[str, Any]] = []
        self.runs: dict[Attempt, Running] = {}
        self.accepted: set[Attempt] = set()
        self.outbox: list[ReportCompletion] = []
        self.sent: list[ReportProgress | ReportCompletion] = []
        self.seqs: dict[Attempt, int] = {}

    @property
    def entry(self) -> Entry | None:
        """Its provider, as its connection knows it."""
        return self.connection.entry if self.connection else None

    @property
    def speaks(self) -> bool:
        """Whether it can say something now."""
        return self.entry is not None and not self.frozen

    def alive(self) -> dict[Attempt, Running]:
        """What it runs now; a supervisor has ended the rest a margin before the lease."""
        now, settings = self.world.clock.monotonic(), SETTINGS
        for attempt, run in self.runs.items():
            last = run.renewed + settings.lease_seconds - settings.margin_seconds
            if run.ended is None and now >= last:
                run.ended = last
                self.report(attempt, "failed", "lease_expired")
        return {attempt: run for attempt, run in self.runs.items() if run.ended is None}

    def next_seq(self, attempt: Attempt) -> int:
        """Number a report."""
        self.seqs[attempt] = self.seqs.get(attempt, 0) + 1
        return self.seqs[attempt]

    def report(self, attempt: Attempt, status: str, reason: str | None = None) -> None:
        """Put the end of an attempt into the outbox, where it stays until it is acknowledged."""
        job_id, number = attempt
        self.outbox.append(
            ReportCompletion(
                job_id=job_id,
                attempt=number,
                seq=self.next_seq(attempt),
                status=status,  # type: ignore[arg-type]
                reason=reason,
            )
        )

    async def connect(self) -> None:
        """Register over a new connection, and do what the hub says about the jobs that it holds."""
        world = self.world
        identity = Identity(Role.PROVIDER, None, world.token_ids[self.token])
        connection = Connection(self, identity)
        held = [
            HeldJob(job_id=job_id, attempt=attempt, state="running")
            for job_id, attempt in {*self.alive(), *self.accepted}
        ]
        request = Register(
            worker_id=self.name,
            name=self.name,
            instance="i",
            price_per_hour=self.price,
            workloads=[Workload(name="work")],
            jobs=held,
        )
        try:
            await world.providers.register(connection, request)
        except EngineUnavailable:
            return
        self.connection = connection
        self.inbox.clear()
        assert connection.entry is not None
        for order in world.jobs.agents.reconcile(connection.entry, held):
            if order.do == "stop":
                self.stop((order.job_id, order.attempt))
        world.jobs.agents.registered(connection.entry, held)
        world.jobs.matcher.wake()
        for attempt in tuple(self.accepted):
            await self.accept(attempt)

    def disconnect(self, *, goodbye: bool) -> None:
        """Lose the connection."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.is_open = False
            self.world.providers.disconnected(connection, goodbye=goodbye)

    def stop(self, attempt: Attempt) -> None:
        """End what runs."""
        self.accepted.discard(attempt)
        run = self.alive().get(attempt)
        if run is not None:
            run.ended = self.world.clock.monotonic()
            self.report(attempt, "cancelled")

    async def accept(self, attempt: Attempt) -> None:
        """Take a job, and start it if and when the hub says so."""
        if self.entry is None:
            return
        self.accepted.add(attempt)
        sent = self.world.clock.monotonic()
        answer = JobAnswer(job_id=attempt[0], attempt=attempt[1])
        try:
            order = await self.world.jobs.agents.accept(self.entry, answer)
        except EngineUnavailable:
            return
        self.accepted.discard(attempt)
        if isinstance(order, events.JobStart) and attempt not in self.runs:
            self.runs[attempt] = Running(attempt[0], self.world.clock.monotonic(), sent)

    async def refuse(self, attempt: Attempt) -> None:
        """Turn a job down."""
        assert self.entry is not None
        answer = JobAnswer(job_id=attempt[0], attempt=attempt[1], reason="not now")
        with contextlib.suppress(EngineUnavailable):
            await self.world.jobs.agents.refuse(self.entry, answer)

    async def renew(self) -> None:
        """Renew all leases; what is to stop is stopped."""
        assert self.entry is not None
        held = [JobAttempt(job_id=job_id, attempt=attempt) for job_id, attempt in self.alive()]
        answer = await self.world.jobs.agents.renew(self.entry, RenewLeases(jobs=held))
        for renewed in answer.jobs:
            self.runs[renewed.job_id, renewed.attempt].renewed = self.world.clock.monotonic()
        for stop in answer.stop:
            self.stop((stop.job_id, stop.attempt))

    async def send(self, report: ReportProgress | ReportCompletion) -> bool:
        """Report something; False where it has to be said again."""
        assert self.entry is not None
        try:
            ack = await self.world.jobs.agents.report(self.entry, report)
        except EngineUnavailable:
            return False
        assert ack.stale or ack.seq >= report.seq
        self.sent.append(report)
        return True

    async def progress(self, attempt: Attempt) -> None:
        """Report some progress."""
        said = ReportedProgress(progress=50.0, source="reported")
        await self.send(
            ReportProgress(job_id=attempt[0], attempt=attempt[1], seq=self.next_seq(attempt), progress=said)
        )

    async def flush(self) -> None:
        """Send what the outbox holds, in its order."""
        while self.outbox and self.entry is not None and await self.send(self.outbox[0]):
            del self.outbox[0]


class Connection:
    """Implements `qubix_tui.hub.provider_connection.ProviderConnection`."""

    def __init__(self, agent: Agent, identity: Identity) -> None:
        self.identity = identity
        self.entry: Entry | None = None
        self.is_open = True
        self._agent = agent

    def reply(self, kind: str, data: Any, request_id: object) -> None:
        if self.is_open:
            self._agent.inbox.append((kind, data))

    def end(self, code: int, reason: str) -> None:
        self.is_open = False


class World:
    """A hub's jobs and providers on a store, and some agents."""

    def __init__(self, prices: Sequence[float | None]) -> None:
        self.clock = ManualClock()
        self.store = Store(self.clock)
        self.agents = [Agent(self, number, price) for number, price in enumerate(prices)]
        self.tasks: set[asyncio.Task[None]] = set()
        self.token_ids: dict[str, str] = {}

    async def start(self) -> None:
        """Start a hub on what the store holds."""
        await self.store.open()
        clock, fanout = self.clock, Fanout(Telemetry())
        publisher, access = Publisher(self.store, fanout), Access()
        for agent in self.agents:
            self.token_ids[agent.token] = access.add_token(agent.token, Role.PROVIDER, agent.name)
        self.providers = Providers(
            registry=Registry(clock),
            engine=self.store,
            publisher=publisher,
            fanout=fanout,
            history=History(clock),
            access=access,
            clock=clock,
            spawn=self.spawn,
        )
        self.jobs = Jobs(
            engine=self.store,
            publisher=publisher,
            providers=self.providers,
            fanout=fanout,
            clock=clock,
            settings=SETTINGS,
            spawn=self.spawn,
        )
        await self.providers.load()
        await self.jobs.load()

    async def restart(self) -> None:
        """Kill the hub, and start the next one."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for agent in self.agents:
            if agent.connection is not None:
                agent.connection.is_open = False
                agent.connection = None
        await self.start()

    def spawn(self, work: Coroutine[Any, Any, None]) -> object:
        """Run something, as the hub does."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def settle(self) -> None:
        """Let all that was begun come to its end."""
        while self.tasks:
            await asyncio.gather(*self.tasks)

    async def sweep(self) -> None:
        """Look at all deadlines, as the hub does each second."""
        for agent in self.agents:
            agent.alive()
            if agent.entry is not None and not agent.frozen:
                self.providers.heard(agent.entry)
        await self.settle()
        with contextlib.suppress(EngineUnavailable):
            await self.providers.sweep()
            await self.jobs.sweep()
        await self.settle()

    async def cancel(self, job_id: str) -> None:
        """Want a job ended; one that is over can't be."""
        try:
            await self.jobs.cancel(Identity(Role.OPERATOR, "op", "t"), job_id)
        except ProtocolError as error:
            if error.code is not ErrorCode.CONFLICT:
                raise
        except EngineUnavailable:
            pass
