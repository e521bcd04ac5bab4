"""The jobs of hubs without sockets, and agents that run them (`tests.hub.job_agent`)."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from qubix_tui.hub.access import Access, Identity
from qubix_tui.hub.engine.base import Change, Engine, EngineUnavailable, NewEvent, Precondition
from qubix_tui.hub.engine.memory import MemoryEngine
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.history import History
from qubix_tui.hub.jobs import Jobs
from qubix_tui.hub.providers import Providers
from qubix_tui.hub.publisher import Publisher
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.job_records import Job
from qubix_tui.protocol.requests import SubmitJob
from qubix_tui.protocol.tokens import Role
from tests.hub.job_agent import SETTINGS, Agent
from tests.hub.manual_clock import ManualClock

OPERATOR = Identity(Role.OPERATOR, "op", "t")


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
        self.agents = [Agent(self.clock, number, price) for number, price in enumerate(prices)]

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
