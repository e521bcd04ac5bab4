"""Hubs that share a store, without sockets: any may lag, be frozen, cut off from the store, or killed."""

import asyncio
from collections.abc import Callable, Sequence

from qubix_tui.hub.engine.cluster import LEASE_SECONDS
from tests.hub.job_agent import Agent
from tests.hub.job_world import Agents, JobHub
from tests.hub.shared_store import SharedEngine, SharedStore


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
