"""Jobs of a hub that is killed, at every point of a job's life, and started again on the same data."""

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from qubix_tui.protocol.tokens import Role
from tests.end_to_end.processes import hub_process, run
from tests.hub.scripted_agent import WORKLOADS, ScriptedAgent, submit
from tests.hub.wire import Client, Message

POINTS = ("queued", "assigned", "running", "finishing")


def token(home: Path, role: Role, name: str) -> str:
    """A token that outlives the hub."""
    done = run(["qubix", "token", "issue", "--role", role.value, "--name", name, "--json"], home)
    assert done.returncode == 0, done.stderr
    found: str = json.loads(done.stdout)["token"]
    return found


async def dial(stack: AsyncExitStack, url: str, shown: str) -> Client:
    """Connect with a token."""
    headers = {"Authorization": f"Bearer {shown}"}
    client = Client(
        await stack.enter_async_context(connect(url, additional_headers=headers, compression=None))
    )
    assert (await client.recv())["type"] == "connected"
    return client


async def join(
    stack: AsyncExitStack, url: str, shown: str, name: str, *held: Message
) -> tuple[ScriptedAgent, list[Message]]:
    """Register an agent; gives what the hub says about the jobs that it holds."""
    client = await dial(stack, url, shown)
    jobs = [{"jobId": one["jobId"], "attempt": one["attempt"], "state": "running"} for one in held]
    reply = await client.register(name, name=name, workloads=WORKLOADS, pricePerHour=3.6, jobs=jobs)
    return ScriptedAgent(client, reply["data"]["providerId"]), reply["data"]["jobs"]


async def completions(client: Client, job_id: str) -> list[Message]:
    """Every JOB_COMPLETED of a job that the hub has ever committed."""
    await client.send("subscribe:job", {"since": 0}, subscriptionId=job_id)
    heard = await client.heard()
    return [message["data"] for message in heard if message["type"] == "JOB_COMPLETED"]


async def test_a_hub_that_is_killed_loses_no_job_and_ends_none_twice(tmp_path: Path) -> None:
    """Queued, assigned, running, and just finishing: each ends once, in its first attempt."""
    async with AsyncExitStack() as before:
        with hub_process(tmp_path) as (process, url):
            tokens = {name: token(tmp_path, Role.PROVIDER, name) for name in POINTS[1:]}
            operator = token(tmp_path, Role.OPERATOR, "operator")
            client = await dial(before, url, operator)
            agents, jobs, orders = {}, {}, {}
            for name, shown in tokens.items():
                agents[name], _ = await join(before, url, shown, name)
                jobs[name] = await submit(client, requires={"providerId": agents[name].provider_id})
                orders[name] = await agents[name].assigned()
            jobs["queued"] = await submit(client)
            for name in ("running", "finishing"):
                assert (await agents[name].accept(orders[name]))["type"] == "job:start"
            await agents["running"].progress(orders["running"], 50)
            done = {"jobId": jobs["finishing"], "attempt": 1, "seq": 1, "status": "completed"}
            await agents["finishing"].client.send("JOB_COMPLETED", done)
            # Whether that was committed nobody knows: its agent has no answer, and says it again.
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        port = int(url.rpartition(":")[2])
        with hub_process(tmp_path, port=port) as (_, url):
            await finish(url, operator, tokens, jobs, orders)


async def finish(
    url: str, operator: str, tokens: dict[str, str], jobs: dict[str, str], orders: dict[str, Message]
) -> None:
    """Come back, as agents do, and let all jobs end."""
    async with AsyncExitStack() as after:
        client = await dial(after, url, operator)
        running, said = await join(after, url, tokens["running"], "running", orders["running"])
        assert said == [{"jobId": jobs["running"], "attempt": 1, "do": "continue"}]
        await running.client.ask("JOB_COMPLETED", end_of(jobs["running"], 2))
        finishing, _ = await join(after, url, tokens["finishing"], "finishing", orders["finishing"])
        assert (await finishing.client.ask("JOB_COMPLETED", end_of(jobs["finishing"], 1)))["type"] == "ack"
        assigned, _ = await join(after, url, tokens["assigned"], "assigned")
        order = await assigned.start()
        assert (order["jobId"], order["attempt"]) == (jobs["assigned"], 1)
        await assigned.complete(order)
        served = await first_assignment(running, finishing, assigned)
        assert served["jobId"] == jobs["queued"]
        for name, job_id in jobs.items():
            expected = [] if name == "queued" else [(job_id, "completed")]
            ended = [(one["jobId"], one["status"]) for one in await completions(client, job_id)]
            assert ended == expected, name


async def first_assignment(*agents: ScriptedAgent) -> Message:
    """Whichever of some agents is asked first takes its job."""
    tasks = [asyncio.create_task(agent.start()) for agent in agents]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return done.pop().result()


def end_of(job_id: str, seq: int) -> dict[str, Any]:
    """A report that a first attempt ended well."""
    return {"jobId": job_id, "attempt": 1, "seq": seq, "status": "completed"}
