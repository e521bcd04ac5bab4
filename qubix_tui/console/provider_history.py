"""What the console remembers of one provider: the hub's ten minutes, and every live sample since.

No Textual in it. All moments are seconds since the epoch by the hub's clock.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from qubix_tui.console.time_series import TimeSeries
from qubix_tui.protocol.records import GpuHistoryPoint, GpuMetrics, HistoryPoint, Metrics
from qubix_tui.protocol.types import from_timestamp

STEP_SECONDS: Final = 5.0
"""What one point of the hub's history stands for."""

MIN_HOLD_SECONDS: Final = 2.5
MAX_HOLD_SECONDS: Final = 15.0
"""How long a value is taken to last when nothing follows: two and a half sampling intervals, between these
two. The hub calls a provider unreachable after the longer one."""

MERGE_SECONDS: Final = 0.25
"""Samples that come faster than this share a row, which keeps the highest of each value."""

STEPPED_SECONDS: Final = 30.0
"""A sample that is older than the newest by more than this means that the hub's clock was set back."""


class Metric(NamedTuple):
    """Names one curve: a value of the host, or of one GPU by its index."""

    name: str
    gpu: int | None = None


CPU: Final = Metric("cpu")
RAM: Final = Metric("ram")
NET_RX: Final = Metric("net_rx")
NET_TX: Final = Metric("net_tx")

_HOST: Final[tuple[tuple[Metric, Callable[[Metrics], float | None]], ...]] = (
    (CPU, lambda metrics: metrics.cpu_percent),
    (RAM, lambda metrics: metrics.ram_percent),
    (NET_RX, lambda metrics: metrics.net_rx_bytes_per_sec),
    (NET_TX, lambda metrics: metrics.net_tx_bytes_per_sec),
)


class ProviderHistory(TimeSeries[Metric]):
    """The last hour of one provider, per metric: of ten minutes the hub tells, of the rest what was seen.

    A row lasts no longer than the hub's step or a few sampling intervals: what is longer is a gap.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hold = MIN_HOLD_SECONDS
        self._seq: int | None = None
        self._throttled: dict[int, deque[tuple[float, frozenset[str]]]] = {}

    def record(self, moment: float, metrics: Metrics) -> bool:
        """Take in a live sample.

        Args:
            moment: When the hub received it.
            metrics: The sample.

        Returns:
            Whether it was new: one that is not newer than what is known says nothing.
        """
        newest = self.newest
        if newest is not None and moment <= newest:
            was_stepped = newest - moment >= STEPPED_SECONDS
            is_step = moment == newest and not self._is_live[-1]
            if not (was_stepped or is_step):
                return False
            self._forget_from(moment)
        values = _values_of(metrics)
        if self._is_live and self._is_live[-1] and moment - self._begins[-1] < MERGE_SECONDS:
            self._raise_last(values)
            self._seq = metrics.seq
        else:
            self._learn_pace(moment, metrics.seq)
            self.append(moment, values, hold=self._hold)
        for gpu in metrics.gpus:
            if gpu.throttle is not None:
                reasons = self._throttled.setdefault(gpu.index, deque(maxlen=int(60 / MERGE_SECONDS)))
                reasons.append((moment, frozenset(gpu.throttle)))
        return True

    def fill(self, points: Iterable[HistoryPoint]) -> None:
        """Take in the hub's history. It only fills time of which no live sample is known.

        Args:
            points: In any order; each stands for `STEP_SECONDS` from its timestamp on.
        """
        live = [row for row, is_live in enumerate(self._is_live) if is_live]
        live_begins = [self._begins[row] for row in live]
        known = set(self._begins)
        added: dict[float, tuple[float, dict[Metric, float]]] = {}
        for point in points:
            begin = from_timestamp(point.timestamp)
            end = begin + STEP_SECONDS
            before = bisect_left(live_begins, end)
            if before and live_begins[before - 1] >= begin:
                begin = self._ends[live[before - 1]]
            if begin < end and begin not in known:
                added[begin] = end, _values_of_point(point)
        if added:
            self._merge(added)

    def held_back(self, gpu: int, now: float, seconds: float = 60.0) -> dict[str, float]:
        """Give each reason that a GPU was held back for, and its share of the recent samples, 0 to 1."""
        recent = [reasons for moment, reasons in self._throttled.get(gpu, ()) if moment > now - seconds]
        counts = Counter(reason for reasons in recent for reason in reasons)
        return {reason: count / len(recent) for reason, count in counts.items()}

    def _learn_pace(self, moment: float, seq: int | None) -> None:
        """Let the time between two samples in a row decide how long a value lasts.

        Where ``seq`` jumps something was missed: that is a gap, and no pace.
        """
        before, self._seq = self._seq, seq
        if before is None or seq != before + 1 or not (self._is_live and self._is_live[-1]):
            return
        interval = moment - self._begins[-1]
        if interval <= MAX_HOLD_SECONDS:
            self._hold = min(MAX_HOLD_SECONDS, max(MIN_HOLD_SECONDS, 2.5 * interval))
            # Only now is it known that what came before lasted this long.
            self._ends[-1] = max(self._ends[-1], moment)

    def _forget_from(self, moment: float) -> None:
        self._delete(slice(bisect_left(self._begins, moment), None))
        self._throttled.clear()


def _values_of(metrics: Metrics) -> dict[Metric, float]:
    values = {metric: read(metrics) for metric, read in _HOST}
    for gpu in metrics.gpus:
        if gpu.state == "ok":
            values.update(_gpu_values(gpu.index, gpu))
    return {metric: value for metric, value in values.items() if value is not None}


def _values_of_point(point: HistoryPoint) -> dict[Metric, float]:
    values: dict[Metric, float | None] = {
        CPU: point.cpu_percent,
        RAM: point.ram_percent,
        NET_RX: point.net_rx_bytes_per_sec,
        NET_TX: point.net_tx_bytes_per_sec,
    }
    for index, gpu in enumerate(point.gpus):
        values.update(_gpu_values(index, gpu))
    return {metric: value for metric, value in values.items() if value is not None}


def _gpu_values(index: int, gpu: GpuMetrics | GpuHistoryPoint) -> dict[Metric, float | None]:
    return {
        Metric("util", index): gpu.util_percent,
        Metric("memory", index): gpu.mem_used_mb,
        Metric("temperature", index): gpu.temp_c,
        Metric("power", index): gpu.power_w,
    }
