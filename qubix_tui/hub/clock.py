"""Where the hub's rules get the time from: injected, so that a test can move it."""

import time as clocks
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one to say when something was, one to measure how long it took."""

    def time(self) -> float:
        """Give seconds since the Unix epoch, for timestamps on the wire. It may jump either way."""
        ...

    def monotonic(self) -> float:
        """Give seconds since some fixed point, for every deadline. It never goes back."""
        ...


class SystemClock:
    """The clocks of this machine."""

    # Not methods that call these: each message asks several times.
    time = staticmethod(clocks.time)
    monotonic = staticmethod(clocks.monotonic)
