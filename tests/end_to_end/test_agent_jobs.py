"""What becomes of a job when its agent ends, by which way it may."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from agent.jobs.processes import tagged
from tests.agent.running import RunningAgent, running
from tests.end_to_end.offered_job import offer, until_offered
from tests.end_to_end.processes import hub_process, run, wait_for
from tests.hub.wire import Client


@asynccontextmanager
async def operator(home: Path, url: str) -> AsyncIterator[Client]:
    """A client that may submit jobs."""
    token = (home / "tokens" / "operator").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(url, additional_headers=headers, max_queue=None, proxy=None) as socket:
        yield Client(socket)


async def a_running_job(client: Client, url: str) -> str:
    """Have a job run; gives its id."""
    await until_offered(url, "train")
    job_id: str = (await client.ask("job:submit", {"workload": "train"}))["data"]["jobId"]
    await client.subscribe(f"job:{job_id}")
    while (await client.until("JOB_PROGRESS"))["data"]["progress"]["progress"] != 25:
        pass
    return job_id


def ended_by(agent: RunningAgent, number: signal.Signals) -> int:
    """End an agent; gives its exit code."""
    agent.process.send_signal(number)
    return agent.process.wait(20)


async def test_a_service_that_is_restarted_keeps_its_job(tmp_path: Path) -> None:
    """SIGTERM ends the agent and not the job: the agent that follows tells of it, and how it ended."""
    offer(tmp_path)
    with hub_process(tmp_path) as (_, url):
        async with operator(tmp_path, url) as client:
            with running(tmp_path, url) as agent:
                job_id = await a_running_job(client, url)
                shown = run(["qubix-agent", "status"], tmp_path).stdout
                assert f"job         {job_id}  train  running  25%  epoch\n" in shown
                assert ended_by(agent, signal.SIGTERM) == 0
            assert len(list(tagged(f"{job_id}.1"))) == 1
            with running(tmp_path, url):
                for percent in (25, 75):
                    (tmp_path / str(percent)).touch()
                completed = (await client.until("JOB_COMPLETED"))["data"]
                assert (completed["status"], completed["result"]) == ("completed", {"loss": 0.1})


@pytest.mark.parametrize("end", ["lifeline", "SIGTERM"])
async def test_what_a_demo_started_ends_with_it(tmp_path: Path, end: str) -> None:
    """An agent with a lifeline will not be started again, cut or not: what runs ends with it."""
    offer(tmp_path)
    reading, writing = os.pipe()
    with hub_process(tmp_path) as (_, url):
        async with operator(tmp_path, url) as client:
            with running(tmp_path, url, "--lifeline", str(reading), inherit=[reading]) as agent:
                os.close(reading)
                job_id = await a_running_job(client, url)
                if end == "lifeline":
                    os.close(writing)
                    assert agent.process.wait(20) == 0
                else:
                    assert ended_by(agent, signal.SIGTERM) == 0
                    os.close(writing)
                wait_for(lambda: not list(tagged(f"{job_id}.1")), "the job to end")
