"""What the console remembers of one provider: the hub's ten minutes, and every live sample since.

No Textual in it. All moments are seconds since the epoch by the hub's clock.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from qubix_tui.protocol.records import GpuHistoryPoint, GpuMetrics, HistoryPoint, Metrics
from qubix_tui.protocol.types import from_timestamp

KEPT_SECONDS: Final = 610.0
"""The longest span that is shown, and the column that is only partly in view."""

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

MAX_WINDOWS: Final = 8

_NAN: Final = math.nan


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


class Window(NamedTuple):
    """A span of time cut into columns.

    Columns lie at whole multiples of their width since the epoch, so that a peak stays in its column, at its
    height, while the window moves on.
    """

    first: int
    """Number of the leftmost column: its beginning divided by ``seconds``."""
    columns: int
    seconds: float
    """Width of a column."""

    @classmethod
    def ending(cls, end: float, span: float, columns: int) -> "Window":
        """Give the window of ``span`` seconds in ``columns``, the last of which holds the moment ``end``."""
        seconds = span / columns
        return cls(math.floor(end / seconds) - columns + 1, columns, seconds)

    def column(self, moment: float) -> int | None:
        """Give the column, from 0, that holds a moment; None where it is outside."""
        column = math.floor(moment / self.seconds) - self.first
        return column if 0 <= column < self.columns else None


class ProviderHistory:
    """The last ten minutes of one provider, per metric: bounded, in order of time, with gaps.

    A row is one moment with a value (NaN: unknown) for each metric. It lasts until the next row, but no
    longer than the hub's step or a few sampling intervals: what is longer is a gap and stays one.
    """

    def __init__(self) -> None:
        self._begins: list[float] = []
        self._ends: list[float] = []
        self._is_live: list[bool] = []
        self._columns: dict[Metric, array[float]] = {}
        self._hold = MIN_HOLD_SECONDS
        self._seq: int | None = None
        self._throttled: dict[int, deque[tuple[float, frozenset[str]]]] = {}
        self._placed: dict[Window, list[tuple[int, int, int]]] = {}

    def __len__(self) -> int:
        return len(self._begins)

    @property
    def newest(self) -> float | None:
        """The moment of the newest row; None when there is none."""
        return self._begins[-1] if self._begins else None

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
        self._placed.clear()
        if self._is_live and self._is_live[-1] and moment - self._begins[-1] < MERGE_SECONDS:
            self._raise_last(values)
            self._seq = metrics.seq
        else:
            self._learn_pace(moment, metrics.seq)
            self._append(moment, values)
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
            self._placed.clear()
            self._merge(added)

    def peaks(self, metric: Metric, window: Window) -> list[float | None]:
        """Give the highest value in each column of a window, None where nothing is known."""
        found: list[float | None] = [None] * window.columns
        values = self._columns.get(metric)
        if values is None:
            return found
        for row, low, high in self._places_in(window):
            value = values[row]
            if value != value:  # NaN
                continue
            for column in range(low, high):
                known = found[column]
                if known is None or value > known:
                    found[column] = value
        return found

    def highest(self, metric: Metric) -> float | None:
        """Give the highest value that is kept of a metric; None where none is known."""
        return max((value for value in self._columns.get(metric, ()) if value == value), default=None)

    def held_back(self, gpu: int, now: float, seconds: float = 60.0) -> dict[str, float]:
        """Give each reason that a GPU was held back for, and its share of the recent samples, 0 to 1."""
        recent = [reasons for moment, reasons in self._throttled.get(gpu, ()) if moment > now - seconds]
        counts = Counter(reason for reasons in recent for reason in reasons)
        return {reason: count / len(recent) for reason, count in counts.items()}

    def _places_in(self, window: Window) -> list[tuple[int, int, int]]:
        """Give each row that lies in a window, its first column and the one behind its last.

        Kept for the curves that are asked for next: a screen draws them all in a few windows.
        """
        known = self._placed.get(window)
        if known is not None:
            return known
        first, columns, seconds = window
        places = []
        for row in range(max(0, bisect_right(self._begins, first * seconds) - 1), len(self._begins)):
            low = math.floor(self._begins[row] / seconds) - first
            if low >= columns:
                break
            high = max(low + 1, math.ceil(self._ends[row] / seconds) - first)
            places.append((row, max(0, low), min(columns, high)))
        if len(self._placed) >= MAX_WINDOWS:
            self._placed.clear()
        self._placed[window] = places
        return places

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

    def _append(self, moment: float, values: dict[Metric, float]) -> None:
        if self._ends:
            self._ends[-1] = min(self._ends[-1], moment)
        self._begins.append(moment)
        self._ends.append(moment + self._hold)
        self._is_live.append(True)
        rows = len(self._begins)
        for metric in values.keys() - self._columns.keys():
            self._columns[metric] = array("d", [_NAN]) * (rows - 1)
        for metric, column in self._columns.items():
            column.append(values.get(metric, _NAN))
        self._trim(moment - KEPT_SECONDS)

    def _raise_last(self, values: dict[Metric, float]) -> None:
        for metric, value in values.items():
            column = self._columns.get(metric)
            if column is None:
                column = self._columns[metric] = array("d", [_NAN]) * len(self._begins)
            if not column[-1] >= value:
                column[-1] = value

    def _merge(self, added: dict[float, tuple[float, dict[Metric, float]]]) -> None:
        """Put rows, each with its end and its values, among the others in order of time."""
        old_rows = {begin: row for row, begin in enumerate(self._begins)}
        begins = sorted([*self._begins, *added])
        metrics = {metric for _, values in added.values() for metric in values} | self._columns.keys()
        ends = [added[begin][0] if begin in added else self._ends[old_rows[begin]] for begin in begins]
        for row, follower in enumerate(begins[1:]):
            ends[row] = min(ends[row], follower)
        columns = {}
        for metric in metrics:
            old = self._columns.get(metric)
            columns[metric] = array(
                "d",
                [
                    added[begin][1].get(metric, _NAN)
                    if begin in added
                    else _NAN
                    if old is None
                    else old[old_rows[begin]]
                    for begin in begins
                ],
            )
        self._is_live = [begin not in added and self._is_live[old_rows[begin]] for begin in begins]
        self._begins, self._ends, self._columns = begins, ends, columns
        self._trim(begins[-1] - KEPT_SECONDS)

    def _trim(self, oldest: float) -> None:
        """Let go of rows that are over. In lots: taking rows off the front moves all others."""
        over = bisect_right(self._begins, oldest)
        if over > 60:
            self._delete(slice(0, over))

    def _forget_from(self, moment: float) -> None:
        self._delete(slice(bisect_left(self._begins, moment), None))
        self._throttled.clear()

    def _delete(self, rows: slice) -> None:
        del self._begins[rows], self._ends[rows], self._is_live[rows]
        for column in self._columns.values():
            del column[rows]


def _values_of(metrics: Metrics) -> dict[Metric, float]:
    values = {metric: read(metrics) for metric, read in _HOST}
    for gpu in metrics.gpus:
        if gpu.state == "ok":
            values.update(_gpu_values(gpu.index, gpu))
    return {metric: value for metric, value in values.items() if value is not None}


def _values_of_point(point: HistoryPoint) -> dict[Metric, float]:
    values: dict[Metric, float | None] = {CPU: point.cpu_percent, RAM: point.ram_percent}
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
