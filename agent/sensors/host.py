"""The machine itself: CPU, memory, temperature, network, disk, uptime, within the limits that hold for it."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from agent.sensors.base import MIB, Monotonic, PercentGuard
from agent.sensors.cgroup import ControlGroup, Limits
from agent.sensors.cpu import CpuFrequency, CpuMeter, QuotaMeter
from agent.sensors.cpu_temperature import CpuTemperature
from agent.sensors.disk import DiskMeter
from agent.sensors.memory import group_memory, machine_memory
from agent.sensors.network import NetworkMeter
from qubix_tui.protocol.records import MAX_CORES, Limit


class HostReading(NamedTuple):
    """One reading of the machine; memory and space in MiB, None where it does not tell."""

    cpu_percent: float | None
    ram_percent: float | None
    ram_used_mb: int | None
    ram_total_mb: int
    cpu_temp: float | None
    load1: float | None
    net_rx_bytes_per_sec: float | None
    net_tx_bytes_per_sec: float | None
    disk_percent: float | None
    uptime_seconds: float
    cpu_core_percents: list[int] | None = None
    cpu_mhz: int | None = None
    swap_used_mb: int | None = None
    swap_total_mb: int | None = None
    disk_used_mb: int | None = None
    disk_total_mb: int | None = None
    disk_read_bytes_per_sec: float | None = None
    disk_write_bytes_per_sec: float | None = None
    limit: Limit | None = None


class HostSensor:
    """Reads the machine. CPU use and rates are over the time since the last reading.

    Args:
        directory: The disk that the reading speaks of is the one this lies on.
        monotonic: The clock that intervals are measured with.
        group: The control group that this process is in.
        temperature: Whether the CPU's temperature is looked at.
    """

    def __init__(
        self,
        directory: Path,
        *,
        monotonic: Monotonic = time.monotonic,
        group: ControlGroup | None = None,
        temperature: bool = True,
    ) -> None:
        self._monotonic = monotonic
        self._group = group or ControlGroup()
        self._percent = PercentGuard()
        self._temperature = CpuTemperature() if temperature else None
        self._frequency = CpuFrequency()
        self._cpu = CpuMeter()
        self._quota = QuotaMeter()
        self._network = NetworkMeter()
        self._disk = DiskMeter(directory)

    def read(self) -> HostReading:
        """Read everything once."""
        now = self._monotonic()
        memory = machine_memory()
        limits = effective(self._group.limits(now), memory.total)
        if limits.memory is not None:
            memory = group_memory(limits.memory, memory)
        busy, cores = self._cpu_use(limits)
        rx, tx = self._network.read(self._monotonic)
        space = self._disk.space()
        disk_read, disk_written = self._disk.rates(self._monotonic)
        return HostReading(
            cpu_percent=busy,
            cpu_core_percents=cores,
            cpu_mhz=self._frequency.read(now),
            ram_percent=self._share("ramPercent", memory.used, memory.total),
            ram_used_mb=_mib(memory.used),
            ram_total_mb=round(memory.total / MIB),
            swap_used_mb=_mib(memory.swap_used),
            swap_total_mb=_mib(memory.swap_total),
            cpu_temp=None if self._temperature is None else self._temperature.read(now),
            load1=round(os.getloadavg()[0], 2),
            net_rx_bytes_per_sec=rx,
            net_tx_bytes_per_sec=tx,
            disk_percent=None if space is None else self._percent("diskPercent", space.percent),
            disk_used_mb=None if space is None else _mib(space.used),
            disk_total_mb=None if space is None else _mib(space.total),
            disk_read_bytes_per_sec=disk_read,
            disk_write_bytes_per_sec=disk_written,
            uptime_seconds=round(uptime(), 1),
            limit=label(limits),
        )

    def _cpu_use(self, limits: Limits) -> tuple[float | None, list[int] | None]:
        use = self._cpu.read()
        if limits.cpu is not None:
            # A quota is of no particular cores, and what the others on the machine do with theirs is no use
            # of it.
            total = self._quota.read(limits.cpu, self._monotonic())
            return None if total is None else self._percent("cpuPercent", total), None
        if use.total is None or use.cores is None:
            return None, None
        cores = [round(core) for core in use.cores] if len(use.cores) <= MAX_CORES else None
        return self._percent("cpuPercent", use.total), cores

    def _share(self, name: str, used: int | None, total: int) -> float | None:
        return None if used is None or not total else self._percent(name, 100 * used / total)


def effective(limits: Limits, ram: int) -> Limits:
    """Leave out the limits that are no tighter than the machine itself.

    Args:
        limits: Those of the control group.
        ram: Bytes that the machine has.
    """
    cpu, memory = limits
    return Limits(
        cpu if cpu is not None and cpu.cores < (psutil.cpu_count() or 1) else None,
        memory if memory is not None and memory.total < ram else None,
    )


def label(limits: Limits) -> Limit | None:
    """Name whose limits the values are within; None where they are the machine's own."""
    return None if limits == Limits() else "cgroup"


def _mib(count: int | None) -> int | None:
    return None if count is None else round(count / MIB)


def uptime() -> float:
    """Seconds since the machine was started, sleep included."""
    boot_clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    if boot_clock is not None:
        return time.clock_gettime(boot_clock)
    return max(0.0, time.time() - psutil.boot_time())
