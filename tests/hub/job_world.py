"""The jobs of hubs without sockets, and agents that really run something: intervals of time.

What an agent runs begins with ``job:start`` and ends when it says so, when it is told to stop, or by its
supervisor, a margin before the lease is over. The world remembers when, so that a test can see that no job
ever ran twice at once.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from qubix_tui.hub.access import Access, Identity
from qubix_tui.hub.engine.base import Change, Engine, EngineUnavailable, NewEvent, Precondition
from qubix_tui.hub.engine.cluster import LEASE_SECONDS
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
from qubix_tui.protocol.job_records import Job
from qubix_tui.protocol.records import Workload
from qubix_tui.protocol.requests import (
    HeldJob,
    JobAnswer,
    JobAttempt,
    Register,
    RenewLeases,
    ReportCompletion,
    ReportedProgress,
    ReportLogs,
    ReportProgress,
    SubmitJob,
)
from qubix_tui.protocol.tokens import Role, new_token
from tests.hub.manual_clock import ManualClock
from tests.hub.shared_store import SharedEngine, SharedStore

SETTINGS = JobSettings(lease_seconds=60.0)
OPERATOR = Identity(Role.OPERATOR, "op", "t")

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

    def __init__(self, world: "Agents", number: int, price: float | None) -> None:
        self.world = world
        self.name = f"rig{number}"
        self.price = price
        self.token = new_token(Role.PROVIDER)
        self.connection: Connection | None = None
        self.dialling: Connection | None = None
        self.frozen = False
        """It is connected and says nothing; its supervisors go on."""
        self.inbox: list[tuple[str, Any]] = []
        self.runs: dict[Attempt, Running] = {}
        self.accepted: set[Attempt] = set()
        self.outbox: list[ReportCompletion] = []
        self.sent: list[ReportProgress | ReportLogs | ReportCompletion] = []
        self.seqs: dict[Attempt, int] = {}

    @property
    def entry(self) -> Entry | None:
        """Its provider, as its connection knows it."""
        return self.connection.entry if self.connection else None

    @property
    def hub(self) -> "JobHub | None":
        """The hub that it is connected to."""
        return self.connection.hub if self.connection else None

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

    async def connect(self, hub: "JobHub") -> None:
        """Register over a new connection, and do what the hub says about the jobs that it holds."""
        identity = Identity(Role.PROVIDER, None, hub.token_ids[self.token])
        connection = Connection(self, hub, identity)
        if self.dialling is not None:
            self.dialling.is_open = False
        self.dialling = connection
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
        self.inbox.clear()
        try:
            await hub.providers.register(connection, request)
        except EngineUnavailable:
            return
        if not connection.is_open or connection.entry is None:
            return
        self.connection = connection
        for order in hub.jobs.agents.reconcile(connection.entry, held):
            if order.do == "stop":
                self.stop((order.job_id, order.attempt))
        hub.jobs.agents.registered(connection.entry, held)
        hub.jobs.matcher.wake()
        for attempt in tuple(self.accepted):
            await self.accept(attempt)

    def disconnect(self, *, goodbye: bool) -> None:
        """Lose the connection."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.is_open = False
            connection.hub.providers.disconnected(connection, goodbye=goodbye)

    def hang_up(self, hub: "JobHub") -> None:
        """Note that a hub is no more."""
        for connection in (self.connection, self.dialling):
            if connection is not None and connection.hub is hub:
                connection.is_open = False
        if self.hub is hub:
            self.connection = None

    def stop(self, attempt: Attempt) -> None:
        """End what runs."""
        self.accepted.discard(attempt)
        run = self.alive().get(attempt)
        if run is not None:
            run.ended = self.world.clock.monotonic()
            self.report(attempt, "cancelled")

    async def accept(self, attempt: Attempt) -> None:
        """Take a job, and start it if and when the hub says so."""
        connection = self.connection
        if connection is None or connection.entry is None:
            return
        self.accepted.add(attempt)
        sent = self.world.clock.monotonic()
        answer = JobAnswer(job_id=attempt[0], attempt=attempt[1])
        try:
            order = await connection.hub.jobs.agents.accept(connection.entry, answer)
        except EngineUnavailable:
            return
        if connection is not self.connection:
            return
        self.accepted.discard(attempt)
        if isinstance(order, events.JobStart) and attempt not in self.runs:
            self.runs[attempt] = Running(attempt[0], self.world.clock.monotonic(), sent)

    async def refuse(self, attempt: Attempt) -> None:
        """Turn a job down."""
        connection = self.connection
        if connection is None or connection.entry is None:
            return
        answer = JobAnswer(job_id=attempt[0], attempt=attempt[1], reason="not now")
        with contextlib.suppress(EngineUnavailable):
            await connection.hub.jobs.agents.refuse(connection.entry, answer)

    async def renew(self, sent: float | None = None) -> None:
        """Renew all leases; what is to stop is stopped.

        Args:
            sent: When it asked for that, if the hub was not there to answer.
        """
        connection = self.connection
        if connection is None or connection.entry is None:
            return
        sent = self.world.clock.monotonic() if sent is None else sent
        held = [JobAttempt(job_id=job_id, attempt=attempt) for job_id, attempt in self.alive()]
        try:
            answer = await connection.hub.jobs.agents.renew(connection.entry, RenewLeases(jobs=held))
        except EngineUnavailable:
            return
        if connection is not self.connection:
            return
        for renewed in answer.jobs:
            run = self.runs[renewed.job_id, renewed.attempt]
            run.renewed = max(run.renewed, sent)
        for stop in answer.stop:
            self.stop((stop.job_id, stop.attempt))

    async def send(self, report: ReportProgress | ReportLogs | ReportCompletion) -> bool:
        """Report something; False where it has to be said again."""
        connection = self.connection
        if connection is None or connection.entry is None:
            return False
        try:
            ack = await connection.hub.jobs.agents.report(connection.entry, report)
        except EngineUnavailable:
            return False
        if connection is not self.connection:
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

    async def say(self, attempt: Attempt, text: str) -> None:
        """Report what a job printed."""
        job_id, number = attempt
        seq = self.next_seq(attempt)
        await self.send(
            ReportLogs(job_id=job_id, attempt=number, seq=seq, stream="stdout", from_=0, text=text)
        )

    async def flush(self) -> None:
        """Send what the outbox holds, in its order."""
        while self.outbox:
            report = self.outbox[0]
            if not await self.send(report):
                return
            if self.outbox and self.outbox[0] is report:
                del self.outbox[0]


class Connection:
    """Implements `qubix_tui.hub.provider_connection.ProviderConnection`."""

    def __init__(self, agent: Agent, hub: "JobHub", identity: Identity) -> None:
        self.hub = hub
        self.identity = identity
        self.entry: Entry | None = None
        self.is_open = True
        self._agent = agent

    def reply(self, kind: str, data: Any, request_id: object) -> None:
        if self.is_open and kind in {events.JOB_ASSIGN, events.JOB_STOP}:
            self._agent.inbox.append((kind, data))

    def end(self, code: int, reason: str) -> None:
        self.is_open = False
        if self._agent.connection is self:
            self._agent.connection = None


class JobHub:
    """The jobs and providers of one hub.

    Args:
        engine: Where they live.
        clock: The time.
        agents: Who may come.
    """

    def __init__(self, engine: Engine, clock: ManualClock, agents: Sequence[Agent]) -> None:
        self.engine = engine
        self.tasks: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []
        """What the hub did not expect."""
        fanout, access = Fanout(Telemetry()), Access()
        self.token_ids = {
            agent.token: access.add_token(agent.token, Role.PROVIDER, agent.name) for agent in agents
        }
        self._publisher = Publisher(engine, fanout)
        self.providers = Providers(
            registry=Registry(clock, engine.cluster),
            engine=engine,
            publisher=self._publisher,
            fanout=fanout,
            history=History(clock),
            access=access,
            clock=clock,
            spawn=self._spawn_for_provider,
        )
        self.jobs = Jobs(
            engine=engine,
            publisher=self._publisher,
            providers=self.providers,
            fanout=fanout,
            clock=clock,
            settings=SETTINGS,
            spawn=self.spawn,
        )

    async def start(self) -> None:
        """Take over what the store holds."""
        await self.engine.open()
        self._publisher.follow = self._follow
        await self.providers.load()
        await self.jobs.load()

    def _follow(self, changes: Sequence[Change]) -> None:
        self.providers.follow(changes)
        self.jobs.follow(changes)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something, as a hub does."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self.failures.append(failure)

    def _spawn_for_provider(self, work: Coroutine[Any, Any, None]) -> object:
        """Run something, but no question to other hubs about samples: that takes real time, for nothing."""
        if getattr(work, "__qualname__", "") == Providers._fetch_past.__qualname__:
            return work.close()
        return self.spawn(work)

    async def sweep(self) -> None:
        """Look at all deadlines, as a hub does each second."""
        with contextlib.suppress(EngineUnavailable):
            await self.providers.sweep()
            await self.jobs.sweep()

    async def submit(self, request: SubmitJob, submitted: Callable[[str], None]) -> None:
        """Submit a job; where that is taken, its id is told."""
        with contextlib.suppress(EngineUnavailable):
            submitted(await self.jobs.submit(OPERATOR, request))

    async def cancel(self, job_id: str) -> None:
        """Want a job ended; one that is over, or is not known here yet, can't be."""
        with contextlib.suppress(EngineUnavailable):
            try:
                await self.jobs.cancel(OPERATOR, job_id)
            except ProtocolError as error:
                if error.code not in {ErrorCode.CONFLICT, ErrorCode.NOT_FOUND}:
                    raise

    async def records(self) -> list[Job]:
        """All jobs."""
        return await self.jobs.book.records(self.jobs.book.ids())

    async def end(self) -> None:
        """Be killed."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Agents:
    """Some agents, the hubs that they may speak to, and the time."""

    def __init__(self, prices: Sequence[float | None]) -> None:
        self.clock = ManualClock()
        self.agents = [Agent(self, number, price) for number, price in enumerate(prices)]

    @property
    def hubs(self) -> Sequence[JobHub]:
        """The hubs that run and answer."""
        raise NotImplementedError

    async def settle(self) -> None:
        """Let all that was begun come to its end, as far as it can."""
        while True:
            # What one hub has stored is heard by the others in later turns.
            for _ in range(4):
                await asyncio.sleep(0)
            tasks = [task for hub in self.hubs for task in hub.tasks]
            if not tasks:
                return
            await asyncio.wait(tasks)

    async def sweep(self) -> None:
        """Look at all deadlines, as hubs do each second."""
        for agent in self.agents:
            agent.alive()
            hub = agent.hub
            if hub in self.hubs and hub is not None and agent.entry is not None and not agent.frozen:
                hub.providers.heard(agent.entry)
        await self.settle()
        for hub in self.hubs:
            hub.spawn(hub.sweep())
            await self.settle()


class World(Agents):
    """A hub that is alone with its store, and some agents."""

    def __init__(self, prices: Sequence[float | None]) -> None:
        super().__init__(prices)
        self.store = Store(self.clock)
        self.hub: JobHub

    @property
    def hubs(self) -> Sequence[JobHub]:
        """The one."""
        return [self.hub]

    async def start(self) -> None:
        """Start a hub on what the store holds."""
        self.hub = JobHub(self.store, self.clock, self.agents)
        await self.hub.start()

    async def restart(self) -> None:
        """Kill the hub, and start the next one."""
        await self.hub.end()
        for agent in self.agents:
            agent.hang_up(self.hub)
        await self.start()


class SharingHub(JobHub):
    """One of several hubs on a store, and what is the matter with it."""

    def __init__(self, world: "SharedWorld", name: str) -> None:
        self.shared = SharedEngine(world.store, name)
        super().__init__(self.shared, world.clock, world.agents)
        self.name = name
        self.trouble: str | None = None
        """``lag``: it hears of commits late. ``cut``: it can't reach the store. ``frozen``: all of it."""
        self.since = 0.0
        self.waiting: list[Callable[[], None]] = []
        """What came while it was frozen."""

    def __repr__(self) -> str:
        return self.name


class SharedWorld(Agents):
    """Hubs that share a store, and some agents."""

    def __init__(self, prices: Sequence[float | None]) -> None:
        super().__init__(prices)
        self.store = SharedStore()
        self.all: list[SharingHub] = []
        self._started = 0

    @property
    def hubs(self) -> Sequence[JobHub]:
        """Those that hear of everything at once."""
        return [hub for hub in self.all if hub.trouble is None]

    @property
    def reachable(self) -> list[SharingHub]:
        """Those that take requests, though an answer may have to wait."""
        return [hub for hub in self.all if hub.trouble != "frozen"]

    async def start(self) -> SharingHub:
        """Start one more hub."""
        self._started += 1
        hub = SharingHub(self, f"hub{self._started}")
        await hub.start()
        self.all.append(hub)
        return hub

    async def kill(self, hub: SharingHub) -> None:
        """End a hub at once. What it has stored is stored."""
        self.all.remove(hub)
        await hub.end()
        for agent in self.agents:
            agent.hang_up(hub)
        await hub.shared.close()

    def renew_at_frozen(self, agent: Agent) -> None:
        """An agent asks a frozen hub to renew its leases, which that does when it goes on."""
        hub, connection, sent = agent.hub, agent.connection, self.clock.monotonic()

        def renew() -> None:
            if agent.connection is connection and hub is not None:
                hub.spawn(agent.renew(sent))

        if isinstance(hub, SharingHub) and hub.trouble == "frozen":
            hub.waiting.append(renew)

    def leave_frozen(self, agent: Agent) -> None:
        """An agent leaves a frozen hub, which learns of that when it goes on."""
        connection, agent.connection = agent.connection, None
        if connection is not None and isinstance(connection.hub, SharingHub):
            connection.is_open = False
            leave = connection.hub.providers.disconnected
            connection.hub.waiting.append(lambda: leave(connection, goodbye=False))

    def trouble(self, hub: SharingHub, kind: str) -> None:
        """Something is the matter with a hub from now on."""
        hub.trouble, hub.since = kind, self.clock.monotonic()
        hub.shared.held = True
        hub.shared.away = kind == "cut"
        if kind != "lag":
            hub.shared.cluster.seen = list(self.store.alive)

    async def heal(self, hub: SharingHub) -> None:
        """A hub goes on.

        What came while it was frozen it answers first. Then it hears what the others have stored, and only
        then which of them are alive.
        """
        kind, hub.trouble = hub.trouble, None
        engine, cluster = hub.shared, hub.shared.cluster
        engine.away = False
        if kind == "frozen":
            for message in hub.waiting:
                message()
            hub.waiting.clear()
            missed = self.clock.monotonic() - hub.since
            hub.providers.stalled(missed)
            hub.jobs.stalled(missed)
        hub.spawn(hub.sweep())
        await asyncio.sleep(0)
        engine.held = False
        engine.hear()
        await self.settle()
        hub.spawn(hub.sweep())
        await self.settle()
        cluster.seen, cluster.may_renew = None, True
        if hub.name not in self.store.alive:
            self.store.alive.append(hub.name)

    async def sweep(self) -> None:
        """Look at all deadlines; hubs that lag or are cut off do so from what they know."""
        for hub in self.all:
            if hub.trouble is not None and self.clock.monotonic() - hub.since >= LEASE_SECONDS:
                # It has not heard from the store for so long, and the store has not heard from it.
                hub.shared.cluster.may_renew = False
                if hub.trouble != "lag" and hub.name in self.store.alive:
                    self.store.alive.remove(hub.name)
        await super().sweep()
        for hub in self.all:
            if hub.trouble in {"lag", "cut"}:
                hub.spawn(hub.sweep())
        await self.settle()
