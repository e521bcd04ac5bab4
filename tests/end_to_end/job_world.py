"""Hubs, agents behind networks that can fail, and jobs that write down when they run; all of it for real."""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import psutil
from websockets.asyncio.client import connect

from agent.jobs.cgroup import Cgroup
from qubix_tui.client import ClientError, Connection, Refused, RetryPolicy
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import Event
from qubix_tui.protocol.job_records import Job, JobState, Receipt, Requirements
from qubix_tui.protocol.marketplace import FleetSnapshot, JobCreated, JobStateChanged, ProviderUpdated
from qubix_tui.protocol.records import Provider, ProviderState
from qubix_tui.protocol.requests import IssueToken, JobRef, SubmitJob
from tests.agent.running import ask
from tests.end_to_end.followers import Follower
from tests.end_to_end.hubs import Hub, Hubs
from tests.end_to_end.job_machine import Agent
from tests.end_to_end.processes import LONG_PATIENCE, until
from tests.redis_server import RedisServer

STEADY: Final = RetryPolicy(delays=(0.2,), attempts=None)


class Stamp(NamedTuple):
    """One line of what a job wrote down."""

    what: str
    job_id: str
    attempt: int
    pid: int
    at: float


class World:
    """Hubs, agents, and whoever submits jobs.

    Args:
        root: A directory of its own; what hubs and agents complain of is in ``said`` there.
        lease: Seconds of a lease.
        redis: Where the hubs keep their state; None for a file.
        hubs: How many there are.
    """

    def __init__(self, root: Path, lease: float, redis: RedisServer | None = None, hubs: int = 1) -> None:
        self.root = root
        self.agents: list[Agent] = []
        self.job_ids: list[str] = []
        self.jobs: dict[str, Job] = {}
        self.providers: dict[str, Provider] = {}
        self.token = ""
        self.said = (root / "said").open("ab")
        self.hubs = Hubs(root, self.said, redis, count=hubs, settings=f"[jobs]\nlease_seconds = {lease}\n")
        self._way = self.hubs.way()
        self._client: Connection | None = None
        self._follower: Follower | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def follower(self) -> Follower:
        """Who hears of everything, and counts."""
        assert self._follower is not None
        return self._follower

    async def open(self, agents: int) -> None:
        """Start everything."""
        await self.hubs.open()
        await self._way.start()
        self.token = self.hubs.operator
        self._follower = Follower(self.token, [hub.url for hub in self.hubs.all])
        self._following = asyncio.create_task(self._follower.work())
        self._client = Connection(self._way.url, token=self.token, retry=STEADY)
        self._client.on("MARKETPLACE_UPDATE", self._take_update)
        self._client.on("PROVIDER_REGISTERED", self._take_provider)
        self._client.on("PROVIDER_STATUS_CHANGED", self._take_status)
        self._client.subscribe("marketplace", snapshot=True)
        await self._client.start()
        await self._client.wait_open(LONG_PATIENCE)
        for number in range(agents):
            proxy = self.hubs.way()
            await proxy.start()
            agent = Agent(self.root, f"rig-{number}", proxy, self.said)
            self.agents.append(agent)
            issued = await self.ask("token:issue", IssueToken(role="provider", name=agent.name))
            (agent.home / "token").write_text(issued.token)
            agent.start()
        await until(lambda: len(self.offering()) == agents, "all agents to offer their workload")

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        if self._client is not None:
            await self._client.close()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        for agent in self.agents:
            await agent.proxy.close()
            agent.end()
        await self._way.close()
        await self.hubs.close()
        for left in self.left_over():
            with contextlib.suppress(psutil.Error):
                left.kill()
        self.said.close()

    def offering(self) -> dict[str, Provider]:
        """The providers that are known to offer something, by name."""
        return {record.name or "": record for record in self.providers.values() if record.workloads}

    async def ask(self, kind: str, data: Any, *, unless: ErrorCode | None = None) -> Any:
        """Ask the hub for something, as often as it takes; give the data of the answer.

        None where it refuses with the code ``unless``.
        """
        assert self._client is not None
        deadline = time.monotonic() + LONG_PATIENCE
        while True:
            try:
                return (await self._client.request(kind, data, 5.0)).data
            except ClientError as error:
                if isinstance(error, Refused) and error.code is unless:
                    return None
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def submit(self, on: str | None = None, retries: int = 2) -> str:
        """Submit a job, for one machine alone or for any; gives its id."""
        requires = Requirements(provider_id=None if on is None else self.offering()[on].id)
        request = SubmitJob(
            workload="stamping", requires=requires, retries=retries, idempotency_key=secrets.token_hex(8)
        )
        job_id: str = (await self.ask("job:submit", request)).job_id
        self.job_ids.append(job_id)
        return job_id

    async def cancel(self, job_id: str) -> None:
        """Want a job ended; one that is over stays as it is."""
        await self.ask("job:cancel", JobRef(job_id=job_id), unless=ErrorCode.CONFLICT)

    def state(self, job_id: str) -> JobState | None:
        """Where a job is, as far as was heard."""
        job = self.jobs.get(job_id)
        return None if job is None else job.state

    def is_final(self, job_id: str) -> bool:
        """Whether a job is over, as far as was heard."""
        state = self.state(job_id)
        return state is not None and state.is_final

    def is_paused(self, agent: Agent) -> bool:
        """Whether a machine is known to be kept by its owner."""
        return self.offering()[agent.name].state is ProviderState.PAUSED

    def holder_of(self, job_id: str) -> Agent | None:
        """The machine that has a job now, as far as was heard."""
        job = self.jobs.get(job_id)
        names = {record.id: name for name, record in self.offering().items()}
        name = None if job is None or job.provider_id is None else names.get(job.provider_id)
        return next((agent for agent in self.agents if agent.name == name), None)

    def let_end(self, job_id: str) -> None:
        """Tell a job, whichever attempt at it, to end by itself."""
        (self.root / f"{job_id}.go").touch()

    def stamps(self, job_id: str) -> list[Stamp]:
        """What the attempts at a job wrote down, in the order in which they did."""
        try:
            lines = (self.root / "stamps").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = [line.split() for line in lines]
        return [
            Stamp(what, job, int(attempt), int(pid), float(at))
            for what, job, attempt, pid, at in found
            if job == job_id
        ]

    def has_stamped(self, job_id: str, what: str, *, attempt: int | None = None) -> bool:
        """Whether an attempt at a job (any, or this one) has written that down."""
        return any(stamp.what == what and attempt in {None, stamp.attempt} for stamp in self.stamps(job_id))

    def left_over(self) -> list[psutil.Process]:
        """Every process of the jobs, and every supervisor of the agents, that still runs."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                of_a_job = process.environ().get("QUBIX_ATTEMPT", "").rpartition(".")[0] in self.job_ids
                supervises = any(str(self.root) in word for word in process.cmdline()[3:6])
                if (of_a_job or supervises) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def groups_left(self) -> list[Cgroup]:
        """The control groups of the jobs that are still there."""
        tags = [f"{job_id}.{attempt}" for job_id in self.job_ids for attempt in range(1, 5)]
        return [group for tag in tags if (group := Cgroup.find(tag)) is not None]

    def has_heard(self, offset: int, job_ids: list[str]) -> bool:
        """Whether the follower has got so far, and has heard jobs end; fails where it has failed."""
        assert self._following is not None
        if self._following.done():
            self._following.result()
        return self.follower.offset >= offset and set(job_ids) <= set(self.follower.completed)

    async def account(self, job_id: str, hub: Hub | None = None) -> "Account":
        """Ask a hub (the first one by default) for all that it keeps of a job, as any client may."""
        url = (hub or self.hubs.all[0]).url
        told = await asyncio.to_thread(ask, url, f"/api/jobs/{job_id}")
        completions, newest, seen = 0, None, -1
        async with connect(url, additional_headers={"Authorization": f"Bearer {self.token}"}) as client:
            request = {"type": "subscribe:job", "subscriptionId": job_id, "data": {"since": 0}}
            await client.send(json.dumps(request))
            while newest is None or seen < newest:
                message = json.loads(await client.recv())
                if message["type"] == "subscribed":
                    assert message["data"]["recovered"], message
                    newest = message["data"]["offset"]
                completions += message["type"] == "JOB_COMPLETED"
                seen = message.get("offset") or seen
        return Account(
            msgspec.convert(told["job"], Job),
            msgspec.convert(told["receipts"], list[Receipt]),
            completions,
        )

    def _take_provider(self, event: Event) -> None:
        self.providers[event.data.id] = event.data

    def _take_status(self, event: Event) -> None:
        record = self.providers.get(event.data.provider_id)
        if record is not None:
            self.providers[record.id] = msgspec.structs.replace(record, state=event.data.status.state)

    def _take_update(self, event: Event) -> None:
        match event.data:
            case JobCreated() | JobStateChanged():
                self.jobs[event.data.job.id] = event.data.job
            case ProviderUpdated():
                self.providers[event.data.provider.id] = event.data.provider
            case FleetSnapshot():
                self.providers.update((provider.id, provider) for provider in event.data.providers)


class Account(NamedTuple):
    """What a hub keeps of a job."""

    job: Job
    receipts: list[Receipt]
    completions: int
    """How often JOB_COMPLETED was published, by the job's whole history."""


def overlaps(stamps: list[Stamp]) -> list[tuple[Stamp, Stamp]]:
    """Pairs of a start and of a sign of life of another attempt that came after it: a job that ran twice."""
    starts = [stamp for stamp in stamps if stamp.what == "start"]
    return [
        (start, other)
        for start in starts
        for other in stamps
        if other.attempt < start.attempt and other.at > start.at
    ]


@asynccontextmanager
async def running_world(
    root: Path, *, agents: int, lease: float, redis: RedisServer | None = None, hubs: int = 1
) -> AsyncIterator[World]:
    """A world that is ended with the block, whatever happened in it."""
    world = World(root, lease, redis, hubs)
    try:
        await world.open(agents)
        yield world
    finally:
        await world.close()
