"""All that the console knows of a hub, put down in the order in which the hub says it. No Textual in it."""

from collections.abc import Sequence

from qubix_tui.client import Connection
from qubix_tui.console.alert_desk import AlertDesk
from qubix_tui.console.alerts import Alerts, Rule
from qubix_tui.console.event_log import EventLog, Kind
from qubix_tui.console.fleet import Fleet
from qubix_tui.console.hub_store import HubStore
from qubix_tui.console.job_book import JobBook
from qubix_tui.console.watched_provider import WatchedProviders
from qubix_tui.protocol import channels
from qubix_tui.protocol.events import Event


class Books:
    """The fleet, the jobs, what happened, and what is worth an alert.

    Args:
        connection: Where it comes from; nothing is asked of it before `open`.
        rules: What somebody wants to be alerted to.
    """

    def __init__(self, connection: Connection, rules: Sequence[Rule]) -> None:
        self._connection = connection
        self.fleet = Fleet(connection.hub_time)
        self.event_log = EventLog(self.fleet)
        self.alerts = Alerts(rules)
        self.alert_desk = AlertDesk(self.alerts, self.fleet, self.event_log)
        self.jobs = JobBook(connection.hub_time)
        self.watched = WatchedProviders()
        self.store = HubStore(self.event_log)
        self._asks_for_jobs = False

    def open(self) -> None:
        """Begin to write down what the hub says."""
        self._connection.on("*", self._take)
        self._connection.on_gap(self._on_gap)
        self.need_jobs()

    def need_jobs(self) -> None:
        """Ask for the jobs that there are, once; what comes after that is heard on the marketplace.

        Not for good: the channel of all jobs has the progress of each, which nobody looks at.
        """
        if not self.jobs.is_loaded and not self._asks_for_jobs:
            self._asks_for_jobs = True
            self._connection.subscribe(channels.ALL_JOBS, snapshot=True, recover=False)

    def _take(self, event: Event) -> None:
        # The log first: a change is one from what the fleet knows still.
        self.event_log.take(event)
        self.store.take(event)
        self.fleet.take(event)
        self.alert_desk.take(event)
        self.jobs.take(event)
        if self._asks_for_jobs and self.jobs.is_loaded:
            self._asks_for_jobs = False
            self._connection.unsubscribe(channels.ALL_JOBS)

    def _on_gap(self, channel: str) -> None:
        self.jobs.is_loaded = False
        self.need_jobs()
        self.event_log.tell(Kind.HUB, f"what happened on {channel} meanwhile is not known", "warn")
