"""Jobs on one hub: how many it takes in a second, how soon they start, and what a fleet that reports costs.

``python -m benchmarks.jobs``. The hub is ``qubix hub`` as it is installed, on core 0, with its data on disk:
everything that is acknowledged was waited for with ``fsync``. Operators and agents are one process on core 1;
the agents answer at once and run nothing, so that what is measured is the hub. Three runs, each on a new hub:

- submits: operators that submit one job after the other, with no provider to take them;
- starts: 1,000 agents at one sample a second, jobs submitted at a steady rate; from when a job is submitted
  to when its agent is told to start it, which takes three commits: created, assigned, started;
- reports: 1,000 jobs that run and report progress twice a second, each report acknowledged once it is stored.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.processes import LOAD_CORE, SERVER_CORE, Process, allow_files
from qubix_tui import home
from qubix_tui.protocol.tokens import Role

OPERATORS = (1, 16, 64)
AGENTS = 1_000
RATES = (20, 100)
"""Jobs a second."""

RUN_SECONDS = 1.0
"""How long an agent says that a job runs."""

ARRIVALS = 100
"""Agents that connect at the same time."""

Message = dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """What was measured in one run.

    Attributes:
        what: The run.
        per_second: Submits, starts or reports.
        latency_ms: Each one's time: median, 99th percentile, highest.
        cpu: The hub's processor time as a share of one core.
    """

    what: str
    per_second: float
    latency_ms: tuple[float, float, float]
    cpu: float

    def row(self) -> str:
        """Give the line of a table."""
        p50, p99, highest = self.latency_ms
        return (
            f"| {self.what} | {self.per_second:,.0f} | {p50:.1f} ms | {p99:.1f} ms | {highest:.0f} ms "
            f"| {self.cpu:.0%} |"
        )


HEAD = """\
| | a second | p50 | p99 | highest | the hub, of a core |
|---|---:|---:|---:|---:|---:|"""


class Peer:
    """A connection whose requests are answered one after the other; what else comes is put aside."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self.orders: asyncio.Queue[Message] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Leave."""
        self._reader.cancel()
        await self._socket.close()

    async def say(self, kind: str, data: Message) -> None:
        """Send what nothing answers."""
        await self._socket.send(json.dumps({"type": kind, "data": data}))

    async def ask(self, kind: str, data: Message) -> Message:
        """Send a request, and give what answers it.

        Raises:
            RuntimeError: It was refused.
        """
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        await self._socket.send(json.dumps({"type": kind, "id": number, "data": data}))
        message = await answer
        if message["type"] == "error":
            raise RuntimeError(f"{kind}: {message['data']['message']}")
        return message

    async def _read(self) -> None:
        async for raw in self._socket:
            message = json.loads(raw)
            waiting = self._waiting.pop(message.get("id"), None)
            if waiting is not None:
                waiting.set_result(message)
            elif message["type"] == "job:assign":
                self.orders.put_nowait(message["data"])


class Hub:
    """The hub that is measured."""

    def __init__(self, process: Process, url: str, operator: str) -> None:
        self.process = process
        self._url = url
        self._operator = operator

    async def peer(self, token: str | None = None) -> Peer:
        """Connect, as an operator unless another token is given."""
        headers = {"Authorization": f"Bearer {token or self._operator}"}
        return Peer(
            await connect(
                self._url, additional_headers=headers, compression=None, ping_interval=None, open_timeout=60
            )
        )


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a hub on data of its own."""
    with tempfile.TemporaryDirectory(prefix="qubix-bench-") as folder:
        operator = home.ensure_local_token(Role.OPERATOR, home=Path(folder))
        # One connection may ask a hundred things a second for long; here it asks as much as it can.
        (Path(folder) / "hub.toml").write_text("[limits]\nmessages_burst = 10_000_000\n")
        program = [sys.executable, "-c", "from qubix_tui.cli.main import main; main()"]
        options = ["hub", "--port", "0", "--log-level", "warning"]
        with Process(["env", f"QUBIX_HOME={folder}", *program, *options], SERVER_CORE) as process:
            yield Hub(process, f"ws://127.0.0.1:{process.read().rpartition(':')[2]}", operator)


def figures(what: str, hub: Hub, since: tuple[float, float], seconds: Sequence[float]) -> Figures:
    """Put together what was measured since a moment (its time, and the hub's processor time then)."""
    passed = time.perf_counter() - since[0]
    cuts = statistics.quantiles(seconds, n=100)
    return Figures(
        what=what,
        per_second=len(seconds) / passed,
        latency_ms=(cuts[49] * 1e3, cuts[98] * 1e3, max(seconds) * 1e3),
        cpu=(hub.process.cpu_seconds() - since[1]) / passed,
    )


def now(hub: Hub) -> tuple[float, float]:
    """Give the time, and the processor time that the hub has had."""
    return time.perf_counter(), hub.process.cpu_seconds()


async def measure_submits(hub: Hub, operators: int, seconds: float) -> Figures:
    """Let operators submit as fast as the hub takes their jobs."""
    peers = [await hub.peer() for _ in range(operators)]
    taken: list[float] = []
    since = now(hub)

    async def submit(peer: Peer) -> None:
        while time.perf_counter() < since[0] + seconds:
            began = time.perf_counter()
            await peer.ask("job:submit", {"workload": "train", "params": {"epochs": 5, "model": "resnet50"}})
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*map(submit, peers))
    measured = figures(f"submits, {operators} operators", hub, since, taken)
    await asyncio.gather(*(peer.close() for peer in peers))
    return measured


@asynccontextmanager
async def fleet(hub: Hub) -> AsyncIterator[list[Peer]]:
    """Register the agents, each with a token of its own, and let them send a sample a second."""
    operator = await hub.peer()
    agents: list[Peer] = []

    async def join(number: int) -> None:
        token = await operator.ask("token:issue", {"role": "provider", "name": f"rig-{number}"})
        agent = await hub.peer(token["data"]["token"])
        spec = {"workerId": f"w{number}", "name": f"rig-{number}", "instance": "i", "pricePerHour": 1.0}
        await agent.ask("provider:register", spec | {"workloads": [{"name": "train"}]})
        agents.append(agent)

    for start in range(0, AGENTS, ARRIVALS):
        await asyncio.gather(*map(join, range(start, start + ARRIVALS)))
    samples = [asyncio.create_task(_sample(agent, number)) for number, agent in enumerate(agents)]
    try:
        yield agents
    finally:
        for task in samples:
            task.cancel()
        await asyncio.gather(*samples, return_exceptions=True)
        await asyncio.gather(operator.close(), *(agent.close() for agent in agents))


async def _sample(agent: Peer, number: int) -> None:
    await asyncio.sleep(number / AGENTS)
    for seq in itertools.count(1):
        metrics = {"cpuPercent": 12.5, "ramPercent": 40.0, "gpuPercent": 81.0, "gpuTemp": 66.0, "seq": seq}
        await agent.say("GPU_METRICS_UPDATE", {"metrics": metrics})
        await asyncio.sleep(1)


async def measure_starts(hub: Hub, rate: int, seconds: float) -> Figures:
    """Submit at a steady rate; the agents take each job, and end it a second later."""
    submitted: dict[str, float] = {}
    started: dict[str, float] = {}

    async def work(agent: Peer) -> None:
        while True:
            order = await agent.orders.get()
            attempt = {"jobId": order["jobId"], "attempt": order["attempt"]}
            answer = await agent.ask("job:accept", attempt)
            started[order["jobId"]] = time.perf_counter()
            if answer["type"] != "job:start":
                raise RuntimeError("a job was not started")
            await asyncio.sleep(RUN_SECONDS)
            await agent.ask("JOB_COMPLETED", attempt | {"seq": 1, "status": "completed"})

    async def submit(operator: Peer) -> None:
        began = time.perf_counter()
        reply = await operator.ask("job:submit", {"workload": "train"})
        submitted[reply["data"]["jobId"]] = began

    async with fleet(hub) as agents:
        workers = [asyncio.create_task(work(agent)) for agent in agents]
        operators = [await hub.peer() for _ in range(16)]
        await asyncio.sleep(3)
        since = now(hub)
        waiting = []
        for number in range(round(rate * seconds)):
            waiting.append(asyncio.create_task(submit(operators[number % len(operators)])))
            await asyncio.sleep(max(0.0, since[0] + (number + 1) / rate - time.perf_counter()))
        await asyncio.gather(*waiting)
        while len(started) < len(submitted):
            await asyncio.sleep(0.05)
            for worker in workers:
                if worker.done():
                    await worker
        delays = [started[job_id] - began for job_id, began in submitted.items()]
        measured = figures(f"submit → start at {AGENTS:,} providers, {rate} a second", hub, since, delays)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await asyncio.gather(*(operator.close() for operator in operators))
    return measured


async def measure_reports(hub: Hub, seconds: float) -> Figures:
    """Let all agents run a job and report progress twice a second."""
    taken: list[float] = []

    async def work(agent: Peer, number: int, begin: asyncio.Event) -> None:
        order = await agent.orders.get()
        attempt = {"jobId": order["jobId"], "attempt": order["attempt"]}
        await agent.ask("job:accept", attempt)
        await begin.wait()
        await asyncio.sleep(number / AGENTS / 2)
        for seq in range(1, round(seconds * 2) + 1):
            began = time.perf_counter()
            progress = {"progress": seq / 2, "message": f"epoch {seq}", "source": "reported"}
            await agent.ask("JOB_PROGRESS", attempt | {"seq": seq, "progress": progress})
            taken.append(time.perf_counter() - began)
            await asyncio.sleep(max(0.0, began + 0.5 - time.perf_counter()))

    async with fleet(hub) as agents:
        begin = asyncio.Event()
        workers = [asyncio.create_task(work(agent, number, begin)) for number, agent in enumerate(agents)]
        operators = [await hub.peer() for _ in range(16)]
        for start in range(0, AGENTS, len(operators)):
            some = operators[: AGENTS - start]
            await asyncio.gather(*(one.ask("job:submit", {"workload": "train"}) for one in some))
        await asyncio.sleep(5)
        since = now(hub)
        begin.set()
        await asyncio.gather(*workers)
        measured = figures(f"progress of {AGENTS:,} running jobs, 2 a second each", hub, since, taken)
        await asyncio.gather(*(operator.close() for operator in operators))
    return measured


async def run(seconds: float) -> AsyncIterator[Figures]:
    """Do all runs."""
    for operators in OPERATORS:
        with running_hub() as hub:
            yield await measure_submits(hub, operators, seconds)
    for rate in RATES:
        with running_hub() as hub:
            yield await measure_starts(hub, rate, seconds)
    with running_hub() as hub:
        yield await measure_reports(hub, seconds)


async def _print_all(seconds: float) -> None:
    print(HEAD, flush=True)
    async for measured in run(seconds):
        print(measured.row(), flush=True)


def main() -> None:
    """Measure jobs on one hub, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each run is (default: 20)")
    options = parser.parse_args()
    if (os.cpu_count() or 1) <= LOAD_CORE:
        parser.exit(1, "the hub and the load need a core each; this machine has one\n")
    allow_files(AGENTS + 200)
    os.sched_setaffinity(0, {LOAD_CORE})
    uvloop.run(_print_all(options.seconds))


if __name__ == "__main__":
    main()
