"""One row of the fleet's table as a strip, drawn anew only where it has to be."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from qubix_tui.console.columns import GAP, Column, Paint, Piece, SortOrder
from qubix_tui.console.fleet import Row
from qubix_tui.console.widgets.line_panel import TO_ASCII

CACHED_STRIPS: Final = 512

_MARK: Final = ("◆", "*")
_CURSOR: Final = ("▎", ">")


class Look(NamedTuple):
    """How a row is shown besides what it says."""

    selected: bool
    """Whether the cursor is on it."""
    marked: bool
    past: bool
    """Whether it is of the past because the hub is gone."""


class _Cached(NamedTuple):
    version: int
    moment: int
    look: Look
    strip: Strip


class RowPainter:
    """Draws rows and the line above them.

    Args:
        component: Gives the style of a component class of the table by its last part.
        ascii_only: Whether glyphs beyond ASCII are to be avoided.
    """

    def __init__(self, component: Callable[[str], Style], *, ascii_only: bool) -> None:
        self._component = component
        self._ascii_only = ascii_only
        self._styles: dict[tuple[str, bool], Style] = {}
        self._strips: dict[str, _Cached] = {}
        self.columns: list[tuple[Column, int]] = []
        """Each with its width in cells; `forget` after changing them."""
        self.painted = 0
        """How many rows were drawn since the start: a measure of work."""

    def forget(self) -> None:
        """Draw everything anew from now on: columns or colours changed."""
        self._styles.clear()
        self._strips.clear()

    def column_at(self, x: int) -> str | None:
        """Give the key of the column that has a cell of the line; None where there is none."""
        start = 1
        for column, cells in self.columns:
            if start <= x < start + cells + GAP:
                return column.key
            start += cells + GAP
        return None

    def head(self, width: int, order: SortOrder) -> Strip:
        """Give the line above the rows."""
        plain, chosen = self.style("head"), self.style("sorted")
        segments = [Segment(" ", plain)]
        for number, (column, cells) in enumerate(self.columns):
            if number:
                segments.append(Segment(" " * GAP, plain))
            is_sorted = column.key == order.key
            title = column.title if len(column.title) <= cells else ""
            if is_sorted and cells > len(title):
                down = column.descending is not order.reverse
                title += ("v" if down else "^") if self._ascii_only else ("↓" if down else "↑")
            title = title.rjust(cells) if column.right else title.ljust(cells)
            segments.append(Segment(title[:cells], chosen if is_sorted else plain))
        return Strip(segments).adjust_cell_length(width, plain)

    def row(self, row: Row, now: float, width: int, look: Look) -> Strip:
        """Give the line of a row.

        Args:
            row: Which.
            now: Hub time, seconds since the epoch.
            width: Cells to fill.
            look: How it is shown.
        """
        provider_id = row.record.id
        moment = int(now * 2)
        cached = self._strips.get(provider_id)
        if cached is not None and cached[:3] == (row.version, moment, look):
            return cached.strip
        self.painted += 1
        strip = self._drawn(row, now, width, look)
        if len(self._strips) >= CACHED_STRIPS:
            self._strips.clear()
        self._strips[provider_id] = _Cached(row.version, moment, look, strip)
        return strip

    def style(self, name: str, *, selected: bool = False) -> Style:
        """Give a style of the table's by the last part of its component class."""
        style = self._styles.get((name, selected))
        if style is None:
            style = self._component(name)
            if selected:
                cursor = self._component("cursor")
                if cursor.reverse:
                    # Several colours turned round would be a row of patches.
                    style = self.style("value") + Style(reverse=True, bold=style.bold)
                else:
                    style += Style(bgcolor=cursor.bgcolor)
            self._styles[name, selected] = style
        return style

    def _drawn(self, row: Row, now: float, width: int, look: Look) -> Strip:
        past = look.past or row.is_stale(now)
        paint = Paint(row, now, self._ascii_only)
        selected = look.selected
        base = self.style("value", selected=selected)
        segments = [self._first(look)]
        gap = Segment(" " * GAP, base)
        for number, (column, cells) in enumerate(self.columns):
            if number:
                segments.append(gap)
            # What is wrong, and that it is of the past, is of the present.
            keep = column.key in {"trouble", "state"} and not look.past
            pieces = column.draw(paint, cells)
            segments += self._cell(pieces, cells, column.right, selected=selected, past=past and not keep)
        return Strip(segments).adjust_cell_length(width, base)

    def _first(self, look: Look) -> Segment:
        if look.marked:
            return Segment(_MARK[self._ascii_only], self.style("mark", selected=look.selected))
        return Segment(
            _CURSOR[self._ascii_only] if look.selected else " ", self.style("value", selected=look.selected)
        )

    def _cell(
        self, pieces: Sequence[Piece], cells: int, right: bool, *, selected: bool, past: bool
    ) -> list[Segment]:
        segments: list[Segment] = []
        room = cells
        for text, name in pieces:
            style = self.style("stale" if past else name, selected=selected)
            shown = self._cut(text, room)
            segments.append(Segment(shown.translate(TO_ASCII) if self._ascii_only else shown, style))
            room -= cell_len(shown)
        if not room:
            return segments
        blank = Segment(" " * room, self.style("value", selected=selected))
        return [blank, *segments] if right else [*segments, blank]

    def _cut(self, text: str, room: int) -> str:
        if cell_len(text) <= room:
            return text
        return set_cell_size(text, room - 1) + ("~" if self._ascii_only else "…") if room > 0 else ""
