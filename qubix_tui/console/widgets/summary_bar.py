"""The fleet added up: a row of tiles, or one line where there is no room for two."""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

from qubix_tui.console.columns import sparkline, state_piece
from qubix_tui.console.fleet import Summary
from qubix_tui.console.format import (
    UNKNOWN,
    format_age,
    format_percent,
    format_price,
    format_temp,
    safe,
)
from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.tiles import cut, widen
from qubix_tui.protocol.records import ProviderState

TREND_STEPS: Final = 24
TREND_STEP_SECONDS: Final = 2.5
"""A minute of the fleet's mean use, the highest of each step."""

WIDE: Final = 110
"""From here on the parts of one line have their names."""

WORDY: Final = 170
"""From here on each state has its word in a tile; glyphs alone are told apart by the table below."""

NAME_CELLS: Final = 14
"""Room of the hottest one's name, whoever that is: the tiles behind it must not move."""


class Tile(NamedTuple):
    """One number of the fleet, or a few that belong together."""

    label: str
    value: Line
    worth: int
    """What is worth less goes first where there is no room."""


class SummaryBar(LinePanel):
    """Providers by state, use with its trend, the hottest GPU, jobs, what is earned, and how old that is."""

    DEFAULT_CSS = "SummaryBar { height: 1; padding: 0 1; }"

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._summary: Summary | None = None
        self._now = 0.0
        self._queued: int | None = None
        self._trend: deque[float | None] = deque(maxlen=TREND_STEPS)
        self._step = 0

    def show(self, summary: Summary, now: float, *, queued: int | None = None, stale: bool) -> None:
        """Show the fleet added up.

        Args:
            summary: The sums.
            now: Hub time, seconds since the epoch.
            queued: Jobs that wait; None where the hub has not told of them.
            stale: Whether the hub is gone.
        """
        use = None if stale else summary.use
        step = int(now / TREND_STEP_SECONDS)
        if step != self._step:
            missed = min(TREND_STEPS, step - self._step - 1) if self._step else 0
            self._trend.extend([None] * missed)
            self._trend.append(use)
            self._step = step
        elif use is not None:
            self._trend[-1] = max(use, self._trend[-1] or 0.0)
        self._summary, self._now, self._queued = summary, now, queued
        self.changed(stale=stale)

    def make_lines(self, width: int, height: int) -> Sequence[Line]:
        """Give the lines: names above numbers, or, in one line, names before them."""
        summary = self._summary
        if summary is None:
            return []
        if height < 2:
            return [self._one_line(summary, width)]
        tiles = self._fitting(self._tiles(summary, wordy=width >= WORDY), width)
        names: Line = []
        values: Line = []
        for tile in tiles:
            cells = self._cells(tile) + 3
            names += widen(self, [self.text(tile.label, "label")], cells)
            values += widen(self, tile.value, cells)
        return [names, values]

    def _fitting(self, tiles: list[Tile], width: int) -> list[Tile]:
        while tiles and sum(self._cells(tile) + 3 for tile in tiles) - 3 > width:
            tiles.remove(min(tiles, key=lambda tile: tile.worth))
        return tiles

    def _cells(self, tile: Tile) -> int:
        return max(cell_len(tile.label), sum(segment.cell_length for segment in tile.value))

    def _tiles(self, summary: Summary, *, wordy: bool) -> list[Tile]:
        oldest = None if summary.oldest_at is None else self._now - summary.oldest_at
        return [
            Tile("PROVIDERS", self._states(summary, wordy=wordy), 9),
            Tile("GPUS", [self.text(f"{summary.gpus:>4}", "title")], 3),
            Tile("MEAN GPU USE, 60s", self._use(summary), 8),
            Tile("PEAK", [self.text(f"{format_percent(self._peak()):>4}")], 2),
            Tile("HOTTEST GPU", self._hottest(summary), 7),
            Tile("JOBS", self._jobs(summary), 5),
            Tile("EARNING", self._earning(summary), 6),
            Tile("OLDEST", [self.text(f"{format_age(oldest):>4}")], 4),
        ]

    def _states(self, summary: Summary, *, wordy: bool) -> Line:
        digits = len(str(summary.providers))
        line = [self.text(str(summary.providers), "title")]
        for state in ProviderState:
            count = summary.states[state]
            glyph, style = state_piece(state, ascii_only=self.ascii_only)
            # A quiet colour for what is as it should be.
            is_exception = state in {ProviderState.UNREACHABLE, ProviderState.OFFLINE}
            loud = style if is_exception and count else "value" if count else "label"
            word = f"{state.value} " if wordy else ""
            line += [self.text(f"  {glyph} ", style if count else "label"), self.text(word, "label")]
            line.append(self.text(f"{count:>{digits}}", loud))
        return line

    def _use(self, summary: Summary) -> Line:
        trend = sparkline(list(self._trend), ascii_only=self.ascii_only)
        return [
            self.text(f"{format_percent(summary.use):>4} ", "title"),
            self.text(trend.rjust(TREND_STEPS // 2), "fill"),
        ]

    def _peak(self) -> float | None:
        return max((use for use in self._trend if use is not None), default=None)

    def _hottest(self, summary: Summary) -> Line:
        name = cut(safe(summary.hottest_name or ""), NAME_CELLS)
        style = "title" if summary.hottest_style == "value" else summary.hottest_style
        return [
            self.text(f"{format_temp(summary.hottest):>4} ", style),
            self.text(set_cell_size(name, NAME_CELLS), "label"),
        ]

    def _jobs(self, summary: Summary) -> Line:
        digits = len(str(summary.providers))
        return [
            self.text(f"{summary.jobs:>{digits}}", "title"),
            self.text(" running ", "label"),
            self.text(UNKNOWN if self._queued is None else str(self._queued)),
            self.text(" queued", "label"),
        ]

    def _earning(self, summary: Summary) -> Line:
        return [self.text(f"{format_price(summary.earning):>7}", "title"), self.text("/h", "label")]

    def _one_line(self, summary: Summary, width: int) -> Line:
        line: Line = []
        room = width
        gap = 4 if width >= WIDE else 2
        for part in self._parts(summary, wide=width >= WIDE):
            length = sum(segment.cell_length for segment in part)
            if length + (gap if line else 0) > room:
                break
            if line:
                line.append(self.text(" " * gap))
                room -= gap
            line += part
            room -= length
        return line

    def _parts(self, summary: Summary, *, wide: bool) -> list[Line]:
        states = [self.text("providers ", "label")] if wide else []
        states += [self.text(str(summary.providers), "title")]
        for state in ProviderState:
            count = summary.states[state]
            if not count:
                continue
            glyph, style = state_piece(state, ascii_only=self.ascii_only)
            is_exception = state in {ProviderState.UNREACHABLE, ProviderState.OFFLINE}
            states.append(self.text(f" {glyph}", style))
            states.append(self.text(str(count), style if is_exception else "value"))
        use = [self.text("use ", "label"), self.text(f"{format_percent(summary.use):>4}", "title")]
        name = f" {cut(safe(summary.hottest_name), NAME_CELLS)}" if summary.hottest_name is not None else ""
        heat = [
            self.text("hottest " if wide else "hot ", "label"),
            self.text(f"{format_temp(summary.hottest):>4}", summary.hottest_style),
            self.text(name, "label"),
        ]
        earning = [self.text(format_price(summary.earning)), self.text("/h", "label")]
        gpus = [self.text("GPUs ", "label"), self.text(str(summary.gpus))]
        if not wide:
            return [states, use, heat, earning]
        use.append(self.text(f" {sparkline(list(self._trend), ascii_only=self.ascii_only)}", "fill"))
        return [states, gpus, use, heat, self._jobs(summary), [self.text("earning ", "label"), *earning]]
