"""A graph over time in braille, by the line API."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from qubix_tui.console.braille import ASCII_FULL_CELL, FULL_CELL, ascii_rows, braille_rows, nice_ceiling
from qubix_tui.console.time_series import Window
from qubix_tui.console.widgets.line_panel import Line, LinePanel, LineWidget

LABEL_WIDTH: Final = 5
AXIS_WIDTH: Final = LABEL_WIDTH + 2
"""Cells left of the curve: a label, a space, and the axis itself."""

MIN_LABELLED_HEIGHT: Final = 3
"""From this height on there is an axis: the curve's name, and labels at the top and bottom."""

MIN_TIMED_HEIGHT: Final = 4
"""From this height on the lowest line tells the span and the names of marks."""


class Mark(NamedTuple):
    """An event on the line of time."""

    moment: float
    """Hub time, seconds since the epoch."""
    name: str
    """What happened, in a word or two that are safe to show; empty where the line alone is to be shown."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a graph is to show."""

    name: str
    """What the curve is of, at most `LABEL_WIDTH` cells."""
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
    full: str
    """A cell that is full from the bottom to the top."""


_GLYPHS: Final = Glyphs(axis="│", tick="┤", mark="│", full=FULL_CELL)
_ASCII_GLYPHS: Final = Glyphs(axis="|", tick="+", mark="|", full=ASCII_FULL_CELL)


class GrowingScale:
    """The top of an axis that has no natural end: grows in steps of 1, 2, 5, and never shrinks.

    Args:
        least: Where it begins.
    """

    def __init__(self, least: float = 1.0) -> None:
        self._top = least

    def fit(self, value: float | None) -> float:
        """Give the top of the axis, with room for ``value``."""
        if value is not None and value > self._top:
            self._top = nice_ceiling(value)
        return self._top


def draw(panel: LineWidget, trace: Trace, width: int, height: int, *, axis: bool = True) -> list[Line]:
    """Draw a graph with its axes in the styles of a panel.

    Args:
        panel: Lends its styles, and says whether only ASCII is to be used.
        trace: What to show.
        width: Cells of every line that is given, axis included.
        height: Lines. From `MIN_TIMED_HEIGHT` on the lowest one is that of time.
        axis: Whether there is to be an axis, if the height allows it (`MIN_LABELLED_HEIGHT`).
    """
    has_axis, has_times = axis and height >= MIN_LABELLED_HEIGHT, height >= MIN_TIMED_HEIGHT
    cells = max(1, width - AXIS_WIDTH) if has_axis else width
    rows = height - 1 if has_times else height
    window = Window.ending(trace.end, trace.span, 2 * cells)
    peaks = trace.peaks(window)
    marks = _marked_cells(trace.marks, window)
    glyphs = _ASCII_GLYPHS if panel.ascii_only else _GLYPHS
    drawn = (ascii_rows if panel.ascii_only else braille_rows)(peaks, rows, trace.top)
    edge = _edge_styles(peaks, trace.bands)
    lines = []
    above = " " * cells
    for row, text in enumerate(drawn):
        line = _axis(panel, trace, glyphs, row, rows) if has_axis else []
        lines.append([*line, *_curve(panel, text, above, edge, marks, glyphs)])
        above = text
    if has_times:
        times = _times(trace.span_label, marks, cells)
        indent = " " * (width - cells)
        lines.append([panel.text(indent, "axis"), *(panel.text(*part) for part in times)])
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


def _axis(panel: LineWidget, trace: Trace, glyphs: Glyphs, row: int, rows: int) -> Line:
    label = trace.top_label if row == 0 else "0" if row == rows - 1 else ""
    name = trace.name if row == 1 else ""
    tick = glyphs.tick if label else glyphs.axis
    return [panel.text(f"{name or label:>{LABEL_WIDTH}} ", "label"), panel.text(tick, "axis")]


def _marked_cells(marks: Iterable[Mark], window: Window) -> dict[int, str]:
    """Give the cells, two columns each, that have a mark in a window; the later one of two in a cell."""
    cells = {}
    for mark in marks:
        column = window.column(mark.moment)
        if column is not None:
            cells[column // 2] = mark.name
    return cells


def _edge_styles(peaks: Sequence[float | None], bands: Sequence[tuple[float, str]]) -> list[str]:
    """Give the colour of each cell's peak; a cell has one, that of the higher of its two columns."""
    styles = ["curve"] * (len(peaks) // 2)
    if bands:
        for cell in range(len(styles)):
            peak = max(peaks[2 * cell] or 0, peaks[2 * cell + 1] or 0)
            for start, style in bands:
                if peak >= start:
                    styles[cell] = style
    return styles


def _curve(
    panel: LineWidget, text: str, above: str, edge: Sequence[str], marks: Mapping[int, str], glyphs: Glyphs
) -> Line:
    """Give one line of a curve: its edge in colour, what is below dimmed, marks as lines.

    A mark covers no edge, nor a part of one: the peak of every column is always seen.
    """
    styles = [style if higher == " " else "fill" for style, higher in zip(edge, above, strict=True)]
    for cell in marks:
        if text[cell] == " " or (text[cell] == glyphs.full and above[cell] != " "):
            text = f"{text[:cell]}{glyphs.mark}{text[cell + 1 :]}"
            styles[cell] = "mark"
    line, start = [], 0
    for style, members in groupby(styles):
        stop = start + len(list(members))
        line.append(panel.text(text[start:stop], style))
        start = stop
    return line


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
    return [
        ("".join(character for character, _ in members), style)
        for style, members in groupby(zip(line, styles, strict=True), key=itemgetter(1))
    ]


def axis_label(value: float) -> str:
    """Give a number that is 1, 2 or 5 times a power of ten in at most four cells: ``20k``, ``1M``."""
    for unit in ("", "k", "M", "G"):
        if value < 1000:
            return f"{value:.0f}{unit}"
        value /= 1000
    return f"{value:.0f}T"
