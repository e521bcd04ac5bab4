"""Why a job, or an attempt at it, ended: the words that ``reason`` begins with.

A reason is one of these words, or a word with more to say after a colon: ``exit_code: 3``,
``refused: this workload is not offered any more``.
"""

from enum import StrEnum
from typing import Final

from qubix_tui.protocol.types import MAX_SENTENCE


class JobReason(StrEnum):
    """The first word of a job's ``reason``. A job that completed has none."""

    EXIT_CODE = "exit_code"
    """Its program ended with an exit code other than 0, which follows, or by a signal."""
    TIMEOUT = "timeout"
    """It ran for as long as it may."""
    NO_PROGRESS = "no_progress"
    """It reported no progress for as long as its workload allows."""
    LIMIT = "limit"
    """It went over a limit of its workload: memory, disk, processes."""
    NOT_STARTED = "not_started"
    """Its program could not be started: it is missing, or its sandbox failed."""
    LOST = "lost"
    """Its provider was out of reach until the lease was over."""
    LEASE_EXPIRED = "lease_expired"
    """The lease was over before the provider was heard again; what it ran has ended by then."""
    CANCELLED_BY = "cancelled_by"
    """Somebody cancelled it, whose name follows."""
    REFUSED = "refused"
    """The provider did not take it."""
    ACCEPT_TIMEOUT = "accept_timeout"
    """The provider did not answer in time."""
    AGENT_RESTARTED = "agent_restarted"
    """Its provider's machine was restarted, or what looked after it there was killed."""
    UNKILLABLE = "unkillable"
    """It was still there 30 s after SIGKILL. The provider is paused."""

    @property
    def allows_retry(self) -> bool:
        """Whether another attempt may go better."""
        return self not in _FINAL


_FINAL: Final = {JobReason.TIMEOUT, JobReason.CANCELLED_BY, JobReason.UNKILLABLE}


def reason_word(reason: str | None) -> JobReason | None:
    """Give the word that a reason begins with; None for no reason, and for one that begins otherwise."""
    word = (reason or "").partition(":")[0].strip()
    return JobReason(word) if word in JobReason.__members__.values() else None


def with_detail(word: JobReason, detail: str | None) -> str:
    """Put a reason together, of a length that ``reason`` may have."""
    return f"{word.value}: {detail}"[:MAX_SENTENCE] if detail else word.value
