"""Brings what the hub says before the alert rules, and keeps what is to be announced. No Textual in it."""

from collections.abc import Iterable

from qubix_tui.console.alerts import Alert, Alerts
from qubix_tui.console.event_log import EventLog, Kind
from qubix_tui.console.fleet import Fleet
from qubix_tui.protocol import channels, events
from qubix_tui.protocol.events import Event, StatusChanged
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot, JobStateChanged, ProviderRemoved
from qubix_tui.protocol.records import Provider


class AlertDesk:
    """Watches the fleet for what the rules are about.

    It is to see each message after the fleet did, and looks at the providers in it alone.

    Args:
        alerts: The rules, and what they found.
        fleet: Where the providers are.
        log: Gets each alert as an event.
    """

    def __init__(self, alerts: Alerts, fleet: Fleet, log: EventLog) -> None:
        self.alerts = alerts
        self._fleet = fleet
        self._log = log
        self._fresh: list[Alert] = []

    def take(self, event: Event) -> None:
        """Take in one of the hub's messages."""
        now = self._fleet.now()
        match event.data:
            case FleetDigest(providers=headlines):
                self._look((headline.provider_id for headline in headlines), now)
            case StatusChanged(provider_id=provider_id):
                self._look([provider_id], now)
            case FleetSnapshot(page=page, pages=pages) if page == pages:
                self._look(self._fleet.rows, now)
            case Provider(id=provider_id) if event.type == events.PROVIDER_REGISTERED:
                self._look([provider_id], now)
            case ProviderRemoved(provider_id=provider_id):
                self.alerts.forget(provider_id, now)
            case JobStateChanged(job=job) if event.channel in {None, channels.MARKETPLACE}:
                self._note(self.alerts.look_at_job(job, now))

    @property
    def has_fresh(self) -> bool:
        """Whether anything was found since `take_fresh` was called."""
        return bool(self._fresh)

    def take_fresh(self) -> list[Alert]:
        """Give what was found since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def _look(self, provider_ids: Iterable[str], now: float) -> None:
        rows, look = self._fleet.rows, self.alerts.look
        for provider_id in provider_ids:
            row = rows.get(provider_id)
            if row is not None:
                found = look(row, now)
                if found:
                    self._note(found)

    def _note(self, alerts: list[Alert]) -> None:
        self._fresh += alerts
        for alert in alerts:
            self._log.tell(
                Kind.ALERT,
                f"{alert.rule}: {alert.text}",
                alert.style,
                moment=alert.moment,
                provider_id=alert.provider_id,
                job_id=alert.job_id,
            )
