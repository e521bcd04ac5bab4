"""One job: how it does, what it prints, and what it left."""

from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Input, Static

from qubix_tui.console.job_book import JobRow
from qubix_tui.console.job_log import JobLog
from qubix_tui.console.job_words import provider_name
from qubix_tui.console.saving import Table
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.screens.job_actions import ask_to_cancel, show_why
from qubix_tui.console.widgets.job_panel import JobFacts, JobHead, Shown
from qubix_tui.console.widgets.key_line import KeyLine
from qubix_tui.console.widgets.log_view import LogView
from qubix_tui.console.widgets.top_bar import TopBar
from qubix_tui.protocol import channels
from qubix_tui.protocol.events import Event, JobLogged
from qubix_tui.protocol.marketplace import JobSnapshot

SIDE_WIDTH: Final = 120
"""From here on the facts stand beside the log, else in its place."""


class JobScreen(ConsoleScreen):
    """One job, live.

    Args:
        job_id: Which; the hub need not know it (yet).
    """

    VIEW = "jobs"
    CHANGES = frozenset({"cancel"})

    CSS_PATH = "../styles/job.tcss"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "hold", "hold", id="job.hold", tooltip="Hold the log still, or go on"),
        Binding("slash", "search", "search", key_display="/", id="job.search", tooltip="Search the log"),
        Binding("n", "find(-1)", "older", show=False, id="job.older", tooltip="The next older place found"),
        Binding("N", "find(1)", "newer", show=False, id="job.newer", tooltip="The next newer place found"),
        Binding("i", "facts", "details", id="job.facts", tooltip="Attempts, parameters, result"),
        Binding("o", "provider", "provider", id="job.provider", tooltip="The provider that has it"),
        Binding("x", "cancel", "cancel", id="job.cancel", tooltip="Cancel it"),
        Binding("w", "why", "why", id="job.why", tooltip="Why it waits: what providers it finds"),
    ]

    def __init__(self, job_id: str) -> None:
        super().__init__()
        self.job_id = job_id
        self.job_log = JobLog()
        self._is_answered = False
        self._seen = -1

    @property
    def subject(self) -> str:
        """Which job it shows."""
        return self.job_id

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        app = self.console_app
        ascii_only = app.ascii_only
        yield TopBar("job", app.url, ascii_only=ascii_only)
        yield JobHead(ascii_only=ascii_only)
        with Horizontal(id="body"):
            with Vertical(id="log"):
                yield LogView(self.job_log, ascii_only=ascii_only)
                yield Static(id="log-note", markup=False)
            with VerticalScroll(id="facts"):
                yield JobFacts(ascii_only=ascii_only)
        with Horizontal(id="search-line"):
            yield Static("/", classes="filter-mark", markup=False)
            yield Input(placeholder="search the log", compact=True, id="log-search", classes="filter-input")
        yield KeyLine(ascii_only=ascii_only)

    @property
    def log_view(self) -> LogView:
        """The log."""
        return self.query_one(LogView)

    @property
    def row(self) -> JobRow | None:
        """What is known of the job."""
        return self.console_app.jobs.rows.get(self.job_id)

    def on_mount(self) -> None:
        """Ask the hub for the job, and follow it."""
        connection = self.console_app.connection
        connection.on("*", self._on_event)
        connection.subscribe(channels.job_channel(self.job_id), snapshot=True, recover=False)
        self.log_view.focus()

    def on_unmount(self) -> None:
        """Stop following it."""
        connection = self.console_app.connection
        connection.off("*", self._on_event)
        connection.unsubscribe(channels.job_channel(self.job_id))

    def on_resize(self) -> None:
        """Put the facts where there is room for them."""
        self.set_class(self.size.width >= SIDE_WIDTH, "-side")

    def flush(self) -> None:
        """Show what the job printed."""
        self.log_view.refresh_log()
        if self.console_app.jobs.change_count != self._seen:
            self._seen = self.console_app.jobs.change_count
            self._show()
        self._say()

    def tick(self) -> None:
        """Tell times and cost anew."""
        if not self.console_app.is_paused:
            self._show()

    def action_hold(self) -> None:
        """Hold the log still, or go on with its end."""
        view = self.log_view
        view.hold(not view.stands_still)
        self._say()

    def action_search(self) -> None:
        """Type what to search for."""
        self.add_class("-searching")
        self.set_focus(self.query_one("#log-search", Input))

    def action_find(self, step: int) -> None:
        """Go to the next place found."""
        wanted = self.query_one("#log-search", Input).value
        if wanted and not self.log_view.search(wanted, step):
            self.notify(f"The log has no {wanted} in it.", markup=False)

    def action_facts(self) -> None:
        """Show the facts in the log's place, or the log again."""
        self.toggle_class("-facts")
        (self.query_one("#facts") if self.has_class("-facts") else self.log_view).focus()

    def action_provider(self) -> None:
        """Go to the provider that has it, or had it last."""
        row = self.row
        if row is not None and row.job.provider_id is not None:
            self.console_app.open_provider(row.job.provider_id)
        else:
            self.notify("No provider has it.", markup=False)

    def action_cancel(self) -> None:
        """Ask whether to cancel it, then do it."""
        row = self.row
        ask_to_cancel(self.console_app, [] if row is None else [row])

    def action_why(self) -> None:
        """Ask the hub why it waits."""
        row = self.row
        if row is not None:
            show_why(self.console_app, row.job)

    def action_back(self) -> None:
        """End the search, then leave."""
        if self.has_class("-searching"):
            self.remove_class("-searching")
            self.query_one("#log-search", Input).value = ""
            self.log_view.search("")
            self.log_view.focus()
        else:
            super().action_back()

    def copied(self) -> str | None:
        """Give the log as text; the job's id where it printed nothing."""
        return self.job_log.text() or self.job_id

    def saved(self) -> Table:
        """Give the log, a row for each line."""
        rows = [
            ({"warn": "stderr", "label": None}.get(line.style, "stdout"), line.text)
            for line in self.job_log.lines
        ]
        return Table(f"log-{self.job_id}", ("stream", "text"), rows)

    @on(Input.Changed, "#log-search")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        found = self.log_view.search(event.value)
        event.input.set_class(bool(event.value) and not found, "-wrong")

    @on(Input.Submitted, "#log-search")
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.log_view.focus()

    def _on_event(self, event: Event) -> None:
        match event.data:
            case JobLogged(job_id=self.job_id) as piece:
                self.job_log.take(piece)
            case JobSnapshot(job_id=self.job_id):
                # The tail of the log follows, which may be known already.
                self.job_log.clear()
                self._is_answered, self._seen = True, -1

    def _show(self) -> None:
        app, row = self.console_app, self.row
        shown = None
        if row is not None:
            known = app.fleet.rows.get(row.job.provider_id or "")
            name = provider_name(row.job, known.name if known is not None else None)
            shown = Shown(row, name, app.connection.hub_time())
            self.query_one(JobFacts).show(shown, stale=not app.is_live)
        self.query_one(JobHead).show(shown, self._notice(), stale=not app.is_live)

    def _notice(self) -> str:
        """Give a sentence about what is shown, where that needs one."""
        trouble = self.console_app.trouble()
        if trouble is not None:
            return trouble
        if self.row is None:
            if self._is_answered:
                return f"The hub knows no job {self.job_id}; old ones are let go."
            return f"Asking the hub for {self.job_id}."
        return ""

    def _say(self) -> None:
        """Say how the log does: whether it follows, and that nothing was printed yet."""
        view, count = self.log_view, len(self.job_log.lines)
        if view.stands_still:
            words = f"held still, {_lines(view.waiting)} new (space: go on)"
        elif not count:
            row = self.row
            is_over = row is not None and row.job.state.is_final
            words = "it printed nothing" if is_over else "nothing printed yet"
        else:
            how = "follows" if view.is_following else "scrolled back (end: follow)"
            words = f"{_lines(count)}, {how}"
        self.write("#log-note", words)


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"
