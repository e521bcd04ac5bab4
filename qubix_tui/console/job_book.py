"""What the console knows of the jobs. No Textual in it.

All moments are seconds since the epoch by the hub's clock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from qubix_tui.protocol.events import Event, JobCompleted, JobProgressed
from qubix_tui.protocol.job_records import Job, JobState, Receipt
from qubix_tui.protocol.marketplace import JobCreated, JobSnapshot, JobsSnapshot, JobStateChanged
from qubix_tui.protocol.types import from_timestamp

KEPT_JOBS: Final = 5_000
"""Beyond this many the oldest that are over are let go."""

TRIMMED_AT_ONCE: Final = 500

SECONDS_PER_HOUR: Final = 3600.0
MICROS: Final = 1_000_000

_RANKS: Final = {JobState.UNKNOWN: 0, JobState.RUNNING: 1, JobState.ASSIGNED: 2, JobState.QUEUED: 3}


@dataclass(slots=True)
class JobRow:
    """One job, and when what is known of it was so."""

    job: Job
    progress_at: float | None = None
    """When the hub told its newest progress; None before."""
    changed_at: float | None = None
    """When it got into its state, as far as that was seen or is in the record."""
    receipts: tuple[Receipt, ...] = ()
    """Its attempts that are over, where they were asked for."""

    def elapsed(self, now: float) -> float | None:
        """Seconds that it has run, or ran; None where it never started."""
        if self.job.started_at is None:
            return None
        finished = self.job.finished_at
        end = from_timestamp(finished) if finished is not None else now
        return max(0.0, end - from_timestamp(self.job.started_at))

    def cost(self, now: float) -> int | None:
        """Give what it costs so far, in micros; what came since the last word is reckoned by its price."""
        job, progress = self.job, self.job.progress
        told, since = job.cost_micros, None
        if progress is not None and progress.cost_micros is not None:
            told, since = progress.cost_micros, self.progress_at
        if job.state is not JobState.RUNNING or job.price_per_hour is None or job.started_at is None:
            return told
        if told is None or since is None:
            told, since = 0, from_timestamp(job.started_at)
        return told + round(job.price_per_hour * max(0.0, now - since) / SECONDS_PER_HOUR * MICROS)

    def eta(self, now: float) -> float | None:
        """Give the seconds that it says are left; None where it does not say."""
        progress = self.job.progress
        if self.job.state is not JobState.RUNNING or progress is None or progress.eta_seconds is None:
            return None
        passed = 0.0 if self.progress_at is None else max(0.0, now - self.progress_at)
        return max(0.0, progress.eta_seconds - passed)

    def lease_left(self, now: float) -> float | None:
        """Give the seconds until its provider is given up; None where that is not known, or put off."""
        if self.job.state is not JobState.UNKNOWN or self.job.lease_ends_at is None:
            return None
        left = from_timestamp(self.job.lease_ends_at) - now
        return left if left > 0 else None

    def since(self, now: float) -> float | None:
        """Seconds that it is in its state; None where that is not known."""
        return None if self.changed_at is None else max(0.0, now - self.changed_at)


class JobBook:
    """The jobs that the hub told of.

    Args:
        clock: The hub's time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self.rows: dict[str, JobRow] = {}
        self.is_loaded = False
        """Whether a whole snapshot has come."""
        self.change_count = 0
        """Grows with each change."""
        self._staged: dict[str, Job] = {}

    def take(self, event: Event) -> None:
        """Take in one of the hub's messages; those about something else are left alone."""
        match event.data:
            case JobCreated(job=job) | JobStateChanged(job=job):
                self._put(job, self.now())
            case JobSnapshot(job=job, receipts=receipts) if job is not None:
                self._put(job, None)
                self.rows[job.id].receipts = tuple(receipts)
            case JobsSnapshot() as page:
                self._take_snapshot(page)
            case JobProgressed() as progressed:
                self._take_progress(progressed)
            case JobCompleted() as completed:
                self._take_completion(completed)

    def ordered(self, chosen: Callable[[JobRow], bool] | None = None) -> list[JobRow]:
        """Give the jobs: those out of reach first, those that run, that wait, and the newest of the rest."""
        rows = [row for row in self.rows.values() if chosen is None or chosen(row)]
        # Timestamps of the wire are as long as each other: as texts they stand in the order of time.
        waiting = sorted((row for row in rows if not row.job.state.is_final), key=_urgency)
        over = sorted((row for row in rows if row.job.state.is_final), key=_end, reverse=True)
        return waiting + over

    def of_provider(self, provider_id: str) -> list[JobRow]:
        """Give the jobs that a provider has or had, the newest first."""
        return self.ordered(lambda row: row.job.provider_id == provider_id)

    def counts(self) -> dict[JobState, int]:
        """Give how many are in each state."""
        counts = dict.fromkeys(JobState, 0)
        for row in self.rows.values():
            counts[row.job.state] += 1
        return counts

    def _take_snapshot(self, page: JobsSnapshot) -> None:
        if page.page <= 1:
            self._staged = {}
        self._staged.update((job.id, job) for job in page.jobs)
        if page.page < page.pages:
            return
        staged, self._staged = self._staged, {}
        # The newest there are: one that is not over and not among them is so old that it is kept as it was.
        for job in staged.values():
            self._put(job, None)
        self.is_loaded = True
        self.change_count += 1

    def _put(self, job: Job, moment: float | None) -> None:
        row = self.rows.get(job.id)
        if row is not None and row.job.state.is_final and not job.state.is_final:
            return  # the first end that was told stands
        self.change_count += 1
        if row is None:
            row = self.rows[job.id] = JobRow(job, changed_at=_changed_at(job, moment))
            row.progress_at = None if job.progress is None else self.now()
            self._trim()
            return
        if row.job.state is not job.state:
            row.changed_at = _changed_at(job, moment)
        if job.progress is None and row.job.attempt == job.attempt:
            job = msgspec.structs.replace(job, progress=row.job.progress)
        row.job = job

    def _take_progress(self, progressed: JobProgressed) -> None:
        row = self.rows.get(progressed.job_id)
        if row is None or row.job.state.is_final:
            return
        row.job = msgspec.structs.replace(row.job, progress=progressed.progress)
        row.progress_at = from_timestamp(progressed.timestamp)
        self.change_count += 1

    def _take_completion(self, completed: JobCompleted) -> None:
        row = self.rows.get(completed.job_id)
        if row is None or row.job.state.is_final:
            return
        job = msgspec.structs.replace(
            row.job,
            state=JobState(completed.status),
            reason=completed.reason,
            result=completed.result,
            cost_micros=completed.cost_micros,
            finished_at=completed.timestamp,
            provider_id=completed.provider_id or row.job.provider_id,
        )
        self._put(job, from_timestamp(completed.timestamp))

    def _trim(self) -> None:
        if len(self.rows) <= KEPT_JOBS + TRIMMED_AT_ONCE:
            return
        over = [row.job for row in self.rows.values() if row.job.state.is_final]
        over.sort(key=lambda job: job.created_at)
        for job in over[: len(self.rows) - KEPT_JOBS]:
            del self.rows[job.id]


def _changed_at(job: Job, moment: float | None) -> float | None:
    """Give when a job got into its state: as its record says, where it does, else when that was heard."""
    if job.state is JobState.QUEUED:
        stamp = job.created_at if job.attempt == 0 else None
    elif job.state is JobState.RUNNING:
        stamp = job.started_at
    else:
        stamp = job.finished_at
    return from_timestamp(stamp) if stamp is not None else moment


def _urgency(row: JobRow) -> tuple[int, str, str]:
    return _RANKS[row.job.state], row.job.created_at, row.job.id


def _end(row: JobRow) -> tuple[str, str]:
    return row.job.finished_at or row.job.created_at, row.job.id
