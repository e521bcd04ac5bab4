"""The jobs: those that run, that wait, and that are over."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from qubix_tui.console.columns import GAP, Piece
from qubix_tui.console.format import format_age, safe
from qubix_tui.console.job_book import JobRow
from qubix_tui.console.job_words import (
    cost_words,
    left_pieces,
    progress_pieces,
    provider_name,
    reason_words,
    state_pieces,
)
from qubix_tui.console.saving import Table
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.screens.job_actions import ask_to_cancel, open_form, show_why
from qubix_tui.console.widgets.banner import Banner
from qubix_tui.console.widgets.key_line import KeyLine
from qubix_tui.console.widgets.record_list import ListColumn, RecordList
from qubix_tui.console.widgets.top_bar import TopBar
from qubix_tui.protocol import channels
from qubix_tui.protocol.job_records import JobState
from qubix_tui.protocol.types import from_timestamp

WIDE: Final = 110
"""From here on there are columns for the attempt, the time left and the reason."""

WITH_AGE: Final = 86

ID_WIDTH: Final = 16
"""Of the ids that a hub makes; their beginnings are alike, so that none is to be cut."""

LEAST_REASON: Final = 8

LIST_SECONDS: Final = 0.5
"""The table is put in order at most once in this time: thousands of jobs report their progress."""


class JobsScreen(ConsoleScreen):
    """The table of jobs."""

    VIEW = "jobs"
    CHANGES = frozenset({"cancel", "submit"})

    CSS_PATH = "../styles/events.tcss"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/", id="jobs.filter", tooltip="Filter the jobs"),
        Binding("n", "submit", "new job", id="jobs.submit", tooltip="Submit a job"),
        Binding("x", "cancel", "cancel", id="jobs.cancel", tooltip="Cancel the marked jobs, or this one"),
        Binding("w", "why", "why", id="jobs.why", tooltip="Why it waits: what providers it finds"),
        Binding("space", "mark", "mark", id="jobs.mark", tooltip="Mark this one, or no longer"),
        Binding("down", "to_list", show=False, id="jobs.to-list", tooltip="From the filter to the list"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._seen = -1
        self._listed_at = -LIST_SECONDS
        self._marked: set[str] = set()
        self._is_watching = False
        self._filter = ""

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        app = self.console_app
        yield TopBar("jobs", app.url, ascii_only=app.ascii_only)
        yield Banner()
        with Horizontal(classes="filter-line"):
            yield Static("/", classes="filter-mark", markup=False)
            yield Input(
                placeholder="a word of its id, workload, provider, state or reason",
                compact=True,
                select_on_focus=False,
                id="jobs-filter",
                classes="filter-input",
            )
            yield Static(id="jobs-count", classes="filter-count", markup=False)
        yield RecordList[JobRow](
            columns=self._columns,
            key=lambda row: row.job.id,
            ascii_only=app.ascii_only,
            id="jobs-list",
        )
        yield Static(id="jobs-whole", classes="whole", markup=False)
        yield Static(id="jobs-empty", classes="empty", markup=False)
        yield KeyLine(ascii_only=app.ascii_only)

    @property
    def listing(self) -> RecordList[JobRow]:
        """The list."""
        return self.query_one(RecordList)

    @property
    def chosen(self) -> list[JobRow]:
        """The marked jobs, or the selected one where none is marked."""
        rows = self.console_app.jobs.rows
        marked = [rows[job_id] for job_id in sorted(self._marked) if job_id in rows]
        selected = self.listing.selected
        return marked or ([] if selected is None else [selected])

    def on_mount(self) -> None:
        """Begin at the list."""
        self.listing.focus()
        self._watch(True)

    def on_unmount(self) -> None:
        """Hear of progress no longer."""
        self._watch(False)

    def on_screen_suspend(self) -> None:
        """Hear of progress no longer: nobody looks."""
        self._watch(False)

    def on_screen_resume(self) -> None:
        """Hear of progress again."""
        self._watch(True)

    def flush(self) -> None:
        """List the jobs anew, if any changed."""
        book, now = self.console_app.jobs, self.console_app.monotonic()
        if book.change_count != self._seen and now - self._listed_at >= LIST_SECONDS:
            self._listed_at = now
            self._list()

    def tick(self) -> None:
        """Tell times and costs anew."""
        if not self.console_app.is_paused:
            self._list()

    def action_filter(self) -> None:
        """Go to the filter."""
        self.set_focus(self.query_one("#jobs-filter", Input))

    def action_to_list(self) -> None:
        """Go to what the filter left."""
        self.listing.focus()

    def action_mark(self) -> None:
        """Mark the selected job, or no longer, and go to the next."""
        selected = self.listing.selected
        if selected is not None:
            self._marked ^= {selected.job.id}
            self.listing.action_move(1)
            self._list()

    def action_submit(self) -> None:
        """Fill in a form."""
        open_form(self.console_app)

    def action_cancel(self) -> None:
        """Ask whether to cancel, then do it."""
        ask_to_cancel(self.console_app, self.chosen)
        self._marked.clear()

    def action_why(self) -> None:
        """Ask the hub why the selected one waits."""
        selected = self.listing.selected
        if selected is not None:
            show_why(self.console_app, selected.job)

    def action_back(self) -> None:
        """Leave the filter, then clear it, then the marks, then leave the screen."""
        field = self.query_one("#jobs-filter", Input)
        if field.value:
            field.value = ""
            self.listing.focus()
        elif field.has_focus:
            self.listing.focus()
        elif self._marked:
            self._marked.clear()
            self._list()
        else:
            super().action_back()

    def copied(self) -> str | None:
        """Give the ids of what is chosen."""
        return "\n".join(row.job.id for row in self.chosen) or None

    def saved(self) -> Table:
        """Give the jobs that are listed."""
        columns = (
            *("id", "workload", "state", "provider_id", "attempt", "progress_percent", "created"),
            *("cost_micros", "reason"),
        )
        now = self._now()
        rows = [
            (
                row.job.id,
                row.job.workload,
                row.job.state.value,
                row.job.provider_id,
                row.job.attempt,
                row.job.progress.progress if row.job.progress is not None else None,
                row.job.created_at,
                row.cost(now),
                row.job.reason,
            )
            for row in self.listing.records
        ]
        return Table("jobs", columns, rows)

    @on(RecordList.Opened)
    def _open(self, event: RecordList.Opened) -> None:
        row = event.record
        assert isinstance(row, JobRow)
        self.console_app.open_job(row.job.id)

    @on(RecordList.CursorMoved)
    def _moved(self) -> None:
        self._say()

    @on(Input.Changed, "#jobs-filter")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._filter = event.value.lower()
        self._list()

    @on(Input.Submitted, "#jobs-filter")
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.listing.focus()

    def _watch(self, wanted: bool) -> None:
        """Follow the progress of all jobs, or no longer."""
        if wanted is not self._is_watching:
            self._is_watching = wanted
            connection = self.console_app.connection
            if wanted:
                connection.subscribe(channels.ALL_JOBS, snapshot=True, recover=False)
            else:
                connection.unsubscribe(channels.ALL_JOBS)

    def _list(self) -> None:
        app = self.console_app
        self._seen = app.jobs.change_count
        self._marked &= app.jobs.rows.keys()
        self.listing.show(app.jobs.ordered(self._predicate()), is_past=not app.is_live)
        self._say()

    def _predicate(self) -> Callable[[JobRow], bool] | None:
        words = self._filter.split()
        if not words:
            return None
        return lambda row: all(word in self._haystack(row) for word in words)

    def _haystack(self, row: JobRow) -> str:
        job = row.job
        return f"{job.id} {job.workload} {job.state} {self._provider(row)} {job.reason or ''}".lower()

    def _say(self) -> None:
        app = self.console_app
        counts, shown = app.jobs.counts(), len(self.listing.records)
        parts = [f"{shown} of {len(app.jobs.rows)}"] if self._filter.strip() else []
        parts += [
            f"{counts[state]} {state}"
            for state in (JobState.RUNNING, JobState.QUEUED, JobState.UNKNOWN, JobState.FAILED)
            if counts[state]
        ]
        if self._marked:
            parts.insert(0, f"{len(self._marked)} marked")
        self.write("#jobs-count", ", ".join(parts))
        self.set_class(not shown, "-empty")
        self.write("#jobs-empty", self._empty_words())
        selected = self.listing.selected
        self.write("#jobs-whole", "" if selected is None else self._whole(selected))

    def _whole(self, row: JobRow) -> str:
        job, progress = row.job, row.job.progress
        says = safe(progress.message) if progress is not None and progress.message else ""
        parts = [f"{job.id} ({job.workload})", reason_words(job), says]
        if job.submitted_by:
            parts.append(f"by {safe(job.submitted_by)}")
        return "  ".join(part for part in parts if part)

    def _empty_words(self) -> str:
        app = self.console_app
        if not app.is_live:
            return ""
        if self._filter.strip():
            wanted = safe(self._filter.strip())
            return f"None of {len(app.jobs.rows)} jobs has {wanted}.\n\nEsc clears the filter."
        if not app.jobs.is_loaded:
            return "Asking the hub for the jobs."
        return (
            "No jobs yet. n submits one; from a shell:\n\n    qubix submit WORKLOAD\n\n"
            "What can be run is what the providers' owners allow: see a provider's details (i)."
        )

    def _provider(self, row: JobRow) -> str:
        known = self.console_app.fleet.rows.get(row.job.provider_id or "")
        return provider_name(row.job, known.name if known is not None else None)

    def _now(self) -> float:
        return self.console_app.connection.hub_time()

    def _columns(self, width: int) -> list[ListColumn[JobRow]]:
        is_wide = width >= WIDE
        columns = [
            ListColumn[JobRow]("", 1, False, self._draw_mark),
            ListColumn[JobRow]("STATE", 12 if is_wide else 11, False, self._draw_state),
            ListColumn[JobRow]("ID", ID_WIDTH, False, lambda row, _: [(row.job.id, "name")]),
            ListColumn[JobRow](
                "WORKLOAD", 12 if is_wide else 9, False, lambda row, _: [(row.job.workload, "value")]
            ),
            ListColumn[JobRow]("PROGRESS", 20 if is_wide else 12, False, self._draw_progress),
            ListColumn[JobRow](
                "PROVIDER", 16 if is_wide else 9, False, lambda row, _: [(self._provider(row), "value")]
            ),
        ]
        if is_wide:
            columns += [
                ListColumn[JobRow]("TRY", 3, True, lambda row, _: [(str(row.job.attempt), "label")]),
                ListColumn[JobRow]("LEFT", 7, True, lambda row, _: left_pieces(row, self._now())),
            ]
        cost = ListColumn[JobRow]("COST", 7, True, lambda row, _: [(cost_words(row, self._now()), "value")])
        columns.append(cost)
        if width >= WITH_AGE:
            columns.append(ListColumn[JobRow]("AGE", 4, True, self._draw_age))
        room = width - sum(column.width + GAP for column in columns)
        if is_wide and room >= LEAST_REASON:
            columns.append(
                ListColumn[JobRow]("REASON", room, False, lambda row, _: [(reason_words(row.job), "label")])
            )
        return columns

    def _draw_mark(self, row: JobRow, _width: int) -> Sequence[Piece]:
        return [("*", "hot")] if row.job.id in self._marked else []

    def _draw_state(self, row: JobRow, _width: int) -> Sequence[Piece]:
        return state_pieces(row.job, ascii_only=self.console_app.ascii_only)

    def _draw_progress(self, row: JobRow, width: int) -> Sequence[Piece]:
        return progress_pieces(row, self._now(), width, ascii_only=self.console_app.ascii_only)

    def _draw_age(self, row: JobRow, _width: int) -> Sequence[Piece]:
        return [(format_age(self._now() - from_timestamp(row.job.created_at)), "label")]
