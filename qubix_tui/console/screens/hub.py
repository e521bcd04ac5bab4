"""The hub itself: connections, messages, subscriptions, and what it refused."""

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from qubix_tui.client import ClientError, Refused
from qubix_tui.console.format import format_age, safe
from qubix_tui.console.hub_watch import ASK_SECONDS, HubWatch
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.widgets.banner import Banner
from qubix_tui.console.widgets.hub_panel import HubPanel, Span
from qubix_tui.console.widgets.key_line import KeyLine
from qubix_tui.console.widgets.top_bar import TopBar
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.requests import HUB_STATS

SPANS: Final = ((60.0, "1 min"), (600.0, "10 min"), (3600.0, "1 h"))

LATE_SECONDS: Final = 3.0
"""Numbers older than this are of the past."""


class HubScreen(ConsoleScreen):
    """The hub, asked each second while this is in front."""

    VIEW = "hub"

    CSS_PATH = "../styles/hub.tcss"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "next_span", "span", id="hub.span", tooltip="Show one minute, ten, or an hour"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.watch_of_hub = HubWatch()
        self._span = 0
        self._is_asking = False
        self._refusal: str | None = None
        self._has_changed = True

    def compose(self) -> ComposeResult:
        """Put the screen together."""
        app = self.console_app
        yield TopBar("hub", app.url, ascii_only=app.ascii_only)
        yield Banner()
        yield Static(id="notice", markup=False)
        yield HubPanel(ascii_only=app.ascii_only)
        yield KeyLine(ascii_only=app.ascii_only)

    def on_mount(self) -> None:
        """Begin to ask."""
        self._ask_timer = self.set_interval(ASK_SECONDS, self._ask)
        self._ask()

    def on_screen_suspend(self) -> None:
        """Ask no more while another screen is in front."""
        self._ask_timer.pause()

    def on_screen_resume(self) -> None:
        """Go on asking."""
        if self.is_mounted:
            self._ask_timer.resume()
            self._ask()

    def action_next_span(self) -> None:
        """Show another span of time."""
        self._span = (self._span + 1) % len(SPANS)
        self._has_changed = True
        self.update()

    def tick(self) -> None:
        """Let ages and graphs move on, where no answers do that."""
        newest, now = self.watch_of_hub.newest_at, self.console_app.connection.hub_time()
        if newest is None or now - newest > LATE_SECONDS:
            self._has_changed = True

    def flush(self) -> None:
        """Paint what is known."""
        if not self._has_changed:
            return
        self._has_changed = False
        app, known = self.console_app, self.watch_of_hub
        seconds, label = SPANS[self._span]
        now = app.connection.hub_time()
        age = None if known.newest_at is None else now - known.newest_at
        is_past = not app.is_live or (age is not None and age > LATE_SECONDS)
        self.query_one(HubPanel).show(known, Span(now, seconds, label), stale=is_past)
        notice = self._notice(age if is_past else None)
        self.write("#notice", notice)
        self.set_class(bool(notice), "-noted")

    def _ask(self) -> None:
        if not self._is_asking and self.console_app.is_live:
            self._is_asking = True
            self.run_worker(self._ask_hub(), exit_on_error=False)

    async def _ask_hub(self) -> None:
        try:
            reply = await self.console_app.connection.request(HUB_STATS)
        except Refused as refused:
            self._refusal = refused.message
            if refused.code is ErrorCode.UNKNOWN_TYPE:
                self._refusal = "This hub is older than this console, and tells nothing of itself."
        except ClientError:
            pass  # said by the app: the connection is gone
        else:
            self._refusal = None
            self.watch_of_hub.take(reply.data)
        finally:
            self._is_asking = False
            self._has_changed = True
            self.update()

    def _notice(self, age: float | None) -> str:
        """Give a sentence about what is shown, where that needs one."""
        if not self.console_app.is_live:
            return ""
        if self._refusal is not None:
            return self._refusal
        store = self.console_app.books.store
        if store.away_since is not None and store.reason is not None:
            return f"Nothing can be stored: {safe(store.reason)}."
        if self.watch_of_hub.newest is None:
            return "Asking the hub how it does."
        return "" if age is None else f"These numbers are {format_age(age)} old: the hub is late to answer."
