"""The conversation with the agents about the jobs that they have: who may run what, and for how much longer.

Nothing starts before both sides know it. A lease is counted by the agent from when it sent what was answered,
and here from when that came, which is later: when it is over here, what the agent ran has ended. Where hubs
share a store, `qubix_tui.hub.job_watch` says why that holds for all of them.

Whichever hub decides, the one that has an agent's connection tells it, as soon as it hears of the decision.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from qubix_tui.hub import framing
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import EngineUnavailable, settled
from qubix_tui.hub.engine.cluster import Cluster
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.job_book import HELD_STATES, JobBook
from qubix_tui.hub.job_machine import Input
from qubix_tui.hub.job_match import workload_of
from qubix_tui.hub.job_state import Decision, LiveJob, StoredJob
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.providers import Providers
from qubix_tui.protocol import channels, codec, events
from qubix_tui.protocol.job_records import JobState, LogPiece
from qubix_tui.protocol.reasons import JobReason
from qubix_tui.protocol.records import Provider
from qubix_tui.protocol.requests import (
    HeldJob,
    JobAnswer,
    JobAttempt,
    RenewLeases,
    ReportCompletion,
    ReportLogs,
    ReportProgress,
)

GRACE_SECONDS: Final = 10.0
"""Between SIGTERM and SIGKILL."""

_STARTED: Final = frozenset({JobState.RUNNING, JobState.UNKNOWN})

_logger = logging.getLogger("qubix.hub.jobs")


class JobAgents:
    """What agents say about jobs, and what they are told.

    Args:
        book: The jobs.
        providers: Their connections.
        fanout: Who follows a job's log.
        clock: When things come.
        cluster: Whether leases may be renewed.
    """

    def __init__(
        self, book: JobBook, providers: Providers, fanout: Fanout, clock: Clock, cluster: Cluster
    ) -> None:
        self._book = book
        self._providers = providers
        self._fanout = fanout
        self._clock = clock
        self._cluster = cluster

    def assign(self, live: LiveJob) -> None:
        """Ask a job's provider to take it, once in each of its sessions, where its connection is here.

        Where that is gone the time to accept runs out.
        """
        job = live.stored.job
        entry = self._providers.registry.get(job.provider_id or "")
        if entry is None or live.state is not JobState.ASSIGNED or live.asked_in == entry.stored.session:
            return
        connection = self._providers.connection(entry.id)
        if connection is None:
            return
        live.asked_in = entry.stored.session
        order = events.JobAssign(
            job_id=job.id,
            attempt=job.attempt,
            workload=job.workload,
            params=job.params,
            gpus=_gpus(entry.stored.provider, job.workload),
            timeout_seconds=live.stored.timeout_seconds,
        )
        connection.reply(events.JOB_ASSIGN, order, None)

    def stop(self, provider_id: str | None, job_id: str, attempt: int, reason: str | None) -> None:
        """Tell a provider to end an attempt, if it can be told now."""
        connection = self._providers.connection(provider_id or "")
        if connection is not None:
            connection.reply(events.JOB_STOP, _stop(job_id, attempt, reason), None)

    def follow(self, before: StoredJob | None, live: LiveJob) -> None:
        """Tell a provider what another hub has decided about its job.

        Args:
            before: The job as it was; None where it was not known.
            live: The job.
        """
        # Not at once: who registered in a commit just before is to be told of that first.
        later = asyncio.get_running_loop().call_soon
        after, had = live.stored, before is not None and before.job.state in HELD_STATES
        if live.state is JobState.ASSIGNED:
            later(self.assign, live)
        elif before is not None and had:
            ended = live.state not in HELD_STATES
            if ended or (after.stop_wanted and not before.stop_wanted):
                job = before.job
                later(self.stop, job.provider_id, job.id, job.attempt, _stop_reason(after))

    async def accept(self, entry: Entry, answer: JobAnswer) -> events.JobStart | events.JobStop:
        """Let a provider start a job that it takes, unless it is no longer wanted there.

        Raises:
            EngineUnavailable: The store did not take it, or may have given this hub up; nothing may start.
        """
        await self._book.change(
            answer.job_id,
            lambda live: self._book.rules.start(live) if _is_of(live, entry, answer) else None,
        )
        live = self._current(entry, answer)
        if live is None or live.state is not JobState.RUNNING or live.stored.stop_wanted:
            return _stop(answer.job_id, answer.attempt, self._why_over(answer))
        self._check_lease()
        live.deadline_from = self._clock.monotonic()
        settings = self._book.settings
        return events.JobStart(
            job_id=live.id,
            attempt=answer.attempt,
            lease_seconds=settings.lease_seconds,
            margin_seconds=settings.margin_seconds,
        )

    async def refuse(self, entry: Entry, answer: JobAnswer) -> events.JobStop:
        """Take back a job that its provider does not take.

        Raises:
            EngineUnavailable: The store did not take it.
        """

        def decide(live: LiveJob) -> Decision | None:
            if not _is_of(live, entry, answer):
                return None
            return self._book.rules.end(live, Input.REFUSE, answer.reason)

        await self._book.change(answer.job_id, decide)
        return _stop(answer.job_id, answer.attempt, JobReason.REFUSED.value)

    async def renew(self, entry: Entry, request: RenewLeases) -> events.Renewed:
        """Let the jobs go on that are to go on.

        Raises:
            EngineUnavailable: Other hubs may have taken this one for gone, and its providers over. What runs
                goes on until its lease is over.
        """
        if self._cluster.node is not None:
            for held in request.jobs:
                await self._bring_back(entry, held)
        self._check_lease()
        renewed: list[JobAttempt] = []
        stop: list[JobAttempt] = []
        for held in request.jobs:
            live = self._current(entry, held)
            if live is None or live.stored.stop_wanted:
                stop.append(held)
            elif live.state in _STARTED:
                # The lease needs no store: a full disk ends no job.
                live.deadline_from = self._clock.monotonic()
                live.held = True
                renewed.append(held)
        return events.Renewed(jobs=renewed, stop=stop)

    async def _bring_back(self, entry: Entry, held: JobAttempt) -> None:
        """Have a job run again that was taken for out of reach: no lease is renewed that other hubs let end.

        Raises:
            EngineUnavailable: The store did not take it; nothing may be renewed.
        """
        live = self._current(entry, held)
        if live is not None and live.state is JobState.UNKNOWN:
            await self._book.change(
                live.id, lambda live: self._book.rules.heard(live) if _is_of(live, entry, held) else None
            )

    def _check_lease(self) -> None:
        """Tell whether leases may be given and renewed.

        Raises:
            EngineUnavailable: They may not.
        """
        if not self._cluster.may_renew:
            raise EngineUnavailable("this hub has lost touch with the others; say it again in a moment")

    async def report(
        self, entry: Entry, report: ReportProgress | ReportLogs | ReportCompletion
    ) -> events.Ack:
        """Take what an agent reports of a job: each report once, and nothing of an attempt that is over.

        Raises:
            ProtocolError: ``too_large``: a piece of log or a result is.
            EngineUnavailable: The store did not take it; the agent has to send it again.
        """
        async with self._book.turn(report.job_id):
            return await settled(lambda: self._report(entry, report))

    async def _report(
        self, entry: Entry, report: ReportProgress | ReportLogs | ReportCompletion
    ) -> events.Ack:
        seq = report.seq
        live = self._current(entry, report)
        stale = live is None or live.reported is None
        if live is not None and live.reported is not None:
            live.held = True
            if seq <= live.reported.seq:
                seq = live.reported.seq
            elif isinstance(report, ReportLogs):
                stale = not await self._take_log(live, report)
            elif isinstance(report, ReportProgress):
                stale = not await self._take_progress(live, report)
            else:
                stale = not await self._take_completion(live, report)
        return events.Ack(job_id=report.job_id, attempt=report.attempt, seq=seq, stale=stale)

    def reconcile(self, entry: Entry, held: Iterable[HeldJob]) -> list[events.JobOrder]:
        """Settle what becomes of the jobs that an agent holds, as it registers; and of those it should.

        One that it does not name may run on where it can't be seen: it waits for its lease.
        """
        orders: list[events.JobOrder] = []
        named: set[str] = set()
        for job in held:
            live = self._current(entry, JobAttempt(job_id=job.job_id, attempt=job.attempt))
            goes_on = live is not None and not live.stored.stop_wanted
            if live is not None:
                named.add(live.id)
                live.held = True
            orders.append(
                events.JobOrder(job_id=job.job_id, attempt=job.attempt, do="continue" if goes_on else "stop")
            )
        for live in self._held_by(entry):
            if live.id not in named and live.state in _STARTED:
                live.held = False
        return orders

    def registered(self, entry: Entry, held: Iterable[HeldJob]) -> None:
        """Say again what an agent that has just registered may not have heard."""
        named = {(job.job_id, job.attempt) for job in held}
        for live in self._held_by(entry):
            if live.state is JobState.ASSIGNED and (live.id, live.stored.job.attempt) not in named:
                self.assign(live)

    def _held_by(self, entry: Entry) -> list[LiveJob]:
        current = self._book.held.get(entry.stored.provider.current_job_id or "")
        return [] if current is None or current.stored.job.provider_id != entry.id else [current]

    def _current(
        self, entry: Entry, said: JobAttempt | JobAnswer | ReportProgress | ReportLogs | ReportCompletion
    ) -> LiveJob | None:
        """Give the job that a provider speaks of, if this attempt at it is that provider's and not over."""
        live = self._book.held.get(said.job_id)
        return live if live is not None and _is_of(live, entry, said) else None

    def _why_over(self, answer: JobAnswer) -> str | None:
        live = self._book.live.get(answer.job_id)
        if live is not None and live.stored.job.attempt == answer.attempt and live.stored.cancelled:
            return JobReason.CANCELLED_BY.value
        return JobReason.ACCEPT_TIMEOUT.value

    async def _take_log(self, live: LiveJob, report: ReportLogs) -> bool:
        decided_at = self._book.position
        piece, changes = await self._book.logs.add(report, self._clock.time())
        decision = await self._book.change_in_turn(
            live.id,
            lambda live: self._book.rules.report(live, report.seq, None),
            changes,
            decided_at,
            # Not once this goes on: by then the next piece, of another hub, may have been published.
            lambda: self.publish_log(live.id, piece),
        )
        if decision is None:
            self._book.logs.forget(live.id)
        return decision is not None

    async def _take_progress(self, live: LiveJob, report: ReportProgress) -> bool:
        decision = await self._book.change_in_turn(
            live.id,
            lambda live: self._book.rules.report(live, report.seq, report.progress),
            (),
            self._book.position,
        )
        return decision is not None

    async def _take_completion(self, live: LiveJob, report: ReportCompletion) -> bool:
        decision = await self._book.change_in_turn(
            live.id, lambda live: self._book.rules.complete(live, report), (), self._book.position
        )
        if decision is not None:
            job = decision.stored.job
            words = job.reason or job.state.value
            _logger.info("%s: attempt %d is over: %s", job.id, report.attempt, words)
        return decision is not None

    def is_followed(self, job_id: str) -> bool:
        """Tell whether anybody follows a job here."""
        return self._fanout.is_heard(channels.job_channel(job_id))

    def publish_log(self, job_id: str, piece: LogPiece) -> None:
        """Send a piece of a job's log to who follows it here."""
        if not self.is_followed(job_id):
            return
        channel = channels.job_channel(job_id)
        frame = log_frame(job_id, piece)
        self._fanout.publish(
            events.JOB_LOGS, channel, frame, subject=f"{channel} {piece.stream}", to_all=False
        )


def log_frame(job_id: str, piece: LogPiece) -> bytes:
    """Give JOB_LOGS for a piece of a job's log, as a frame."""
    data = events.JobLogged(
        job_id=job_id,
        stream=piece.stream,
        from_=piece.from_,
        text=piece.text,
        dropped=piece.dropped,
        timestamp=piece.timestamp,
    )
    return framing.event_frame(events.JOB_LOGS, codec.encode_record(data), channels.job_channel(job_id))


def _is_of(
    live: LiveJob,
    entry: Entry,
    said: JobAttempt | JobAnswer | ReportProgress | ReportLogs | ReportCompletion,
) -> bool:
    job = live.stored.job
    return job.provider_id == entry.id and job.attempt == said.attempt


def _stop_reason(stored: StoredJob) -> str | None:
    """Give why an agent is to end an attempt, or why that is over."""
    if stored.cancelled:
        return JobReason.CANCELLED_BY.value
    return JobReason.TIMEOUT.value if stored.overtime else stored.job.reason


def _stop(job_id: str, attempt: int, reason: str | None) -> events.JobStop:
    return events.JobStop(job_id=job_id, attempt=attempt, reason=reason, grace_seconds=GRACE_SECONDS)


def _gpus(provider: Provider, workload_name: str) -> list[str]:
    """Give the UUIDs of the GPUs that a job may use: as many as its workload declares, else all."""
    known = [gpu.uuid for gpu in provider.gpus if gpu.uuid is not None]
    workload = workload_of(provider, workload_name)
    return known if workload is None or workload.gpus is None else known[: workload.gpus]
