"""What the console knows of the one provider that is looked at. No Textual in it."""

from collections import deque
from typing import Final, NamedTuple

import msgspec

from qubix_tui.console.provider_history import ProviderHistory
from qubix_tui.protocol import events
from qubix_tui.protocol.events import Event, MetricsUpdate, StatusChanged
from qubix_tui.protocol.marketplace import ProviderRemoved, ProviderSnapshot, ProviderUpdated
from qubix_tui.protocol.records import Metrics, Provider
from qubix_tui.protocol.types import from_timestamp

MAX_JOB_MARKS: Final = 64

MAX_KEPT: Final = 4
"""Providers whose history is kept: an hour of one with 16 GPUs takes 2 MB."""


class JobMark(NamedTuple):
    """A job began or ended on the provider."""

    moment: float
    """Hub time, seconds since the epoch."""
    job_id: str
    ended: bool


class WatchedProvider:
    """One provider, put together from the hub's messages: its record, newest sample, history and jobs.

    Args:
        provider_id: Whom it follows.
        record: What is known already (from the fleet), until the hub says it itself.
        reason: Why it is in the state that ``record`` tells, if known.
    """

    def __init__(self, provider_id: str, record: Provider | None = None, reason: str | None = None) -> None:
        self.provider_id = provider_id
        self.record = record
        self.reason = reason
        self.metrics: Metrics | None = None
        self.metrics_at: float | None = None
        """When the hub received the newest sample, hub time."""
        self.history = ProviderHistory()
        self.job_marks: deque[JobMark] = deque(maxlen=MAX_JOB_MARKS)
        self.is_answered = False
        """Whether the hub has told all it knows of it: without a record after that, it knows none."""
        self.is_removed = False

    def take(self, event: Event) -> bool:
        """Take in one of the hub's messages, whatever it is about; True where it says something new."""
        match event.data:
            case MetricsUpdate(provider_id=self.provider_id) as update:
                return self._take_metrics(update.metrics, from_timestamp(update.timestamp))
            case StatusChanged(provider_id=self.provider_id) as change:
                return self._take_status(change)
            case ProviderSnapshot(provider_id=self.provider_id) as page:
                return self._take_snapshot(page)
            case ProviderUpdated(provider=record) if record.id == self.provider_id:
                return self._take_record(record)
            case Provider(id=self.provider_id) as record if event.type == events.PROVIDER_REGISTERED:
                return self._take_record(record)
            case ProviderRemoved(provider_id=self.provider_id):
                self.is_removed = True
                return True
        return False

    def _take_metrics(self, metrics: Metrics, moment: float) -> bool:
        if not self.history.record(moment, metrics):
            return False
        self.metrics, self.metrics_at = metrics, moment
        return True

    def _take_snapshot(self, page: ProviderSnapshot) -> bool:
        if page.page == 1 and page.provider is not None:
            self._take_record(page.provider)
        if page.page == 1 and page.provider is None:
            self.record = None
        self.history.fill(page.history)
        if page.metrics is not None and page.metrics_timestamp is not None:
            self._take_metrics(page.metrics, from_timestamp(page.metrics_timestamp))
        if page.page == page.pages:
            self.is_answered = True
        return True

    def _take_record(self, record: Provider) -> bool:
        if self.record is None or self.record.state is not record.state:
            self.reason = None
        self.record = record
        self.is_removed = False
        return True

    def _take_status(self, change: StatusChanged) -> bool:
        record, status = self.record, change.status
        if record is None:
            return False
        if status.current_job_id != record.current_job_id:
            moment = from_timestamp(change.timestamp)
            if record.current_job_id is not None:
                self.job_marks.append(JobMark(moment, record.current_job_id, ended=True))
            if status.current_job_id is not None:
                self.job_marks.append(JobMark(moment, status.current_job_id, ended=False))
        self.reason = status.reason
        self.record = msgspec.structs.replace(
            record,
            state=status.state,
            is_online=status.is_online,
            is_available=status.is_available,
            current_job_id=status.current_job_id,
            last_heartbeat=status.last_heartbeat,
        )
        return True


class WatchedProviders:
    """The providers that were looked at last, with what was seen of them: who comes back finds it again."""

    def __init__(self) -> None:
        self._kept: dict[str, WatchedProvider] = {}

    def watch(self, provider_id: str, record: Provider | None, reason: str | None) -> WatchedProvider:
        """Give a provider to follow from now on, with what is known of it from before.

        Args:
            provider_id: Whom.
            record: What is known already (from the fleet), until the hub says it itself.
            reason: Why it is in the state that ``record`` tells, if known.
        """
        watched = self._kept.pop(provider_id, None)
        if watched is None:
            watched = WatchedProvider(provider_id)
        watched.record, watched.reason = record, reason
        watched.is_answered = watched.is_removed = False
        self._kept[provider_id] = watched
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        return watched
