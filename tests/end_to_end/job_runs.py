"""Many jobs through many faults at the same time, each held against what has to be true of it."""

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from tests.end_to_end.job_cases import Case
from tests.end_to_end.job_checks import settle
from tests.end_to_end.job_machine import Agent
from tests.end_to_end.job_ordeal import Ordeal, RandomOrdeal
from tests.end_to_end.job_rivals import race
from tests.end_to_end.job_world import running_world
from tests.redis_server import RedisServer

RACES = 8
SOAK_RACES = 50
"""Jobs that are submitted and cancelled at several hubs at once, when all faults are over."""


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
    """Put a job through each of these cases, as many at a time as there are agents; gives how they ended.

    Where there are several hubs, some jobs more are fought over by clients of all of them.
    """
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
        if hubs > 1:
            lived_through |= await race(world, RACES, random.Random(7))
        return await settle(world, world.job_ids, lived_through)


async def run_at_random(
    root: Path,
    *,
    agents: int,
    lease: float,
    seconds: float,
    rests: float,
    redis: RedisServer | None = None,
    hubs: int = 1,
) -> None:
    """Put jobs through faults that nobody chose, and print what came of them.

    ``QUBIX_SOAK_SEED`` repeats a run's choices, ``QUBIX_SOAK_JOBS`` changes how many jobs there are.

    Args:
        root: A directory of its own.
        agents: So many jobs at a time.
        lease: Seconds of a lease.
        seconds: How long most faults last.
        rests: Seconds between two faults of what all jobs need.
        redis: What the hubs share.
        hubs: How many there are.
    """
    seed = int(os.environ.get("QUBIX_SOAK_SEED") or random.SystemRandom().randrange(10**6))
    count = int(os.environ.get("QUBIX_SOAK_JOBS") or 200)
    began, left, lived_through = time.monotonic(), count, dict[str, Case]()
    where = "one hub" if hubs == 1 else f"{hubs} hubs"
    sys.stdout.write(f"\njobs through random faults on {where}, seed {seed}\n")
    async with running_world(root, agents=agents, lease=lease, redis=redis, hubs=hubs) as world:
        ordeal = RandomOrdeal(world, random.Random(seed), seconds=seconds, lease=lease, rests=rests)

        async def one_after_another(agent: Agent) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                job_id, case = await ordeal.put_through(agent)
                lived_through[job_id] = case

        async with asyncio.TaskGroup() as tasks:
            for agent in world.agents:
                tasks.create_task(one_after_another(agent))
        if hubs > 1:
            lived_through |= await race(world, SOAK_RACES, random.Random(seed))
        ends = await settle(world, world.job_ids, lived_through)
        attempts = sum([(await world.account(job_id)).job.attempt for job_id in world.job_ids])
        moves = world.follower.recoveries
    assert sum(ends.values()) == len(lived_through)
    counted = ", ".join(f"{number} {state}" for state, number in sorted(ends.items()))
    fought_over = f", {SOAK_RACES} fought over by clients of all" if hubs > 1 else ""
    sys.stdout.write(
        f"{count} jobs through as many random faults on {where}{fought_over} (seed {seed}, "
        f"{time.monotonic() - began:.0f} s): {counted}, in {attempts} attempts; each ended once, none ran "
        f"twice at once, the ledger adds up, nothing was left over; a client that reconnected {moves} times "
        "missed nothing and saw nothing twice\n"
    )
