"""The processor: use over all cores and of each, and the clock that it runs at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from agent.sensors.cgroup import CpuQuota

CPUFREQ: Final = Path("/sys/devices/system/cpu/cpufreq")
CPUINFO: Final = Path("/proc/cpuinfo")

FREQUENCY_SECONDS: Final = 5.0
"""How often the clock is read: with many cores that takes longer than all else."""


class CpuUse(NamedTuple):
    """Percent since the last reading; None at first, and where no time passed."""

    total: float | None
    cores: list[float] | None


class CpuMeter:
    """CPU use of the machine since the last reading."""

    def __init__(self) -> None:
        self._last: list[tuple[float, float]] = []

    def read(self) -> CpuUse:
        """Give the use of all cores together, and of each."""
        cores = [_spent(times) for times in psutil.cpu_times(percpu=True)]
        last, self._last = self._last, cores
        if len(last) != len(cores):
            # At first, and where a core was taken away or came.
            return CpuUse(None, None)
        steps = [_step(before, after) for before, after in zip(last, cores, strict=True)]
        elapsed, busy = sum(step[0] for step in steps), sum(step[1] for step in steps)
        if elapsed <= 0:
            return CpuUse(None, None)
        # One core's clock may stand while it sleeps: then it did nothing.
        return CpuUse(100 * busy / elapsed, [100 * each[1] / each[0] if each[0] else 0.0 for each in steps])


def _spent(times: Sequence[float]) -> tuple[float, float]:
    """Give all time of a core, and that in which it had nothing to do."""
    # Linux counts the time of virtual machines within `user` and `nice` too.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle: float = times.idle + getattr(times, "iowait", 0.0)  # type: ignore[attr-defined]
    return total, idle


def _step(before: tuple[float, float], after: tuple[float, float]) -> tuple[float, float]:
    """Give the time that passed on a core, and that in which it was busy."""
    elapsed = max(0.0, after[0] - before[0])
    # `iowait` may go back a little, and seconds are rounded: neither is work done, or undone.
    rested = min(max(after[1] - before[1], 0.0), elapsed)
    return elapsed, elapsed - rested


class QuotaMeter:
    """CPU use of a control group since the last reading, as a share of what it may use."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None

    def read(self, quota: CpuQuota, now: float) -> float | None:
        """Give percent of the quota; None at first, where the quota changed, and where nothing is told.

        Args:
            quota: What the group may use.
            now: Monotonic seconds.
        """
        used = quota.used_seconds()
        last, self._last = self._last, None if used is None else (now, used, quota.cores)
        if last is None or used is None or last[2] != quota.cores or now <= last[0] or used < last[1]:
            return None
        return 100 * (used - last[1]) / (now - last[0]) / quota.cores


class CpuFrequency:
    """The clock of the cores.

    Args:
        cpufreq: Where the kernel lists the policies of its cores.
        cpuinfo: Where it tells the clock of machines that have none (virtual ones).
    """

    def __init__(self, cpufreq: Path = CPUFREQ, cpuinfo: Path = CPUINFO) -> None:
        self._files = sorted(cpufreq.glob("policy*/scaling_cur_freq"))
        self._cpuinfo = cpuinfo
        self._read_at: float | None = None
        self._mhz: int | None = None

    def read(self, now: float) -> int | None:
        """Give MHz, the mean over the cores; None where the machine does not tell.

        Args:
            now: Monotonic seconds.
        """
        if self._read_at is None or now - self._read_at >= FREQUENCY_SECONDS:
            self._read_at = now
            told = self._policies() if self._files else self._cores()
            self._mhz = round(sum(told) / len(told)) if told else None
        return self._mhz

    def _policies(self) -> list[float]:
        try:
            return [int(file.read_bytes()) / 1000 for file in self._files]
        except (OSError, ValueError):
            # A policy goes with its last core, and the driver may refuse to tell.
            return []

    def _cores(self) -> list[float]:
        try:
            lines = self._cpuinfo.read_text(errors="replace").splitlines()
            return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
        except (OSError, ValueError):
            return []
