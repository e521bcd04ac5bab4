"""What the agent itself costs: its processor time and memory, the child's included."""

import time

import psutil

from qubix_tui.protocol.records import AgentCost

_MIB = 1024 * 1024


class CostMeter:
    """Measures this process and, where there is one, the process that NVML lives in."""

    def __init__(self) -> None:
        self._self = psutil.Process()
        self._child: psutil.Process | None = None
        self._last: tuple[float, float, float, int | None] | None = None

    def read(
        self, now: float, sample_ms: float, *, child_pid: int | None, child_cpu_seconds: float
    ) -> AgentCost:
        """Give the cost since the last call.

        Args:
            now: Monotonic seconds.
            sample_ms: How long this sample took.
            child_pid: The child of this moment.
            child_cpu_seconds: Its processor time by its own account: the kernel's has steps of 10 ms.
        """
        own = time.process_time()
        last, self._last = self._last, (now, own, child_cpu_seconds, child_pid)
        cpu_percent = None
        if last is not None and now > last[0]:
            # A new child begins at zero.
            child = child_cpu_seconds - last[2] if child_pid == last[3] else child_cpu_seconds
            cpu_percent = round(100 * (own - last[1] + max(0.0, child)) / (now - last[0]), 2)
        rss = self._self.memory_info().rss + self._child_rss(child_pid)
        return AgentCost(cpu_percent=cpu_percent, rss_mb=round(rss / _MIB, 1), sample_ms=round(sample_ms, 2))

    def _child_rss(self, pid: int | None) -> int:
        if pid is None:
            return 0
        try:
            if self._child is None or self._child.pid != pid:
                self._child = psutil.Process(pid)
            rss: int = self._child.memory_info().rss
        except psutil.Error:
            return 0
        return rss
