"""The records of jobs: what is asked for, how far it is, what each attempt cost, what it printed."""

from enum import StrEnum
from typing import Any, Literal

import msgspec

from qubix_tui.protocol.types import (
    Amount,
    Count,
    Id,
    JsonObject,
    Name,
    Percent,
    Sentence,
    Timestamp,
    Wire,
)


class JobState(StrEnum):
    """Where a job is. The last three are final."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    UNKNOWN = "unknown"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return self in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}


class Requirements(Wire, frozen=True, kw_only=True):
    """What a job asks of the provider that runs it. What is None does not matter to it."""

    gpu_model: Name | None = None
    min_gpu_mem_mb: Count | None = None
    """MiB."""
    max_price_per_hour: Amount | None = None
    provider_id: Id | None = None
    """This one and no other."""
    simulated: bool = False
    """Only a job that asks for simulated providers is ever matched to one."""


class JobProgress(Wire, frozen=True, kw_only=True):
    """``progress`` of JOB_PROGRESS."""

    progress: Percent | None = None
    """None where the job reports none; no percentage is invented."""
    status: JobState
    message: Sentence | None = None
    source: Literal["reported", "parsed", "none"] = "none"
    """Where ``progress`` is from: the job itself, its output, or nowhere."""
    eta_seconds: Amount | None = None
    elapsed_seconds: Amount | None = None
    cost_micros: Count | None = None
    """So far, in millionths of the hub's currency."""


class Job(Wire, frozen=True, kw_only=True):
    """A job's record."""

    id: Id
    workload: Id
    params: JsonObject = {}
    requires: Requirements = Requirements()
    state: JobState
    attempt: Count = 0
    """Grows by one each time that it is given to a provider; 0 before that."""
    provider_id: Id | None = None
    """Who has it, or had it last."""
    progress: JobProgress | None = None
    created_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    cancel_requested_at: Timestamp | None = None
    lease_ends_at: Timestamp | None = None
    """While it is ``unknown``: when its provider is given up, unless it is heard before (extension). Put off
    where the hub itself was away, or stood still, meanwhile."""
    price_per_hour: Amount | None = None
    """The provider's at the time of the assignment."""
    cost_micros: Count | None = None
    """Millionths of the hub's currency."""
    result: Any = None
    """What the job left, as JSON of at most 32 KiB."""
    reason: Sentence | None = None
    """Why it is in this state, where there is more to say."""
    submitted_by: Name | None = None


class Receipt(Wire, frozen=True, kw_only=True):
    """What one attempt at a job came to (extension). What a job costs is the sum of its receipts."""

    job_id: Id
    attempt: Count
    """From 1."""
    provider_id: Id
    assigned_at: Timestamp
    started_at: Timestamp | None = None
    """When the hub let it start; null for one that never did."""
    ended_at: Timestamp
    status: Literal["completed", "failed", "cancelled"]
    reason: Sentence | None = None
    running_ms: Count
    """Milliseconds that it ran, as the hub saw it, without those in which its agent was out of reach."""
    price_per_hour: Amount | None = None
    cost_micros: Count | None = None
    """Millionths of the hub's currency; null where the price is not known."""


class LogPiece(Wire, frozen=True, kw_only=True):
    """A piece of what an attempt printed, as it is kept (extension)."""

    attempt: Count
    stream: Literal["stdout", "stderr"]
    from_: Count = msgspec.field(name="from")
    """Byte offset of ``text`` in the stream of that attempt."""
    text: str
    """Anything a job may print: to be made harmless where it is shown."""
    dropped: Count = 0
    """Bytes lost to the log limit."""
    timestamp: Timestamp
    """When the hub received it."""
