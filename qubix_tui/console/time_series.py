"""Values over time: bounded, in order, with gaps. No Textual in it.

All moments are seconds since the epoch by the hub's clock.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Hashable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
"""What names one curve."""

KEPT_SECONDS: Final = 3610.0
"""The longest span that is shown, and the column that is only partly in view."""

MAX_WINDOWS: Final = 8

TRIMMED_AT_ONCE: Final = 60
"""Rows that are over are let go in lots: taking rows off the front moves all others."""

_NAN: Final = math.nan


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


class TimeSeries(Generic[K]):
    """The last hour of some values.

    A row is one moment with a value (NaN: unknown) for each curve. It lasts until it ends or the next row
    begins: what lies between is a gap and stays one.
    """

    def __init__(self) -> None:
        self._begins: list[float] = []
        self._ends: list[float] = []
        self._is_live: list[bool] = []
        """Whether a row was added live, and not from a history."""
        self._columns: dict[K, array[float]] = {}
        self._placed: dict[Window, list[tuple[int, int, int]]] = {}

    def __len__(self) -> int:
        return len(self._begins)

    @property
    def newest(self) -> float | None:
        """The moment of the newest row; None when there is none."""
        return self._begins[-1] if self._begins else None

    def append(self, moment: float, values: Mapping[K, float], *, hold: float) -> None:
        """Add a row that is newer than all others.

        Args:
            moment: When it begins.
            values: Those that are known.
            hold: Seconds that it lasts when nothing follows.
        """
        self._placed.clear()
        if self._ends:
            self._ends[-1] = min(self._ends[-1], moment)
        self._begins.append(moment)
        self._ends.append(moment + hold)
        self._is_live.append(True)
        rows = len(self._begins)
        for metric in values.keys() - self._columns.keys():
            self._columns[metric] = array("d", [_NAN]) * (rows - 1)
        for metric, column in self._columns.items():
            column.append(values.get(metric, _NAN))
        self._trim(moment - KEPT_SECONDS)

    def peaks(self, metric: K, window: Window) -> list[float | None]:
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

    def highest(self, metric: K) -> float | None:
        """Give the highest value that is kept of a metric; None where none is known."""
        return max((value for value in self._columns.get(metric, ()) if value == value), default=None)

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

    def _raise_last(self, values: Mapping[K, float]) -> None:
        """Let the newest row have the higher of its values and of others."""
        self._placed.clear()
        for metric, value in values.items():
            column = self._columns.get(metric)
            if column is None:
                column = self._columns[metric] = array("d", [_NAN]) * len(self._begins)
            if not column[-1] >= value:
                column[-1] = value

    def _merge(self, added: Mapping[float, tuple[float, Mapping[K, float]]]) -> None:
        """Put rows, each with its end and its values, among the others in order of time."""
        self._placed.clear()
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
        if over > TRIMMED_AT_ONCE:
            self._delete(slice(0, over))

    def _delete(self, rows: slice) -> None:
        del self._begins[rows], self._ends[rows], self._is_live[rows]
        for column in self._columns.values():
            del column[rows]
