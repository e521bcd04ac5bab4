"""The live table of the fleet, by the line API: it costs what the rows in view cost, not the fleet."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from qubix_tui.console.columns import BY_KEY, GAP, Column, Paint, Piece, fit, sort_key
from qubix_tui.console.fleet import Fleet
from qubix_tui.console.query_eval import Predicate
from qubix_tui.console.widgets.line_panel import TO_ASCII

HEAD_LINES = 1
CACHED_STRIPS = 512


class SortOrder(NamedTuple):
    """What the table is sorted by."""

    key: str = "trouble"
    reverse: bool = False


class _Cached(NamedTuple):
    version: int
    second: int
    selected: bool
    strip: Strip


class FleetTable(ScrollView, can_focus=True):
    """One line for each provider.

    Args:
        fleet: Where the rows are.
        ascii_only: Whether glyphs beyond ASCII are to be avoided.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False, id="fleet.up", tooltip="One provider up"),
        Binding("down", "move(1)", "Down", show=False, id="fleet.down", tooltip="One provider down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="fleet.page-up", tooltip="One page up"),
        Binding(
            "pagedown", "page(1)", "Page down", show=False, id="fleet.page-down", tooltip="One page down"
        ),
        Binding("home", "jump(0)", "Top", show=False, id="fleet.top", tooltip="The first provider"),
        Binding("end", "jump(-1)", "End", show=False, id="fleet.end", tooltip="The last provider"),
        Binding("enter", "open", "open", id="fleet.open", tooltip="Everything about the selected provider"),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--head",
        "table--sorted",
        "table--cursor",
        "table--name",
        "table--value",
        "table--label",
        "table--bar",
        "table--spark",
        "table--ok",
        "table--busy",
        "table--warn",
        "table--hot",
        "table--stale",
    }

    order: reactive[SortOrder] = reactive(SortOrder(), init=False)
    """What the rows are sorted by."""

    is_past: reactive[bool] = reactive(False, init=False)
    """Whether everything is shown as of the past: the hub is gone."""

    class Opened(Message):
        """A provider was chosen."""

        def __init__(self, provider_id: str) -> None:
            super().__init__()
            self.provider_id = provider_id

    class CursorMoved(Message):
        """Another provider is selected, or none."""

        def __init__(self, provider_id: str | None) -> None:
            super().__init__()
            self.provider_id = provider_id

    def __init__(self, fleet: Fleet, *, ascii_only: bool = False, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.fleet = fleet
        """What it shows, as it is or as it was when the picture was paused."""
        self._ascii_only = ascii_only
        self._predicate: Predicate | None = None
        self._ids: list[str] = []
        self._places: dict[str, int] = {}
        self._cursor_id: str | None = None
        self._is_chosen = False
        """Whether a person put the cursor where it is: until then it rests on the first row."""
        self._columns: list[tuple[Column, int]] = []
        self._strips: dict[str, _Cached] = {}
        self._styles: dict[tuple[str, bool], Style] = {}
        self.painted_rows = 0
        """How many rows were drawn since the start: a measure of work."""

    @property
    def ids(self) -> Sequence[str]:
        """The providers in view or out of it, in the order of the table."""
        return self._ids

    @property
    def cursor_id(self) -> str | None:
        """The selected provider."""
        return self._cursor_id

    def show_only(self, predicate: Predicate | None) -> None:
        """Show the rows that fulfil a predicate; None shows all."""
        self._predicate = predicate
        self.sort_rows()

    def sort_rows(self) -> None:
        """Filter and sort anew. The cursor stays on its provider."""
        rows = self.fleet.rows.values()
        predicate = self._predicate
        chosen = list(rows) if predicate is None else [row for row in rows if predicate(row)]
        chosen.sort(key=sort_key(BY_KEY[self.order.key], reverse=self.order.reverse))
        ids = [row.record.id for row in chosen]
        if ids == self._ids:
            return
        was_visible = self._is_cursor_visible()
        old_place = self._places.get(self._cursor_id or "", 0)
        self._ids = ids
        self._places = {provider_id: place for place, provider_id in enumerate(ids)}
        self._strips = {key: cached for key, cached in self._strips.items() if key in self._places}
        self.virtual_size = Size(self.size.width, len(ids) + HEAD_LINES)
        if not self._is_chosen:
            self._select(ids[0] if ids else None)
        elif self._cursor_id not in self._places:
            self._select(ids[min(old_place, len(ids) - 1)] if ids else None)
        if was_visible:
            self._show_cursor()
        self.refresh()

    def refresh_rows(self, provider_ids: set[str]) -> None:
        """Paint the rows of some providers anew, those that are in view."""
        top = self.scroll_offset.y
        for y in range(HEAD_LINES, self.size.height):
            place = top + y - HEAD_LINES
            if place >= len(self._ids):
                break
            if self._ids[place] in provider_ids:
                self.refresh(Region(0, y, self.size.width, 1))

    def refresh_ages(self) -> None:
        """Paint the rows in view anew: a second has passed."""
        self.refresh_rows(set(self._ids[self.scroll_offset.y : self.scroll_offset.y + self.size.height]))

    def select(self, provider_id: str) -> None:
        """Move the cursor to a provider, if it is in the table."""
        if provider_id in self._places:
            self._is_chosen = True
            self._select(provider_id)
            self._show_cursor()

    def action_move(self, step: int) -> None:
        """Move the cursor by so many rows."""
        self._move_to(self._places.get(self._cursor_id or "", 0) + step)

    def action_page(self, pages: int) -> None:
        """Move the cursor by so many pages."""
        self.action_move(pages * max(1, self.size.height - HEAD_LINES - 1))

    def action_jump(self, place: int) -> None:
        """Move the cursor to a place in the order; -1 is the last."""
        self._move_to(place if place >= 0 else len(self._ids) - 1)

    def action_open(self) -> None:
        """Open the selected provider."""
        if self._cursor_id is not None:
            self.post_message(self.Opened(self._cursor_id))

    def watch_order(self) -> None:
        """Sort anew."""
        self._strips.clear()
        self.sort_rows()
        self.refresh()

    def watch_is_past(self) -> None:
        """Paint everything in the colours of the past, or of the present again."""
        self._strips.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        """Paint everything in the colours of another theme."""
        super().notify_style_update()
        self._styles.clear()
        self._strips.clear()

    def on_resize(self, event: events.Resize) -> None:
        """Choose the columns for the new width."""
        self._columns = fit(event.size.width - 2)
        self._strips.clear()
        self.virtual_size = Size(event.size.width, len(self._ids) + HEAD_LINES)
        self._show_cursor()

    def on_click(self, event: events.Click) -> None:
        """Sort by the head that was clicked, or select the row; a second click opens it."""
        if event.y < HEAD_LINES:
            key = self._column_at(event.x)
            if key is not None:
                same = key == self.order.key
                self.order = SortOrder(key, same and not self.order.reverse)
            return
        place = self.scroll_offset.y + event.y - HEAD_LINES
        if place < len(self._ids):
            self.select(self._ids[place])
            if event.chain > 1:
                self.action_open()

    def render_line(self, y: int) -> Strip:
        """Give one line for the compositor."""
        width = self.size.width
        if y < HEAD_LINES:
            return self._head(width)
        place = self.scroll_offset.y + y - HEAD_LINES
        if place >= len(self._ids):
            return Strip.blank(width, self.rich_style)
        return self._row(self._ids[place], width)

    def _head(self, width: int) -> Strip:
        plain, chosen = self._style("head", selected=False), self._style("sorted", selected=False)
        segments = [Segment(" ", plain)]
        for number, (column, cells) in enumerate(self._columns):
            if number:
                segments.append(Segment(" " * GAP, plain))
            is_sorted = column.key == self.order.key
            title = column.title if len(column.title) <= cells else ""
            if is_sorted and cells > len(title):
                down = column.descending is not self.order.reverse
                title += ("v" if down else "^") if self._ascii_only else ("↓" if down else "↑")
            title = title.rjust(cells) if column.right else title.ljust(cells)
            segments.append(Segment(title[:cells], chosen if is_sorted else plain))
        return Strip(segments).adjust_cell_length(width, plain)

    def _row(self, provider_id: str, width: int) -> Strip:
        row = self.fleet.rows.get(provider_id)
        if row is None:  # it left since the last sorting
            return Strip.blank(width, self.rich_style)
        now = self.fleet.now()
        selected = provider_id == self._cursor_id
        second = int(now * 2)
        cached = self._strips.get(provider_id)
        if cached is not None and cached[:3] == (row.version, second, selected):
            return cached.strip
        self.painted_rows += 1
        past = self.is_past or row.is_stale(now)
        paint = Paint(row, now, self._ascii_only)
        base = self._style("value", selected=selected)
        segments = [Segment("▎" if selected and not self._ascii_only else ">" if selected else " ", base)]
        for number, (column, cells) in enumerate(self._columns):
            if number:
                segments.append(Segment(" " * GAP, base))
            keep = column.key in {"trouble", "state"} and not self.is_past
            pieces = column.draw(paint, cells)
            segments += self._cell(pieces, cells, column.right, selected=selected, past=past and not keep)
        strip = Strip(segments).adjust_cell_length(width, base)
        if len(self._strips) >= CACHED_STRIPS:
            self._strips.clear()
        self._strips[provider_id] = _Cached(row.version, second, selected, strip)
        return strip

    def _cell(
        self, pieces: Sequence[Piece], cells: int, right: bool, *, selected: bool, past: bool
    ) -> list[Segment]:
        segments: list[Segment] = []
        room = cells
        for text, name in pieces:
            style = self._style("stale" if past else name, selected=selected)
            shown = self._cut(text, room)
            segments.append(Segment(shown.translate(TO_ASCII) if self._ascii_only else shown, style))
            room -= cell_len(shown)
        blank = Segment(" " * room, self._style("value", selected=selected))
        return [blank, *segments] if right else [*segments, blank]

    def _cut(self, text: str, room: int) -> str:
        if cell_len(text) <= room:
            return text
        return set_cell_size(text, room - 1) + ("~" if self._ascii_only else "…") if room > 0 else ""

    def _style(self, name: str, *, selected: bool) -> Style:
        style = self._styles.get((name, selected))
        if style is None:
            style = self.get_component_rich_style(f"table--{name}")
            if selected:
                cursor = self.get_component_rich_style("table--cursor")
                if cursor.reverse:
                    # Several colours turned round would be a row of patches.
                    style = self._style("value", selected=False) + Style(reverse=True, bold=style.bold)
                else:
                    style += Style(bgcolor=cursor.bgcolor)
            self._styles[name, selected] = style
        return style

    def _column_at(self, x: int) -> str | None:
        start = 1
        for column, cells in self._columns:
            if start <= x < start + cells + GAP:
                return column.key
            start += cells + GAP
        return None

    def _move_to(self, place: int) -> None:
        if self._ids:
            self.select(self._ids[max(0, min(place, len(self._ids) - 1))])

    def _select(self, provider_id: str | None) -> None:
        if provider_id == self._cursor_id:
            return
        changed = {key for key in (self._cursor_id, provider_id) if key is not None}
        self._cursor_id = provider_id
        self.refresh_rows(changed)
        self.post_message(self.CursorMoved(provider_id))

    def _is_cursor_visible(self) -> bool:
        place = self._places.get(self._cursor_id or "")
        return place is None or 0 <= place - self.scroll_offset.y < self.size.height - HEAD_LINES

    def _show_cursor(self) -> None:
        place = self._places.get(self._cursor_id or "")
        if place is None:
            return
        rows = max(1, self.size.height - HEAD_LINES)
        top = self.scroll_offset.y
        if place < top:
            self.scroll_to(y=place, animate=False, force=True)
        elif place >= top + rows:
            self.scroll_to(y=place - rows + 1, animate=False, force=True)
