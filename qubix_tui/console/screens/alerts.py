"""The newest alerts: when, which rule, why, and whether that still holds."""

from collections.abc import Sequence
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Static

from qubix_tui.console.alerts import Alert
from qubix_tui.console.columns import GAP, Piece
from qubix_tui.console.format import DAY, format_duration, format_moment
from qubix_tui.console.saving import Table
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.widgets.banner import Banner
from qubix_tui.console.widgets.key_line import KeyLine
from qubix_tui.console.widgets.record_list import ListColumn, RecordList
from qubix_tui.console.widgets.top_bar import TopBar
from qubix_tui.protocol.types import to_timestamp

CLOCK_WIDTH: Final = len("14:07:31")
DATE_WIDTH: Final = len("2026-01-31 14:07:31")
LASTS_WIDTH: Final = len("holds 12d3h")
RULE_WIDTH: Final = 16
WIDE: Final = 100
"""From here on the rule has a column of its own."""


class AlertsScreen(ConsoleScreen):
    """The newest alerts, the last one first."""

    VIEW = "alerts"

    CSS_PATH = "../styles/events.tcss"

    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self) -> None:
        super().__init__()
        self._has_changed = True
        self._has_dates = False

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        app = self.console_app
        yield TopBar("alerts", app.url, ascii_only=app.ascii_only)
        yield Banner()
        yield Static(id="alerts-summary", classes="filter-line", markup=False)
        yield RecordList[Alert](
            columns=self._columns,
            key=lambda alert: alert.number,
            ascii_only=app.ascii_only,
            id="alerts-list",
        )
        yield Static(id="alerts-whole", classes="whole", markup=False)
        yield Static(id="alerts-empty", classes="empty", markup=False)
        yield KeyLine(ascii_only=app.ascii_only)

    @property
    def listing(self) -> RecordList[Alert]:
        """The list."""
        return self.query_one(RecordList)

    def on_mount(self) -> None:
        """Begin at the newest."""
        self.listing.focus()

    def tick(self) -> None:
        """Tell anew how long each lasts."""
        self._has_changed = True
        self.update()

    def flush(self) -> None:
        """List what is known."""
        if not self._has_changed:
            return
        self._has_changed = False
        alerts = self.console_app.books.alerts
        shown = list(reversed(alerts.kept))
        has_dates = bool(shown) and self._now() - shown[-1].moment >= DAY
        if has_dates is not self._has_dates:
            self._has_dates = has_dates
            self.listing.refit()
        self.listing.show(shown, is_past=not self.console_app.is_live)
        self._show_whole()
        self.set_class(not alerts.kept, "-empty")
        rules = ", ".join(rule.name for rule in alerts.rules)
        self.write("#alerts-summary", f"{alerts.open} hold now, {alerts.count} since this console was opened")
        self.write(
            "#alerts-empty",
            f"No alerts since this console was opened. It watches for: {rules or 'nothing'}.\n\n"
            "The rules are in console.toml, under [alerts].",
        )

    def copied(self) -> str | None:
        """Give the selected alert as a line."""
        alert = self.listing.selected
        return None if alert is None else f"{to_timestamp(alert.moment)}  {alert.rule}  {alert.text}"

    def saved(self) -> Table:
        """Give the alerts."""
        rows = [
            (
                to_timestamp(alert.moment),
                None if alert.ended is None else to_timestamp(alert.ended),
                alert.rule,
                alert.provider_id,
                alert.job_id,
                alert.text,
            )
            for alert in self.console_app.books.alerts.kept
        ]
        return Table("alerts", ("time", "ended", "rule", "provider_id", "job_id", "text"), rows)

    @on(RecordList.Opened)
    def _open(self, event: RecordList.Opened) -> None:
        alert = event.record
        assert isinstance(alert, Alert)
        if alert.job_id is not None:
            self.console_app.open_job(alert.job_id)
        elif alert.provider_id is not None:
            self.console_app.open_provider(alert.provider_id)

    @on(RecordList.CursorMoved)
    def _show_whole(self) -> None:
        """Show the whole of the selected one: its line may have no room for it."""
        alert = self.listing.selected
        self.write("#alerts-whole", "" if alert is None else f"{alert.rule}: {alert.text}")

    def _columns(self, width: int) -> list[ListColumn[Alert]]:
        def when(alert: Alert, _width: int) -> Sequence[Piece]:
            return [(format_moment(alert.moment, self._now()), "label")]

        def lasts(alert: Alert, _width: int) -> Sequence[Piece]:
            if alert.is_moment:
                return []
            if alert.ended is None:
                return [(f"holds {format_duration(self._now() - alert.moment)}", alert.style)]
            return [(f"over, {format_duration(alert.ended - alert.moment)}", "label")]

        columns = [
            ListColumn[Alert]("TIME", DATE_WIDTH if self._has_dates else CLOCK_WIDTH, False, when),
            ListColumn[Alert]("LASTS", LASTS_WIDTH, False, lasts),
        ]
        if width >= WIDE:
            columns.append(
                ListColumn[Alert]("RULE", RULE_WIDTH, False, lambda alert, _: [(alert.rule, alert.style)])
            )
        room = width - sum(column.width + GAP for column in columns)
        why = ListColumn[Alert]("WHY", max(8, room), False, lambda alert, _: [(alert.text, "value")])
        return [*columns, why]

    def _now(self) -> float:
        return self.console_app.connection.hub_time()
