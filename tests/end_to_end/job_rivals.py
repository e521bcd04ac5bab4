"""Clients of several hubs that want different things of one job at the same moment."""

import asyncio
import contextlib
import random
import secrets

from qubix_tui.client import Connection, Refused
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.requests import JobRef, SubmitJob
from tests.end_to_end.job_cases import Case
from tests.end_to_end.job_world import STEADY, World
from tests.end_to_end.processes import LONG_PATIENCE, until

RACE_SECONDS = 0.08
"""How long after it may end, at most, a job is cancelled: about as long as its end takes to be told."""


async def race(world: World, count: int, rng: random.Random) -> dict[str, Case]:
    """Have jobs submitted at all hubs at once, and cancelled at all of them while they end.

    Gives what each went through. That it is one job, however many hubs took it, is looked at here.
    """
    connections = [Connection(hub.url, token=world.token, retry=STEADY) for hub in world.hubs.all]
    async with contextlib.AsyncExitStack() as stack:
        for connection in connections:
            await connection.start()
            stack.push_async_callback(connection.close)
            await connection.wait_open(LONG_PATIENCE)
        return {
            await _run_one(world, connections, rng): Case("clients", "race", "finishing")
            for _ in range(count)
        }


async def _run_one(world: World, connections: list[Connection], rng: random.Random) -> str:
    request = SubmitJob(workload="stamping", idempotency_key=secrets.token_hex(8))
    taken = await asyncio.gather(*(one.request("job:submit", request) for one in connections))
    job_id: str
    (job_id,) = {reply.data.job_id for reply in taken}
    world.job_ids.append(job_id)
    await until(lambda: world.has_stamped(job_id, "beat"), f"{job_id} to run")
    world.let_end(job_id)
    await asyncio.sleep(rng.uniform(0, RACE_SECONDS))
    await asyncio.gather(*(_cancel(one, job_id) for one in connections))
    await until(lambda: world.is_final(job_id), f"the end of {job_id}")
    return job_id


async def _cancel(connection: Connection, job_id: str) -> None:
    """Want a job ended; it may be over already."""
    try:
        await connection.request("job:cancel", JobRef(job_id=job_id))
    except Refused as error:
        if error.code is not ErrorCode.CONFLICT:
            raise
