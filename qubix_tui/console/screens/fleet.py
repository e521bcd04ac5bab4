"""The fleet: the screen that the console opens on."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from qubix_tui.console.columns import BY_KEY, COLUMNS, SortOrder
from qubix_tui.console.command import Command
from qubix_tui.console.fleet_export import fleet_table
from qubix_tui.console.format import safe
from qubix_tui.console.query_eval import values_of
from qubix_tui.console.saving import Table
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.screens.fleet_actions import ask_to_remove, listed, removable
from qubix_tui.console.screens.pick import Choice, PickScreen
from qubix_tui.console.screens.save_actions import copy
from qubix_tui.console.screens.saved_views import SavedViewsScreen
from qubix_tui.console.widgets.fleet_table import FleetTable
from qubix_tui.console.widgets.key_line import KeyLine
from qubix_tui.console.widgets.news_feed import NewsFeed
from qubix_tui.console.widgets.preview import Preview
from qubix_tui.console.widgets.query_bar import QueryBar
from qubix_tui.console.widgets.summary_bar import SummaryBar
from qubix_tui.console.widgets.top_bar import TopBar
from qubix_tui.protocol.job_records import JobState

SIDE_WIDTH: Final = 150
BELOW_HEIGHT: Final = 40
"""From which size on the preview stands beside or below the table."""

TALL_HEIGHT: Final = 30
"""From here on there is room for tiles and for several events."""

SORTABLE: Final = tuple(column.key for column in COLUMNS if column.key not in {"minute", "location"})


MOST_NEWS: Final = 50


class FleetScreen(ConsoleScreen):
    """The live table of all providers, what is wrong first."""

    VIEW = "fleet"
    CHANGES: ClassVar[frozenset[str]] = frozenset({"remove"})

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash",
            "filter",
            "filter",
            key_display="/",
            # Letters that follow at once would still go to the table.
            priority=True,
            id="fleet.filter",
            tooltip="Filter the table",
        ),
        Binding("s", "sort", "sort", id="fleet.sort", tooltip="Sort by the next column (or click on a head)"),
        Binding("R", "reverse", "reverse", show=False, id="fleet.reverse", tooltip="Turn the order round"),
        *(
            Binding(
                str(number),
                f"sort_place({number})",
                show=False,
                id=f"fleet.sort-{number}",
                tooltip="Sort by the column at that place; again turns it round",
            )
            for number in range(1, 10)
        ),
        Binding("v", "views", "views", id="fleet.views", tooltip="Saved views: show, save, rename, delete"),
        Binding("x", "act", "actions", id="fleet.act", tooltip="What can be done with the marked providers"),
        Binding("m", "marked", "marked", show=False, id="fleet.marked", tooltip="Show the marked ones alone"),
        Binding(
            "delete",
            "remove",
            "remove",
            show=False,
            key_display="del",
            id="fleet.remove",
            tooltip="Have the hub forget an offline provider",
        ),
        Binding("Y", "copy_rows", "copy rows", show=False, id="fleet.copy-rows", tooltip="Copy whole rows"),
        Binding(
            "escape", "clear", "clear", show=False, id="fleet.clear", tooltip="Clear the marks, or the filter"
        ),
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

    @property
    def table(self) -> FleetTable:
        """The table."""
        return self.query_one(FleetTable)

    @property
    def bar(self) -> QueryBar:
        """The line with the query."""
        return self.query_one(QueryBar)

    def on_mount(self) -> None:
        """Begin at the table, as the user has set it."""
        table, wanted = self.table, self.console_app.settings.fleet
        table.wanted_columns = wanted.columns
        table.order = SortOrder(wanted.sort, wanted.reverse)
        table.focus()

    def on_screen_resume(self) -> None:
        """Whoever came or went meanwhile is to be seen at once."""
        self._members_changed = True
        self._ticks = 0

    def on_resize(self) -> None:
        """Put the preview where there is room for it."""
        width, height = self.size
        self.set_class(width >= SIDE_WIDTH, "-side")
        self.set_class(width < SIDE_WIDTH and height >= BELOW_HEIGHT, "-below")
        self.set_class(height >= TALL_HEIGHT, "-tall")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave the filter's own sign to it while it is typed."""
        if action == "filter" and isinstance(self.focused, Input):
            return False
        return super().check_action(action, parameters)

    def action_filter(self) -> None:
        """Go to the filter."""
        self.bar.edit()

    def action_sort(self) -> None:
        """Sort by the next column."""
        key = self.table.order.key
        place = SORTABLE.index(key) if key in SORTABLE else -1
        self.sort_by(SORTABLE[(place + 1) % len(SORTABLE)])

    def action_sort_place(self, number: int) -> None:
        """Sort by the column at a place, counted from 1 at the left."""
        keys = self.table.column_keys
        if number <= len(keys):
            self.table.sort_by(keys[number - 1])

    def sort_by(self, key: str) -> None:
        """Sort by a column, in its usual direction."""
        self.table.order = SortOrder(key)

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.table.sort_by(self.table.order.key)

    def action_views(self) -> None:
        """List the saved views, and show the one that is chosen."""

        def chosen(query: str | None) -> None:
            if query is not None:
                self.bar.ask(query)

        self.app.push_screen(SavedViewsScreen(self.bar.query_text), chosen)

    def action_marked(self) -> None:
        """Show the marked ones alone, or all again."""
        table = self.table
        if not table.marked:
            self.notify("Nothing is marked: space marks a provider.", markup=False)
        table.shows_marked = bool(table.marked) and not table.shows_marked
        self._show_count()

    def action_act(self) -> None:
        """Ask what to do with the selected providers."""
        rows = self.table.selection
        if not rows:
            return
        names = "\n".join(row.name for row in rows)
        ids = "\n".join(row.record.id for row in rows)
        app = self.console_app
        choices: list[Choice[Callable[[], object]]] = [
            Choice("n", "copy the names", partial(copy, app, names)),
            Choice("i", "copy the ids", partial(copy, app, ids)),
            Choice("r", "copy the rows", self.action_copy_rows),
        ]
        if self.table.marked:
            shows = "show all again" if self.table.shows_marked else "show these alone"
            choices.append(Choice("m", shows, self.action_marked))
            choices.append(Choice("c", "clear the marks", partial(self.table.mark, set())))
        gone = removable(rows)
        if gone and not app.is_read_only:
            choices.append(Choice("d", f"remove {listed(gone)} (offline)", self.action_remove))

        def chosen(do: Callable[[], object] | None) -> None:
            if do is not None:
                do()

        self.app.push_screen(PickScreen(listed(rows), choices), chosen)

    def action_remove(self) -> None:
        """Ask whether the hub is to forget the selected providers."""
        ask_to_remove(self.console_app, self.table.selection)

    def action_copy_rows(self) -> None:
        """Copy the selected rows, with their head, for a spreadsheet."""
        table = fleet_table(self.table.selection)
        rows = [["" if value is None else str(value) for value in row] for row in table.rows]
        copy(self.console_app, "\n".join("\t".join(line) for line in [table.columns, *rows]))

    def copied(self) -> str:
        """Give the ids of the selected providers, or, where there is none, the command that adds one."""
        ids = [row.record.id for row in self.table.selection]
        return "\n".join(ids) or self.console_app.agent_command

    def commands(self) -> Iterable[Command]:
        """Give the columns to sort by."""
        for key in SORTABLE:
            yield Command(f"Sort by {_title(key)}", "Order of the table", partial(self.sort_by, key))
        for name, query in self.console_app.store.views.items():
            yield Command(f"View: {safe(name)}", safe(query), partial(self.bar.ask, query))

    def saved(self) -> Table:
        """Give the rows that the table has now, in their order."""
        rows = self.table.fleet.rows
        return fleet_table(rows[key] for key in self.table.ids if key in rows)

    def action_clear(self) -> None:
        """Clear the marks; where there are none, the filter."""
        if self.table.marked:
            self.table.mark(set())
        else:
            self.bar.ask("")
        self.set_focus(self.table)

    @on(QueryBar.Changed)
    def _query_changed(self, event: QueryBar.Changed) -> None:
        self.table.show_only(event.predicate)
        self._show_count()
        self._show_body()

    @on(QueryBar.Left)
    def _query_left(self) -> None:
        self.set_focus(self.table)

    @on(FleetTable.Opened)
    def _open(self, event: FleetTable.Opened) -> None:
        self.console_app.open_provider(event.provider_id)

    @on(FleetTable.CursorMoved)
    def _cursor_moved(self) -> None:
        self._show_preview()

    @on(FleetTable.Changed)
    def _table_changed(self) -> None:
        self._show_count()
        app, order = self.console_app, self.table.order
        if order.key != app.settings.fleet.sort:
            app.keep("fleet.sort", order.key)
        if order.reverse is not app.settings.fleet.reverse:
            app.keep("fleet.reverse", order.reverse)

    def flush(self) -> None:
        """Paint what changed since the last time, where it can be seen."""
        app, table = self.console_app, self.table
        changed, members = app.fleet.take_changes()
        self._members_changed |= members
        if self._members_changed and (self._ticks == 0 or not table.ids):
            self._sort()
        if changed:
            table.refresh_rows(changed)
            if table.cursor_id in changed:
                self._show_preview()
        if app.event_log.count != self._news_count:
            self._news_count = app.event_log.count
            self.query_one(NewsFeed).show(app.event_log.newest(MOST_NEWS))

    def tick(self) -> None:
        """Tell the time: whether the hub is there every half second; order, sums and ages every second."""
        app = self.console_app
        self._ticks += 1
        self._show_banner()
        self.table.is_past = is_past = not app.is_live
        if app.is_paused:
            return
        if self._ticks % 2:
            self._sort()
            self.table.refresh_ages()
            self._show_preview()
        # Before the fleet is loaded nothing is known: no sums, rather than sums of nothing.
        if app.fleet.is_loaded and (self._ticks == 1 or self._ticks % 2 == 0):
            queued = app.jobs.counts()[JobState.QUEUED] if app.jobs.is_loaded else None
            summary = app.fleet_summary()
            self.query_one(SummaryBar).show(summary, app.fleet.now(), queued=queued, stale=is_past)

    def pause_changed(self) -> None:
        """Hold the table's picture too, or let it go on."""
        self.table.fleet = self.console_app.picture
        self._members_changed = True
        self._ticks = 0
        super().pause_changed()

    def _sort(self) -> None:
        self._members_changed = False
        self.table.sort_rows()
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
        words = "" if self.table.ids else self._empty_words()
        if self.has_class("-empty") is not bool(words):
            self.set_class(bool(words), "-empty")
            self.refresh_bindings()
        if words:
            self._write("#empty", words)

    def _empty_words(self) -> str:
        app = self.console_app
        trouble = app.trouble()
        if app.fleet.rows:
            return f"Nothing matches {safe(self.bar.query_text)}.\n\nEsc clears the filter."
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
        table, total = self.table, len(self.console_app.picture.rows)
        if not total:
            self.bar.show_count("")
            return
        shown = len(table.ids)
        marked = f"{len(table.marked)} marked · " if table.marked else ""
        turned = ", reversed" if table.order.reverse else ""
        count = f"{shown} of {total}" if shown != total else f"{total}"
        words = f"{marked}{count}, by {_title(table.order.key)}{turned}"
        self.bar.show_count(words.replace(" · ", ", ") if self.console_app.ascii_only else words)

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
        app, table = self.console_app, self.table
        row = app.picture.rows.get(table.cursor_id) if table.cursor_id is not None else None
        self.query_one(Preview).show(row, app.picture.now(), stale=not app.is_live)


def _title(key: str) -> str:
    """Give what people call a column."""
    return {"trouble": "trouble", "minute": "use"}.get(key, BY_KEY[key].title.lower())
