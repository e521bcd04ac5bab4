"""Whether the hub's store is there, as the hub tells it. No Textual in it."""

from qubix_tui.console.event_log import EventLog, Kind
from qubix_tui.console.format import format_duration
from qubix_tui.protocol.events import Event
from qubix_tui.protocol.marketplace import StoreState
from qubix_tui.protocol.types import from_timestamp


class HubStore:
    """The store of the hub that is heard.

    Args:
        event_log: Where it is written down that it went away and came back.
    """

    def __init__(self, event_log: EventLog) -> None:
        self.away_since: float | None = None
        """Hub time, seconds since the epoch; None while it is there, or nothing was said of it."""
        self.reason: str | None = None
        """Why it is away, as the hub says it."""
        self._event_log = event_log
        self._told: StoreState | None = None

    def take(self, event: Event) -> None:
        """Take in one of the hub's messages, if it is about its store. It may say the same more than once."""
        state = event.data
        if not isinstance(state, StoreState):
            return
        before, since = self.away_since, from_timestamp(state.since)
        self.away_since, self.reason = (None, None) if state.up else (since, state.reason)
        if state == self._told:
            return
        self._told = state
        if not state.up:
            why = f": {state.reason}" if state.reason else ""
            self._event_log.tell(Kind.HUB, f"the hub's store is away{why}", "warn", moment=since)
        elif before is not None:
            words = f"the hub's store is back, after {format_duration(since - before)}"
            self._event_log.tell(Kind.HUB, words, "ok", moment=since)

    def forget(self) -> None:
        """Know nothing of it: this is a new connection, and the hub says so if it is away."""
        self.away_since = self.reason = None
