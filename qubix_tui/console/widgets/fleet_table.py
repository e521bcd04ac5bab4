"""The live table of the fleet, by the line API: it costs what the rows in view cost, not the fleet."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from qubix_tui.console.columns import BY_KEY, SortOrder, fit, sort_key
from qubix_tui.console.fleet import Fleet, Row
from qubix_tui.console.query_eval import Predicate
from qubix_tui.console.widgets.row_painter import Look, RowPainter

HEAD_LINES = 1


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
        Binding("space", "mark", "mark", id="fleet.mark", tooltip="Mark the provider for an action"),
        Binding("ctrl+a", "mark_all", "mark all", show=False, id="fleet.mark-all", tooltip="Mark all shown"),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--head",
        "table--sorted",
        "table--cursor",
        "table--mark",
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
    """What the rows are sorted by; what was chosen before decides between equals."""

    is_past: reactive[bool] = reactive(False, init=False)
    """Whether everything is shown as of the past: the hub is gone."""

    shows_marked: reactive[bool] = reactive(False, init=False)
    """Whether the marked ones alone are shown."""

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

    class Changed(Message):
        """Others are marked, or the order is another."""

    def __init__(self, fleet: Fleet, *, ascii_only: bool = False, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.fleet = fleet
        """What it shows, as it is or as it was when the picture was paused."""
        self.wanted_columns: Sequence[str] = ()
        """Keys of the columns to show, the most wanted first; empty for the usual ones."""
        self.marked: set[str] = set()
        """Ids of the marked providers."""
        self._painter = RowPainter(
            lambda name: self.get_component_rich_style(f"table--{name}"), ascii_only=ascii_only
        )
        self._second = SortOrder("name")
        self._predicate: Predicate | None = None
        self._sorted_by: object = None
        self._ids: list[str] = []
        self._places: dict[str, int] = {}
        self._cursor_id: str | None = None
        self._is_chosen = False
        """Whether a person put the cursor where it is: until then it rests on the first row."""

    @property
    def ids(self) -> Sequence[str]:
        """The providers in view or out of it, in the order of the table."""
        return self._ids

    @property
    def cursor_id(self) -> str | None:
        """The selected provider."""
        return self._cursor_id

    @property
    def selection(self) -> list[Row]:
        """What an action is about: the marked rows, or else the one under the cursor, in their order."""
        chosen = self.marked or {self._cursor_id or ""}
        return [self.fleet.rows[key] for key in self._ids if key in chosen and key in self.fleet.rows]

    @property
    def painted_rows(self) -> int:
        """How many rows were drawn since the start: a measure of work."""
        return self._painter.painted

    @property
    def column_keys(self) -> list[str]:
        """The columns that are shown, from the left."""
        return [column.key for column, _ in self._painter.columns]

    def show_only(self, predicate: Predicate | None) -> None:
        """Show the rows that fulfil a predicate; None shows all."""
        self._predicate = predicate
        self.sort_rows()

    def sort_rows(self) -> None:
        """Filter and sort anew. The cursor stays on its provider."""
        basis = self._basis()
        if basis == self._sorted_by:
            return
        self._sorted_by = basis
        self.marked &= self.fleet.rows.keys()
        chosen = [row for row in self._rows_in_order() if self._is_shown(row)]
        chosen.sort(key=sort_key(self.order, self._second))
        ids = [row.record.id for row in chosen]
        if ids == self._ids:
            return
        was_visible = self._is_cursor_visible()
        old_place = self._places.get(self._cursor_id or "", 0)
        old_ids, self._ids = self._ids, ids
        self._places = {provider_id: place for place, provider_id in enumerate(ids)}
        if len(old_ids) != len(ids):
            self.virtual_size = Size(self.size.width, len(ids) + HEAD_LINES)
        if not self._is_chosen:
            self._select(ids[0] if ids else None)
        elif self._cursor_id not in self._places:
            self._select(ids[min(old_place, len(ids) - 1)] if ids else None)
        if was_visible:
            self._show_cursor()
        self._refresh_moved(old_ids)

    def refresh_rows(self, provider_ids: set[str]) -> None:
        """Paint the rows of some providers anew, those that are in view."""
        for y, place in self._lines():
            if place >= len(self._ids):
                break
            if self._ids[place] in provider_ids:
                self.refresh(Region(0, y, self.size.width, 1))

    def refresh_ages(self) -> None:
        """Paint the rows in view anew: a second has passed."""
        self.refresh_rows({self._ids[place] for _, place in self._lines() if place < len(self._ids)})

    def select(self, provider_id: str) -> None:
        """Move the cursor to a provider, if it is in the table."""
        if provider_id in self._places:
            self._is_chosen = True
            self._select(provider_id)
            self._show_cursor()

    def mark(self, provider_ids: set[str]) -> None:
        """Mark these, and no others."""
        changed = self.marked ^ provider_ids
        self.marked = set(provider_ids)
        self.refresh_rows(changed)
        if self.shows_marked:
            self.shows_marked = bool(self.marked)
            self.sort_rows()
        self.post_message(self.Changed())

    def sort_by(self, key: str) -> None:
        """Sort by a column; by the same again turns the order round."""
        self.order = SortOrder(key, key == self.order.key and not self.order.reverse)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Offer to open and to mark only where there is something to."""
        return bool(self._ids) or action not in {"open", "mark", "mark_all"}

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

    def action_mark(self) -> None:
        """Mark the selected provider, or take its mark away, and go on to the next."""
        if self._cursor_id is not None:
            chosen = self._cursor_id
            self.action_move(1)
            self.mark(self.marked ^ {chosen})

    def action_mark_all(self) -> None:
        """Mark all that the table shows."""
        self.mark(set(self._ids))

    def watch_order(self, old: SortOrder, new: SortOrder) -> None:
        """Sort anew."""
        if old.key != new.key:
            self._second = old
        self.sort_rows()
        self.refresh()
        self.post_message(self.Changed())

    def watch_is_past(self) -> None:
        """Paint everything in the colours of the past, or of the present again."""
        self.refresh()

    def watch_shows_marked(self) -> None:
        """Show the marked ones alone, or all again."""
        self.sort_rows()

    def notify_style_update(self) -> None:
        """Paint everything in the colours of another theme."""
        super().notify_style_update()
        self._painter.forget()

    def on_resize(self, event: events.Resize) -> None:
        """Choose the columns for the new width."""
        self._painter.columns = fit(event.size.width - 2, self.wanted_columns)
        self._painter.forget()
        self.virtual_size = Size(event.size.width, len(self._ids) + HEAD_LINES)
        self._show_cursor()

    def on_click(self, event: events.Click) -> None:
        """Sort by the head that was clicked, or select the row; a second click opens it."""
        if event.y < HEAD_LINES:
            key = self._painter.column_at(event.x)
            if key is not None:
                self.sort_by(key)
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
            return self._painter.head(width, self.order)
        place = self.scroll_offset.y + y - HEAD_LINES
        # One may have left since the last sorting.
        row = self.fleet.rows.get(self._ids[place]) if place < len(self._ids) else None
        if row is None:
            return Strip.blank(width, self.rich_style)
        provider_id = row.record.id
        look = Look(provider_id == self._cursor_id, provider_id in self.marked, self.is_past)
        return self._painter.row(row, self.fleet.now(), width, look)

    def _basis(self) -> object:
        """Give what the rows and their order come from; anything new where each sample may change that."""
        settled = BY_KEY[self.order.key].is_settled and BY_KEY[self._second.key].is_settled
        fleet = self.fleet
        counted = fleet.record_count if settled and self._predicate is None else fleet.change_count
        marked = frozenset(self.marked) if self.shows_marked else None
        return id(fleet), counted, self.order, self._second, self._predicate, marked

    def _rows_in_order(self) -> Iterable[Row]:
        """Give all rows, those that were shown in their order: to sort what is nearly sorted is cheap."""
        rows, places = self.fleet.rows, self._places
        shown = [rows[key] for key in self._ids if key in rows]
        return shown if len(shown) == len(rows) else [*shown, *(rows[key] for key in rows.keys() - places)]

    def _is_shown(self, row: Row) -> bool:
        if self.shows_marked and row.record.id not in self.marked:
            return False
        return self._predicate is None or self._predicate(row)

    def _lines(self) -> list[tuple[int, int]]:
        """Give the lines in view, each with the place in the order that it shows."""
        top = self.scroll_offset.y
        return [(y, top + y - HEAD_LINES) for y in range(HEAD_LINES, self.size.height)]

    def _refresh_moved(self, old_ids: Sequence[str]) -> None:
        """Paint the lines in view that show another provider than before."""
        for y, place in self._lines():
            if old_ids[place : place + 1] != self._ids[place : place + 1]:
                self.refresh(Region(0, y, self.size.width, 1))

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
