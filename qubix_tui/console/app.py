"""The console: one connection, one fleet, and the screens over them."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import ClassVar, Final

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from qubix_tui.client import CONSOLE, Connection, ConnectionState
from qubix_tui.console import link_words
from qubix_tui.console.columns import BY_KEY
from qubix_tui.console.fleet import Fleet, News, Summary
from qubix_tui.console.format import safe
from qubix_tui.console.link_words import Words
from qubix_tui.console.screens.fleet import SORTABLE, FleetScreen
from qubix_tui.console.screens.help import HelpScreen
from qubix_tui.console.screens.provider import ProviderScreen
from qubix_tui.console.themes import DEFAULT_THEME, THEMES, variables_for
from qubix_tui.protocol import channels

DIGEST_SECONDS: Final = 1.0
"""How often the hub sends the fleet's headline metrics."""

NOTICE_SECONDS: Final = 12.0

MAX_LISTED: Final = 2000
"""Providers offered in the palette: fuzzy search over more is not live any longer."""


class QubixApp(App[None]):
    """The console.

    Args:
        url: The hub's address.
        token: Shown to it; None to look only.
        notices: Sentences to say first.
        news: Asked each second for a sentence about what runs beside the console.
        ascii_only: Whether glyphs beyond ASCII are to be avoided.
    """

    TITLE = "QUBIX"
    CSS_PATH: ClassVar[list[str | PurePath]] = ["styles/app.tcss", "styles/fleet.tcss", "styles/help.tcss"]
    ENABLE_COMMAND_PALETTE = True

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "retry", "try now", id="app.retry", tooltip="Try to reach the hub at once"),
        Binding("t", "next_theme", "theme", id="app.theme", tooltip="The next theme"),
        Binding("question_mark", "help", "help", key_display="?", id="app.help", tooltip="Every key"),
        Binding(
            "colon",
            "command_palette",
            "palette",
            show=False,
            id="app.palette",
            tooltip="Every command, by name",
        ),
        Binding("q", "quit", "quit", id="app.quit", tooltip="Leave"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True, id="app.interrupt", tooltip="Leave"),
    ]

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        notices: Sequence[str] = (),
        news: Callable[[], str | None] | None = None,
        ascii_only: bool = False,
    ) -> None:
        super().__init__(ansi_color="NO_COLOR" in os.environ)
        self.url = url
        self.ascii_only = ascii_only
        self.connection = Connection(url, token=token, retry=CONSOLE)
        self.fleet = Fleet(self.connection.hub_time)
        self._notices = notices
        self._news = news
        self._lost_at: float | None = None
        self._was_open = False
        self._summary: tuple[float, Summary] | None = None
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DEFAULT_THEME

    @property
    def is_live(self) -> bool:
        """Whether the hub is heard."""
        return self.connection.state is ConnectionState.OPEN

    @property
    def is_simulated(self) -> bool:
        """Whether any provider is made up."""
        return self.fleet_summary().simulated > 0

    @property
    def agent_command(self) -> str:
        """What to run on a machine that is to be a provider."""
        return f"qubix-agent --hub {self.url}"

    def fleet_summary(self) -> Summary:
        """Add the fleet up, at most twice a second."""
        now = time.monotonic()
        if self._summary is None or now - self._summary[0] >= 0.45:
            self._summary = now, self.fleet.summary()
        return self._summary[1]

    def standing(self) -> Words:
        """Say in a few words how fresh the data is."""
        return link_words.standing(
            self.connection, self.fleet.newest_at, lost_at=self._lost_at, ascii_only=self.ascii_only
        )

    def trouble(self) -> str | None:
        """Say as a sentence what is wrong with the connection; None while it is open."""
        return link_words.trouble(self.connection, lost_at=self._lost_at)

    def get_default_screen(self) -> Screen[None]:
        """Open on the fleet."""
        return FleetScreen()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Give Textual's own themes the colours that our style sheets ask for."""
        return variables_for(self.current_theme)

    async def on_mount(self) -> None:
        """Connect, and take care of the ends that are not keys."""
        self._catch_signals()
        for notice in self._notices:
            self.say(notice)
        if self._news is not None:
            self.set_interval(1.0, self._ask_for_news)
        self.connection.on("*", self.fleet.take)
        self._end_state = self.connection.on_state(self._on_connection_state)
        self.connection.subscribe(channels.MARKETPLACE, snapshot=True, digest=DIGEST_SECONDS)
        await self.connection.start()

    async def on_unmount(self) -> None:
        """Say goodbye to the hub."""
        self._end_state()
        await self.connection.close()

    def say(self, sentence: str) -> None:
        """Tell the user something: in a corner for a while, and among the events for good."""
        self.fleet.tell(News(time.time(), None, sentence, "warn"))
        self.notify(safe(sentence), timeout=NOTICE_SECONDS, markup=False)

    def copy(self, text: str) -> None:
        """Put a text into the clipboard, as far as the terminal lets us, and show it."""
        self.copy_to_clipboard(text)
        self.notify(f"{safe(text)}\nis in the clipboard, if your terminal allows it.", markup=False)

    def open_provider(self, provider_id: str) -> None:
        """Show one provider."""
        if isinstance(self.screen, ProviderScreen):
            self.switch_screen(ProviderScreen(provider_id))
        else:
            self.push_screen(ProviderScreen(provider_id))

    def action_retry(self) -> None:
        """Try to reach the hub at once."""
        self.connection.retry_now()

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        names = [theme.name for theme in THEMES]
        place = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(place + 1) % len(names)]

    def action_help(self) -> None:
        """Show every key of this screen."""
        if not isinstance(self.screen, HelpScreen):
            bindings = self.screen.active_bindings.values()
            self.push_screen(HelpScreen(bindings, ascii_only=self.ascii_only))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Offer to retry only where there is something to."""
        return action != "retry" or not self.is_live

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Give the palette's commands: ours, the columns to sort by, and every provider by name."""
        yield SystemCommand("Help", "Every key of this screen", self.action_help)
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)
        yield SystemCommand(
            "Save a picture", "This screen as SVG, into this directory", self.deliver_screenshot
        )
        yield SystemCommand("Quit", "Leave", self.action_quit)
        if isinstance(screen, FleetScreen):
            for key in SORTABLE:
                title = "trouble" if key == "trouble" else BY_KEY[key].title.lower()
                yield SystemCommand(
                    f"Sort by {title}",
                    "Order of the table",
                    lambda key=key: screen.sort_by(key),
                    discover=False,
                )
        for row in list(self.fleet.rows.values())[:MAX_LISTED]:
            yield SystemCommand(
                f"Open {safe(row.name)}",
                row.record.id,
                lambda provider_id=row.record.id: self.open_provider(provider_id),
                discover=False,
            )

    def _ask_for_news(self) -> None:
        sentence = self._news() if self._news is not None else None
        if sentence is not None:
            self.say(sentence)

    def _on_connection_state(self, state: ConnectionState) -> None:
        if state is ConnectionState.OPEN:
            if self._lost_at is not None:
                self.fleet.tell(News(self.fleet.now(), None, "the hub is back", "ok"))
            self._lost_at, self._was_open = None, True
        elif self._was_open and self._lost_at is None and state is ConnectionState.RECONNECTING:
            self._lost_at = time.monotonic()
            why = self.connection.last_error or "the hub stopped answering"
            self.fleet.tell(News(self.fleet.now(), None, why, "hot"))
        self.refresh_bindings()

    def _catch_signals(self) -> None:
        """End in order when the terminal is closed or somebody asks the process to end."""
        if sys.platform == "win32":
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Only the main thread may: a console in a test may run elsewhere.
            with contextlib.suppress(ValueError, RuntimeError):
                loop.add_signal_handler(number, self.exit)
