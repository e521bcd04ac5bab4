"""A GPU sensor with its real child process, read until something is seen."""

import time
from collections.abc import Callable

from agent.sensors.gpu import GpuReading, GpuSensor
from agent.sensors.gpu_rest import Rest
from agent.sensors.nvml_process import NvmlProcess
from agent.sensors.offer import Offer

PATIENCE = 15.0


class Reader:
    """Reads again and again until something is seen.

    Args:
        root: What the sensor and its child look for ``/sys`` and ``/proc`` in; by default there is nothing.
        pcie: Whether PCIe throughput is asked for.
        offer: Which GPUs are spoken of.
    """

    def __init__(self, root: str = "/nonexistent", *, pcie: bool = False, offer: Offer | None = None) -> None:
        self.sensor = GpuSensor(
            start=lambda: NvmlProcess(root), offer=offer, rest=Rest(root), backoff=(0.05,), pcie=pcie
        )
        self.longest = 0.0

    def read(self) -> GpuReading:
        """Read once."""
        started = time.monotonic()
        self.sensor.ask()
        reading = self.sensor.read()
        self.longest = max(self.longest, time.monotonic() - started)
        return reading

    def until(self, holds: Callable[[GpuReading], bool]) -> GpuReading:
        """Read until ``holds`` is true of a reading; fails with the last one when it never is."""
        deadline = time.monotonic() + PATIENCE
        while True:
            reading = self.read()
            if holds(reading):
                return reading
            assert time.monotonic() < deadline, reading
            time.sleep(0.01)


def states(reading: GpuReading) -> list[str]:
    """The states of all GPUs."""
    return [gpu.state for gpu in reading.gpus]


def all_ok(reading: GpuReading) -> bool:
    """Whether both GPUs were read."""
    return states(reading) == ["ok", "ok"]
