"""The rules about jobs: what follows from what happens to one, what it costs, and what has to be told.

`JobRules` decides and does nothing else, like `qubix_tui.hub.registry`: the caller commits a `Decision` and
then applies it, with no other decision about the same job in between. Which state follows is the machine's to
say (`qubix_tui.hub.job_machine`); here is what comes with it.
"""

from typing import Any, Final

import msgspec

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.job_machine import Facts, Input, step
from qubix_tui.hub.job_state import (
    Decision,
    LiveJob,
    Reported,
    StoredJob,
    cost_micros,
    progress_event,
    progress_record,
    state_events,
    total,
)
from qubix_tui.protocol import codec
from qubix_tui.protocol.errors import ErrorCode, ProtocolError
from qubix_tui.protocol.job_records import Job, JobState, Receipt
from qubix_tui.protocol.reasons import JobReason, reason_word, with_detail
from qubix_tui.protocol.records import Provider
from qubix_tui.protocol.requests import ReportCompletion, ReportedProgress, SubmitJob
from qubix_tui.protocol.types import Timestamp, to_timestamp

MAX_PARAMS_BYTES: Final = 16 * 1024
"""A job's parameters, encoded: with its result, the record still fits into one frame."""

MAX_RESULT_BYTES: Final = 32 * 1024
"""A job's result, encoded."""

MAX_RETRIES: Final = 10

MAX_UNSTARTED: Final = 5
"""Attempts that a job may lose to providers that did not take it, beside its retries."""

RETRY_SECONDS: Final = 1.0
"""Before the second attempt; twice as long before each that follows."""

MAX_RETRY_SECONDS: Final = 60.0

_BY_REASON: Final[dict[JobReason | None, Input]] = {
    JobReason.UNKILLABLE: Input.UNKILLABLE,
    # Not by itself, so it may well be what somebody who cancelled it wanted.
    JobReason.LEASE_EXPIRED: Input.STOPPED,
    JobReason.AGENT_RESTARTED: Input.STOPPED,
}
_FINISH: Final = {"completed": Input.COMPLETED, "failed": Input.FAILED, "cancelled": Input.STOPPED}


class JobRules:
    """The rules.

    Args:
        clock: Wall time for timestamps, monotonic time for what is paid.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def submit(self, request: SubmitJob, *, job_id: str, who: str | None, key: str | None) -> Decision:
        """Decide a new job.

        Raises:
            ProtocolError: ``invalid``: it asks for more than a job may.
        """
        size = len(codec.encode_record(request.params))
        if size > MAX_PARAMS_BYTES:
            raise ProtocolError(
                ErrorCode.INVALID,
                f"a job's parameters have at most {MAX_PARAMS_BYTES} bytes; these have {size}",
                field="data.params",
            )
        if request.retries > MAX_RETRIES:
            raise ProtocolError(
                ErrorCode.INVALID, f"expected at most {MAX_RETRIES} retries", field="data.retries"
            )
        if request.timeout_seconds is not None and request.timeout_seconds <= 0:
            raise ProtocolError(
                ErrorCode.INVALID, "expected more than 0 seconds", field="data.timeoutSeconds"
            )
        now = self._clock.time()
        job = Job(
            id=job_id,
            workload=request.workload,
            params=request.params,
            requires=request.requires,
            state=JobState.QUEUED,
            created_at=to_timestamp(now),
            cost_micros=0,
            submitted_by=who,
        )
        stored = StoredJob(job=job, timeout_seconds=request.timeout_seconds, retries=request.retries, key=key)
        return Decision(stored=stored, events=state_events(job, now, created=True))

    def assign(self, live: LiveJob, provider: Provider) -> Decision | None:
        """Decide that a provider is asked to take a job."""
        state = self._step(live.stored, Input.ASSIGN)
        if state is None:
            return None
        job = msgspec.structs.replace(
            live.stored.job,
            state=state,
            attempt=live.stored.job.attempt + 1,
            provider_id=provider.id,
            price_per_hour=provider.price_per_hour,
            reason=None,
        )
        stored = msgspec.structs.replace(live.stored, job=job, assigned_at=self._now())
        return Decision(stored=stored, events=state_events(job, self._clock.time()))

    def start(self, live: LiveJob) -> Decision | None:
        """Decide that a job may start: its provider takes it."""
        state = self._step(live.stored, Input.ACCEPT)
        if state is None:
            return None
        if live.state is not JobState.ASSIGNED:
            return self.heard(live)
        now = self._clock.time()
        job = msgspec.structs.replace(live.stored.job, state=state, started_at=to_timestamp(now))
        job = self._shown(job, live.stored, None, 0)
        stored = msgspec.structs.replace(live.stored, job=job, ran=live.stored.ran + 1)
        return Decision(
            stored=stored,
            reported=Reported(attempt=job.attempt, at=now),
            counted_to=self._clock.monotonic(),
            events=state_events(job, now),
        )

    def heard(self, live: LiveJob) -> Decision | None:
        """Decide what follows from its agent being there; None where nothing changes."""
        if live.reported is None or self._step(live.stored, Input.HEARD) in {None, live.state}:
            return None
        return self._report(live, live.reported.seq, live.reported.progress, said=False)

    def report(self, live: LiveJob, seq: int, progress: ReportedProgress | None) -> Decision | None:
        """Decide a report of a job that runs.

        Args:
            live: The job.
            seq: The report's number.
            progress: What it says; None for a piece of log, which says nothing new.
        """
        if live.reported is None or self._step(live.stored, Input.HEARD) is None:
            return None
        said = live.reported.progress if progress is None else progress
        return self._report(live, seq, said, said=progress is not None)

    def out_of_reach(self, live: LiveJob, heard: float | None, lease_left: float) -> Decision | None:
        """Decide that a job's agent is out of reach; what it runs from now on is not paid.

        Args:
            live: The job.
            heard: When it was heard last (monotonic); None for not since the hub's start.
            lease_left: Seconds until it is given up.
        """
        state = self._step(live.stored, Input.OUT_OF_REACH)
        if state in {None, live.state} or live.reported is None:
            return None
        # What was not heard is not paid: the silence before it was noticed neither.
        running_ms = live.ran_ms if heard is None else live.running_ms(heard)
        now = self._clock.time()
        lease_ends_at = to_timestamp(now + lease_left)
        job = msgspec.structs.replace(live.stored.job, state=JobState.UNKNOWN, lease_ends_at=lease_ends_at)
        job = self._shown(job, live.stored, live.reported.progress, running_ms)
        return Decision(
            stored=msgspec.structs.replace(live.stored, job=job),
            reported=msgspec.structs.replace(live.reported, ran_ms=running_ms, at=now),
            events=state_events(job, now),
        )

    def complete(self, live: LiveJob, report: ReportCompletion) -> Decision | None:
        """Decide what follows from how an attempt ended, as its agent reports it.

        Raises:
            ProtocolError: ``too_large``: the result is.
        """
        size = len(codec.encode_record(report.result))
        if size > MAX_RESULT_BYTES:
            raise ProtocolError(
                ErrorCode.TOO_LARGE,
                f"a result has at most {MAX_RESULT_BYTES} bytes; this one has {size}",
                field="data.result",
            )
        given = _FINISH[report.status]
        if given is not Input.COMPLETED:
            given = _BY_REASON.get(reason_word(report.reason), given)
        return self.end(live, given, report.reason, report.result)

    def end(
        self,
        live: LiveJob,
        given: Input,
        reason: str | None = None,
        result: Any = None,  # noqa: ANN401 - any JSON
    ) -> Decision | None:
        """Decide the end of an attempt, or of a job that waits.

        Args:
            live: The job.
            given: What ended it.
            reason: As it was reported, if it was.
            result: Likewise.
        """
        return self._end(live, live.stored, given, reason, result)

    def _end(
        self,
        live: LiveJob,
        stored: StoredJob,
        given: Input,
        reason: str | None,
        result: Any,  # noqa: ANN401 - any JSON
    ) -> Decision | None:
        """Decide the end of an attempt; None where it goes on. ``stored`` is the job as it is to be."""
        job = stored.job
        state = self._step(stored, given, reason)
        if state is None or not (state.is_final or state is JobState.QUEUED):
            return None
        reason = None if state is JobState.COMPLETED else self._reason(stored, given, reason)
        receipt = self._receipt(live, stored, state, reason)
        spent = total(stored.spent_micros, receipt.cost_micros if receipt else 0)
        now = self._clock.time()
        changed = {"state": state, "reason": reason, "cost_micros": spent, "lease_ends_at": None}
        if state is JobState.QUEUED:
            job = msgspec.structs.replace(job, **changed, started_at=None, price_per_hour=None, progress=None)
            stored = self._again(msgspec.structs.replace(stored, spent_micros=spent, job=job), now)
        else:
            said = live.reported.progress if live.reported else None
            running_ms = receipt.running_ms if receipt else 0
            progress = progress_record(state, said, running_ms=running_ms, cost=spent)
            job = msgspec.structs.replace(
                job, **changed, finished_at=to_timestamp(now), progress=progress, result=result
            )
            stored = msgspec.structs.replace(stored, spent_micros=spent, job=job)
        return Decision(stored=stored, receipt=receipt, events=state_events(job, now))

    def cancel(self, live: LiveJob, who: str | None) -> Decision | None:
        """Decide somebody's wish to end a job; None where that is under way already."""
        if live.stored.cancelled:
            return None
        now = self._clock.time()
        job = msgspec.structs.replace(live.stored.job, cancel_requested_at=to_timestamp(now))
        stored = msgspec.structs.replace(live.stored, job=job, cancelled_by=who or "")
        return self._end(live, stored, Input.CANCEL, None, None) or self._wish(live, stored)

    def overtime(self, live: LiveJob) -> Decision | None:
        """Decide that a job has run for longer than it may; None where it is to end already."""
        if live.stored.stop_wanted or self._step(live.stored, Input.OVERTIME) is None:
            return None
        return self._wish(live, msgspec.structs.replace(live.stored, overtime=True))

    def _wish(self, live: LiveJob, stored: StoredJob) -> Decision:
        """Note that a job is to end. It goes on until its agent says that it has."""
        running_ms, now = live.running_ms(), self._clock.time()
        reported = live.reported
        if reported is not None:
            job = self._shown(stored.job, stored, reported.progress, running_ms)
            stored = msgspec.structs.replace(stored, job=job)
            reported = msgspec.structs.replace(reported, ran_ms=running_ms, at=now)
        counts = live.counted_to is not None
        return Decision(
            stored=stored,
            reported=reported,
            counted_to=self._clock.monotonic() if counts else None,
            events=state_events(stored.job, now),
        )

    def _report(self, live: LiveJob, seq: int, progress: ReportedProgress | None, *, said: bool) -> Decision:
        assert live.reported is not None
        now, running_ms = self._clock.time(), live.running_ms()
        stored = live.stored
        back = live.state is JobState.UNKNOWN
        job = stored.job
        if back:
            job = msgspec.structs.replace(job, state=JobState.RUNNING, lease_ends_at=None)
        if said or back:
            job = self._shown(job, stored, progress, running_ms)
        if back:
            stored = msgspec.structs.replace(stored, job=job)
        return Decision(
            stored=stored,
            reported=msgspec.structs.replace(
                live.reported, seq=seq, progress=progress, ran_ms=running_ms, at=now
            ),
            counted_to=self._clock.monotonic(),
            events=state_events(job, now) if back else [progress_event(job, now)] if said else (),
        )

    def _step(self, stored: StoredJob, given: Input, reason: str | None = None) -> JobState | None:
        if stored.job.state is JobState.ASSIGNED:
            may_retry = stored.unstarted < MAX_UNSTARTED
        else:
            word = reason_word(reason)
            may_retry = (
                stored.ran <= stored.retries and not stored.overtime and (word is None or word.allows_retry)
            )
        return step(stored.job.state, given, Facts(cancelled=stored.cancelled, may_retry=may_retry))

    def _reason(self, stored: StoredJob, given: Input, reported: str | None) -> str | None:
        by = with_detail(JobReason.CANCELLED_BY, stored.cancelled_by)
        match given:
            case Input.CANCEL:
                return by
            case Input.REFUSE if reason_word(reported) is None:
                return with_detail(JobReason.REFUSED, reported)
            case Input.ACCEPT_TIMEOUT:
                return JobReason.ACCEPT_TIMEOUT.value
            case Input.LEASE_OVER if stored.overtime:
                return JobReason.TIMEOUT.value
            case Input.LEASE_OVER:
                return (JobReason.LEASE_EXPIRED if stored.cancelled else JobReason.LOST).value
            case Input.STOPPED if stored.cancelled:
                return by
            case Input.STOPPED if stored.overtime:
                return JobReason.TIMEOUT.value
        return reported

    def _receipt(
        self, live: LiveJob, stored: StoredJob, state: JobState, reason: str | None
    ) -> Receipt | None:
        job = stored.job
        if job.state is JobState.QUEUED:
            return None
        assert job.provider_id is not None
        assert stored.assigned_at is not None
        running_ms = live.running_ms()
        return Receipt(
            job_id=job.id,
            attempt=job.attempt,
            provider_id=job.provider_id,
            assigned_at=stored.assigned_at,
            started_at=job.started_at,
            ended_at=self._now(),
            status="failed" if state is JobState.QUEUED else state.value,  # type: ignore[arg-type]
            reason=reason,
            running_ms=running_ms,
            price_per_hour=job.price_per_hour,
            cost_micros=cost_micros(job.price_per_hour, running_ms),
        )

    def _again(self, stored: StoredJob, now: float) -> StoredJob:
        """Put a job back into the queue, behind a delay that grows; who just failed comes last."""
        job = stored.job
        assert job.provider_id is not None
        failed_on = [other for other in stored.failed_on if other != job.provider_id]
        never_ran = job.attempt > stored.ran + stored.unstarted
        return msgspec.structs.replace(
            stored,
            unstarted=stored.unstarted + never_ran,
            not_before=now + min(MAX_RETRY_SECONDS, RETRY_SECONDS * 2 ** (job.attempt - 1)),
            failed_on=[*failed_on, job.provider_id],
            assigned_at=None,
        )

    def _shown(self, job: Job, stored: StoredJob, said: ReportedProgress | None, running_ms: int) -> Job:
        """Give a record with its progress and what it costs."""
        cost = total(stored.spent_micros, cost_micros(job.price_per_hour, running_ms))
        progress = progress_record(job.state, said, running_ms=running_ms, cost=cost)
        return msgspec.structs.replace(job, cost_micros=cost, progress=progress)

    def _now(self) -> Timestamp:
        return to_timestamp(self._clock.time())
