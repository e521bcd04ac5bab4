"""The hub's clock, estimated from the timestamps in its messages. No sockets; the caller gives the times."""

from collections import deque
from typing import Final, NamedTuple

KEPT: Final = 8
"""How many estimates are compared; at one ping every 30 s that is four minutes."""

SLACK_SECONDS: Final = 0.005
"""Timestamps have milliseconds, and both ends take a moment to write and read them."""


class _Estimate(NamedTuple):
    difference: float
    """Hub's wall clock minus our monotonic clock, seconds."""
    error: float
    """It can't be off by more than this."""


class HubClock:
    """Tells the hub's wall clock from ours.

    It counts on our monotonic clock, so that a step of the local wall clock moves nothing. Of the last few
    estimates the one with the shortest round trip counts. One that contradicts it means that a clock stepped
    (the hub's was set, or this machine slept): everything older is forgotten.
    """

    def __init__(self) -> None:
        self._estimates: deque[_Estimate] = deque(maxlen=KEPT)

    def observe(self, hub_time: float, sent: float, received: float) -> None:
        """Take note of a timestamp.

        Args:
            hub_time: What the hub's clock said, seconds since the epoch.
            sent: Monotonic time when the message was sent that it answers.
            received: Monotonic time when it came.
        """
        half = max(0.0, received - sent) / 2
        new = _Estimate(hub_time - (sent + half), half)
        best = self._best()
        if (
            best is not None
            and abs(new.difference - best.difference) > new.error + best.error + SLACK_SECONDS
        ):
            self._estimates.clear()
        self._estimates.append(new)

    def reset(self) -> None:
        """Forget everything: the next connection may lead to another machine."""
        self._estimates.clear()

    def time(self, monotonic: float) -> float | None:
        """Give the hub's clock at a moment of our monotonic clock, None before the first timestamp."""
        best = self._best()
        return None if best is None else monotonic + best.difference

    def _best(self) -> _Estimate | None:
        return min(self._estimates, key=lambda estimate: estimate.error, default=None)
