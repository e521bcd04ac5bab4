"""One provider: its GPUs, its machine, and ten minutes of both."""

import time
from collections.abc import Callable
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Static

from qubix_tui.client import ConnectionState
from qubix_tui.console.fleet import STALE_SECONDS
from qubix_tui.console.format import (
    format_age,
    format_duration,
    format_gpus,
    format_money,
    format_percent,
    safe,
)
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.screens.job_actions import submit
from qubix_tui.console.watched_provider import WatchedProvider
from qubix_tui.console.widgets.about_panel import BENCHMARK, About, AboutPanel
from qubix_tui.console.widgets.gpu_grid import COMFORTABLE_HEIGHT, GpuGrid, arrange
from qubix_tui.console.widgets.graph import Mark
from qubix_tui.console.widgets.host_panel import HostPanel
from qubix_tui.console.widgets.key_line import KeyLine
from qubix_tui.console.widgets.provider_header import HEIGHT as HEADER_HEIGHT
from qubix_tui.console.widgets.provider_header import SILENT_SECONDS, ProviderHeader, Standing
from qubix_tui.console.widgets.timeline import Timeline
from qubix_tui.console.widgets.top_bar import TopBar
from qubix_tui.protocol import channels
from qubix_tui.protocol.events import Event
from qubix_tui.protocol.job_records import Requirements
from qubix_tui.protocol.records import GpuInfo, GpuMetrics
from qubix_tui.protocol.requests import SubmitJob
from qubix_tui.protocol.types import from_timestamp

MAX_GPUS: Final = 64
"""More panels than this are not made, whatever a provider says it has."""

TICK_SECONDS: Final = 1.0
"""How often ages are told anew, and graphs move on, when nothing comes."""

MINUTE: Final = 60.0
TEN_MINUTES: Final = 600.0
HOUR: Final = 3600.0
SPANS: Final = {MINUTE: "1 min", TEN_MINUTES: "10 min", HOUR: "1 h"}
"""Of the last hour there is what this console saw; the hub remembers ten minutes."""

SIDE_WIDTH: Final = 170
"""From here on everything about the provider stands beside its curves, else in their place."""
ABOUT_WIDTH: Final = 76

HOST_GRAPH_HEIGHTS: Final = (8, 6, 4)
"""Lines that the host's graphs may have beside the GPUs, from the most to the least."""
ROOMY_HEIGHT: Final = 14
"""Lines of a GPU panel beyond which the host's graphs come first."""
HOST_SHARE: Final = 0.4
"""The host takes no more of the room than this."""

CHROME_HEIGHT: Final = 1 + HEADER_HEIGHT + 1
"""Lines for the top bar, the header and the footer."""


class ProviderScreen(ConsoleScreen):
    """One provider, live.

    Args:
        provider_id: Whom to show; the hub need not know it (yet).
    """

    VIEW = "fleet"
    CHANGES = frozenset({"benchmark"})
    CSS_PATH = "../styles/provider.tcss"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "next_span", "span", id="provider.span", tooltip="Ten minutes, an hour, or one minute"),
        Binding("1", "show_span(60)", "1 min", id="provider.minute", show=False, tooltip="The last minute"),
        Binding("2", "show_span(600)", "10 min", id="provider.minutes", show=False, tooltip="The last ten"),
        Binding(
            "3", "show_span(3600)", "1 h", id="provider.hour", show=False, tooltip="The hour, as far as seen"
        ),
        Binding("i", "about", "details", id="provider.about", tooltip="Health, processes, jobs, workloads"),
        Binding(
            "b",
            "benchmark",
            "benchmark",
            show=False,
            id="provider.benchmark",
            tooltip="Start the benchmark on it: a job like any other",
        ),
        Binding(
            "left_square_bracket",
            "step(-1)",
            "previous",
            key_display="[",
            id="provider.previous",
            show=False,
            tooltip="The provider above it in the fleet's table",
        ),
        Binding(
            "right_square_bracket",
            "step(1)",
            "next",
            key_display="]",
            id="provider.next",
            tooltip="The provider below it in the fleet's table",
        ),
    ]

    def __init__(self, provider_id: str) -> None:
        super().__init__()
        self.provider_id = provider_id
        self._span = TEN_MINUTES
        self._watched = WatchedProvider(provider_id)
        self._end_state: Callable[[], None] | None = None
        self._followed_job: str | None = None
        self._is_stale_picture = True
        self._flushed_at = 0.0

    @property
    def subject(self) -> str:
        """Whom it shows."""
        return self.provider_id

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        app = self.console_app
        ascii_only = app.ascii_only
        yield TopBar("provider", app.url, ascii_only=ascii_only)
        yield ProviderHeader(ascii_only=ascii_only)
        yield Static(id="gpu-note", markup=False)
        host = HostPanel(ascii_only=ascii_only)
        with Horizontal(id="body"):
            with Vertical(id="curves"):
                yield GpuGrid(palette=host)
                yield host
            with VerticalScroll(id="about"):
                yield AboutPanel(ascii_only=ascii_only)
        yield KeyLine(ascii_only=ascii_only)

    def on_mount(self) -> None:
        """Begin with what the fleet knows, and ask the hub for the rest."""
        app = self.console_app
        row = app.fleet.rows.get(self.provider_id)
        record, reason = (None, None) if row is None else (row.record, row.reason)
        self._watched = app.books.watched.watch(self.provider_id, record, reason)
        app.books.need_jobs()
        app.connection.on("*", self._on_event)
        self._end_state = app.connection.on_state(self._on_connection_state)
        # Not recovered by offset: after each reconnect the snapshot fills what the graphs have missed.
        app.connection.subscribe(channels.provider_channel(self.provider_id), snapshot=True, recover=False)

    def on_unmount(self) -> None:
        """Stop following it."""
        connection = self.console_app.connection
        connection.off("*", self._on_event)
        connection.unsubscribe(channels.provider_channel(self.provider_id))
        self._follow_job(None)
        if self._end_state is not None:
            self._end_state()

    def on_resize(self) -> None:
        """Share the room of the new size."""
        self.set_class(self.size.width >= SIDE_WIDTH, "-side")
        if self.query(HostPanel):  # it may not be whole yet
            self._share_room()

    def action_next_span(self) -> None:
        """Show the next span: ten minutes, an hour, one minute."""
        spans = list(SPANS)
        self.action_show_span(spans[(spans.index(self._span) + 1) % len(spans)])

    def action_about(self) -> None:
        """Show everything about the provider, in place of its curves where there is no room for both."""
        self.toggle_class("-about")
        if self.has_class("-about"):
            self.query_one("#about").focus()
        self._is_stale_picture = True
        self.update()

    def action_benchmark(self) -> None:
        """Have the provider measured."""
        record = self._watched.record
        if record is None or not any(workload.name == BENCHMARK for workload in record.workloads):
            self.notify(f"{safe(self.provider_id)} does not offer the workload {BENCHMARK}.", markup=False)
            return
        requires = Requirements(provider_id=record.id, simulated=record.simulated)
        submit(self.console_app, SubmitJob(workload=BENCHMARK, requires=requires))

    def action_step(self, step: int) -> None:
        """Show another provider, in the order of the fleet's table."""
        self.console_app.open_neighbour(self.provider_id, step)

    def action_show_span(self, seconds: float) -> None:
        """Show the last so many seconds."""
        self._span = seconds
        self._is_stale_picture = True
        self.update()

    def copied(self) -> str:
        """Give its id."""
        return self.provider_id

    def flush(self) -> None:
        """Bring everything up to date, if anything came since the last time."""
        if self._is_stale_picture:
            self._paint()

    def tick(self) -> None:
        """Tell ages anew; move the graphs on unless samples do that."""
        if self.console_app.is_paused:
            return
        if time.monotonic() - self._flushed_at >= 0.9 * TICK_SECONDS:
            self._paint()
        self._show_header()

    def _on_event(self, event: Event) -> None:
        self._is_stale_picture |= self._watched.take(event)

    def _follow_job(self, job_id: str | None) -> None:
        """Hear how far a job is, in place of the one before: the marketplace tells of states alone."""
        followed, self._followed_job = self._followed_job, job_id
        if followed == job_id:
            return
        connection = self.console_app.connection
        if followed is not None:
            connection.unsubscribe(channels.job_channel(followed))
        if job_id is not None:
            connection.subscribe(channels.job_channel(job_id), recover=False)

    def _on_connection_state(self, _state: ConnectionState) -> None:
        self._is_stale_picture = True

    def _paint(self) -> None:
        self._is_stale_picture = False
        self._flushed_at = time.monotonic()
        watched = self._watched
        self._follow_job(None if watched.record is None else watched.record.current_job_id)
        grid = self.query_one(GpuGrid)
        grid.match(self._gpu_count())
        self.set_class(not grid.panels, "-no-gpus")
        timeline = Timeline(
            history=watched.history,
            end=self._now(),
            span=self._span,
            span_label=SPANS[self._span],
            marks=self._marks(),
        )
        stale = self._is_stale()
        for panel in grid.panels:
            panel.show(self._gpu(panel.index), self._gpu_info(panel.index), timeline, stale=stale)
        self.query_one(HostPanel).show(watched.metrics, watched.record, timeline, stale=stale)
        if self.has_class("-about") or self.has_class("-side"):
            self._show_about(stale=stale)
        note = watched.metrics.gpu_note if watched.metrics is not None else None
        self.set_class(note is not None, "-noted")
        self._share_room()
        self.query_one("#gpu-note", Static).update(safe(note or ""), layout=False)
        self.set_class(watched.record is None and watched.metrics is None, "-unknown")

    def _show_about(self, *, stale: bool) -> None:
        app, watched = self.console_app, self._watched
        about = About(
            record=watched.record,
            metrics=watched.metrics,
            jobs=app.jobs.of_provider(self.provider_id),
            are_jobs_known=app.jobs.is_loaded,
            now=self._now(),
        )
        self.query_one(AboutPanel).show(about, stale=stale)

    def _marks(self) -> tuple[Mark, ...]:
        """Give where jobs began and ended: as the hub has it, else as it was seen here."""
        marks, known = [], set()
        oldest = self._now() - HOUR
        for row in self.console_app.jobs.of_provider(self.provider_id):
            job = row.job
            if job.started_at is None:
                continue
            known.add(job.id)
            begun = from_timestamp(job.started_at)
            if begun >= oldest:
                marks.append(Mark(begun, job.id))
            if job.finished_at is not None and (ended := from_timestamp(job.finished_at)) >= oldest:
                marks.append(Mark(ended, f"{job.id} ends"))
        for moment, job_id, has_ended in self._watched.job_marks:
            if job_id not in known:
                marks.append(Mark(moment, f"{job_id} ends" if has_ended else job_id))
        return tuple(sorted(marks))

    def _job_words(self) -> str | None:
        """Say how the job that it has does; None where it has none, or that is not known."""
        record, now = self._watched.record, self._now()
        row = None
        if record is not None and record.current_job_id is not None:
            row = self.console_app.jobs.rows.get(record.current_job_id)
        if row is None:
            return None
        progress = row.job.progress
        share = progress.progress if progress is not None else None
        parts = ["" if share is None else format_percent(share), format_duration(row.elapsed(now))]
        cost = row.cost(now)
        parts.append("" if cost is None else f"{format_money(cost)} so far")
        return ", ".join(part for part in parts if part)

    def _show_header(self) -> None:
        app, watched = self.console_app, self._watched
        self.query_one(ProviderHeader).show(
            Standing(
                provider_id=self.provider_id,
                record=watched.record,
                reason=watched.reason,
                gpus=self._gpus_in_words(),
                age=self._age(),
                is_stale=self._is_stale(),
                is_connected=app.is_live,
                span_label=SPANS[self._span],
                job_words=self._job_words(),
                notice=self._notice(),
            )
        )

    def _share_room(self) -> None:
        """Give the host what the GPUs can spare."""
        host, count = self.query_one(HostPanel), len(self.query_one(GpuGrid).panels)
        if not count:
            host.styles.height = "1fr"
            return
        width = self.size.width - 2 - (ABOUT_WIDTH if self.has_class("-side") else 0)
        room = self.size.height - CHROME_HEIGHT - self.has_class("-noted")
        least = host.least_height(width)
        wanted = [least + graphs for graphs in HOST_GRAPH_HEIGHTS if least + graphs <= HOST_SHARE * room]
        laid_out = {height: arrange(count, width, room - height) for height in (*wanted, least)}
        spared = [height for height in wanted if laid_out[height].panel_height > COMFORTABLE_HEIGHT]
        height = max(spared, key=lambda some: min(laid_out[some].panel_height, ROOMY_HEIGHT), default=least)
        # All panels are of one height; the lines that are left over are the host's.
        host.styles.height = max(height, room - laid_out[height].height)

    def _gpu_count(self) -> int:
        record, metrics = self._watched.record, self._watched.metrics
        counts = [0]
        if record is not None:
            counts += [record.gpu_count or 0, len(record.gpus)]
        if metrics is not None:
            counts += [gpu.index + 1 for gpu in metrics.gpus]
        return min(MAX_GPUS, max(counts))

    def _gpus_in_words(self) -> str:
        record = self._watched.record
        return "" if record is None else format_gpus(record.gpu_count, record.gpu_model)

    def _now(self) -> float:
        return self.console_app.connection.hub_time()

    def _age(self) -> float | None:
        moment = self._watched.metrics_at
        return None if moment is None else self._now() - moment

    def _is_stale(self) -> bool:
        age = self._age()
        return not self.console_app.is_live or (age is not None and age > STALE_SECONDS)

    def _gpu(self, index: int) -> GpuMetrics | None:
        metrics = self._watched.metrics
        gpus = metrics.gpus if metrics is not None else []
        return next((gpu for gpu in gpus if gpu.index == index), None)

    def _gpu_info(self, index: int) -> GpuInfo | None:
        gpus = self._watched.record.gpus if self._watched.record is not None else []
        return gpus[index] if index < len(gpus) else None

    def _notice(self) -> str | None:
        """Give a sentence about what is shown, where that needs one: what a person should know first."""
        watched = self._watched
        who, age = safe(self.provider_id), self._age()
        since = "" if age is None else f"; what you see is from {format_age(age)} ago"
        if watched.is_removed:
            return f"{who} was removed from the hub{since}."
        trouble = self.console_app.trouble()
        if trouble is not None:
            return trouble
        if watched.record is None:
            if not watched.is_answered:
                return f"Asking the hub for {who}."
            return f"The hub knows no provider {who}. Should it register, it is shown here at once."
        if not watched.record.is_online:
            return f"{who} is {watched.record.state}{since}."
        if age is None:
            return f"{who} has sent no sample yet; agents send one each second."
        if age > SILENT_SECONDS:
            return f"{who} sends no samples{since}."
        return None
