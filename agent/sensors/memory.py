"""RAM and swap: the machine's, or those of the control group that limits them.

What is in use is what can't be had: the same measure for the amount and the percentage.
"""

from pathlib import Path
from typing import Final, NamedTuple

import psutil

from agent.sensors.cgroup import MemoryLimit

MEMINFO: Final = Path("/proc/meminfo")

_KIB: Final = 1024


class Memory(NamedTuple):
    """Bytes; None where that is not told."""

    used: int | None
    total: int
    swap_used: int | None
    swap_total: int | None


def machine_memory(meminfo: Path = MEMINFO) -> Memory:
    """Give the memory of the machine.

    Args:
        meminfo: Where Linux tells of it (proc_meminfo(5)).
    """
    try:
        told = meminfo.read_bytes()
        total, free = _bytes(told, b"MemTotal:"), _bytes(told, b"MemAvailable:")
        swap_total, swap_free = _bytes(told, b"SwapTotal:"), _bytes(told, b"SwapFree:")
    except (OSError, ValueError):
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        return Memory(max(0, memory.total - memory.available), memory.total, swap.used, swap.total)
    return Memory(max(0, total - free), total, max(0, swap_total - swap_free), swap_total)


def _bytes(told: bytes, name: bytes) -> int:
    """Read one amount, without looking at the other fifty.

    Raises:
        ValueError: It is not there.
    """
    start = told.index(name) + len(name)
    return _KIB * int(told[start : told.index(b"kB", start)])


def group_memory(limit: MemoryLimit, machine: Memory) -> Memory:
    """Give the memory that a control group may have, and has.

    Args:
        limit: The group's.
        machine: What there is in all: a group may be allowed more swap than that.
    """
    use = limit.use()
    swap_total = machine.swap_total
    if limit.swap_total is not None and swap_total is not None:
        swap_total = min(limit.swap_total, swap_total)
    if use is None:
        return Memory(None, limit.total, None, swap_total)
    return Memory(use.used, limit.total, use.swap_used, swap_total)
