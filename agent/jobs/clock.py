"""The clock that leases are counted on, and the boot that its readings belong to."""

import time
from pathlib import Path
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boottime() -> float:
    """Seconds since this machine was started, those that it slept through too."""
    return time.clock_gettime(_CLOCK)


def boot_id() -> str:
    """What tells this boot from any other; empty where the system does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
