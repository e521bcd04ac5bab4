"""The jobs of one agent: taken from the hub, run under supervisors, told of until the hub knows their end.

What is held is on the disk before the hub is told of it. An agent that was killed, or a link that was cut,
takes up where it was: what runs goes on, what ended is told, what was accepted is accepted again.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from agent.jobs.attempt import Attempt, load_all
from agent.jobs.cgroup import Cgroup
from agent.jobs.clock import boottime
from agent.jobs.delivery import Delivery
from agent.jobs.files import Ended
from agent.jobs.launch import Launch
from agent.jobs.leases import Leases
from agent.jobs.processes import Process, is_alive
from agent.jobs.runner import Wrap
from agent.jobs.sandbox import wrap as sandbox_wrap
from agent.jobs.workloads import Refusal
from agent.state import StateError
from agent.status import JobStatus
from qubix_tui.client import ClientError, Connection, ConnectionState, Refused, RequestTimeout
from qubix_tui.protocol import events
from qubix_tui.protocol.checks import printable
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import Event, JobAssign, JobOrder, JobStart, JobStop
from qubix_tui.protocol.reasons import JobReason, reason_word
from qubix_tui.protocol.requests import HeldJob, JobAnswer

ACCEPT: Final = "job:accept"
REFUSE: Final = "job:refuse"

TICK_SECONDS: Final = 0.2
"""How often a job that runs is looked at."""

ANSWER_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 1.0

_PASSING: Final = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL})
"""Refusals after which the same may be asked again."""


class Catalogue(Protocol):
    """What the owner lets run."""

    def prepare(
        self,
        workload: str,
        params: dict[str, Any],
        *,
        job_id: str,
        attempt: int,
        gpus: list[str],
        timeout_seconds: float | None,
    ) -> Launch:
        """Check a job against the owner's word, and say how it runs.

        Raises:
            Refusal: It may not run, with the reason.
        """


class JobManager:
    """Holds an agent's attempts and speaks of them to the hub. Everything happens in one event loop.

    Args:
        directory: Where the attempts are kept.
        catalogue: What may run.
        why_not: Gives the reason why nothing may begin now (its owner paused it); None where it may.
        complain: Called with a sentence for the owner.
        gpus: Gives the UUIDs of the GPUs that its owner offers: a job gets no other one, whatever a hub says.
        on_gpus: Gives the ids of the processes that hold a GPU, as far as that is known.
        wrap: Puts a launch into its sandbox.
    """

    def __init__(
        self,
        directory: Path,
        catalogue: Catalogue,
        *,
        why_not: Callable[[], str | None],
        complain: Callable[[str], None],
        gpus: Callable[[], Collection[str]] = lambda: (),
        on_gpus: Callable[[], Collection[int]] = lambda: (),
        wrap: Wrap = sandbox_wrap,
    ) -> None:
        self._directory = directory
        self._catalogue = catalogue
        self._why_not = why_not
        self._tell_owner = complain
        self._gpus = gpus
        self._on_gpus = on_gpus
        self._wrap = wrap
        self._attempts: dict[str, Attempt] = {}
        self._over: list[Attempt] = []
        self._seized: set[str] = set()
        self._stuck: dict[str, list[Process]] = {}
        """What could not be ended, by the tag of its attempt."""
        self._said: str | None = None
        self._connection: Connection | None = None
        self._delivery = Delivery(self._attempts, stale=self._stale, complain=self._complain)
        self._leases = Leases(self._attempts, stop=self._stop_unwanted, complain=self._complain)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what an agent before this one held, and begin to look after it.

        Raises:
            agent.state.StateError: What is on the disk can't be read.
        """
        try:
            for attempt in load_all(self._directory):
                attempt.look()
                self._attempts[attempt.tag] = attempt
        except OSError as error:
            raise StateError(f"can't read what runs here from {self._directory}: {error}") from None
        self._loop_task = asyncio.get_running_loop().create_task(self._run(), name="qubix-jobs")

    async def close(self) -> None:
        """Look after nothing any more. What runs goes on, for as long as its lease."""
        tasks = {*self._tasks, *([self._loop_task] if self._loop_task is not None else [])}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._delivery.close()
        await self._leases.close()

    @property
    def running(self) -> list[Attempt]:
        """The attempts that have not ended."""
        return [attempt for attempt in self._attempts.values() if attempt.ended is None]

    def end_all(self, reason: str) -> None:
        """Have everything ended, by the supervisors themselves: nobody will look after it any more."""
        for attempt in self.running:
            self._stop(attempt, reason, None)

    def attach(self, connection: Connection) -> None:
        """Speak over a connection from now on."""
        self._connection = connection
        connection.on(events.JOB_ASSIGN, self._take_assign)
        connection.on(events.JOB_STOP, self._take_stop)
        connection.on(events.ACK, self._take_ack)
        connection.on_state(lambda state: self._take_state(connection, state))

    def status(self) -> list[JobStatus]:
        """Give what the owner is told of the jobs here."""
        return [
            JobStatus(
                job_id=attempt.job_id,
                attempt=attempt.number,
                workload=attempt.launch.workload,
                state=attempt.state,
                progress=report.progress,
                message=report.message,
            )
            for attempt in self._attempts.values()
            for report in (attempt.files.read_progress(),)
        ]

    def held(self) -> list[HeldJob]:
        """Give what a registration says of the jobs here."""
        return [
            HeldJob(
                job_id=attempt.job_id,
                attempt=attempt.number,
                state=attempt.state,
                last_seq=attempt.outbox.last_seq,
            )
            for attempt in self._attempts.values()
        ]

    def obey(self, orders: Iterable[JobOrder]) -> None:
        """Do with the jobs that a registration named what the hub wants done."""
        for order in orders:
            attempt = self._find(order.job_id, order.attempt)
            if attempt is not None and order.do == "stop":
                self._stop_unwanted(attempt)

    def _find(self, job_id: str, number: int) -> Attempt | None:
        return self._attempts.get(f"{job_id}.{number}")

    def _take_state(self, connection: Connection, state: ConnectionState) -> None:
        if state is not ConnectionState.OPEN or connection is not self._connection:
            return
        self._leases.begin()
        self._delivery.begin(connection)
        for attempt in list(self._attempts.values()):
            if attempt.state == "assigned":
                # The answer to what was accepted before may have been lost; the hub gives it again.
                self._spawn(self._accept(connection, attempt))
        self._wake.set()

    def _take_assign(self, event: Event) -> None:
        assign: JobAssign = event.data
        connection = self._connection
        if connection is None or self._find(assign.job_id, assign.attempt) is not None:
            return
        try:
            attempt = self._claim(assign)
        except Refusal as refusal:
            answer = JobAnswer(job_id=assign.job_id, attempt=assign.attempt, reason=str(refusal))
            self._spawn(self._refuse(connection, answer))
            return
        self._attempts[attempt.tag] = attempt
        self._spawn(self._accept(connection, attempt))

    def _claim(self, assign: JobAssign) -> Attempt:
        """Take an assignment, on the disk.

        Raises:
            Refusal: It can't be taken.
        """
        reason = self._why_not()
        if reason is not None:
            raise Refusal(reason)
        self._check_stuck()
        if self.running:
            raise Refusal("it has a job already")
        foreign = set(assign.gpus).difference(self._gpus())
        if foreign:
            raise Refusal(f"this machine's owner does not offer the GPU {printable(min(foreign), 64)}")
        launch = self._catalogue.prepare(
            assign.workload,
            assign.params,
            job_id=assign.job_id,
            attempt=assign.attempt,
            gpus=list(dict.fromkeys(assign.gpus)),
            timeout_seconds=assign.timeout_seconds,
        )
        try:
            return Attempt.claim(self._directory, launch)
        except OSError as error:
            raise Refusal(f"it can't write to its disk: {error.strerror}") from None

    def _check_stuck(self) -> None:
        """Forget what could not be ended and is gone by now.

        Raises:
            Refusal: Some of it is still there.
        """
        for tag, processes in list(self._stuck.items()):
            if any(map(is_alive, processes)):
                raise Refusal(f"{tag} is still there and can't be ended")
            del self._stuck[tag]
            group = Cgroup.find(tag)
            if group is not None:
                group.remove()

    async def _refuse(self, connection: Connection, answer: JobAnswer) -> None:
        # Unheard, the time to accept runs out on the hub.
        with contextlib.suppress(ClientError):
            await connection.request(REFUSE, answer, ANSWER_SECONDS)

    async def _accept(self, connection: Connection, attempt: Attempt) -> None:
        """Say that an attempt is taken, until the hub answers whether it may start."""
        answer = JobAnswer(job_id=attempt.job_id, attempt=attempt.number)
        while attempt.state == "assigned" and attempt.tag in self._attempts:
            sent_at = boottime()
            try:
                reply = await connection.request(ACCEPT, answer, ANSWER_SECONDS)
            except Refused as error:
                if error.code not in _PASSING:
                    self._complain(f"the hub does not let {attempt.tag} start: {error}")
                    self._drop(attempt)
                    return
                await asyncio.sleep(error.retry_after or AGAIN_SECONDS)
            except RequestTimeout:
                continue
            except ClientError:
                # It is accepted again on the next connection.
                return
            else:
                if isinstance(reply.data, JobStart):
                    self._begin(attempt, reply.data, sent_at)
                return

    def _begin(self, attempt: Attempt, start: JobStart, accepted_at: float) -> None:
        if attempt.state != "assigned" or attempt.tag not in self._attempts:
            return
        try:
            attempt.begin(start.lease_seconds, start.margin_seconds, accepted_at, self._wrap)
        except OSError as error:
            # Nothing of it is on the disk: it is as if it had never been accepted.
            self._complain(f"can't start {attempt.tag}: {error.strerror}")
            self._drop(attempt)
            return
        self._leases.begin()
        self._wake.set()

    def _take_stop(self, event: Event) -> None:
        stop: JobStop = event.data
        attempt = self._find(stop.job_id, stop.attempt)
        if attempt is not None:
            self._stop(attempt, stop.reason or JobReason.CANCELLED_BY.value, stop.grace_seconds)

    def _take_ack(self, event: Event) -> None:
        self._delivery.acknowledged(event.data)
        self._wake.set()

    def _stop_unwanted(self, attempt: Attempt) -> None:
        """End what the hub has given up, or given to another."""
        self._stop(attempt, JobReason.LOST.value, None)

    def _stop(self, attempt: Attempt, reason: str, grace_seconds: float | None) -> None:
        if attempt.state == "assigned":
            self._drop(attempt)
            return
        # An owner knows how long a workload takes to save what it has: no hub makes that shorter.
        grace = max(grace_seconds or 0.0, attempt.launch.grace_seconds)
        try:
            attempt.stop(reason, grace)
        except OSError as error:
            self._complain(f"can't tell the supervisor of {attempt.tag} to end it: {error.strerror}")

    def _stale(self, attempt: Attempt) -> None:
        attempt.is_unwanted = True
        self._stop_unwanted(attempt)

    def _drop(self, attempt: Attempt) -> None:
        """Let go of an attempt of which nothing is left to tell."""
        if self._attempts.pop(attempt.tag, None) is not None:
            self._over.append(attempt)
            self._wake.set()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS if self._attempts or self._over else None):
                    await self._wake.wait()
            self._wake.clear()
            for attempt in list(self._attempts.values()):
                try:
                    self._tend(attempt)
                except OSError as error:
                    # Too many open files, say: it is looked at again.
                    self._complain(f"can't look after {attempt.tag}: {error.strerror}")
            for attempt in [attempt for attempt in self._over if not attempt.is_supervised]:
                self._over.remove(attempt)
                self._spawn(asyncio.to_thread(attempt.discard))
            if self._connection is not None:
                self._leases.tend(self._connection)
                self._delivery.pump()

    def _tend(self, attempt: Attempt) -> None:
        """See how an attempt is, and do what its supervisor can't."""
        attempt.look(self._on_gpus())
        if attempt.ended is not None:
            if reason_word(attempt.ended.reason) is JobReason.UNKILLABLE:
                self._stuck[attempt.tag] = attempt.processes()
            if attempt.is_told:
                self._drop(attempt)
            return
        verdict = attempt.verdict(boottime())
        if verdict is not None and attempt.tag not in self._seized:
            self._seized.add(attempt.tag)
            self._spawn(self._take_over(attempt, verdict))

    async def _take_over(self, attempt: Attempt, verdict: Ended) -> None:
        try:
            await asyncio.to_thread(attempt.take_over, verdict)
        except OSError as error:
            self._complain(f"can't write down how {attempt.tag} ended: {error.strerror}")
            await asyncio.sleep(AGAIN_SECONDS)
        finally:
            self._seized.discard(attempt.tag)
            self._wake.set()

    def _complain(self, sentence: str) -> None:
        """Tell the owner, unless that is what was said last: a full disk is met many times a second."""
        if sentence != self._said:
            self._said = sentence
            self._tell_owner(sentence)

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
