"""A list of records, a line each, by the line API: it costs what the lines in view cost, not the list."""

from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, Generic, NamedTuple, TypeVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from qubix_tui.console.columns import GAP, Piece
from qubix_tui.console.widgets.line_panel import TO_ASCII
from qubix_tui.console.widgets.tiles import cut

T = TypeVar("T")

HEAD_LINES = 1


class ListColumn(NamedTuple, Generic[T]):
    """One column."""

    title: str
    width: int
    right: bool
    draw: Callable[[T, int], Sequence[Piece]]
    """Gives a cell's pieces for a width; they are aligned and cut to it."""


class RecordList(ScrollView, Generic[T], can_focus=True):
    """Records of one kind with a cursor, which stays on its record however the list changes.

    Args:
        columns: Gives the columns for a number of cells, from the left.
        key: Gives what a record is known by.
        follows: Whether the cursor goes with the end of the list until somebody moves it away.
        ascii_only: Whether glyphs beyond ASCII are to be avoided.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False, id="list.up", tooltip="One line up"),
        Binding("down", "move(1)", "Down", show=False, id="list.down", tooltip="One line down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="list.page-up", tooltip="One page up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="list.page-down", tooltip="One page down"),
        Binding("home", "jump(0)", "Top", show=False, id="list.top", tooltip="The first line"),
        Binding("end", "jump(-1)", "End", show=False, id="list.end", tooltip="The last line"),
        Binding("enter", "open", "open", id="list.open", tooltip="Go to what the selected line is about"),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "list--head",
        "list--cursor",
        "list--name",
        "list--value",
        "list--label",
        "list--bar",
        "list--ok",
        "list--busy",
        "list--warn",
        "list--hot",
        "list--stale",
    }

    DEFAULT_CSS = """
    RecordList {
        width: 1fr;
        height: 1fr;
        background: $background;
        color: $foreground;
        overflow-x: hidden;
        scrollbar-size-vertical: 1;

        .list--head { color: $quiet; }
        .list--cursor {
            background: $cursor-background;
            text-style: $cursor-text-style;
        }
        .list--name { text-style: bold; }
        .list--label { color: $quiet; }
        .list--bar { color: $busy; }
        .list--ok { color: $ok; }
        .list--busy { color: $busy; }
        .list--warn { color: $warn; }
        .list--hot { color: $hot; text-style: bold; }
        .list--stale { color: $stale; }
    }
    """

    class Opened(Message):
        """A record was chosen."""

        def __init__(self, record: object) -> None:
            super().__init__()
            self.record = record

    class CursorMoved(Message):
        """The cursor is on another record, or on none."""

    def __init__(
        self,
        *,
        columns: Callable[[int], Sequence[ListColumn[T]]],
        key: Callable[[T], Hashable],
        follows: bool = False,
        ascii_only: bool = False,
        id: str | None = None,  # noqa: A002 - the name that Textual gives it
    ) -> None:
        super().__init__(id=id)
        self._fit = columns
        self._key = key
        self._ascii_only = ascii_only
        self._records: Sequence[T] = ()
        self._columns: Sequence[ListColumn[T]] = ()
        self._place: int | None = None
        self._styles: dict[tuple[str, bool], Style] = {}
        self._follows = follows
        self.is_following = follows
        """Whether the cursor goes with the end of the list."""
        self.is_past = False
        """Whether everything is shown as of the past: the hub is gone."""
        self.painted_rows = 0
        """How many records were drawn since the start: a measure of work."""

    @property
    def records(self) -> Sequence[T]:
        """What is listed."""
        return self._records

    @property
    def selected(self) -> T | None:
        """The record under the cursor."""
        return None if self._place is None else self._records[self._place]

    def show(self, records: Sequence[T], *, is_past: bool = False) -> None:
        """List records. The cursor stays on its record; where that is gone, near its place."""
        before = self.selected
        self._records = records
        self.is_past = is_past
        self.virtual_size = Size(self.size.width, len(records) + HEAD_LINES)
        self._place = self._find(before)
        self._show_cursor()
        self.refresh()
        if (None if before is None else self._key(before)) != self._selected_key():
            self.post_message(self.CursorMoved())

    def select(self, key: Hashable) -> bool:
        """Move the cursor to the record of a key; False where there is none."""
        for place, record in enumerate(self._records):
            if self._key(record) == key:
                self._move_to(place)
                return True
        return False

    def follow(self) -> None:
        """Go to the end, and stay there."""
        self.is_following = self._follows
        self._move_to(len(self._records) - 1)

    def refit(self) -> None:
        """Choose the columns anew."""
        self._columns = self._fit(self.size.width - 1)
        self.refresh()

    def action_move(self, step: int) -> None:
        """Move the cursor by so many lines."""
        self._move_to((self._place or 0) + step)

    def action_page(self, pages: int) -> None:
        """Move the cursor by so many pages."""
        self.action_move(pages * max(1, self.size.height - HEAD_LINES - 1))

    def action_jump(self, place: int) -> None:
        """Move the cursor to a place; -1 is the last."""
        self._move_to(place if place >= 0 else len(self._records) - 1)

    def action_open(self) -> None:
        """Open the selected record."""
        record = self.selected
        if record is not None:
            self.post_message(self.Opened(record))

    def notify_style_update(self) -> None:
        """Paint everything in the colours of another theme."""
        super().notify_style_update()
        self._styles.clear()

    def on_resize(self, event: events.Resize) -> None:
        """Choose the columns for the new width."""
        self._columns = self._fit(event.size.width - 1)
        self.virtual_size = Size(event.size.width, len(self._records) + HEAD_LINES)
        self._show_cursor()

    def on_click(self, event: events.Click) -> None:
        """Select the line; a second click opens it."""
        place = self.scroll_offset.y + event.y - HEAD_LINES
        if event.y >= HEAD_LINES and place < len(self._records):
            self._move_to(place)
            if event.chain > 1:
                self.action_open()

    def render_line(self, y: int) -> Strip:
        """Give one line for the compositor."""
        width = self.size.width
        if y < HEAD_LINES:
            return self._line([[(column.title, "head")] for column in self._columns], width)
        place = self.scroll_offset.y + y - HEAD_LINES
        if place >= len(self._records):
            return Strip.blank(width, self.rich_style)
        self.painted_rows += 1
        record = self._records[place]
        cells = [column.draw(record, column.width) for column in self._columns]
        return self._line(cells, width, selected=place == self._place)

    def _line(self, cells: Sequence[Sequence[Piece]], width: int, *, selected: bool = False) -> Strip:
        base = self._style("value", selected=selected)
        mark = ">" if self._ascii_only else "▎"
        segments = [Segment(mark if selected else " ", base)]
        for number, (column, pieces) in enumerate(zip(self._columns, cells, strict=True)):
            if number:
                segments.append(Segment(" " * GAP, base))
            room = column.width
            shown: list[Segment] = []
            for text, name in pieces:
                kept = cut(text, room)
                room -= cell_len(kept)
                if self._ascii_only:
                    kept = kept.translate(TO_ASCII)
                past = self.is_past and name != "head"
                shown.append(Segment(kept, self._style("stale" if past else name, selected=selected)))
            blank = Segment(" " * room, base)
            segments += [blank, *shown] if column.right else [*shown, blank]
        return Strip(segments).adjust_cell_length(width, base)

    def _style(self, name: str, *, selected: bool) -> Style:
        style = self._styles.get((name, selected))
        if style is None:
            style = self.get_component_rich_style(f"list--{name}")
            if selected:
                cursor = self.get_component_rich_style("list--cursor")
                if cursor.reverse:
                    # Several colours turned round would be a row of patches.
                    style = self._style("value", selected=False) + Style(reverse=True, bold=style.bold)
                else:
                    style += Style(bgcolor=cursor.bgcolor)
            self._styles[name, selected] = style
        return style

    def _find(self, record: T | None) -> int | None:
        """Give the place of the cursor in a changed list."""
        records = self._records
        if not records:
            return None
        if self.is_following:
            return len(records) - 1
        if record is None:
            return 0
        key, place = self._key(record), min(self._place or 0, len(records) - 1)
        if self._key(records[place]) == key:
            return place
        return next((found for found, some in enumerate(records) if self._key(some) == key), place)

    def _selected_key(self) -> Hashable | None:
        record = self.selected
        return None if record is None else self._key(record)

    def _move_to(self, place: int) -> None:
        if not self._records:
            return
        last = len(self._records) - 1
        place = max(0, min(place, last))
        self.is_following = self._follows and place == last
        if place != self._place:
            old, self._place = self._place, place
            for changed in (old, place):
                if changed is not None:
                    y = changed - self.scroll_offset.y + HEAD_LINES
                    if HEAD_LINES <= y < self.size.height:
                        self.refresh(Region(0, y, self.size.width, 1))
            self.post_message(self.CursorMoved())
        self._show_cursor()

    def _show_cursor(self) -> None:
        if self._place is None:
            return
        rows = max(1, self.size.height - HEAD_LINES)
        top = self.scroll_offset.y
        if self._place < top:
            self.scroll_to(y=self._place, animate=False, force=True, immediate=True)
        elif self._place >= top + rows:
            self.scroll_to(y=self._place - rows + 1, animate=False, force=True, immediate=True)
