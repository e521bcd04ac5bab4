"""Second agents with the identity of one that is connected: a disk that was cloned, most often.

Each is refused and comes back each minute. That it is there is told once, and taken back when it is gone.
"""

from typing import Final

from qubix_tui.hub.clock import Clock

GONE_SECONDS: Final = 150.0
"""One that did not try again for so long is gone: an agent that was refused comes back after 60 s."""

REASON: Final = (
    "duplicate identity: a second agent with this workerId was refused; "
    "if a disk was copied, remove agent/worker-id on the copy and enroll it anew"
)


class Duplicates:
    """Which providers have a duplicate.

    Args:
        clock: What `GONE_SECONDS` is measured with.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, float] = {}

    def seen(self, provider_id: str) -> bool:
        """Note that one was refused; True where that is news."""
        is_news = provider_id not in self._seen
        self._seen[provider_id] = self._clock.monotonic()
        return is_news

    def take_gone(self) -> list[str]:
        """Give, once, the providers whose duplicate is gone."""
        long_ago = self._clock.monotonic() - GONE_SECONDS
        gone = [provider_id for provider_id, seen in self._seen.items() if seen <= long_ago]
        for provider_id in gone:
            del self._seen[provider_id]
        return gone
