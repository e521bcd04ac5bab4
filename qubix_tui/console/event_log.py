"""Everything that happened, as far as the console heard of it: bounded, in words. No Textual in it."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from qubix_tui.console.fleet import Fleet
from qubix_tui.console.format import UNKNOWN, format_money, safe
from qubix_tui.protocol import channels, events
from qubix_tui.protocol.events import Event, StatusChanged
from qubix_tui.protocol.job_records import Job, JobState
from qubix_tui.protocol.marketplace import JobCreated, JobStateChanged, ProviderRemoved, ProviderUpdated
from qubix_tui.protocol.records import Provider, ProviderState
from qubix_tui.protocol.types import from_timestamp

KEPT_ENTRIES: Final = 10_000
TRIMMED_AT_ONCE: Final = 500
"""So many beyond the bound are let go together: taking one off the front moves all others."""


class Kind(StrEnum):
    """What an entry is about."""

    STATE = "state"
    """A provider came, went, or is free or busy now."""
    PROVIDER = "provider"
    """A provider registered, changed its record, or was removed."""
    JOB = "job"
    ALERT = "alert"
    HUB = "hub"
    """The connection to the hub, and what the console itself has to say."""


class Entry(NamedTuple):
    """One thing that happened."""

    number: int
    """Grows by one; never used twice."""
    moment: float
    """Hub time, seconds since the epoch."""
    kind: Kind
    text: str
    """Harmless to show."""
    style: str = "value"
    provider_id: str | None = None
    job_id: str | None = None
    name: str = ""
    """What people call the provider; empty without one."""


_STATE_STYLES: Final = {
    ProviderState.UNREACHABLE: "warn",
    ProviderState.OFFLINE: "warn",
    ProviderState.AVAILABLE: "ok",
    ProviderState.BUSY: "busy",
}

_JOB_STYLES: Final = {
    JobState.RUNNING: "busy",
    JobState.UNKNOWN: "warn",
    JobState.COMPLETED: "ok",
    JobState.FAILED: "hot",
}


class EventLog:
    """What happened, oldest first.

    It is to see each message before the fleet does: a change is one from what the fleet knows still.

    Args:
        fleet: Whose providers' names and states it tells.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._entries: list[Entry] = []
        self.count = 0
        """How many there ever were."""

    @property
    def entries(self) -> list[Entry]:
        """Those that are kept, oldest first; not to be changed."""
        return self._entries

    def since(self, count: int) -> list[Entry]:
        """Give the entries that came after there had been ``count``; fewer where some are not kept."""
        missed = self.count - count
        return self._entries[-missed:] if missed > 0 else []

    def newest(self, most: int) -> list[Entry]:
        """Give at most so many, newest first."""
        return self._entries[: -most - 1 : -1]

    def tell(
        self,
        kind: Kind,
        text: str,
        style: str = "value",
        *,
        moment: float | None = None,
        provider_id: str | None = None,
        job_id: str | None = None,
    ) -> Entry:
        """Add an entry, and give it.

        Args:
            kind: What it is about.
            text: In words; made harmless here.
            style: How that is.
            moment: Hub time, now by default.
            provider_id: Whom it is about.
            job_id: Which job it is about.
        """
        self.count += 1
        entry = Entry(
            number=self.count,
            moment=self._fleet.now() if moment is None else moment,
            kind=kind,
            text=safe(text),
            style=style,
            provider_id=provider_id,
            job_id=job_id,
            name=safe(self._name(provider_id)) if provider_id is not None else "",
        )
        self._entries.append(entry)
        if len(self._entries) > KEPT_ENTRIES + TRIMMED_AT_ONCE:
            del self._entries[:TRIMMED_AT_ONCE]
        return entry

    def take(self, event: Event) -> None:
        """Take in one of the hub's messages, if it is about something that happened to the marketplace."""
        # A provider's status goes to its own channel, too.
        if event.channel not in {None, channels.MARKETPLACE}:
            return
        match event.data:
            case StatusChanged() as change:
                self._take_status(change)
            case JobCreated(job=job):
                self._take_job(job)
            case JobStateChanged(job=job):
                self._take_job(job)
            case ProviderUpdated(provider=provider):
                self._about(provider.id, Kind.PROVIDER, "changed its record", "stale")
            case ProviderRemoved(provider_id=provider_id):
                self._about(provider_id, Kind.PROVIDER, "removed", "stale")
            case Provider() as provider if event.type == events.PROVIDER_REGISTERED:
                # The fleet learns its name only now.
                text = f"{provider.name or provider.id} registered"
                moment = from_timestamp(provider.registered_at)
                self.tell(Kind.PROVIDER, text, "ok", moment=moment, provider_id=provider.id)

    def _take_status(self, change: StatusChanged) -> None:
        row, status = self._fleet.rows.get(change.provider_id), change.status
        if row is None:
            return
        if status.state is row.record.state:
            if status.reason is not None and status.reason != row.reason:
                # It goes on as it was, and there is something to look into.
                moment = from_timestamp(change.timestamp)
                self._about(change.provider_id, Kind.STATE, f"— {status.reason}", "warn", moment=moment)
            return
        why = f" ({status.reason})" if status.reason else ""
        held = row.record.current_job_id
        if held is not None and not status.is_online:
            why += f", while it had {held}"
        self._about(
            change.provider_id,
            Kind.STATE,
            f"{status.state}{why}",
            _STATE_STYLES.get(status.state, "value"),
            moment=from_timestamp(change.timestamp),
            job_id=status.current_job_id or (held if not status.is_online else None),
        )

    def _take_job(self, job: Job) -> None:
        self.tell(
            Kind.JOB,
            f"job {job.id} {job_words(job, self._name)}",
            _JOB_STYLES.get(job.state, "value"),
            provider_id=job.provider_id,
            job_id=job.id,
        )

    def _about(
        self,
        provider_id: str,
        kind: Kind,
        text: str,
        style: str,
        *,
        moment: float | None = None,
        job_id: str | None = None,
    ) -> None:
        self.tell(
            kind,
            f"{self._name(provider_id)} {text}",
            style,
            moment=moment,
            provider_id=provider_id,
            job_id=job_id,
        )

    def _name(self, provider_id: str) -> str:
        row = self._fleet.rows.get(provider_id)
        return row.name if row is not None else provider_id


def job_words(job: Job, name: Callable[[str], str]) -> str:
    """Say in words where a job is.

    Args:
        job: Which.
        name: Gives what people call a provider.
    """
    who = UNKNOWN if job.provider_id is None else name(job.provider_id)
    again = f", attempt {job.attempt}" if job.attempt > 1 else ""
    why = f": {job.reason}" if job.reason else ""
    match job.state:
        case JobState.QUEUED if job.attempt:
            return f"waits for another attempt{why}"
        case JobState.QUEUED:
            by = f" by {job.submitted_by}" if job.submitted_by else ""
            return f"({job.workload}) submitted{by}"
        case JobState.ASSIGNED:
            return f"assigned to {who}{again}"
        case JobState.RUNNING:
            return f"runs on {who}{again}"
        case JobState.UNKNOWN:
            return f"is out of reach on {who}{again}"
        case JobState.COMPLETED:
            cost = "" if job.cost_micros is None else f", {format_money(job.cost_micros)}"
            return f"completed on {who}{cost}"
        case _:
            place = "" if job.provider_id is None else f" on {who}"
            return f"{job.state}{place}{why}"
