"""A GPU sensor with its real child process, read until something is seen."""

import time
from collections.abc import Callable

from agent.sensors.gpu import GpuReading, GpuSensor

PATIENCE = 15.0


class Reader:
    """Reads again and again until something is seen."""

    def __init__(self) -> None:
        self.sensor = GpuSensor(backoff=(0.05,))
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
