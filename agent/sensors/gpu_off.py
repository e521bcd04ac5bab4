"""What stands in the place of the GPUs where their owner does not have them looked at."""

from typing import Final

from agent.sensors.gpu import GpuReading

OFF: Final = "GPUs are not looked at (sensors.gpu is off in agent.toml)"


class NoGpus:
    """Offers no GPU and starts nothing to read one."""

    child_pid: Final = None

    def ask(self) -> None:
        """Begin nothing."""

    def read(self) -> GpuReading:
        """Say that nothing is looked at."""
        return GpuReading([], OFF, [], None, None, frozenset(), settled=True)

    def close(self) -> None:
        """End nothing."""
