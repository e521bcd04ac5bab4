"""The life of a job, as one table: what each input makes of each state.

::

    queued → assigned → running ⇄ unknown
       ↑         └─────────┴─────────┴──→ queued (another attempt), completed, failed or cancelled
       └──────────────────────────────────┘

A pair that is not in the table changes nothing: what comes late, twice, or never could come, is passed over.
The final states have no row at all, so nothing follows on them and the first one that is committed stands.
"""

from enum import Enum, StrEnum
from typing import Final

import msgspec

from qubix_tui.protocol.job_records import JobState


class Input(StrEnum):
    """What can happen to a job."""

    ASSIGN = "assign"
    """It was matched: a provider is asked to take it."""
    ACCEPT = "accept"
    """The provider takes it, and may start it."""
    REFUSE = "refuse"
    """The provider does not take it."""
    ACCEPT_TIMEOUT = "accept_timeout"
    """The provider did not answer in time."""
    HEARD = "heard"
    """Its agent is there and holds it: it renewed the lease, reported something, or registered with it."""
    OUT_OF_REACH = "out_of_reach"
    """Its agent is not there, or no longer says that it holds it."""
    COMPLETED = "completed"
    """The agent reports that it ended well."""
    FAILED = "failed"
    """The agent reports that it ended badly."""
    STOPPED = "stopped"
    """The agent reports that it was ended, and is gone."""
    UNKILLABLE = "unkillable"
    """The agent reports that it can't be ended."""
    LEASE_OVER = "lease_over"
    """Nobody renewed the lease: what was running has ended by itself."""
    OVERTIME = "overtime"
    """It runs longer than it may, and its agent has not ended it."""
    CANCEL = "cancel"
    """Somebody wants it ended."""


class Ending(Enum):
    """How an attempt ends, where the next state depends on more than the input."""

    FAILURE = "failure"
    """Back into the queue where it may be tried again, else failed."""
    END = "end"
    """Cancelled where somebody wanted that, else a failure like others."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a transition depends on beside state and input.

    Attributes:
        cancelled: Somebody cancelled the job; it may still run.
        may_retry: Another attempt is left, and could go better.
    """

    cancelled: bool
    may_retry: bool


_THERE: Final[dict[Input, JobState | Ending]] = {
    Input.ACCEPT: JobState.RUNNING,
    Input.HEARD: JobState.RUNNING,
    Input.OUT_OF_REACH: JobState.UNKNOWN,
    Input.COMPLETED: JobState.COMPLETED,
    Input.FAILED: Ending.FAILURE,
    Input.STOPPED: Ending.END,
    Input.UNKILLABLE: JobState.FAILED,
    Input.LEASE_OVER: Ending.END,
}
"""What makes the same of a job whether its agent was in reach or not."""

TABLE: Final[dict[JobState, dict[Input, JobState | Ending]]] = {
    JobState.QUEUED: {
        Input.ASSIGN: JobState.ASSIGNED,
        Input.CANCEL: JobState.CANCELLED,
    },
    JobState.ASSIGNED: {
        Input.ACCEPT: JobState.RUNNING,
        Input.REFUSE: Ending.FAILURE,
        Input.ACCEPT_TIMEOUT: Ending.FAILURE,
        # Nothing has started, and without job:start nothing will.
        Input.CANCEL: JobState.CANCELLED,
    },
    JobState.RUNNING: {
        **_THERE,
        Input.OVERTIME: JobState.RUNNING,
        Input.CANCEL: JobState.RUNNING,
    },
    JobState.UNKNOWN: {
        **_THERE,
        Input.CANCEL: JobState.UNKNOWN,
    },
    JobState.COMPLETED: {},
    JobState.FAILED: {},
    JobState.CANCELLED: {},
}


def step(state: JobState, given: Input, facts: Facts) -> JobState | None:
    """Give the state that follows, which may be the same; None where the input means nothing in this one."""
    then = TABLE[state].get(given)
    if then is None or isinstance(then, JobState):
        return then
    if facts.cancelled:
        return JobState.CANCELLED if then is Ending.END else JobState.FAILED
    return JobState.QUEUED if facts.may_retry else JobState.FAILED
