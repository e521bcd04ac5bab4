"""The clocks of this machine."""

import time

from qubix_tui.hub.clock import SystemClock


def test_the_system_clock_is_this_machines() -> None:
    """One gives the time of day, the other what the event loop counts with."""
    clock = SystemClock()
    before, started = time.time(), time.monotonic()
    assert before <= clock.time() <= time.time()
    assert started <= clock.monotonic() <= time.monotonic()
