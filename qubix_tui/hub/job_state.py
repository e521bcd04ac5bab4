"""A job as the hub keeps it, what it costs, and what a decision about one is made of.

`qubix_tui.hub.job_rules` has the rules, `qubix_tui.hub.job_machine` the states.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine.base import Change, NewEvent
from qubix_tui.protocol import channels, codec, events, marketplace
from qubix_tui.protocol.job_records import Job, JobProgress, JobState, Receipt
from qubix_tui.protocol.requests import ReportedProgress
from qubix_tui.protocol.types import MAX_SAFE_INTEGER, Timestamp, to_timestamp

JOBS_TABLE: Final = "jobs"
"""The jobs that are not over."""

REPORTS_TABLE: Final = "job_reports"
"""How far the running attempt of each job is: small, and written with every report."""

FINISHED_TABLE: Final = "finished_jobs"
"""The jobs that are over; read when somebody asks."""

KEPT_TABLE: Final = "finished_index"
"""What has to be in memory of those: a few bytes each."""

KEYS_TABLE: Final = "job_keys"
"""Idempotency keys, each with the job that it stands for."""

BENCHMARKS_TABLE: Final = "benchmarks"
"""The last benchmark that each provider completed: the job's record, which outlives the job."""

BENCHMARK: Final = "benchmark"
"""The workload that measures a provider."""

CLOCK_TABLE: Final = "job_clock"
"""When a hub was there, while jobs ran: one row, seconds since the epoch."""

CLOCK_KEY: Final = "there"

LEDGER_TABLE: Final = "ledger"
"""The receipts: added to, and never changed."""

_ID_LETTERS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_LETTERS: Final = 9
_RANDOM_LETTERS: Final = 6
_MICROS: Final = 1_000_000
_MS_PER_HOUR: Final = 3_600_000


MIN_LEASE_SECONDS: Final = 6.0
"""A shorter lease would leave no time to renew it, and to end what runs before it is over."""


class JobSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long the hub waits for agents, and how long it keeps what is over.

    Attributes:
        lease_seconds: How long an agent may run a job without being heard.
        accept_seconds: How long an agent may take to answer an assignment.
        retention_days: How long a finished job and its log are kept.
        retention_bytes: How much all of them may take together; the oldest go first.
    """

    lease_seconds: float = 300.0
    accept_seconds: float = 10.0
    retention_days: float = 30.0
    retention_bytes: int = 1024**3

    @property
    def margin_seconds(self) -> float:
        """How long before the lease is over a job has to be gone, and how long after it another may begin."""
        return min(30.0, self.lease_seconds / 10)


class StoredJob(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a store keeps of a job."""

    job: Job
    timeout_seconds: float | None = None
    retries: int = 0
    """How many attempts may follow one that ran and failed."""
    ran: int = 0
    """Attempts that were started."""
    unstarted: int = 0
    """Attempts that were not."""
    not_before: float = 0.0
    """When the next attempt may be made at the earliest (seconds since the epoch)."""
    failed_on: list[str] = []
    """The providers of earlier attempts, which come last for the next one."""
    key: str | None = None
    """Its row among the idempotency keys."""
    cancelled_by: str | None = None
    """Who cancelled it; an empty text for somebody without a name."""
    overtime: bool = False
    """It was told to end because it ran for longer than it may."""
    spent_micros: int | None = 0
    """What its receipts add up to; None where one of them is not known."""
    assigned_at: Timestamp | None = None

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants it ended."""
        return self.cancelled_by is not None

    @property
    def stop_wanted(self) -> bool:
        """Whether its agent is to end it."""
        return self.cancelled or self.overtime


class Reported(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How far an attempt is, as it is stored."""

    attempt: int
    seq: int = 0
    """Of the last report."""
    progress: ReportedProgress | None = None
    ran_ms: int = 0
    """Milliseconds that it ran, up to ``at``."""
    at: float
    """When that was (seconds since the epoch)."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the hub remembers of a job that is over."""

    state: JobState
    finished_at: float
    """Seconds since the epoch."""
    size: int
    """Bytes of its record and its log."""


class LiveJob:
    """A job that is not over."""

    __slots__ = (
        "asked_in",
        "clock",
        "counted_to",
        "deadline_from",
        "held",
        "id",
        "params_bytes",
        "ran_ms",
        "reported",
        "stored",
        "taken_over_at",
        "watched",
    )

    def __init__(self, stored: StoredJob, clock: Clock) -> None:
        self.id = stored.job.id
        self.stored = stored
        self.clock = clock
        self.params_bytes = len(codec.encode_record(stored.job.params))
        """What its parameters take, encoded."""
        self.reported: Reported | None = None
        """Of the attempt that runs, or ran until its agent was out of reach."""
        self.ran_ms = 0
        """Milliseconds that this attempt ran, up to ``counted_to``."""
        self.counted_to: float | None = None
        """Since when (monotonic) its time is yet to be added to that; None while it does not count."""
        self.deadline_from = clock.monotonic()
        """From when (monotonic) its lease, or the time to accept it, is counted."""
        self.held = True
        """Whether its agent, when it last registered, said that it has it."""
        self.watched = True
        """Whether this hub watches over its deadlines."""
        self.taken_over_at: float | None = None
        """Since when (monotonic) it does so in place of another one; None where it did so before."""
        self.asked_in: int | None = None
        """The session of its provider in which that was asked to take it; None for not yet."""

    @property
    def state(self) -> JobState:
        """The job's state."""
        return self.stored.job.state

    def resume(self, reported: Reported, until: float) -> None:
        """Go on where an earlier run of the hub stopped: a job that ran then has run since.

        Args:
            reported: How far it was.
            until: Up to when it can have run, at most (seconds since the epoch).
        """
        self.reported = reported
        self.ran_ms = reported.ran_ms
        if self.state is JobState.RUNNING:
            passed = max(0.0, min(self.clock.time(), until) - reported.at)
            self.counted_to = self.clock.monotonic() - passed

    def take(self, decision: "Decision") -> None:
        """Bring it up to what was committed."""
        before, self.stored = self.state, decision.stored
        self.reported = decision.reported
        self.ran_ms = decision.reported.ran_ms if decision.reported else 0
        self.counted_to = decision.counted_to
        self._begin(before)

    def follow(self, stored: StoredJob, reported: Reported | None) -> None:
        """Bring it up to what another hub has committed.

        What it ran since is counted from now, when this is heard: the clocks of two machines differ.
        """
        before, self.stored, self.reported = self.state, stored, reported
        self.ran_ms = reported.ran_ms if reported else 0
        self.counted_to = self.clock.monotonic() if self.state is JobState.RUNNING else None
        self._begin(before)
        if self.state is JobState.RUNNING:
            self.held = True
        elif self.state is JobState.UNKNOWN:
            # Later than the other hub counts from. Nobody renews its lease before it runs again.
            self.deadline_from = self.clock.monotonic()

    def take_over(self) -> None:
        """This hub watches over it from now on; until now another one may have renewed its lease."""
        if self.state is JobState.RUNNING:
            self.deadline_from = self.taken_over_at = self.clock.monotonic()

    def _begin(self, before: JobState) -> None:
        """Begin what begins with a new state: of an assignment the time to accept it, and then the lease."""
        if self.state is JobState.ASSIGNED:
            self.taken_over_at = self.asked_in = None
        if JobState.ASSIGNED in {before, self.state}:
            self.deadline_from = self.clock.monotonic()
            self.held = True

    def running_ms(self, until: float | None = None) -> int:
        """Give the milliseconds that this attempt ran.

        Args:
            until: Up to when (monotonic); None for now.
        """
        if self.counted_to is None:
            return self.ran_ms
        until = self.clock.monotonic() if until is None else until
        return self.ran_ms + max(0, round((until - self.counted_to) * 1000))

    def leave_out(self, seconds: float) -> None:
        """Count so many of the seconds up to now as time in which it can't have run; none where negative."""
        if self.counted_to is not None:
            self.counted_to = max(self.counted_to, min(self.counted_to + seconds, self.clock.monotonic()))

    def record(self) -> Job:
        """Give the job's record with what it costs and how far it is now."""
        job = self.stored.job
        if job.state not in {JobState.RUNNING, JobState.UNKNOWN}:
            return job
        running_ms = self.running_ms()
        cost = total(self.stored.spent_micros, cost_micros(job.price_per_hour, running_ms))
        said = self.reported.progress if self.reported else None
        progress = progress_record(job.state, said, running_ms=running_ms, cost=cost, reason=job.reason)
        return msgspec.structs.replace(job, cost_micros=cost, progress=progress)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision about a job that has yet to be committed and applied."""

    stored: StoredJob
    reported: Reported | None = None
    """What is stored of the attempt; None where nothing is."""
    counted_to: float | None = None
    """Since when (monotonic) its running time counts on; None where it does not."""
    receipt: Receipt | None = None
    """Of the attempt that ends by it."""
    events: Sequence[NewEvent] = ()


def cost_micros(price_per_hour: float | None, running_ms: int) -> int | None:
    """Give what some running time costs, in millionths of the currency, rounded down.

    None where the price is not known and there is something to pay, and for more than can be told.
    """
    if running_ms == 0:
        return 0
    if price_per_hour is None or price_per_hour * _MICROS * running_ms > MAX_SAFE_INTEGER * _MS_PER_HOUR:
        return None
    return round(price_per_hour * _MICROS) * running_ms // _MS_PER_HOUR


def total(*costs: int | None) -> int | None:
    """Add costs up; None where one of them is not known, and for more than can be told."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) and sum(known) <= MAX_SAFE_INTEGER else None


def progress_record(
    state: JobState,
    said: ReportedProgress | None,
    *,
    running_ms: int,
    cost: int | None,
    reason: str | None = None,
) -> JobProgress:
    """Put together what the agent says of a job's progress and what the hub knows of it."""
    return JobProgress(
        progress=said.progress if said else None,
        status=state,
        message=(said.message if said else None) or reason,
        source=said.source if said else "none",
        eta_seconds=said.eta_seconds if said else None,
        elapsed_seconds=running_ms / 1000,
        cost_micros=cost,
    )


def new_job_id(milliseconds: int) -> str:
    """Make a job's id: ids sort by the time at which they were made, and can't be guessed."""
    number, letters = milliseconds, []
    for _ in range(_TIME_LETTERS):
        number, letter = divmod(number, len(_ID_LETTERS))
        letters.append(_ID_LETTERS[letter])
    tail = "".join(secrets.choice(_ID_LETTERS) for _ in range(_RANDOM_LETTERS))
    return f"j{''.join(reversed(letters))}{tail}"


def receipt_key(job_id: str, attempt: int) -> str:
    """Give a receipt's key in the ledger: a job's receipts sort by attempt."""
    return f"{job_id}/{attempt:04d}"


def report_change(job_id: str, reported: Reported | None) -> Change:
    """Give what is to be written of how far an attempt is."""
    return Change(REPORTS_TABLE, job_id, None if reported is None else codec.encode_record(reported))


def changes_of(stored: StoredJob, reported: Reported | None) -> list[Change]:
    """Give what is to be written for a job that is not over."""
    job_id = stored.job.id
    return [Change(JOBS_TABLE, job_id, codec.encode_record(stored)), report_change(job_id, reported)]


def changes_at_end(stored: StoredJob, log_bytes: int, now: float) -> tuple[list[Change], Kept]:
    """Give what is to be written for a job that is over, and what is to be remembered of it."""
    job_id = stored.job.id
    row = codec.encode_record(stored)
    kept = Kept(state=stored.job.state, finished_at=now, size=len(row) + log_bytes)
    measured: list[Change] = []
    job = stored.job
    if job.workload == BENCHMARK and job.state is JobState.COMPLETED and job.provider_id is not None:
        measured.append(Change(BENCHMARKS_TABLE, job.provider_id, codec.encode_record(job)))
    return [
        *measured,
        Change(JOBS_TABLE, job_id, None),
        Change(REPORTS_TABLE, job_id, None),
        Change(FINISHED_TABLE, job_id, row),
        Change(KEPT_TABLE, job_id, codec.encode_record(kept)),
    ], kept


def state_events(job: Job, now: float, *, created: bool = False) -> list[NewEvent]:
    """Give what is published of a job that has moved: to the marketplace, and to who follows it."""
    update: Any = marketplace.JobCreated(job=job) if created else marketplace.JobStateChanged(job=job)
    return [
        NewEvent(channels.MARKETPLACE, events.MARKETPLACE_UPDATE, codec.encode_record(update)),
        _completed(job, now) if job.state.is_final else progress_event(job, now),
    ]


def progress_event(job: Job, now: float) -> NewEvent:
    """Give JOB_PROGRESS for a job as it is."""
    progress = job.progress or progress_record(
        job.state, None, running_ms=0, cost=job.cost_micros, reason=job.reason
    )
    data = events.JobProgressed(
        job_id=job.id, provider_id=job.provider_id, progress=progress, timestamp=to_timestamp(now)
    )
    return NewEvent(channels.job_channel(job.id), events.JOB_PROGRESS, codec.encode_record(data))


def _completed(job: Job, now: float) -> NewEvent:
    data = events.JobCompleted(
        job_id=job.id,
        provider_id=job.provider_id,
        status=job.state.value,  # type: ignore[arg-type]
        reason=job.reason,
        result=job.result,
        cost_micros=job.cost_micros,
        timestamp=to_timestamp(now),
    )
    return NewEvent(channels.job_channel(job.id), events.JOB_COMPLETED, codec.encode_record(data))
