"""Puts jobs through faults: of hubs, agents, supervisors, jobs, networks and the store, all of them real."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Final

from qubix_tui.protocol.job_records import JobState
from tests.end_to_end.job_cases import SHARED_TARGETS, TARGETS, Case, all_cases
from tests.end_to_end.job_machine import Agent
from tests.end_to_end.job_world import World
from tests.end_to_end.processes import LONG_PATIENCE, until

HELD_SECONDS: Final = 10.0
SOAK_PATIENCE: Final = 400.0
LONG_SHARE: Final = 0.05
"""How many of the random faults outlast a lease."""
CANCEL_SHARE: Final = 0.2
"""How many of the jobs in them are cancelled, before the fault or after it."""
NEEDED_BY_ALL: Final = frozenset({"hub", "redis", "link"})


class Ordeal:
    """Puts jobs through faults.

    Args:
        world: Where.
        seconds: How long a frozen process stays so, and a network stays cut.
        patience: Seconds that anything may take.
        rng: What chooses between hubs.
    """

    def __init__(
        self,
        world: World,
        seconds: float,
        patience: float = LONG_PATIENCE,
        rng: random.Random | None = None,
    ) -> None:
        self._world = world
        self._seconds = seconds
        self._patience = patience
        self._rng = rng or random.Random(7)

    async def put_through(self, case: Case, agent: Agent) -> str:
        """Have one job live through a fault, and wait for its end; gives its id.

        The first attempt is on ``agent``, where later ones are too: what happens to it happens to this job.
        """
        world = self._world
        if case.phase == "queued":
            await self._offer_again(agent, paused=True)
        elif case.phase == "assigned":
            agent.proxy.hold_answers()
        job_id = await world.submit(on=agent.name)
        await self.reach(case.phase, job_id, agent)
        await self.strike(case, job_id, agent)
        agent.proxy.restore()
        if case.phase == "queued":
            await self._offer_again(agent, paused=False)
        world.let_end(job_id)
        await self._wait(lambda: world.is_final(job_id), f"the end of {job_id} ({case})")
        return job_id

    async def _wait(self, look: Callable[[], bool], what: str) -> None:
        await until(look, what, self._patience)

    async def _wait_held(self, look: Callable[[], bool], agent: Agent) -> None:
        """Wait for something while nobody hears a machine; after a while, with it heard again."""
        with contextlib.suppress(AssertionError):
            await until(look, "what happens without it", HELD_SECONDS)
            return
        agent.proxy.restore()
        await self._wait(look, "what may have waited for a machine that nobody heard")

    async def reach(self, phase: str, job_id: str, agent: Agent) -> None:
        """Wait until a job is at some point of its life, or past it; what it says of its end is held back."""
        world = self._world
        match phase:
            case "queued":
                await self._wait(lambda: world.state(job_id) is not None, "it to wait")
            case "assigned":
                await self._wait_held(lambda: world.state(job_id) not in {None, JobState.QUEUED}, agent)
            case "running":
                await self._wait(lambda: world.has_stamped(job_id, "beat"), "it to run")
            case "finishing":
                await self._wait(lambda: world.has_stamped(job_id, "beat"), "it to run")
                agent.proxy.hold_answers()
                world.let_end(job_id)
                await self._wait_held(lambda: world.has_stamped(job_id, "end"), agent)

    async def strike(self, case: Case, job_id: str, agent: Agent) -> None:
        """Do what the case says, and wait until it is over."""
        world = self._world
        world.follower.move()
        match case.target:
            case "network":
                agent.proxy.cut()
                await asyncio.sleep(self._seconds)
                agent.proxy.drop()
            case "hub" | "link":
                await self._strike_hub(case, agent)
            case "redis":
                hubs = world.hubs
                async with hubs.redis_lock:
                    assert hubs.redis is not None
                    await self._strike_process(hubs.redis.pid, case.fault)
                    if case.fault == "kill":
                        hubs.redis.kill()
                        await asyncio.to_thread(hubs.redis.start)
            case "agent":
                assert agent.process is not None
                await self._strike_process(agent.process.pid, case.fault)
                if case.fault == "kill":
                    await asyncio.to_thread(agent.process.wait)
                    agent.start()
            case "supervisor":
                await self._strike_process(agent.supervisor(job_id), case.fault)
            case "job":
                await self._strike_process(agent.first_process(job_id), case.fault)

    async def _strike_hub(self, case: Case, agent: Agent) -> None:
        """Strike the hub that an agent is at, as often as another one; or its way to Redis."""
        hubs = self._world.hubs
        unhurt = [hub for hub in hubs.all if not hub.lock.locked()] or hubs.all
        own = [hub for hub in unhurt if hub.port == agent.proxy.last]
        hub = own[0] if own and self._rng.random() < 0.5 else self._rng.choice(unhurt)
        async with hub.lock:
            if case.target == "link":
                link = hubs.links[hubs.all.index(hub)]
                link.cut()
                await asyncio.sleep(self._seconds)
                if case.fault == "cut":
                    link.drop()
                link.restore()
            else:
                await self._strike_process(hub.pid, case.fault)
                if case.fault == "kill":
                    await hubs.until_ended(hub)
                    # Alone it is missed at once; one of several is gone long enough for the others to see.
                    await asyncio.sleep(self._seconds if len(hubs.all) > 1 else 0)
        await hubs.until_ready(hub, self._patience)

    async def _strike_process(self, pid: int | None, fault: str) -> None:
        # What has just ended by itself can't be hit any more.
        with contextlib.suppress(ProcessLookupError):
            if pid is None:
                return
            if fault == "kill":
                os.kill(pid, signal.SIGKILL)
                return
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(self._seconds)
            finally:
                os.kill(pid, signal.SIGCONT)

    async def _offer_again(self, agent: Agent, *, paused: bool) -> None:
        await agent.pause(paused)
        world = self._world
        await until(
            lambda: world.is_paused(agent) is paused, f"{agent.name} to be {'kept' if paused else 'offered'}"
        )


class RandomOrdeal:
    """Puts jobs through faults that nobody chose.

    Args:
        world: Where.
        rng: What chooses.
        seconds: How long a frozen process stays so, and a network stays cut.
        lease: Seconds of a lease.
        rests: Seconds between two faults of what all jobs need, in which everybody else is put to the test.
    """

    def __init__(
        self, world: World, rng: random.Random, *, seconds: float, lease: float, rests: float
    ) -> None:
        self._world = world
        self._rng = rng
        self._usual = Ordeal(world, seconds, SOAK_PATIENCE, rng)
        self._long = Ordeal(world, 1.5 * lease, SOAK_PATIENCE, rng)
        self._rests = rests
        self._rests_until = 0.0
        self._cases = all_cases(TARGETS if world.hubs.redis is None else SHARED_TARGETS)

    async def put_through(self, agent: Agent) -> tuple[str, Case]:
        """Have one job live through something; gives its id, and what it was."""
        world, rng = self._world, self._rng
        case = self._choose()
        ordeal = self._long if rng.random() < LONG_SHARE else self._usual
        if case.phase == "assigned":
            agent.proxy.hold_answers()
        chosen = case.phase == "assigned" or rng.random() < 0.5
        job_id = await world.submit(on=agent.name if chosen else None, retries=rng.randrange(3))
        await ordeal.reach(case.phase, job_id, agent)
        victim = world.holder_of(job_id) or agent
        cancelled = rng.random() < CANCEL_SHARE
        if cancelled and rng.random() < 0.5:
            await world.cancel(job_id)
        await ordeal.strike(case, job_id, victim)
        for struck in {agent.name: agent, victim.name: victim}.values():
            struck.proxy.restore()
        if cancelled:
            await world.cancel(job_id)
        world.let_end(job_id)
        await until(lambda: world.is_final(job_id), f"the end of {job_id} ({case})", SOAK_PATIENCE)
        return job_id, case

    def _choose(self) -> Case:
        """Choose a fault."""
        hubs, now = self._world.hubs, time.monotonic()
        is_left_alone = now < self._rests_until or (len(hubs.all) == 1 and hubs.all[0].lock.locked())
        case = self._rng.choice(
            [case for case in self._cases if case.target not in NEEDED_BY_ALL or not is_left_alone]
        )
        if case.target in NEEDED_BY_ALL:
            self._rests_until = now + self._rests
        return case
