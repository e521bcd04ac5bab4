"""One provider: its GPUs, its machine, and ten minutes of both."""

import time
from collections.abc import Callable
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from qubix_tui.client import ConnectionState
from qubix_tui.console.fleet import STALE_SECONDS
from qubix_tui.console.format import format_age, format_gpus, safe
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.watched_provider import WatchedProvider
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
from qubix_tui.protocol.records import GpuInfo, GpuMetrics

MAX_GPUS: Final = 64
"""More panels than this are not made, whatever a provider says it has."""

TICK_SECONDS: Final = 1.0
"""How often ages are told anew, and graphs move on, when nothing comes."""

MINUTE: Final = 60.0
TEN_MINUTES: Final = 600.0
SPANS: Final = {MINUTE: "1 min", TEN_MINUTES: "10 min"}

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
    CSS_PATH = "../styles/provider.tcss"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "toggle_span", "1/10 min", id="provider.span", tooltip="Show one minute or ten"),
        Binding("1", "show_span(60)", "1 min", id="provider.minute", show=False, tooltip="The last minute"),
        Binding("2", "show_span(600)", "10 min", id="provider.minutes", show=False, tooltip="The last ten"),
    ]

    def __init__(self, provider_id: str) -> None:
        super().__init__()
        self.provider_id = provider_id
        self._span = TEN_MINUTES
        self._watched = WatchedProvider(provider_id)
        self._end_state: Callable[[], None] | None = None
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
        yield GpuGrid(palette=host)
        yield host
        yield KeyLine(ascii_only=ascii_only)

    def on_mount(self) -> None:
        """Begin with what the fleet knows, and ask the hub for the rest."""
        app = self.console_app
        row = app.fleet.rows.get(self.provider_id)
        if row is not None:
            self._watched = WatchedProvider(self.provider_id, row.record, row.reason)
        app.connection.on("*", self._on_event)
        self._end_state = app.connection.on_state(self._on_connection_state)
        # Not recovered by offset: after each reconnect the snapshot fills what the graphs have missed.
        app.connection.subscribe(channels.provider_channel(self.provider_id), snapshot=True, recover=False)

    def on_unmount(self) -> None:
        """Stop following it."""
        connection = self.console_app.connection
        connection.off("*", self._on_event)
        connection.unsubscribe(channels.provider_channel(self.provider_id))
        if self._end_state is not None:
            self._end_state()

    def on_resize(self) -> None:
        """Share the room of the new size."""
        self._share_room()

    def action_toggle_span(self) -> None:
        """Show the other span."""
        self.action_show_span(MINUTE if self._span == TEN_MINUTES else TEN_MINUTES)

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

    def _on_connection_state(self, _state: ConnectionState) -> None:
        self._is_stale_picture = True

    def _paint(self) -> None:
        self._is_stale_picture = False
        self._flushed_at = time.monotonic()
        watched = self._watched
        grid = self.query_one(GpuGrid)
        grid.match(self._gpu_count())
        self.set_class(not grid.panels, "-no-gpus")
        timeline = Timeline(
            history=watched.history,
            end=self._now(),
            span=self._span,
            span_label=SPANS[self._span],
            marks=tuple(
                Mark(moment, f"{safe(job_id)} ends" if ended else safe(job_id))
                for moment, job_id, ended in watched.job_marks
            ),
        )
        stale = self._is_stale()
        for panel in grid.panels:
            panel.show(self._gpu(panel.index), self._gpu_info(panel.index), timeline, stale=stale)
        self.query_one(HostPanel).show(watched.metrics, watched.record, timeline, stale=stale)
        note = watched.metrics.gpu_note if watched.metrics is not None else None
        self.set_class(note is not None, "-noted")
        self._share_room()
        self.query_one("#gpu-note", Static).update(safe(note or ""), layout=False)
        self.set_class(watched.record is None and watched.metrics is None, "-unknown")

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
                notice=self._notice(),
            )
        )

    def _share_room(self) -> None:
        """Give the host what the GPUs can spare."""
        host, count = self.query_one(HostPanel), len(self.query_one(GpuGrid).panels)
        if not count:
            host.styles.height = "1fr"
            return
        width = self.size.width - 2
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
