"""The machine itself, by psutil: CPU, memory, temperature, network, disk, uptime."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from agent.sensors.base import MIB, Monotonic, PercentGuard, difference
from agent.sensors.cpu_temperature import CpuTemperature

_NET_CLASS: Final = Path("/sys/class/net")

_VIRTUAL_PREFIXES: Final = (
    *("lo", "docker", "br-", "veth", "virbr", "vnet", "cni", "flannel", "cali"),
    *("ifb", "dummy", "tun", "tap", "wg", "utun", "awdl", "llw", "bridge", "gif", "stf", "anpi"),
)
"""Interfaces whose traffic is counted again where it leaves the machine."""

_LOOPBACKS: Final = frozenset({"lo", "lo0"})

_logger = logging.getLogger("qubix_agent")


class HostReading(NamedTuple):
    """One reading of the machine; memory in MiB, None where it does not tell."""

    cpu_percent: float | None
    ram_percent: float
    ram_used_mb: int
    ram_total_mb: int
    cpu_temp: float | None
    load1: float | None
    net_rx_bytes_per_sec: float | None
    net_tx_bytes_per_sec: float | None
    disk_percent: float | None
    uptime_seconds: float


class HostSensor:
    """Reads the machine. CPU use and network rates are over the time since the last reading.

    Args:
        directory: The filesystem that ``disk_percent`` speaks of is the one this lies on.
        monotonic: The clock that intervals are measured with.
    """

    def __init__(self, directory: Path, *, monotonic: Monotonic = time.monotonic) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._percent = PercentGuard()
        self._temperature = CpuTemperature()
        self._cpu = CpuMeter()
        self._network = NetworkMeter()
        self._disk_complained = False

    def read(self) -> HostReading:
        """Read everything once."""
        now = self._monotonic()
        busy = self._cpu.read()
        rx, tx = self._network.read(self._monotonic)
        memory = psutil.virtual_memory()
        # What is in use is what can't be had: the same measure for the amount and the percentage.
        used = memory.total - memory.available
        return HostReading(
            cpu_percent=None if busy is None else self._percent("cpuPercent", busy),
            ram_percent=self._percent("ramPercent", 100 * used / memory.total),
            ram_used_mb=max(0, round(used / MIB)),
            ram_total_mb=round(memory.total / MIB),
            cpu_temp=self._temperature.read(now),
            load1=round(os.getloadavg()[0], 2),
            net_rx_bytes_per_sec=rx,
            net_tx_bytes_per_sec=tx,
            disk_percent=self._disk_percent(),
            uptime_seconds=round(uptime(), 1),
        )

    def _disk_percent(self) -> float | None:
        try:
            usage = psutil.disk_usage(str(self._directory))
        except OSError as error:
            if not self._disk_complained:
                self._disk_complained = True
                _logger.warning("diskPercent is unknown: %s: %s", self._directory, error.strerror)
            return None
        self._disk_complained = False
        return self._percent("diskPercent", usage.percent)


class CpuMeter:
    """CPU use over all cores since the last reading."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def read(self) -> float | None:
        """Give percent; None at first, and where no time passed."""
        times = psutil.cpu_times()
        # Linux counts the time of virtual machines within `user` and `nice` too.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        last, self._last = self._last, (total, idle)
        if last is None or total <= last[0]:
            return None
        elapsed = total - last[0]
        # `iowait` may go back a little, and seconds are rounded: neither is work done, or undone.
        rested = min(max(idle - last[1], 0.0), elapsed)
        return 100 * (elapsed - rested) / elapsed


class NetworkMeter:
    """Bytes per second over all interfaces through which the machine speaks to others."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self._read_at: float | None = None
        self._names: frozenset[str] = frozenset()
        self._counted: frozenset[str] = frozenset()

    def read(self, monotonic: Monotonic) -> tuple[float | None, float | None]:
        """Give received and sent; None where no counter can be compared with an earlier one.

        Args:
            monotonic: The clock; asked right after the counters, so that the interval is theirs.
        """
        counters = {
            name: (counter.bytes_recv, counter.bytes_sent)
            for name, counter in psutil.net_io_counters(pernic=True, nowrap=False).items()
        }
        return self.rates(counters, monotonic())

    def rates(self, counters: Mapping[str, tuple[int, int]], now: float) -> tuple[float | None, float | None]:
        """Compare counters of bytes received and sent, by interface, with those of the last call."""
        if counters.keys() != self._names:
            self._names = frozenset(counters)
            self._counted = outward_interfaces(self._names)
        last, last_at = self._last, self._read_at
        self._last = {name: counters[name] for name in self._counted}
        self._read_at = now
        if last_at is None or now <= last_at:
            return None, None
        both = [name for name in self._last if name in last]
        return (
            _rate([difference(last[name][0], self._last[name][0]) for name in both], now - last_at),
            _rate([difference(last[name][1], self._last[name][1]) for name in both], now - last_at),
        )


def _rate(differences: list[int | None], seconds: float) -> float | None:
    known = [amount for amount in differences if amount is not None]
    return round(sum(known) / seconds, 1) if known else None


def outward_interfaces(names: frozenset[str], root: Path = _NET_CLASS) -> frozenset[str]:
    """Choose the interfaces to count: those with hardware behind them, so that nothing is counted twice.

    Where there are none (inside a container) it is all but the loopback; where that can't be told (other
    systems than Linux) the ones with the names of virtual interfaces are left out.
    """
    others = names - _LOOPBACKS
    if root.is_dir():
        chosen = frozenset(name for name in others if _has_hardware(root / name))
    else:
        chosen = frozenset(name for name in others if not name.startswith(_VIRTUAL_PREFIXES))
    return chosen or others


def _has_hardware(interface: Path) -> bool:
    # On some clouds one card shows as two interfaces, of which the second is the first one's slave.
    return (interface / "device").exists() and not (interface / "master" / "device").exists()


def uptime() -> float:
    """Seconds since the machine was started, sleep included."""
    boot_clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    if boot_clock is not None:
        return time.clock_gettime(boot_clock)
    return max(0.0, time.time() - psutil.boot_time())
