"""Gaps in what the hub remembers of its providers: since when samples lack, and who sees the late ones."""

from typing import Final

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.history import STEP_SECONDS, History
from qubix_tui.hub.peers import Peers, show_past
from qubix_tui.hub.registry import Registry

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
        peers: Other hubs: what they remember, and who watches there.
    """

    def __init__(
        self, clock: Clock, registry: Registry, history: History, fanout: Fanout, peers: Peers
    ) -> None:
        self._clock = clock
        self._registry = registry
        self._history = history
        self._fanout = fanout
        self._peers = peers
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

    def missing_since(self, provider_id: str, holder: str | None) -> float | None:
        """Give how many seconds ago the last sample came in time; None where nobody has it any more.

        Args:
            provider_id: Whose.
            holder: The hub that had this provider until now, where that can be asked for what it remembers.
        """
        entry = self._registry.get(provider_id)
        if entry is None or entry.sample == 0 or entry.told_by not in {None, holder}:
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

    async def fetch(self, provider_id: str, holder: str) -> bool:
        """Fill a gap with what another hub remembers; False where that can't be had."""
        past = await self._peers.ask(holder, provider_id)
        if past is None:
            return False
        self._history.fill(provider_id, past.points)
        self.filled(provider_id)
        return True

    def show(self) -> None:
        """Send the past of providers whose gap was filled to who watches them, here and elsewhere."""
        long_ago = self._clock.monotonic() - SHOWN_SECONDS
        for provider_id in [known for known, at in self._filled.items() if at <= long_ago]:
            del self._filled[provider_id]
            entry = self._registry.get(provider_id)
            if entry is not None and self._fanout.is_heard(entry.channel):
                show_past(self._fanout, entry, self._peers.recall(provider_id))
            self._peers.filled(provider_id)
