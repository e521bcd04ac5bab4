"""What the console knows of the jobs."""

from typing import Any

import pytest

from qubix_tui.console.job_book import KEPT_JOBS, TRIMMED_AT_ONCE, JobBook
from qubix_tui.console.job_words import lease_words, left_pieces
from qubix_tui.protocol import events
from qubix_tui.protocol.events import Event, JobCompleted, JobProgressed
from qubix_tui.protocol.job_records import Job, JobProgress, JobState, Receipt
from qubix_tui.protocol.marketplace import JobCreated, JobSnapshot, JobsSnapshot, JobStateChanged
from qubix_tui.protocol.types import to_timestamp
from tests.console.records import NOW


def job(name: str = "train-7f", state: JobState = JobState.RUNNING, **more: Any) -> Job:
    """A job's record."""
    known: dict[str, Any] = {"workload": "train", "attempt": 1, "created_at": to_timestamp(NOW - 100)}
    if state is JobState.RUNNING:
        known |= {"started_at": to_timestamp(NOW - 60), "price_per_hour": 3.6, "provider_id": "rig-1"}
    return Job(id=name, state=state, **{**known, **more})


class Stage:
    """A book, with the hub's words and its clock in the test's hands."""

    def __init__(self) -> None:
        self.now = NOW
        self.book = JobBook(lambda: self.now)

    def say(self, *updates: Any) -> None:
        """Let the hub say something of jobs."""
        for update in updates:
            self.book.take(Event(type=events.MARKETPLACE_UPDATE, data=update))

    def progress(self, progress: float | None = None, **more: Any) -> None:
        """Let the job tell how far it is, now."""
        told = JobProgress(progress=progress, status=JobState.RUNNING, **more)
        self.say(JobProgressed(job_id="train-7f", progress=told, timestamp=to_timestamp(self.now)))


def test_a_job_is_followed_from_its_first_day_to_its_last() -> None:
    """Created, assigned, running, over: one row, with when it got into its state."""
    stage = Stage()
    stage.say(JobCreated(job=job(state=JobState.QUEUED, attempt=0)))
    row = stage.book.rows["train-7f"]
    assert row.since(NOW) == 100
    stage.say(JobStateChanged(job=job(state=JobState.ASSIGNED)))
    assert row.since(NOW + 5) == 5
    stage.say(JobStateChanged(job=job()))
    assert (row.job.state, row.since(NOW), row.elapsed(NOW)) == (JobState.RUNNING, 60, 60)
    done = JobCompleted(
        job_id="train-7f",
        status="completed",
        result={"loss": 0.1},
        cost_micros=60_000,
        timestamp=to_timestamp(NOW),
    )
    stage.say(done)
    assert (row.job.state, row.job.result, row.elapsed(NOW + 500)) == (JobState.COMPLETED, {"loss": 0.1}, 60)
    stage.say(JobStateChanged(job=job()))
    assert row.job.state is JobState.COMPLETED, "the first end that was told stands"


def test_progress_goes_with_its_attempt() -> None:
    """A record without progress leaves what is known of this attempt; another attempt begins without."""
    stage = Stage()
    stage.say(JobStateChanged(job=job()))
    stage.progress(62, message="epoch 3")
    stage.say(JobStateChanged(job=job(state=JobState.UNKNOWN)))
    row = stage.book.rows["train-7f"]
    assert row.job.progress is not None
    assert row.job.progress.progress == 62
    stage.say(JobStateChanged(job=job(attempt=2)))
    assert row.job.progress is None


def test_the_cost_ticks_by_the_price() -> None:
    """What was told, and since then what the price makes of the time; it stands still when nothing runs."""
    stage = Stage()
    stage.say(JobStateChanged(job=job()))
    row = stage.book.rows["train-7f"]
    assert row.cost(NOW) == 60_000, "a minute at 3.6 an hour"
    stage.progress(10, cost_micros=50_000)
    assert row.cost(NOW + 10) == 60_000
    stage.say(JobStateChanged(job=job(state=JobState.UNKNOWN, cost_micros=55_000)))
    assert row.cost(NOW + 1000) == 50_000
    stage.say(JobStateChanged(job=job(state=JobState.COMPLETED, cost_micros=70_000, attempt=2)))
    assert row.cost(NOW + 1000) == 70_000


def test_without_a_price_no_cost_is_made_up() -> None:
    """Not known is None."""
    stage = Stage()
    stage.say(JobStateChanged(job=job(price_per_hour=None)))
    assert stage.book.rows["train-7f"].cost(NOW) is None


def test_the_time_left_runs_down() -> None:
    """What the job says is left, less what passed since, never below 0; not for one that is out of reach."""
    stage = Stage()
    stage.say(JobStateChanged(job=job()))
    row = stage.book.rows["train-7f"]
    assert row.eta(NOW) is None
    stage.progress(10, eta_seconds=30)
    assert (row.eta(NOW), row.eta(NOW + 10), row.eta(NOW + 90)) == (30, 20, 0)
    stage.say(JobStateChanged(job=job(state=JobState.UNKNOWN)))
    assert row.eta(NOW) is None


def test_a_snapshot_is_whole_with_its_last_page() -> None:
    """Then the book is loaded; what was known before stays."""
    stage = Stage()
    stage.say(JobCreated(job=job("old", JobState.QUEUED)))
    stage.say(JobsSnapshot(jobs=[job("a")], page=1, pages=2))
    loaded = [stage.book.is_loaded]
    stage.say(JobsSnapshot(jobs=[job("b", JobState.FAILED)], page=2, pages=2))
    assert [*loaded, stage.book.is_loaded] == [False, True]
    assert set(stage.book.rows) == {"old", "a", "b"}
    assert stage.book.counts()[JobState.FAILED] == 1


def test_a_jobs_own_snapshot_has_its_receipts() -> None:
    """Its attempts that are over."""
    stage = Stage()
    receipt = Receipt(
        job_id="train-7f",
        attempt=1,
        provider_id="rig-1",
        assigned_at=to_timestamp(NOW - 90),
        ended_at=to_timestamp(NOW - 70),
        status="failed",
        running_ms=20_000,
    )
    stage.say(JobSnapshot(job_id="train-7f", job=job(attempt=2), receipts=[receipt]))
    assert stage.book.rows["train-7f"].receipts == (receipt,)
    stage.say(JobSnapshot(job_id="nobody", job=None))
    assert "nobody" not in stage.book.rows


def test_order() -> None:
    """Out of reach, running, assigned, waiting (the first first), and the newest that ended."""
    stage = Stage()
    for name, state, more in (
        ("done", JobState.COMPLETED, {"finished_at": to_timestamp(NOW - 50)}),
        ("failed", JobState.FAILED, {"finished_at": to_timestamp(NOW - 10)}),
        ("new", JobState.QUEUED, {"created_at": to_timestamp(NOW - 1)}),
        ("waits", JobState.QUEUED, {"created_at": to_timestamp(NOW - 9)}),
        ("given", JobState.ASSIGNED, {}),
        ("runs", JobState.RUNNING, {}),
        ("lost", JobState.UNKNOWN, {}),
    ):
        stage.say(JobStateChanged(job=job(name, state, **more)))
    names = [row.job.id for row in stage.book.ordered()]
    assert names == ["lost", "runs", "given", "waits", "new", "failed", "done"]
    assert [row.job.id for row in stage.book.of_provider("rig-1")] == ["runs"]


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.QUEUED])
def test_it_is_bounded_but_forgets_no_job_that_is_not_over(state: JobState) -> None:
    """The oldest that are over go; what waits or runs stays."""
    stage = Stage()
    count = KEPT_JOBS + TRIMMED_AT_ONCE + 10
    for number in range(count):
        one = job(f"j{number}", state, created_at=to_timestamp(NOW + number))
        stage.say(JobCreated(job=one))
    if state is JobState.QUEUED:
        assert len(stage.book.rows) == count
    else:
        assert KEPT_JOBS <= len(stage.book.rows) <= KEPT_JOBS + TRIMMED_AT_ONCE
        assert f"j{count - 1}" in stage.book.rows
        assert "j0" not in stage.book.rows


def test_a_lease_runs_down_and_claims_nothing_when_it_is_over() -> None:
    """While it is out of reach; once that time has passed the hub may have put it off, so nothing is told."""
    stage = Stage()
    stage.say(JobStateChanged(job=job(state=JobState.UNKNOWN, lease_ends_at=to_timestamp(NOW + 30))))
    row = stage.book.rows["train-7f"]
    assert (row.lease_left(NOW), row.lease_left(NOW + 29), row.lease_left(NOW + 30)) == (30, 1, None)
    assert lease_words(row, NOW) == "no word for 0s, given up in 30s"
    assert left_pieces(row, NOW) == [("30s", "warn")]
    stage.say(JobStateChanged(job=job()))
    assert row.lease_left(NOW) is None


def test_progress_of_an_unknown_job_is_left_alone() -> None:
    """Nothing is made of it."""
    stage = Stage()
    stage.progress(5)
    assert stage.book.rows == {}
