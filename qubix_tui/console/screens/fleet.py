"""The fleet: the screen that the console opens on."""

from collections.abc import Iterable
from functools import partial
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Static

from qubix_tui.console.columns import BY_KEY, COLUMNS
from qubix_tui.console.command import Command
from qubix_tui.console.fleet_export import fleet_table
from qubix_tui.console.format import safe
from qubix_tui.console.query_eval import values_of
from qubix_tui.console.saving import Table
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.widgets.fleet_table import FleetTable, SortOrder
from qubix_tui.console.widgets.key_line import KeyLine
from qubix_tui.console.widgets.news_feed import NewsFeed
from qubix_tui.console.widgets.preview import Preview
from qubix_tui.console.widgets.query_bar import QueryBar
from qubix_tui.console.widgets.summary_bar import SummaryBar
from qubix_tui.console.widgets.top_bar import TopBar

SIDE_WIDTH: Final = 150
BELOW_HEIGHT: Final = 40
"""From which size on the preview stands beside or below the table."""

SORTABLE: Final = tuple(column.key for column in COLUMNS if column.key not in {"minute", "location"})


class FleetScreen(ConsoleScreen):
    """The live table of all providers, what is wrong first."""

    VIEW = "fleet"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/", id="fleet.filter", tooltip="Filter the table"),
        Binding("s", "sort", "sort", id="fleet.sort", tooltip="Sort by the next column (or click on a head)"),
        Binding("R", "reverse", "reverse", id="fleet.reverse", tooltip="Turn the order round"),
        Binding("escape", "clear", "clear", show=False, id="fleet.clear", tooltip="Clear the filter"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._ticks = 0
        self._members_changed = False
        self._news_count = -1

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        app = self.console_app
        yield TopBar("fleet", app.url, ascii_only=app.ascii_only)
        yield Static(id="banner", markup=False)
        yield SummaryBar(ascii_only=app.ascii_only)
        yield QueryBar(self._values, id="query")
        with Horizontal(id="body"):
            yield FleetTable(app.fleet, ascii_only=app.ascii_only, id="table")
            yield Static(id="empty", markup=False)
            yield Preview(ascii_only=app.ascii_only)
        yield NewsFeed(ascii_only=app.ascii_only)
        yield KeyLine(ascii_only=app.ascii_only)

    def on_mount(self) -> None:
        """Begin at the table."""
        self.query_one(FleetTable).focus()

    def on_screen_resume(self) -> None:
        """Whoever came or went meanwhile is to be seen at once."""
        self._members_changed = True
        self._ticks = 0

    def on_resize(self) -> None:
        """Put the preview where there is room for it."""
        width, height = self.size
        self.set_class(width >= SIDE_WIDTH, "-side")
        self.set_class(width < SIDE_WIDTH and height >= BELOW_HEIGHT, "-below")
        self.set_class(height >= 30, "-tall")

    def action_filter(self) -> None:
        """Go to the filter."""
        self.query_one(QueryBar).edit()

    def action_sort(self) -> None:
        """Sort by the next column."""
        table = self.query_one(FleetTable)
        place = SORTABLE.index(table.order.key) if table.order.key in SORTABLE else -1
        self.sort_by(SORTABLE[(place + 1) % len(SORTABLE)])

    def sort_by(self, key: str) -> None:
        """Sort by a column."""
        self.query_one(FleetTable).order = SortOrder(key)
        self._show_count()

    def action_reverse(self) -> None:
        """Turn the order round."""
        table = self.query_one(FleetTable)
        table.order = SortOrder(table.order.key, not table.order.reverse)
        self._show_count()

    def copied(self) -> str:
        """Give the selected provider's id, or, where there is none, the command that adds one."""
        return self.query_one(FleetTable).cursor_id or self.console_app.agent_command

    def commands(self) -> Iterable[Command]:
        """Give the columns to sort by."""
        for key in SORTABLE:
            yield Command(f"Sort by {_title(key)}", "Order of the table", partial(self.sort_by, key))

    def saved(self) -> Table:
        """Give the rows that the table has now, in their order."""
        table = self.query_one(FleetTable)
        return fleet_table(table.fleet.rows[key] for key in table.ids if key in table.fleet.rows)

    def action_clear(self) -> None:
        """Clear the filter, and go back to the table."""
        self.query_one(QueryBar).ask("")
        self.query_one(FleetTable).focus()

    @on(QueryBar.Changed)
    def _filter_changed(self, event: QueryBar.Changed) -> None:
        self.query_one(FleetTable).show_only(event.predicate)
        self._show_count()
        self._show_body()

    @on(QueryBar.Left)
    def _filter_left(self) -> None:
        self.query_one(FleetTable).focus()

    @on(FleetTable.Opened)
    def _open(self, event: FleetTable.Opened) -> None:
        self.console_app.open_provider(event.provider_id)

    @on(FleetTable.CursorMoved)
    def _cursor_moved(self) -> None:
        self._show_preview()

    def flush(self) -> None:
        """Paint what changed since the last time, where it can be seen."""
        app, table = self.console_app, self.query_one(FleetTable)
        changed, members = app.fleet.take_changes()
        self._members_changed |= members
        if self._members_changed and (self._ticks == 0 or not table.ids):
            self._sort()
        if changed:
            table.refresh_rows(changed)
            if table.cursor_id in changed:
                self._show_preview()
        if app.fleet.news_count != self._news_count:
            self._news_count = app.fleet.news_count
            self.query_one(NewsFeed).show(list(app.fleet.news)[:-51:-1])

    def tick(self) -> None:
        """Tell the time: whether the hub is there every half second; order, sums and ages every second."""
        app = self.console_app
        self._ticks += 1
        self._show_banner()
        if self._ticks % 2 == 0 or app.is_paused:
            return
        is_past = not app.is_live
        table = self.query_one(FleetTable)
        table.is_past = is_past
        self._sort()
        table.refresh_ages()
        if app.fleet.is_loaded:  # before, nothing is known: no sums, rather than sums of nothing
            self.query_one(SummaryBar).show(app.fleet_summary(), app.fleet.now(), stale=is_past)
        self._show_preview()

    def pause_changed(self) -> None:
        """Hold the table's picture too, or let it go on."""
        self.query_one(FleetTable).fleet = self.console_app.picture
        self._members_changed = True
        self._ticks = 0
        super().pause_changed()

    def _sort(self) -> None:
        self._members_changed = False
        self.query_one(FleetTable).sort_rows()
        self._show_count()
        self._show_body()

    def _show_banner(self) -> None:
        sentence = self.console_app.trouble()
        fleet = self.console_app.fleet
        # With nothing on the screen yet the sentence has the whole body to itself.
        shown = sentence if sentence is not None and fleet.rows else None
        self.set_class(shown is not None, "-trouble")
        if shown is not None:
            self._write("#banner", shown)
        elif not fleet.rows:
            self._show_body()

    def _show_body(self) -> None:
        """Show the table, or a sentence where it would be empty."""
        table = self.query_one(FleetTable)
        words = "" if table.ids else self._empty_words()
        self.set_class(bool(words), "-empty")
        if words:
            self._write("#empty", words)

    def _empty_words(self) -> str:
        app = self.console_app
        trouble = app.trouble()
        if app.fleet.rows:
            return f"Nothing matches {safe(self.query_one(QueryBar).query_text)}.\n\nEsc clears the filter."
        if trouble is not None:
            return trouble
        if not app.fleet.is_loaded:
            return "Asking the hub who is there."
        return (
            "No providers yet. On a machine with a GPU:\n\n"
            f"    {app.agent_command}\n\n"
            "y copies the command. A made-up fleet to look at: qubix simulate"
        )

    def _show_count(self) -> None:
        table, total = self.query_one(FleetTable), len(self.console_app.fleet.rows)
        if not total:
            self.query_one(QueryBar).show_count("")
            return
        shown = len(table.ids)
        title = _title(table.order.key)
        turned = ", reversed" if table.order.reverse else ""
        count = f"{shown} of {total}" if shown != total else f"{total}"
        self.query_one(QueryBar).show_count(f"{count}, by {title}{turned}")

    def _write(self, selector: str, words: str) -> None:
        """Put words on the screen if they are not there already: each change costs a layout."""
        line = self.query_one(selector, Static)
        if line.content != words:
            line.update(words)

    def _values(self, field: str) -> list[str]:
        return values_of(self.console_app.fleet.rows.values(), field)

    def _show_preview(self) -> None:
        if not (self.has_class("-side") or self.has_class("-below")):
            return
        app, table = self.console_app, self.query_one(FleetTable)
        row = app.picture.rows.get(table.cursor_id) if table.cursor_id is not None else None
        self.query_one(Preview).show(row, app.picture.now(), stale=not app.is_live)


def _title(key: str) -> str:
    """Give what people call a column."""
    return {"trouble": "trouble", "minute": "use"}.get(key, BY_KEY[key].title.lower())
