"""Jobs through every fault: each ends once, none runs twice at once, the ledger adds up, nothing is left.

A hub, agents, supervisors and jobs as real processes; each of them killed, and frozen for a while, and the
network cut, while a job waits, is assigned, runs, and has just ended but not been told of.
"""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from qubix_tui.protocol.job_records import JobState
from qubix_tui.protocol.reasons import reason_word
from tests.end_to_end.job_world import PATIENCE, Account, Agent, World, overlaps, running_world, wait
from tests.redis_server import RedisServer, redis_server

TARGETS: Final = ("hub", "agent", "supervisor", "job", "network")
PHASES: Final = ("queued", "assigned", "running", "finishing")
HELD_SECONDS: Final = 10.0
SOAK_LEASE_SECONDS: Final = 60.0
SOAK_PATIENCE: Final = 400.0
HUB_RESTS_SECONDS: Final = 60.0
LONG_SHARE: Final = 0.05
"""How many of the random faults outlast a lease."""
CANCEL_SHARE: Final = 0.2
"""How many of the jobs in them are cancelled, before the fault or after it."""

PRICE_PER_MS: Final = 36 * 1_000_000 / 3_600_000


class Case(NamedTuple):
    """What happens to one job."""

    target: str
    fault: str
    """``kill``, ``freeze``, or for the network ``cut``."""
    phase: str

    def __str__(self) -> str:
        return f"{self.fault} the {self.target} while {self.phase}"


def all_cases() -> list[Case]:
    """Every fault at every moment. Before it runs, a job has neither a supervisor nor a process."""
    return [
        Case(target, fault, phase)
        for target, phase in itertools.product(TARGETS, PHASES)
        if target not in {"supervisor", "job"} or phase in {"running", "finishing"}
        for fault in (("cut",) if target == "network" else ("kill", "freeze"))
    ]


class Ordeal:
    """Puts jobs through faults.

    Args:
        world: Where.
        seconds: How long a frozen process stays so, and a network stays cut.
        patience: Seconds that anything may take.
    """

    def __init__(self, world: World, seconds: float, patience: float = PATIENCE) -> None:
        self._world = world
        self._seconds = seconds
        self._patience = patience

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
        await wait(look, what, self._patience)

    async def _wait_held(self, look: Callable[[], bool], agent: Agent) -> None:
        """Wait for something while nobody hears a machine; after a while, with it heard again."""
        with contextlib.suppress(AssertionError):
            await wait(look, "what happens without it", HELD_SECONDS)
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
        match case.target:
            case "network":
                agent.proxy.cut()
                await asyncio.sleep(self._seconds)
                agent.proxy.drop()
            case "hub":
                async with world.hub_lock:
                    assert world.hub is not None
                    await self._strike_process(world.hub.pid, case.fault)
                    if case.fault == "kill":
                        await asyncio.to_thread(world.hub.wait)
                        world.start_hub()
                        # One that has yet to start ends when its Redis is struck, and nobody starts it again.
                        await self._wait(lambda: world.redis is None or world.hub_answers(), "the hub")
            case "redis":
                async with world.hub_lock:
                    assert world.redis is not None
                    await self._strike_process(world.redis.pid, case.fault)
                    if case.fault == "kill":
                        world.redis.kill()
                        await asyncio.to_thread(world.redis.start)
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
        await wait(
            lambda: world.is_paused(agent) is paused, f"{agent.name} to be {'kept' if paused else 'offered'}"
        )


async def settle(world: World, job_ids: list[str], cases: dict[str, Case]) -> dict[str, int]:
    """Hold every job against what has to be true of it; gives how many ended in each state."""
    ends: dict[str, int] = {}
    for job_id in job_ids:
        account = await world.account(job_id)
        about = f"{job_id} ({cases[job_id]}): {account.job.state} {account.job.reason}"
        assert account.job.state.is_final, about
        assert account.completions == 1, about
        check_attempts(world, account, about)
        check_ledger(account, about)
        ends[account.job.state.value] = ends.get(account.job.state.value, 0) + 1
    await wait(lambda: not world.left_over(), "no process to be left")
    await wait(lambda: not world.groups_left(), "no control group to be left")
    await wait(lambda: not any(agent.held() for agent in world.agents), "the agents to let go of all jobs")
    return ends


def check_attempts(world: World, account: Account, about: str) -> None:
    """No two attempts ran at once, and what completed is what ran to its end."""
    stamps = world.stamps(account.job.id)
    assert overlaps(stamps) == [], about
    for attempt in {stamp.attempt for stamp in stamps}:
        assert sum(stamp.what == "start" for stamp in stamps if stamp.attempt == attempt) == 1, about
    if account.job.state is JobState.COMPLETED:
        assert account.job.result == {"attempt": account.job.attempt}, about
        assert account.job.reason is None, about
        assert any(stamp.what == "end" and stamp.attempt == account.job.attempt for stamp in stamps), about
    else:
        assert reason_word(account.job.reason) is not None, about


def check_ledger(account: Account, about: str) -> None:
    """A receipt for each attempt, each of them right, and their sum is what the job costs."""
    numbers = [receipt.attempt for receipt in account.receipts]
    assert numbers == list(range(1, account.job.attempt + 1)), about
    for receipt in account.receipts:
        assert receipt.price_per_hour == 36, about
        assert receipt.cost_micros is not None, about
        assert abs(receipt.cost_micros - receipt.running_ms * PRICE_PER_MS) <= 1, about
    assert account.job.cost_micros == sum(receipt.cost_micros or 0 for receipt in account.receipts), about
    last = account.receipts[-1].status if account.receipts else None
    if account.job.state is not JobState.CANCELLED:
        assert last == account.job.state.value, about


async def run(
    root: Path,
    cases: list[Case],
    *,
    agents: int,
    lease: float,
    freeze: float,
    redis: RedisServer | None = None,
) -> dict[str, int]:
    """Put a job through each of these cases, as many at a time as there are agents; gives how they ended."""
    async with running_world(root, agents=agents, lease=lease, redis=redis) as world:
        ordeal, waiting = Ordeal(world, freeze), list(reversed(cases))
        lived_through: dict[str, Case] = {}

        async def one_after_another(agent: Agent) -> None:
            while waiting:
                case = waiting.pop()
                lived_through[await ordeal.put_through(case, agent)] = case

        async with asyncio.TaskGroup() as tasks:
            for agent in world.agents:
                tasks.create_task(one_after_another(agent))
        assert len(lived_through) == len(cases)
        return await settle(world, world.job_ids, lived_through)


async def put_through_long(world: World, ordeal: Ordeal, case: Case) -> str:
    """Have a job lose the machine that it began on, for longer than a lease; gives its id."""
    job_id = await world.submit(retries=1)
    await ordeal.reach("running", job_id, world.agents[0])
    agent = world.holder_of(job_id)
    assert agent is not None
    striking = asyncio.create_task(ordeal.strike(case, job_id, agent))
    if case.target == "supervisor":
        # Frozen alone it would be passed over by its agent, which would say so.
        agent.proxy.cut()
    await wait(lambda: world.has_stamped(job_id, "beat", attempt=2), f"another attempt ({case})")
    world.let_end(job_id)
    await wait(lambda: world.is_final(job_id), f"the end of {job_id} ({case})")
    await striking
    agent.proxy.restore()
    return job_id


@pytest.mark.timeout(180)
async def test_a_lost_machine_loses_its_job(tmp_path: Path) -> None:
    """Out of reach for longer than a lease: the job ends there before it begins elsewhere, whoever ends it.

    The agent and its supervisor both can: each is frozen while the other has to do it.
    """
    cases = [
        Case("network", "cut", "running"),
        Case("agent", "freeze", "running"),
        Case("supervisor", "freeze", "running"),
    ]
    async with running_world(tmp_path, agents=6, lease=6.0) as world:
        ordeal = Ordeal(world, 12.0)
        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(put_through_long(world, ordeal, case)) for case in cases]
        ids = [job.result() for job in jobs]
        assert await settle(world, ids, dict(zip(ids, cases, strict=True))) == {"completed": 3}
        for job_id in ids:
            account = await world.account(job_id)
            assert [receipt.reason for receipt in account.receipts] == ["lost", None]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "targets",
    [("redis",), pytest.param(("redis", "hub"), marks=pytest.mark.soak)],
    ids=["redis", "redis and hub"],
)
async def test_every_job_ends_once_through_the_faults_of_redis(
    tmp_path: Path, targets: tuple[str, ...]
) -> None:
    """That killed and frozen at every moment of a job; and the hub, whose lease has to run out first."""
    cases = [
        Case(target, fault, phase)
        for target, phase in itertools.product(targets, PHASES)
        for fault in ("kill", "freeze")
    ]
    random.Random(7).shuffle(cases)
    with redis_server() as redis:
        ends = await run(tmp_path, cases, agents=4, lease=6.0, freeze=2.5, redis=redis)
    assert sum(ends.values()) == len(cases)
    assert ends.get("completed", 0) >= len(cases) / 2, ends


@pytest.mark.timeout(180)
async def test_every_job_ends_once_through_all_faults(tmp_path: Path) -> None:
    """Every fault at every moment, once, three at a time: 28 jobs, a lease of 6 s, 2 s frozen or cut off."""
    cases = all_cases()
    random.Random(7).shuffle(cases)
    ends = await run(tmp_path, cases, agents=3, lease=6.0, freeze=2.0)
    assert sum(ends.values()) == len(cases)
    assert ends.get("completed", 0) >= len(cases) / 2, ends


class RandomOrdeal:
    """Puts jobs through faults that nobody chose.

    Args:
        world: Where.
        rng: What chooses.
        seconds: How long a frozen process stays so, and a network stays cut.
        lease: Seconds of a lease.
    """

    def __init__(self, world: World, rng: random.Random, *, seconds: float, lease: float) -> None:
        self._world = world
        self._rng = rng
        self._usual = Ordeal(world, seconds, SOAK_PATIENCE)
        self._long = Ordeal(world, 1.5 * lease, SOAK_PATIENCE)
        self._hub_rests_until = 0.0

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
        await wait(lambda: world.is_final(job_id), f"the end of {job_id} ({case})", SOAK_PATIENCE)
        return job_id, case

    def _choose(self) -> Case:
        """Choose a fault; between two of the hub there is time in which everybody else is put to the test."""
        now = time.monotonic()
        is_hub_left_alone = self._world.hub_lock.locked() or now < self._hub_rests_until
        case = self._rng.choice(
            [case for case in all_cases() if case.target != "hub" or not is_hub_left_alone]
        )
        if case.target == "hub":
            self._hub_rests_until = now + HUB_RESTS_SECONDS
        return case


@pytest.mark.soak
async def test_every_job_ends_once_through_random_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two hundred jobs on eight machines, some cancelled, with a seed that is printed: the same holds of all.

    ``QUBIX_SOAK_SEED`` repeats a run's choices, ``QUBIX_SOAK_JOBS`` changes how many there are.
    """
    seed = int(os.environ.get("QUBIX_SOAK_SEED") or random.SystemRandom().randrange(10**6))
    count = int(os.environ.get("QUBIX_SOAK_JOBS") or 200)
    began, left, lived_through = time.monotonic(), count, dict[str, Case]()
    with capsys.disabled():
        sys.stdout.write(f"\njobs through random faults, seed {seed}\n")
    async with running_world(tmp_path, agents=8, lease=SOAK_LEASE_SECONDS) as world:
        ordeal = RandomOrdeal(world, random.Random(seed), seconds=20.0, lease=SOAK_LEASE_SECONDS)

        async def one_after_another(agent: Agent) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                job_id, case = await ordeal.put_through(agent)
                lived_through[job_id] = case

        async with asyncio.TaskGroup() as tasks:
            for agent in world.agents:
                tasks.create_task(one_after_another(agent))
        ends = await settle(world, world.job_ids, lived_through)
        attempts = sum([(await world.account(job_id)).job.attempt for job_id in world.job_ids])
    assert sum(ends.values()) == count
    counted = ", ".join(f"{number} {state}" for state, number in sorted(ends.items()))
    with capsys.disabled():
        sys.stdout.write(
            f"{count} jobs through as many random faults (seed {seed}, {time.monotonic() - began:.0f} s): "
            f"{counted}, in {attempts} attempts; each ended once, none ran twice at once, "
            "the ledger adds up, nothing was left over\n"
        )
