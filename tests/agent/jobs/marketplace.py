"""A hub on loopback that gives jobs to one agent, as a test tells it, and the manager that takes them."""

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from agent.jobs.cgroup import Cgroup
from agent.jobs.files import holder
from agent.jobs.launch import Launch
from agent.jobs.manager import JobManager
from agent.jobs.workloads import Refusal
from agent.link import Link
from agent.target import Target
from qubix_tui.client import RetryPolicy
from qubix_tui.protocol.records import ProviderSpec
from qubix_tui.protocol.requests import Request
from tests.agent.jobs.stage import PYTHON, no_sandbox
from tests.client.scripted_hub import Peer, ScriptedHub, until

FAST = RetryPolicy(attempts=None, jitter=(0.01, 0.02), refused_every=60.0)
REPORTS = ("JOB_PROGRESS", "JOB_LOGS", "JOB_COMPLETED")


class Scripts:
    """A catalogue whose one workload runs the Python script that the job gives."""

    def prepare(self, workload: str, params: dict[str, Any], **given: Any) -> Launch:
        """Give the launch of a script."""
        if workload != "script":
            raise Refusal(f"no workload {workload} here")
        timeout = given.pop("timeout_seconds")
        assert timeout is None
        return Launch(workload=workload, argv=[PYTHON, "-c", params["script"]], grace_seconds=1, **given)


class Marketplace:
    """One hub, and one agent's jobs.

    Attributes:
        lease: Seconds that ``job:start`` says.
        starts: Whether ``job:accept`` is answered.
        acknowledges: Whether reports are answered.
        stop: Attempts that a renewal or a registration says to stop.
        reports: What arrived, by type.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.job_id = f"job-{secrets.token_hex(4)}"
        self.hub = ScriptedHub()
        self.lease = 300.0
        self.starts = True
        self.acknowledges = True
        self.stop: list[str] = []
        self.paused: str | None = None
        self.complaints: list[str] = []
        self.requests: list[Request] = []
        self.manager = self._new_manager()
        self.link: Link | None = None
        for kind, answer in (
            ("provider:register", self._register),
            ("job:accept", self._start),
            ("job:refuse", self._note),
            ("job:renew", self._renew),
            *((kind, self._acknowledge) for kind in REPORTS),
        ):
            self.hub.answers[kind] = answer

    async def __aenter__(self) -> Self:
        await self.hub.listen()
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.manager.end_all("test over")
        await until(lambda: not self.manager.running, deadline=20)
        await until(lambda: not any(files.is_dir() and holder(files / "lock") for files in self.jobs()))
        await self.close()
        await self.hub.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    async def open(self) -> None:
        """Start the agent's part of it and wait until the hub knows it."""
        await self.manager.start()
        self.link = Link(
            Target(self.hub.url, None),
            spec=lambda: ProviderSpec(worker_id="worker-1"),
            registered=lambda _: None,
            complain=lambda _: None,
            instance="instance-1",
            jobs=self.manager,
            retry=FAST,
        )
        await self.link.start()
        await until(lambda: self.link is not None and self.link.is_open)

    async def close(self) -> None:
        """End the agent's part of it; what runs goes on."""
        if self.link is not None:
            await self.link.close()
        await self.manager.close()

    async def restart_agent(self) -> None:
        """Have another agent take the place of this one."""
        await self.close()
        self.manager = self._new_manager()
        await self.open()

    def _new_manager(self) -> JobManager:
        return JobManager(
            self.root / "jobs",
            Scripts(),
            why_not=lambda: self.paused,
            complain=self.complaints.append,
            gpus=lambda: ("GPU-1", "GPU-2"),
            wrap=no_sandbox,
        )

    def jobs(self) -> list[Path]:
        """The directories of the attempts that are held."""
        return list((self.root / "jobs").glob("*"))

    @property
    def peer(self) -> Peer:
        """The newest connection."""
        return self.hub.peers[-1]

    async def assign(
        self, script: str, *, workload: str = "script", attempt: int = 1, gpus: Sequence[str] = ()
    ) -> None:
        """Give the agent an attempt at the job."""
        data = {
            "jobId": self.job_id,
            "attempt": attempt,
            "workload": workload,
            "params": {"script": script},
            "gpus": list(gpus),
        }
        await self.peer.send("job:assign", data)

    async def cut(self) -> None:
        """Break the connection, and wait for the next one."""
        before = len(self.hub.peers)
        self.peer.cut()
        await self.hub.peer(before + 1)
        await until(lambda: self.link is not None and self.link.is_open)

    def of(self, kind: str) -> list[Any]:
        """The data of all requests of a type."""
        return [request.data for request in self.requests if request.type == kind]

    async def arrived(self, kind: str, count: int = 1) -> Any:
        """Wait for the ``count``-th request of a type; gives its data."""
        await until(lambda: len(self.of(kind)) >= count, deadline=20)
        return self.of(kind)[count - 1]

    async def _note(self, _: Peer, request: Request) -> None:
        self.requests.append(request)

    async def _register(self, peer: Peer, request: Request) -> None:
        self.requests.append(request)
        orders = [
            {
                "jobId": job.job_id,
                "attempt": job.attempt,
                "do": "stop" if job.job_id in self.stop else "continue",
            }
            for job in request.data.jobs
        ]
        data = {"providerId": "rig-7", "session": 1, "jobs": orders}
        await peer.send("registered", data, request_id=request.id)

    async def _start(self, peer: Peer, request: Request) -> None:
        self.requests.append(request)
        if self.starts:
            data = {
                "jobId": request.data.job_id,
                "attempt": request.data.attempt,
                "leaseSeconds": self.lease,
            }
            await peer.send("job:start", data, request_id=request.id)

    async def _renew(self, peer: Peer, request: Request) -> None:
        self.requests.append(request)
        data: dict[str, Any] = {"jobs": [], "stop": []}
        for job in request.data.jobs:
            where = "stop" if job.job_id in self.stop else "jobs"
            data[where].append({"jobId": job.job_id, "attempt": job.attempt})
        await peer.send("renewed", data, request_id=request.id)

    async def _acknowledge(self, peer: Peer, request: Request) -> None:
        self.requests.append(request)
        if self.acknowledges:
            data = {"jobId": request.data.job_id, "attempt": request.data.attempt, "seq": request.data.seq}
            await peer.send("ack", data, request_id=request.id)


async def settled(marketplace: Marketplace) -> None:
    """Wait until the agent holds nothing any more, on its disk neither."""
    jobs = marketplace.root / "jobs"
    await until(lambda: not marketplace.manager.held() and not list(jobs.iterdir()), deadline=20)
    assert Cgroup.find(f"{marketplace.job_id}.1") is None
