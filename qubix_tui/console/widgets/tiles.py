"""Blocks of lines beside and below each other, and a grid of graphs."""

import math
from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment

from qubix_tui.console.widgets.graph import Trace, draw
from qubix_tui.console.widgets.line_panel import Line, LineWidget

GAP: Final = 2
"""Blank cells between two blocks."""

MIN_WIDTH: Final = 28
MIN_HEIGHT: Final = 4
"""Below these a graph in a grid says too little: it has three lines of curve and one of time."""

BEST_RATIO: Final = 5.0
"""Cells of width for each of height that a curve over time reads best at."""


def cut(text: str, width: int) -> str:
    """Cut text to a number of cells, with ``…`` where something is missing."""
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"[:width]


def widen(panel: LineWidget, line: Line, width: int) -> Line:
    """Give a line of exactly ``width`` cells: what is missing is blank, what is too long is cut."""
    length = sum(segment.cell_length for segment in line)
    if length <= width:
        return [*line, panel.text(" " * (width - length))] if length < width else line
    kept: Line = []
    for text, style, _ in line:
        kept.append(Segment(cut(text, width), style))
        width -= cell_len(text)
        if width <= 0:
            break
    return kept


def beside(panel: LineWidget, blocks: Sequence[tuple[Sequence[Line], int]]) -> list[Line]:
    """Put blocks of lines beside each other, `GAP` apart.

    Args:
        panel: Lends its styles.
        blocks: Each with its width in cells.
    """
    gap = panel.text(" " * GAP)
    lines = []
    for row in range(max(len(block) for block, _ in blocks)):
        line: Line = []
        for index, (block, width) in enumerate(blocks):
            line += [gap] if index else []
            line += widen(panel, block[row] if row < len(block) else [], width)
        lines.append(line)
    return lines


def tiles(panel: LineWidget, traces: Sequence[Trace], width: int, height: int) -> list[Line]:
    """Draw as many of the graphs, the first ones, as there is room for.

    Args:
        panel: Lends its styles.
        traces: In the order of their worth.
        width: Cells to fill.
        height: Lines to fill.
    """
    columns, rows = _grid(len(traces), width, height)
    lines: list[Line] = []
    for row in range(rows):
        row_height = height // rows + (row < height % rows)
        shown = traces[row * columns : (row + 1) * columns]
        if not shown:
            break
        blocks = []
        for column, trace in enumerate(shown):
            cells = (width - GAP * (columns - 1)) // columns
            if column == columns - 1:
                cells = width - (cells + GAP) * column
            blocks.append((draw(panel, trace, cells, row_height), cells))
        lines += beside(panel, blocks)
    return lines


def _grid(count: int, width: int, height: int) -> tuple[int, int]:
    """Give the columns and rows that show most graphs, and of those the ones of the best shape."""

    def worth(columns: int) -> tuple[int, bool, float]:
        rows = _rows(count, columns, height)
        ratio = (width / columns) / (height / rows)
        is_full = columns * rows <= count
        return min(count, columns * rows), is_full, -abs(math.log(ratio / BEST_RATIO))

    columns = max(range(1, max(1, min(count, width // MIN_WIDTH)) + 1), key=worth)
    return columns, _rows(count, columns, height)


def _rows(count: int, columns: int, height: int) -> int:
    return max(1, min(-(-count // columns), height // MIN_HEIGHT))
