"""The ends that are not keys: the terminal is closed, or somebody asks the process to end."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress


def end_on_signals(end: Callable[[], object]) -> None:
    """End in order when the terminal is closed or somebody asks the process to end.

    Args:
        end: What ends the console; the running loop calls it.
    """
    if sys.platform == "win32":
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Only the main thread may: a console in a test may run elsewhere.
        with suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, end)
