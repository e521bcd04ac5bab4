"""Jobs through every fault: each ends once, none runs twice at once, the ledger adds up, nothing is left.

Hubs, agents, supervisors and jobs as real processes; each of them killed, and frozen for a while, and the
network cut, while a job waits, is assigned, runs, and has just ended but not been told of.
"""

import asyncio
import itertools
import random
from pathlib import Path

import pytest

from tests.end_to_end.job_cases import PHASES, Case, all_cases
from tests.end_to_end.job_checks import settle
from tests.end_to_end.job_ordeal import Ordeal
from tests.end_to_end.job_runs import run, run_at_random
from tests.end_to_end.job_world import World, running_world
from tests.end_to_end.processes import until
from tests.redis_server import redis_server


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
    with capsys.disabled():
        await run_at_random(tmp_path, agents=8, lease=60.0, seconds=20.0, rests=60.0)
