"""Everything that happened: followed, filtered, and a way to what it is about."""

from collections.abc import Sequence
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from qubix_tui.console.columns import GAP, Piece
from qubix_tui.console.event_log import KEPT_ENTRIES, Entry, Kind
from qubix_tui.console.event_query import Chosen, parse_what_is_right
from qubix_tui.console.format import DAY, format_moment, safe
from qubix_tui.console.saving import Table
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.widgets.banner import Banner
from qubix_tui.console.widgets.key_line import KeyLine
from qubix_tui.console.widgets.record_list import ListColumn, RecordList
from qubix_tui.console.widgets.top_bar import TopBar
from qubix_tui.protocol.types import to_timestamp

CLOCK_WIDTH: Final = len("14:07:31")
DATE_WIDTH: Final = len("2026-01-31 14:07:31")
KIND_WIDTH: Final = max(len(kind) for kind in Kind)
PROVIDER_WIDTH: Final = 18
WIDE: Final = 110
"""From here on the provider has a column of its own."""

PLACEHOLDER: Final = "a word, kind:job, provider:rig-4, job:train, -word"


class EventsScreen(ConsoleScreen):
    """The log of events, newest at the end."""

    VIEW = "events"

    CSS_PATH = "../styles/events.tcss"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash", "filter", "filter", key_display="/", id="events.filter", tooltip="Filter the events"
        ),
        Binding("K", "next_kind", "kind", id="events.kind", tooltip="Only the next kind, or all"),
        Binding(
            "space", "follow", "follow", id="events.follow", tooltip="Stay with the newest, or stand still"
        ),
        Binding("down", "to_list", show=False, id="events.to-list", tooltip="From the filter to the list"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._seen = -1
        self._shown: list[Entry] = []
        self._chosen: Chosen | None = None
        self._has_dates = False
        self._stands_still = False
        self._waiting = 0
        """Entries that came since it stands still."""

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        app = self.console_app
        yield TopBar("events", app.url, ascii_only=app.ascii_only)
        yield Banner()
        with Horizontal(classes="filter-line"):
            yield Static("/", classes="filter-mark", markup=False)
            yield Input(
                placeholder=PLACEHOLDER,
                compact=True,
                select_on_focus=False,
                id="events-filter",
                classes="filter-input",
            )
            yield Static(id="events-count", classes="filter-count", markup=False)
        yield RecordList[Entry](
            columns=self._columns,
            key=lambda entry: entry.number,
            follows=True,
            ascii_only=app.ascii_only,
            id="events-list",
        )
        yield Static(id="events-whole", classes="whole", markup=False)
        yield Static(id="events-empty", classes="empty", markup=False)
        yield KeyLine(ascii_only=app.ascii_only)

    @property
    def listing(self) -> RecordList[Entry]:
        """The list."""
        return self.query_one(RecordList)

    def on_mount(self) -> None:
        """Begin at the newest."""
        self.listing.focus()

    def aim(self, subject: str | None) -> None:
        """Show what a filter leaves."""
        if subject is not None:
            self.query_one("#events-filter", Input).value = subject

    def flush(self) -> None:
        """List what came since the last time."""
        log = self.console_app.event_log
        if log.count == self._seen:
            return
        new = log.since(self._seen) if self._seen >= 0 else log.entries
        self._seen = log.count
        chosen = self._chosen
        fitting = [entry for entry in new if chosen is None or chosen(entry)]
        if self._stands_still:
            self._waiting += len(fitting)
        else:
            self._shown = [*self._shown, *fitting][-KEPT_ENTRIES:]
            self._list()
        self._say()

    def action_filter(self) -> None:
        """Go to the filter."""
        self.set_focus(self.query_one("#events-filter", Input))

    def action_to_list(self) -> None:
        """Go to what the filter left."""
        self.listing.focus()

    def action_next_kind(self) -> None:
        """Show the next kind alone, and after the last all of them."""
        field = self.query_one("#events-filter", Input)
        terms = field.value.split()
        kinds = [f"kind:{kind}" for kind in Kind]
        now = next((term for term in terms if term in kinds), None)
        place = -1 if now is None else kinds.index(now)
        rest = [term for term in terms if term != now]
        following = kinds[place + 1 : place + 2]
        field.value = " ".join([*following, *rest])

    def action_follow(self) -> None:
        """Stand still, or go on with the newest."""
        if self._stands_still or not self.listing.is_following:
            self._stands_still = False
            self._list_anew()
            self.listing.follow()
        else:
            self._stands_still, self._waiting = True, 0
        self._say()

    def action_back(self) -> None:
        """Leave the filter, then clear it, then leave the screen."""
        field = self.query_one("#events-filter", Input)
        if field.value:
            field.value = ""
            self.listing.focus()
        elif field.has_focus:
            self.listing.focus()
        else:
            super().action_back()

    def copied(self) -> str | None:
        """Give the selected event as a line."""
        entry = self.listing.selected
        return None if entry is None else f"{to_timestamp(entry.moment)}  {entry.kind}  {entry.text}"

    def saved(self) -> Table:
        """Give the events that are listed."""
        rows = [
            (to_timestamp(entry.moment), entry.kind.value, entry.provider_id, entry.job_id, entry.text)
            for entry in self._shown
        ]
        return Table("events", ("time", "kind", "provider_id", "job_id", "text"), rows)

    @on(RecordList.Opened)
    def _open(self, event: RecordList.Opened) -> None:
        entry = event.record
        assert isinstance(entry, Entry)
        app = self.console_app
        if entry.job_id is not None and entry.kind is Kind.JOB:
            app.open_job(entry.job_id)
        elif entry.provider_id is not None:
            app.open_provider(entry.provider_id)
        elif entry.job_id is not None:
            app.open_job(entry.job_id)
        else:
            self.notify("This is about no provider and no job.", markup=False)

    @on(RecordList.CursorMoved)
    def _moved(self) -> None:
        self._say()

    @on(Input.Changed, "#events-filter")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._chosen, fault = parse_what_is_right(event.value)
        event.input.set_class(fault is not None, "-wrong")
        self._list_anew()
        self._say()
        if fault is not None:
            self.write("#events-count", str(fault))

    @on(Input.Submitted, "#events-filter")
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.listing.focus()

    def _list_anew(self) -> None:
        log = self.console_app.event_log
        self._seen, self._waiting = log.count, 0
        chosen = self._chosen
        self._shown = [entry for entry in log.entries if chosen is None or chosen(entry)][-KEPT_ENTRIES:]
        self._list()

    def _say(self) -> None:
        """Say how many are listed, whether it follows, and what to do where there is none."""
        total, shown = len(self.console_app.event_log.entries), len(self._shown)
        count = f"{shown}" if shown == total else f"{shown} of {total}"
        if self._stands_still:
            how = f"stands still, {self._waiting} new (space: go on)"
        else:
            how = "follows" if self.listing.is_following else "scrolled back (end: follow)"
        if not self.query_one("#events-filter", Input).has_class("-wrong"):
            self.write("#events-count", f"{count}, {how}")
        self.set_class(not self._shown, "-empty")
        selected = self.listing.selected
        self.write("#events-whole", "" if selected is None else selected.text)
        self.write("#events-empty", self._empty_words(total))

    def _empty_words(self, total: int) -> str:
        if total:
            text = safe(self.query_one("#events-filter", Input).value)
            return f"None of {total} events matches {text}.\n\nEsc clears the filter."
        return (
            "Nothing has happened since this console was opened.\n\n"
            "Here will be: providers that come, go and change, jobs that move on, alerts, and how the\n"
            "connection to the hub does."
        )

    def _columns(self, width: int) -> list[ListColumn[Entry]]:
        def when(entry: Entry, _width: int) -> Sequence[Piece]:
            return [(format_moment(entry.moment, self._now()), "label")]

        columns = [
            ListColumn[Entry]("TIME", DATE_WIDTH if self._has_dates else CLOCK_WIDTH, False, when),
            ListColumn[Entry]("KIND", KIND_WIDTH, False, lambda entry, _: [(entry.kind.value, "label")]),
        ]
        if width >= WIDE:
            columns.append(
                ListColumn[Entry]("PROVIDER", PROVIDER_WIDTH, False, lambda entry, _: [(entry.name, "name")])
            )
        used = sum(column.width + GAP for column in columns)
        columns.append(
            ListColumn[Entry](
                "WHAT", max(8, width - used), False, lambda entry, _: [(entry.text, entry.style)]
            )
        )
        return columns

    def _now(self) -> float:
        return self.console_app.connection.hub_time()

    def _list(self) -> None:
        """List what is to be shown; with dates where the oldest needs one."""
        has_dates = bool(self._shown) and self._now() - self._shown[0].moment >= DAY
        if has_dates is not self._has_dates:
            self._has_dates = has_dates
            self.listing.refit()
        self.listing.show(self._shown)
