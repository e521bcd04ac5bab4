"""The fleet in one line."""

from collections import deque
from collections.abc import Sequence

from rich.cells import cell_len

from qubix_tui.console.columns import sparkline, state_piece
from qubix_tui.console.fleet import Summary
from qubix_tui.console.format import format_percent, format_price, format_temp, safe
from qubix_tui.console.widgets.line_panel import Line, LinePanel
from qubix_tui.console.widgets.tiles import cut
from qubix_tui.protocol.records import ProviderState

TREND_COLUMNS = 12
"""Seconds of mean use behind the number, one column each."""


class SummaryBar(LinePanel):
    """Providers by state, use with its trend, the hottest GPU, and what is being earned."""

    DEFAULT_CSS = "SummaryBar { height: 1; padding: 0 1; }"

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._summary: Summary | None = None
        self._trend: deque[float | None] = deque(maxlen=TREND_COLUMNS)
        self._second = 0

    def show(self, summary: Summary, now: float, *, stale: bool) -> None:
        """Show the fleet added up.

        Args:
            summary: The sums.
            now: Hub time, seconds since the epoch: the trend has a column for each second.
            stale: Whether the hub is gone.
        """
        if int(now) != self._second:
            self._second = int(now)
            self._trend.append(None if stale else summary.use)
        self._summary = summary
        self.changed(stale=stale)

    def make_lines(self, width: int, height: int) -> Sequence[Line]:  # noqa: ARG002 - always one line
        """Give the line: as many parts as there is room for."""
        summary = self._summary
        if summary is None:
            return []
        line: Line = []
        room = width
        for part in self._parts(summary, wide=width >= 110):
            length = sum(cell_len(segment.text) for segment in part)
            gap = 4 if width >= 110 else 2
            if length + (gap if line else 0) > room:
                break
            if line:
                line.append(self.text(" " * gap))
                room -= gap
            line += part
            room -= length
        return [line]

    def _parts(self, summary: Summary, *, wide: bool) -> list[Line]:
        states = [self.text("providers " if wide else "", "label"), self.text(f"{summary.providers}")]
        for state in ProviderState:
            count = summary.states[state]
            if count or (wide and state in {ProviderState.AVAILABLE, ProviderState.BUSY}):
                glyph, style = state_piece(state, ascii_only=self.ascii_only)
                # A quiet colour for what is as it should be.
                loud = style if state in {ProviderState.UNREACHABLE, ProviderState.OFFLINE} else "value"
                states += [self.text(f"  {glyph}", style), self.text(f" {count}", loud)]
        use = [self.text("use ", "label"), self.text(f"{format_percent(summary.use):>4}")]
        if wide:
            use.append(self.text(f" {sparkline(list(self._trend), ascii_only=self.ascii_only)}", "fill"))
        heat = [
            self.text("hottest " if wide else "hot ", "label"),
            self.text(f"{format_temp(summary.hottest):>4}", summary.hottest_style),
        ]
        if summary.hottest_name is not None:
            heat.append(self.text(f" {cut(safe(summary.hottest_name), 20)}", "label"))
        earning = [
            self.text("earning ", "label"),
            self.text(format_price(summary.earning)),
            self.text("/h", "label"),
        ]
        gpus = [self.text("GPUs ", "label"), self.text(str(summary.gpus))]
        return [states, gpus, use, heat, earning] if wide else [states, use, heat, earning]
