"""A hub, agents behind networks that can fail, and jobs that write down when they run; all of it for real."""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import psutil
from websockets.asyncio.client import connect

from agent import control
from agent.jobs.cgroup import Cgroup
from agent.jobs.files import Files, holder
from qubix_tui.client import ClientError, Connection, Refused, RetryPolicy
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import (
    Event,
    FleetSnapshot,
    JobCreated,
    JobStateChanged,
    ProviderUpdated,
)
from qubix_tui.protocol.job_records import Job, JobState, Receipt, Requirements
from qubix_tui.protocol.records import Provider, ProviderState
from qubix_tui.protocol.requests import IssueToken, JobRef, SubmitJob
from tests.agent.running import ask
from tests.end_to_end import stamping_job
from tests.end_to_end.processes import command, environment
from tests.end_to_end.proxy import Proxy
from tests.redis_server import RedisServer

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds that anything may take, with faults, leases that have to run out, and a busy machine."""

STEADY: Final = RetryPolicy(delays=(0.2,), attempts=None)


class Stamp(NamedTuple):
    """One line of what a job wrote down."""

    what: str
    job_id: str
    attempt: int
    pid: int
    at: float


async def wait(look: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Give the first truthy thing that ``look`` finds; fails when that takes too long."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {patience:g} s for {what}"
        await asyncio.sleep(0.02)
    return found


class Agent:
    """One provider's machine.

    Args:
        world: Where it is.
        name: What it is called.
        proxy: The network between it and the hub.
    """

    def __init__(self, world: "World", name: str, proxy: Proxy) -> None:
        self.name = name
        self.proxy = proxy
        self.home = world.root / name
        self.process: subprocess.Popen[bytes] | None = None
        self.said = world.said
        self.home.mkdir()
        user = '[jobs]\nuser = "root"\n' if os.geteuid() == 0 else ""
        (self.home / "agent.toml").write_text(user)
        script = [sys.executable, stamping_job.__file__, str(world.root)]
        (self.home / "workloads.toml").write_text(
            f'benchmark = false\n[workload.stamping]\ncommand = {script!r}\nsandbox = "none"\n'
        )

    def start(self) -> None:
        """Start it; or another one in its place."""
        self.process = subprocess.Popen(
            [
                *(command("qubix-agent"), "--hub", self.proxy.url, "--name", self.name, "--price", "36"),
                *("--token-file", str(self.home / "token")),
            ],
            env=environment(self.home, LD_LIBRARY_PATH="/nonexistent"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
        )

    async def pause(self, paused: bool) -> None:
        """Have its owner keep it, or offer it again."""
        wish = control.Command(do="pause" if paused else "resume")
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                reply = await asyncio.to_thread(control.ask, self.home / "agent", wish)
            except control.ControlError:
                # It has just been started again.
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            else:
                assert reply.error is None
                return

    def files(self, job_id: str) -> list[Files]:
        """The attempts at a job that it holds."""
        return [Files(path) for path in (self.home / "agent" / "jobs").glob(f"{job_id}.*")]

    def held(self) -> list[str]:
        """The attempts that it still holds."""
        return [path.name for path in (self.home / "agent" / "jobs").glob("*")]

    def supervisor(self, job_id: str) -> int | None:
        """The id of the process that holds a job here."""
        return next((pid for files in self.files(job_id) if (pid := holder(files.lock))), None)

    def first_process(self, job_id: str) -> int | None:
        """The id of the job's first process here."""
        for files in self.files(job_id):
            started, ended = files.journal()
            if started is not None and ended is None:
                return started.process.pid
        return None


class World:
    """A hub, agents, and whoever submits jobs.

    Args:
        root: A directory of its own; what hub and agents complain of is in ``said`` there.
        lease: Seconds of a lease.
        redis: Where the hub keeps its state; None for a file.
    """

    def __init__(self, root: Path, lease: float, redis: RedisServer | None = None) -> None:
        self.root = root
        self.redis = redis
        self.agents: list[Agent] = []
        self.job_ids: list[str] = []
        self.completions: dict[str, list[Event]] = {}
        self.jobs: dict[str, Job] = {}
        self.providers: dict[str, Provider] = {}
        self.token = ""
        self.hub: subprocess.Popen[bytes] | None = None
        self.said = (root / "said").open("ab")
        self.hub_lock = asyncio.Lock()
        """Held by who does something to the hub, or to its Redis."""
        self._lease = lease
        self._client: Connection | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    async def open(self, agents: int) -> None:
        """Start everything."""
        home = self.root / "hub"
        home.mkdir(parents=True)
        engine = f"[storage]\nengine = '{self.redis.url}'\n" if self.redis else ""
        (home / "hub.toml").write_text(f"[jobs]\nlease_seconds = {self._lease}\n{engine}")
        self.start_hub()
        await wait(lambda: (home / "tokens" / "operator").exists() or None, "the hub")
        self.token = (home / "tokens" / "operator").read_text().strip()
        self._client = Connection(f"ws://127.0.0.1:{self.port}", token=self.token, retry=STEADY)
        self._client.on("JOB_COMPLETED", self._take_completion)
        self._client.on("MARKETPLACE_UPDATE", self._take_update)
        self._client.on("PROVIDER_REGISTERED", self._take_provider)
        self._client.on("PROVIDER_STATUS_CHANGED", self._take_status)
        self._client.subscribe("marketplace", snapshot=True)
        await self._client.start()
        await self._client.wait_open(PATIENCE)
        for number in range(agents):
            proxy = Proxy(self.port)
            await proxy.start()
            agent = Agent(self, f"rig-{number}", proxy)
            self.agents.append(agent)
            issued = await self.ask("token:issue", IssueToken(role="provider", name=agent.name))
            (agent.home / "token").write_text(issued.token)
            agent.start()
        await wait(lambda: len(self.offering()) == agents or None, "all agents to offer their workload")

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        if self._client is not None:
            await self._client.close()
        for agent in self.agents:
            await agent.proxy.close()
        for process in [self.hub, *(agent.process for agent in self.agents)]:
            if process is not None:
                process.kill()
                process.wait()
        for left in self.left_over():
            with contextlib.suppress(psutil.Error):
                left.kill()
        self.said.close()

    def start_hub(self) -> None:
        """Start the hub; or another one in its place, with the same data."""
        self.hub = subprocess.Popen(
            [command("qubix"), "hub", "--port", str(self.port), "--log-level", "warning"],
            env=environment(self.root / "hub"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
        )

    def hub_answers(self) -> bool:
        """Whether somebody listens on the hub's port."""
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def offering(self) -> dict[str, Provider]:
        """The providers that are known to offer something, by name."""
        return {record.name or "": record for record in self.providers.values() if record.workloads}

    async def ask(self, kind: str, data: Any, *, unless: ErrorCode | None = None) -> Any:
        """Ask the hub for something, as often as it takes; give the data of the answer.

        None where it refuses with the code ``unless``.
        """
        assert self._client is not None
        deadline = time.monotonic() + PATIENCE
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

    async def account(self, job_id: str) -> "Account":
        """Ask the hub for all that it keeps of a job, as any client may."""
        url = f"ws://127.0.0.1:{self.port}"
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

    def _take_completion(self, event: Event) -> None:
        self.completions.setdefault(event.data.job_id, []).append(event)

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
    root: Path, *, agents: int, lease: float, redis: RedisServer | None = None
) -> AsyncIterator[World]:
    """A world that is ended with the block, whatever happened in it."""
    world = World(root, lease, redis)
    try:
        await world.open(agents)
        yield world
    finally:
        await world.close()
