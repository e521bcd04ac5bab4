"""Jobs through every fault: each ends once, none runs twice at once, the ledger adds up, nothing is left.

Hubs, agents, supervisors and jobs as real processes; each of them killed, and frozen for a while, and the
network cut, while a job waits, is assigned, runs, and has just ended but not been told of.
"""

import asyncio
import itertools
import os
import random
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tests.end_to_end.job_cases import PHASES, Case, all_cases
from tests.end_to_end.job_checks import settle
from tests.end_to_end.job_machine import Agent
from tests.end_to_end.job_ordeal import Ordeal, RandomOrdeal
from tests.end_to_end.job_world import World, running_world
from tests.end_to_end.processes import until
from tests.redis_server import RedisServer, redis_server

SOAK_LEASE_SECONDS: Final = 60.0
HUB_RESTS_SECONDS: Final = 60.0


async def run(
    root: Path,
    cases: list[Case],
    *,
    agents: int,
    lease: float,
    freeze: float,
    redis: RedisServer | None = None,
    hubs: int = 1,
) -> dict[str, int]:
    """Put a job through each of these cases, as many at a time as there are agents; gives how they ended."""
    async with running_world(root, agents=agents, lease=lease, redis=redis, hubs=hubs) as world:
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
    await until(lambda: world.has_stamped(job_id, "beat", attempt=2), f"another attempt ({case})")
    world.let_end(job_id)
    await until(lambda: world.is_final(job_id), f"the end of {job_id} ({case})")
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
        ordeal = RandomOrdeal(
            world, random.Random(seed), seconds=20.0, lease=SOAK_LEASE_SECONDS, rests=HUB_RESTS_SECONDS
        )

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
