"""What has to be true of every job, whatever happened to hubs, agents, networks and the store."""

import asyncio
import time
from typing import Final

from qubix_tui.protocol.job_records import JobState
from qubix_tui.protocol.reasons import reason_word
from tests.end_to_end.followers import newest_offset
from tests.end_to_end.job_cases import Case
from tests.end_to_end.job_world import Account, World, overlaps
from tests.end_to_end.processes import LONG_PATIENCE, until

PRICE_PER_MS: Final = 36 * 1_000_000 / 3_600_000


async def settle(world: World, job_ids: list[str], cases: dict[str, Case]) -> dict[str, int]:
    """Hold every job against what has to be true of it; gives how many ended in each state."""
    ends: dict[str, int] = {}
    for job_id in job_ids:
        account = await agreed(world, job_id)
        about = f"{job_id} ({cases[job_id]}): {account.job.state} {account.job.reason}"
        assert account.job.state.is_final, about
        assert account.completions == 1, about
        check_attempts(world, account, about)
        check_ledger(account, about)
        ends[account.job.state.value] = ends.get(account.job.state.value, 0) + 1
    newest = [await newest_offset(hub.url, world.token) for hub in world.hubs.all]
    await until(lambda: world.has_heard(max(newest), job_ids), "the follower to have heard everything")
    assert sorted(world.follower.ended) == sorted(world.follower.completed) == sorted(job_ids)
    await until(lambda: not world.left_over(), "no process to be left")
    await until(lambda: not world.groups_left(), "no control group to be left")
    await until(lambda: not any(agent.held() for agent in world.agents), "the agents to let go of all jobs")
    return ends


async def agreed(world: World, job_id: str) -> Account:
    """Give what all hubs keep of a job: the same, once each has caught up with the others."""
    deadline = time.monotonic() + LONG_PATIENCE
    while True:
        first, *others = [await world.account(job_id, hub) for hub in world.hubs.all]
        if all(other == first for other in others):
            return first
        assert time.monotonic() < deadline, [first, *others]
        await asyncio.sleep(0.05)


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
