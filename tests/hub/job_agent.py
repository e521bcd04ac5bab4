"""Agents without sockets that really run something: intervals of time.

What an agent runs begins with ``job:start`` and ends when it says so, when it is told to stop, or by its
supervisor, a margin before the lease is over. It remembers when, so that a test can see that no job ever ran
twice at once.
"""

import contextlib
from collections.abc import Coroutine
from typing import Any, Protocol

from qubix_tui.hub.access import Identity
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.job_state import JobSettings
from qubix_tui.hub.jobs import Jobs
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.providers import Providers
from qubix_tui.protocol import events
from qubix_tui.protocol.errors import ProtocolError
from qubix_tui.protocol.records import Workload
from qubix_tui.protocol.requests import (
    HeldJob,
    JobAnswer,
    JobAttempt,
    Register,
    RenewLeases,
    ReportCompletion,
    ReportedProgress,
    ReportLogs,
    ReportProgress,
)
from qubix_tui.protocol.tokens import Role, new_token
from tests.hub.manual_clock import ManualClock

SETTINGS = JobSettings(lease_seconds=60.0)

Attempt = tuple[str, int]


class JobsOfHub(Protocol):
    """What an agent speaks to."""

    providers: Providers
    jobs: Jobs
    token_ids: dict[str, str]
    """Of each agent's token."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> object:
        """Have the hub do something."""
        ...


class Running:
    """What an agent runs for one attempt."""

    def __init__(self, job_id: str, started: float, renewed: float) -> None:
        self.job_id = job_id
        self.started = started
        self.renewed = renewed
        """When it sent what the hub last answered by a lease."""
        self.ended: float | None = None


class Agent:
    """One provider's agent, and what it would do with a real machine."""

    def __init__(self, clock: ManualClock, number: int, price: float | None) -> None:
        self.clock = clock
        self.name = f"rig{number}"
        self.price = price
        self.token = new_token(Role.PROVIDER)
        self.connection: Connection | None = None
        self.dialling: Connection | None = None
        self.frozen = False
        """It is connected and says nothing; its supervisors go on."""
        self.inbox: list[tuple[str, Any]] = []
        self.runs: dict[Attempt, Running] = {}
        self.accepted: set[Attempt] = set()
        self.outbox: list[ReportCompletion] = []
        self.sent: list[ReportProgress | ReportLogs | ReportCompletion] = []
        self.seqs: dict[Attempt, int] = {}

    @property
    def entry(self) -> Entry | None:
        """Its provider, as its connection knows it."""
        return self.connection.entry if self.connection else None

    @property
    def hub(self) -> JobsOfHub | None:
        """The hub that it is connected to."""
        return self.connection.hub if self.connection else None

    @property
    def speaks(self) -> bool:
        """Whether it can say something now."""
        return self.entry is not None and not self.frozen

    def alive(self) -> dict[Attempt, Running]:
        """What it runs now; a supervisor has ended the rest a margin before the lease."""
        now, settings = self.clock.monotonic(), SETTINGS
        for attempt, run in self.runs.items():
            last = run.renewed + settings.lease_seconds - settings.margin_seconds
            if run.ended is None and now >= last:
                run.ended = last
                self.report(attempt, "failed", "lease_expired")
        return {attempt: run for attempt, run in self.runs.items() if run.ended is None}

    def next_seq(self, attempt: Attempt) -> int:
        """Number a report."""
        self.seqs[attempt] = self.seqs.get(attempt, 0) + 1
        return self.seqs[attempt]

    def report(self, attempt: Attempt, status: str, reason: str | None = None) -> None:
        """Put the end of an attempt into the outbox, where it stays until it is acknowledged."""
        job_id, number = attempt
        self.outbox.append(
            ReportCompletion(
                job_id=job_id,
                attempt=number,
                seq=self.next_seq(attempt),
                status=status,  # type: ignore[arg-type]
                reason=reason,
            )
        )

    async def connect(self, hub: JobsOfHub) -> None:
        """Register over a new connection, and do what the hub says about the jobs that it holds."""
        identity = Identity(Role.PROVIDER, None, hub.token_ids[self.token])
        connection = Connection(self, hub, identity)
        if self.dialling is not None:
            self.dialling.is_open = False
        self.dialling = connection
        held = [
            HeldJob(job_id=job_id, attempt=attempt, state="running")
            for job_id, attempt in {*self.alive(), *self.accepted}
        ]
        request = Register(
            worker_id=self.name,
            name=self.name,
            instance="i",
            price_per_hour=self.price,
            workloads=[Workload(name="work")],
            jobs=held,
        )
        self.inbox.clear()
        try:
            await hub.providers.register(connection, request)
        except EngineUnavailable:
            return
        except ProtocolError:
            assert not connection.is_open
            return
        if not connection.is_open or connection.entry is None:
            return
        self.connection = connection
        for order in hub.jobs.agents.reconcile(connection.entry, held):
            if order.do == "stop":
                self.stop((order.job_id, order.attempt))
        hub.jobs.agents.registered(connection.entry, held)
        hub.jobs.matcher.wake()
        for attempt in tuple(self.accepted):
            await self.accept(attempt)

    def disconnect(self, *, goodbye: bool) -> None:
        """Lose the connection."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.is_open = False
            connection.hub.providers.disconnected(connection, goodbye=goodbye)

    def hang_up(self, hub: JobsOfHub) -> None:
        """Note that a hub is no more."""
        for connection in (self.connection, self.dialling):
            if connection is not None and connection.hub is hub:
                connection.is_open = False
        if self.hub is hub:
            self.connection = None

    def stop(self, attempt: Attempt) -> None:
        """End what runs."""
        self.accepted.discard(attempt)
        run = self.alive().get(attempt)
        if run is not None:
            run.ended = self.clock.monotonic()
            self.report(attempt, "cancelled")

    async def accept(self, attempt: Attempt) -> None:
        """Take a job, and start it if and when the hub says so."""
        connection = self.connection
        if connection is None or connection.entry is None:
            return
        self.accepted.add(attempt)
        sent = self.clock.monotonic()
        answer = JobAnswer(job_id=attempt[0], attempt=attempt[1])
        try:
            order = await connection.hub.jobs.agents.accept(connection.entry, answer)
        except EngineUnavailable:
            return
        if connection is not self.connection:
            return
        self.accepted.discard(attempt)
        if isinstance(order, events.JobStart) and attempt not in self.runs:
            self.runs[attempt] = Running(attempt[0], self.clock.monotonic(), sent)

    async def refuse(self, attempt: Attempt) -> None:
        """Turn a job down."""
        connection = self.connection
        if connection is None or connection.entry is None:
            return
        answer = JobAnswer(job_id=attempt[0], attempt=attempt[1], reason="not now")
        with contextlib.suppress(EngineUnavailable):
            await connection.hub.jobs.agents.refuse(connection.entry, answer)

    async def renew(self, sent: float | None = None) -> None:
        """Renew all leases; what is to stop is stopped.

        Args:
            sent: When it asked for that, if the hub was not there to answer.
        """
        connection = self.connection
        if connection is None or connection.entry is None:
            return
        sent = self.clock.monotonic() if sent is None else sent
        held = [JobAttempt(job_id=job_id, attempt=attempt) for job_id, attempt in self.alive()]
        try:
            answer = await connection.hub.jobs.agents.renew(connection.entry, RenewLeases(jobs=held))
        except EngineUnavailable:
            return
        if connection is not self.connection:
            return
        for renewed in answer.jobs:
            run = self.runs[renewed.job_id, renewed.attempt]
            run.renewed = max(run.renewed, sent)
        for stop in answer.stop:
            self.stop((stop.job_id, stop.attempt))

    async def send(self, report: ReportProgress | ReportLogs | ReportCompletion) -> bool:
        """Report something; False where it has to be said again."""
        connection = self.connection
        if connection is None or connection.entry is None:
            return False
        try:
            ack = await connection.hub.jobs.agents.report(connection.entry, report)
        except EngineUnavailable:
            return False
        if connection is not self.connection:
            return False
        assert ack.stale or ack.seq >= report.seq
        self.sent.append(report)
        return True

    async def progress(self, attempt: Attempt) -> None:
        """Report some progress."""
        said = ReportedProgress(progress=50.0, source="reported")
        await self.send(
            ReportProgress(job_id=attempt[0], attempt=attempt[1], seq=self.next_seq(attempt), progress=said)
        )

    async def say(self, attempt: Attempt, text: str) -> None:
        """Report what a job printed."""
        job_id, number = attempt
        seq = self.next_seq(attempt)
        await self.send(
            ReportLogs(job_id=job_id, attempt=number, seq=seq, stream="stdout", from_=0, text=text)
        )

    async def flush(self) -> None:
        """Send what the outbox holds, in its order."""
        while self.outbox:
            report = self.outbox[0]
            if not await self.send(report):
                return
            if self.outbox and self.outbox[0] is report:
                del self.outbox[0]


class Connection:
    """Implements `qubix_tui.hub.provider_connection.ProviderConnection`."""

    def __init__(self, agent: Agent, hub: JobsOfHub, identity: Identity) -> None:
        self.hub = hub
        self.identity = identity
        self.entry: Entry | None = None
        self.is_open = True
        self._agent = agent

    def reply(self, kind: str, data: Any, request_id: object) -> None:
        if self.is_open and kind in {events.JOB_ASSIGN, events.JOB_STOP}:
            self._agent.inbox.append((kind, data))

    def end(self, code: int, reason: str) -> None:
        self.is_open = False
        if self._agent.connection is self:
            self._agent.connection = None
