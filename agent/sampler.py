"""When to read what: one reading of everything is one `Metrics` record, once a second, without drift."""

import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent.cost import CostMeter
from agent.sensors.base import Monotonic
from agent.sensors.gpu import GpuReading, GpuSensor
from agent.sensors.gpu_off import NoGpus
from agent.sensors.host import HostReading, HostSensor
from qubix_tui.protocol.records import GpuMetrics, Metrics
from qubix_tui.protocol.types import to_timestamp

PERIOD: Final = 1.0
"""Seconds between samples."""

_logger = logging.getLogger("qubix_agent")


class Sample(NamedTuple):
    """One sample, and the GPUs that it speaks of."""

    metrics: Metrics
    gpus: GpuReading


class Sampler:
    """Takes samples; each call of `sample` gives the next one.

    Args:
        directory: Whose filesystem ``diskPercent`` speaks of.
        host: Reads the machine.
        gpu: Reads the GPUs.
        wall: Seconds since the epoch.
        monotonic: The clock of all intervals.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: HostSensor | None = None,
        gpu: GpuSensor | NoGpus | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        self._host = host or HostSensor(directory)
        self._gpu = gpu or GpuSensor()
        self._wall = wall
        self._monotonic = monotonic
        self._cost = CostMeter()
        self._seq = 0

    def sample(self) -> Sample:
        """Read everything once. Blocks for the time of the GPUs' patience at most."""
        started = self._monotonic()
        sampled_at = to_timestamp(self._wall())
        self._gpu.ask()
        host = self._host.read()
        gpus = self._gpu.read()
        ended = self._monotonic()
        self._seq += 1
        cost = self._cost.read(
            ended,
            1000 * (ended - started),
            child_pid=self._gpu.child_pid,
            child_cpu_seconds=gpus.child_cpu_seconds,
        )
        metrics = combine(host, gpus)
        return Sample(
            msgspec.structs.replace(metrics, sampled_at=sampled_at, seq=self._seq, agent=cost), gpus
        )

    def close(self) -> None:
        """End what the sensors started."""
        self._gpu.close()


def combine(host: HostReading, reading: GpuReading) -> Metrics:
    """Make the headline of a sample: what is true of all GPUs that are current."""
    gpus = [_with_host_memory(gpu, host, reading.unified) for gpu in reading.gpus]
    # A MIG instance is a part of a GPU that is counted as a whole.
    current = [gpu for gpu in gpus if gpu.state == "ok" and gpu.parent_index is None]
    use = [gpu.util_percent for gpu in current if gpu.util_percent is not None]
    temperatures = [gpu.temp_c for gpu in current if gpu.temp_c is not None]
    # Memory that several GPUs share with the host is there once.
    own = [gpu for gpu in current if gpu.index not in reading.unified]
    shared = [gpu for gpu in current if gpu.index in reading.unified][:1]
    counted = [gpu for gpu in own + shared if gpu.mem_total_mb is not None]
    return Metrics(
        cpu_percent=host.cpu_percent,
        cpu_core_percents=host.cpu_core_percents,
        cpu_mhz=host.cpu_mhz,
        ram_percent=host.ram_percent,
        gpu_percent=round(sum(use) / len(use), 1) if use else None,
        gpu_temp=max(temperatures, default=None),
        gpu_mem_used_mb=sum(gpu.mem_used_mb or 0 for gpu in counted) if counted else None,
        gpu_mem_total_mb=sum(gpu.mem_total_mb or 0 for gpu in counted) if counted else None,
        ram_used_mb=host.ram_used_mb,
        ram_total_mb=host.ram_total_mb,
        swap_used_mb=host.swap_used_mb,
        swap_total_mb=host.swap_total_mb,
        cpu_temp=host.cpu_temp,
        load1=host.load1,
        net_rx_bytes_per_sec=host.net_rx_bytes_per_sec,
        net_tx_bytes_per_sec=host.net_tx_bytes_per_sec,
        disk_percent=host.disk_percent,
        disk_used_mb=host.disk_used_mb,
        disk_total_mb=host.disk_total_mb,
        disk_read_bytes_per_sec=host.disk_read_bytes_per_sec,
        disk_write_bytes_per_sec=host.disk_write_bytes_per_sec,
        uptime_seconds=host.uptime_seconds,
        limit=host.limit,
        gpus=gpus,
        gpu_note=reading.note,
    )


def _with_host_memory(gpu: GpuMetrics, host: HostReading, unified: frozenset[int]) -> GpuMetrics:
    if gpu.index not in unified or gpu.state != "ok":
        return gpu
    return msgspec.structs.replace(gpu, mem_used_mb=host.ram_used_mb, mem_total_mb=host.ram_total_mb)


class Schedule:
    """Ticks at whole periods after a start; those that were missed are skipped, never made up for.

    Args:
        start: Monotonic time of the first tick.
        period: Seconds.
    """

    def __init__(self, start: float, period: float = PERIOD) -> None:
        self._start = start
        self._period = period

    def next_after(self, now: float) -> float:
        """The first tick that is later than ``now``."""
        return self._start + (math.floor((now - self._start) / self._period) + 1) * self._period


class SamplerThread:
    """Samples on a thread of its own, so that nothing a sensor does can hold up the link.

    Args:
        sampler: What takes the samples; it belongs to the thread from `start` to `stop`.
        deliver: Called on that thread with each sample.
        period: Seconds between samples.
        monotonic: The clock of the schedule.
    """

    def __init__(
        self,
        sampler: Sampler,
        deliver: Callable[[Sample], None],
        *,
        period: float = PERIOD,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        self._sampler = sampler
        self._deliver = deliver
        self._period = period
        self._monotonic = monotonic
        self._stopping = threading.Event()
        # A reading that hangs in the kernel must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="qubix-sampler", daemon=True)

    def start(self) -> None:
        """Take the first sample at once, then one each period."""
        self._thread.start()

    def stop_soon(self) -> None:
        """Take no more samples and end what the sensors started; returns at once."""
        self._stopping.set()

    def join(self, timeout: float) -> None:
        """Wait, for ``timeout`` seconds at most, until that is done."""
        self._thread.join(timeout)

    def _run(self) -> None:
        schedule = Schedule(self._monotonic(), self._period)
        complaint: str | None = None
        try:
            while not self._stopping.is_set():
                try:
                    sample = self._sampler.sample()
                except Exception as error:
                    if repr(error) != complaint:
                        complaint = repr(error)
                        _logger.exception("a sample could not be taken; it is tried again")
                else:
                    complaint = None
                    self._deliver(sample)
                now = self._monotonic()
                self._stopping.wait(schedule.next_after(now) - now)
        finally:
            self._sampler.close()
