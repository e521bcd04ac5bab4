"""Gaps in what the hub remembers of its providers: since when samples lack, and who sees the late ones."""

from typing import Final

from qubix_tui.hub import snapshots
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.history import STEP_SECONDS, History
from qubix_tui.hub.provider_state import Entry
from qubix_tui.hub.registry import Registry
from qubix_tui.hub.snapshots import Past
from qubix_tui.protocol import events

SHOWN_SECONDS: Final = 2.0
"""So long after a provider's last late sample its past is sent to those who watch it."""

AFTERMATH_SECONDS: Final = 60.0
"""An agent whose connection did not outlast a stall of the hub is back within this."""

LEAST_GAP_SECONDS: Final = float(STEP_SECONDS)
"""A hub that was held up for less has every step of history all the same."""


class Backfill:
    """What is missing, and what was filled.

    Args:
        clock: Hub time.
        registry: The providers.
        history: Their past.
        fanout: Who watches them.
    """

    def __init__(self, clock: Clock, registry: Registry, history: History, fanout: Fanout) -> None:
        self._clock = clock
        self._registry = registry
        self._history = history
        self._fanout = fanout
        self._filled: dict[str, float] = {}
        self._stall: tuple[float, float] | None = None

    def held_up(self, seconds: float) -> bool:
        """Note that the hub itself stood still until now; True where that makes a gap.

        What was sent meanwhile is read now, all at once, and counts as of now.
        """
        if seconds < LEAST_GAP_SECONDS:
            return False
        now = self._clock.time()
        self._stall = now - seconds, now
        return True

    def missing_since(self, provider_id: str) -> float | None:
        """Give how many seconds ago the hub last had a sample in time; None where it knows of none."""
        entry = self._registry.get(provider_id)
        if entry is None or entry.sample == 0:
            return None
        # By the same clock that history goes by. Set back meanwhile, it tells nothing.
        now = self._clock.time()
        if entry.metrics_at > now:
            return None
        since = entry.metrics_at
        if self._stall is not None and self._stall[0] <= since and now - self._stall[1] < AFTERMATH_SECONDS:
            # What came after the stall may have been sent within it.
            since = self._stall[0]
        return round(now - since, 3)

    def filled(self, provider_id: str) -> None:
        """Note a late sample."""
        self._filled[provider_id] = self._clock.monotonic()

    def show(self) -> list[str]:
        """Send the past of providers whose gap was filled: who watched before has not seen it.

        Returns:
            The ids of these providers: who watches them at another hub has not, either.
        """
        long_ago = self._clock.monotonic() - SHOWN_SECONDS
        due = [known for known, at in self._filled.items() if at <= long_ago]
        for provider_id in due:
            del self._filled[provider_id]
            entry = self._registry.get(provider_id)
            if entry is not None and self._fanout.is_heard(entry.channel):
                past = Past(last=entry.last_sample(), points=self._history.points(provider_id))
                show_past(self._fanout, entry, past)
        return due


def show_past(fanout: Fanout, entry: Entry, past: Past) -> None:
    """Send what is remembered of a provider to those who watch it."""
    for frame in snapshots.provider(entry.id, entry, past):
        fanout.publish(events.MARKETPLACE_UPDATE, entry.channel, frame)
