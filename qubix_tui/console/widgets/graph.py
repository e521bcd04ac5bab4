"""A graph over time in braille, by the line API."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from qubix_tui.console.braille import ascii_rows, braille_rows, nice_ceiling
from qubix_tui.console.provider_history import Window
from qubix_tui.console.widgets.line_panel import Line, LinePanel

LABEL_WIDTH: Final = 4
AXIS_WIDTH: Final = LABEL_WIDTH + 2
"""Cells left of the curve: a label, a space, and the axis itself."""

MIN_LABELLED_HEIGHT: Final = 2
"""From this height on there is an axis with labels at its top and bottom."""

MIN_TIMED_HEIGHT: Final = 4
"""From this height on the lowest line tells the span and the names of marks."""


class Mark(NamedTuple):
    """An event on the line of time."""

    moment: float
    """Hub time, seconds since the epoch."""
    name: str
    """What happened, in a word or two that are safe to show."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a graph is to show."""

    peaks: Callable[[Window], Sequence[float | None]]
    """Gives the highest value in each column of a window; None where nothing is known."""
    end: float
    """The moment at the right edge, hub time in seconds since the epoch."""
    span: float
    """Seconds from the left edge to the right."""
    top: float
    """The value at the upper edge."""
    top_label: str
    """At most `LABEL_WIDTH` cells."""
    span_label: str
    """``10 min``, for the left edge."""
    marks: Sequence[Mark] = ()
    bands: Sequence[tuple[float, str]] = ()
    """From which value on a column has which style, in ascending order."""


class Glyphs(NamedTuple):
    """What lines are drawn with."""

    axis: str
    tick: str
    mark: str
    mark_top: str


_GLYPHS: Final = Glyphs(axis="│", tick="┤", mark="│", mark_top="╷")
_ASCII_GLYPHS: Final = Glyphs(axis="|", tick="+", mark="|", mark_top="|")


class GrowingScale:
    """The top of an axis that has no natural end: grows in steps of 1, 2, 5, and never shrinks."""

    def __init__(self) -> None:
        self._top = 0.0

    def fit(self, value: float | None) -> float:
        """Give the top of the axis, with room for ``value``; at least 1."""
        if value is not None and value > self._top:
            self._top = nice_ceiling(value)
        return self._top or 1.0


def draw(panel: LinePanel, trace: Trace, width: int, height: int) -> list[Line]:
    """Draw a graph with its axes in the styles of a panel.

    Args:
        panel: Lends its styles, and says whether only ASCII is to be used.
        trace: What to show.
        width: Cells of every line that is given, axis included.
        height: Lines. The axis has labels from `MIN_LABELLED_HEIGHT` on, the span and names from
            `MIN_TIMED_HEIGHT` on.
    """
    has_axis, has_times = height >= MIN_LABELLED_HEIGHT, height >= MIN_TIMED_HEIGHT
    cells = max(1, width - AXIS_WIDTH) if has_axis else width
    rows = height - 1 if has_times else height
    window = Window.ending(trace.end, trace.span, 2 * cells)
    peaks = trace.peaks(window)
    marks = _marked_cells(trace.marks, window)
    glyphs = _ASCII_GLYPHS if panel.ascii_only else _GLYPHS
    text = (ascii_rows if panel.ascii_only else braille_rows)(peaks, rows, trace.top)
    runs = _runs(_cell_styles(peaks, trace.bands, marks))
    lines = []
    for row, drawn in enumerate(text):
        line = _axis(panel, trace, glyphs, row, rows) if has_axis else []
        through = _through_blanks(drawn, marks, glyphs.mark if row else glyphs.mark_top)
        line += [panel.text(through[start:stop], style) for start, stop, style in runs]
        lines.append(line)
    if has_times:
        times = _times(trace.span_label, marks, cells)
        lines.append([panel.text(" " * AXIS_WIDTH, "axis"), *(panel.text(*part) for part in times)])
    return lines


class Graph(LinePanel):
    """One curve over time.

    It moves with the clock and keeps the peak of every column. It is drawn anew only when `show` brings
    something that changes the picture.
    """

    def __init__(
        self,
        *,
        ascii_only: bool = False,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - the name that Textual gives it
        classes: str | None = None,
    ) -> None:
        super().__init__(ascii_only=ascii_only, name=name, id=id, classes=classes)
        self._trace: Trace | None = None

    def show(self, trace: Trace | None, *, stale: bool = False) -> None:
        """Show a curve; None leaves the room blank."""
        self._trace = trace
        self.changed(stale=stale)

    def make_lines(self, width: int, height: int) -> Sequence[Line]:
        """Give the graph's lines."""
        return [] if self._trace is None or not width else draw(self, self._trace, width, height)


def _axis(panel: LinePanel, trace: Trace, glyphs: Glyphs, row: int, rows: int) -> Line:
    label = trace.top_label if row == 0 else "0" if row == rows - 1 else ""
    return [panel.text(f"{label:>{LABEL_WIDTH}} {glyphs.tick if label else glyphs.axis}", "axis")]


def _marked_cells(marks: Iterable[Mark], window: Window) -> dict[int, str]:
    """Give the cells, two columns each, that have a mark in a window; the later one of two in a cell."""
    cells = {}
    for mark in marks:
        column = window.column(mark.moment)
        if column is not None:
            cells[column // 2] = mark.name
    return cells


def _cell_styles(
    peaks: Sequence[float | None], bands: Sequence[tuple[float, str]], marks: Mapping[int, str]
) -> list[str]:
    styles = ["curve"] * (len(peaks) // 2)
    if bands:
        lowest = bands[0][0]
        for column, peak in enumerate(peaks):
            # A cell has one colour: of its two columns, the higher one's.
            if peak is not None and peak >= lowest and peak >= (peaks[column ^ 1] or 0):
                styles[column // 2] = [style for start, style in bands if peak >= start][-1]
    for cell in marks:
        styles[cell] = "mark"
    return styles


def _runs(styles: Sequence[str]) -> list[tuple[int, int, str]]:
    runs, start = [], 0
    for style, members in groupby(styles):
        stop = start + len(list(members))
        runs.append((start, stop, style))
        start = stop
    return runs


def _through_blanks(row: str, marks: Mapping[int, str], glyph: str) -> str:
    """Draw the marks' lines where the curve has left room: no peak is ever covered."""
    if not marks:
        return row
    characters = list(row)
    for cell in marks:
        if characters[cell] == " ":
            characters[cell] = glyph
    return "".join(characters)


def _times(span_label: str, marks: Mapping[int, str], cells: int) -> list[tuple[str, str]]:
    """Give the line of time: the span, the names of marks under their lines (or beside ``now``), and ``now``.

    A name that has no room is left out; the newest comes first.
    """
    line, styles = [" "] * cells, ["axis"] * cells

    def place(start: int, text: str, style: str) -> None:
        taken = slice(max(0, start - 1), start + len(text) + 1)
        if start >= 0 and start + len(text) <= cells and not "".join(line[taken]).strip():
            line[start : start + len(text)] = text
            styles[start : start + len(text)] = [style] * len(text)

    now = "now"
    place(cells - len(now), now, "axis")
    place(0, span_label, "axis")
    for cell in sorted(marks, reverse=True):
        name = marks[cell]
        place(min(cell, cells - len(now) - 1 - len(name)), name, "mark")
    drawn = "".join(line)
    return [(drawn[start:stop], style) for start, stop, style in _runs(styles)]
