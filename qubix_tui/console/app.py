"""The console: one connection, one fleet, and the screens over them."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import ClassVar, Final

from rich.color import ColorSystem
from rich.console import RenderableType
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.screen import Screen

from qubix_tui.client import CONSOLE, ClientError, Connection, ConnectionState
from qubix_tui.console import link_words
from qubix_tui.console.alert_rules import rules_of
from qubix_tui.console.alert_toasts import announce
from qubix_tui.console.books import Books
from qubix_tui.console.event_log import Kind
from qubix_tui.console.fleet import Fleet, Summary
from qubix_tui.console.format import format_age, safe
from qubix_tui.console.frugal import Terminal
from qubix_tui.console.keymap import complaints_about, sign_of
from qubix_tui.console.link_words import Words
from qubix_tui.console.navigation import NavigatingApp
from qubix_tui.console.options import Options
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.screens.help import HelpScreen
from qubix_tui.console.settings import Settings
from qubix_tui.console.settings_store import SettingsStore
from qubix_tui.console.signals import end_on_signals
from qubix_tui.console.themes import THEMES, variables_for
from qubix_tui.console.views import VIEWS
from qubix_tui.protocol import channels
from qubix_tui.protocol.events import Event
from qubix_tui.protocol.tokens import Role
from qubix_tui.protocol.types import Wire

DIGEST_SECONDS: Final = 1.0
"""How often the hub sends the fleet's headline metrics."""

NOTICE_SECONDS: Final = 12.0

ALERT_DELAY_SECONDS: Final = 0.3


def _commands() -> type[Provider]:
    from qubix_tui.console.palette import ConsoleCommands

    return ConsoleCommands


class QubixApp(NavigatingApp):
    """The console.

    Args:
        url: The hub's address.
        token: Shown to it; None to look only.
        options: How to show things, and what is allowed.
        notices: Sentences to say first.
        news: Asked each second for a sentence about what runs beside the console.
    """

    TITLE = "QUBIX"
    CSS_PATH: ClassVar[list[str | PurePath]] = [
        "styles/app.tcss",
        "styles/dialogs.tcss",
        "styles/fleet.tcss",
        "styles/help.tcss",
    ]
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_commands}

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "retry", "try now", id="app.retry", tooltip="Try to reach the hub at once"),
        *(
            Binding(view.key, f"go('{view.name}')", view.name, id=f"app.{view.name}", tooltip=view.tooltip)
            for view in VIEWS
        ),
        Binding(
            "minus",
            "last_place",
            "last view",
            show=False,
            key_display="-",
            id="app.last",
            tooltip="To where you were before, and back again",
        ),
        Binding("p", "pause", "pause", id="app.pause", tooltip="Hold the picture; what happens is counted"),
        Binding("t", "next_theme", "theme", show=False, id="app.theme", tooltip="The next theme"),
        Binding("question_mark", "help", "help", key_display="?", id="app.help", tooltip="Every key"),
        Binding(
            "colon",
            "command_palette",
            "palette",
            show=False,
            id="app.palette",
            tooltip="Every action and every provider, by name (also ctrl+p)",
        ),
        Binding("q", "quit", "quit", id="app.quit", tooltip="Leave"),
        Binding(
            "ctrl+c", "quit", "quit", show=False, priority=True, id="app.interrupt", tooltip="Leave at once"
        ),
    ]

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        options: Options = Options(),  # noqa: B008 - it is immutable
        notices: Sequence[str] = (),
        news: Callable[[], str | None] | None = None,
    ) -> None:
        super().__init__(ansi_color="NO_COLOR" in os.environ)
        self.url = url
        self.options = options
        self.store = SettingsStore(options.directory, options.as_settings())
        self.learn_from(Connection(url, token=token, retry=CONSOLE))
        self.monotonic = time.monotonic
        self._notices = notices
        self._news = news
        self._lost_at: float | None = None
        self._was_open = False
        self._summary: tuple[float, Summary] | None = None
        self._frozen: Fleet | None = None
        self._terminal = Terminal()
        self._alerts_wait = False
        self._end_state: Callable[[], None] = lambda: None
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = f"qubix-{self.settings.display.theme}"
        self.set_keymap(self.settings.keys)

    @property
    def settings(self) -> Settings:
        """What the user has set."""
        return self.store.settings

    def learn_from(self, connection: Connection) -> None:
        """Begin empty books on what a hub will say. Before the app runs."""
        self.connection = connection
        self.books = Books(connection, rules_of(self.settings.alerts, self.settings.rules))
        self.fleet, self.event_log, self.jobs = self.books.fleet, self.books.event_log, self.books.jobs

    @property
    def ascii_only(self) -> bool:
        """Whether glyphs beyond ASCII are to be avoided."""
        return self.settings.display.ascii

    @property
    def frame_seconds(self) -> float:
        """Changes are painted at most once in this time."""
        return 1 / self.settings.display.frames_per_second

    @property
    def is_live(self) -> bool:
        """Whether the hub is heard."""
        return self.connection.state is ConnectionState.OPEN

    @property
    def is_read_only(self) -> bool:
        """Whether nothing may be changed: the user wants it so, or the hub would refuse it."""
        return self.options.read_only or self.connection.role not in {None, Role.OPERATOR}

    @property
    def is_paused(self) -> bool:
        """Whether the picture is held."""
        return self._frozen is not None

    @property
    def picture(self) -> Fleet:
        """The fleet to paint: as it is, or as it was when the picture was paused."""
        return self._frozen or self.fleet

    @property
    def is_simulated(self) -> bool:
        """Whether any provider is made up."""
        return any(row.record.simulated for row in self.picture.rows.values())

    @property
    def agent_command(self) -> str:
        """What to run on a machine that is to be a provider."""
        return f"qubix-agent --hub {self.url}"

    def clock(self) -> str:
        """Give the time of day by the hub's clock, in this machine's time zone."""
        return time.strftime("%H:%M", time.localtime(self.fleet.now()))

    def fleet_summary(self) -> Summary:
        """Add the fleet up, at most twice a second."""
        now = self.monotonic()
        if self._summary is None or now - self._summary[0] >= 0.45:
            self._summary = now, self.picture.summary()
        return self._summary[1]

    def standing(self) -> Words:
        """Say in a few words how fresh the data is."""
        if self._frozen is not None:
            age = format_age(self.fleet.now() - self._frozen.now())
            waiting = self.fleet.change_count - self._frozen.change_count
            glyph = "=" if self.ascii_only else "‖"
            return Words(f"{glyph} paused {age}, {waiting} changes waiting", "warn")
        return link_words.standing(
            self.connection,
            self.fleet.newest_at,
            lost_at=self._lost_at,
            now=self.monotonic(),
            ascii_only=self.ascii_only,
        )

    def warnings(self) -> tuple[str, ...]:
        """Say what else is wrong with the hub, in fewer and fewer words; nothing in ordinary times."""
        since = self.books.store.away_since if self.is_live else None
        return link_words.store_away(since, self.connection.hub_time())

    def trouble(self) -> str | None:
        """Say as a sentence what is wrong with the connection; None while it is open."""
        return link_words.trouble(self.connection, lost_at=self._lost_at, now=self.monotonic())

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Give Textual's own themes the colours that our style sheets ask for."""
        return variables_for(self.current_theme)

    async def on_mount(self) -> None:
        """Connect, and take care of the ends that are not keys."""
        end_on_signals(self.exit)
        for notice in [*self._notices, *self.store.complaints, *complaints_about(self.settings.keys)]:
            self.say(notice)
        if self._news is not None:
            self.set_interval(1.0, self._ask_for_news)
        self.books.open()
        self.connection.on("*", self._look_for_alerts)
        self._end_state = self.connection.on_state(self._on_connection_state)
        self.connection.subscribe(channels.MARKETPLACE, snapshot=True, digest=DIGEST_SECONDS)
        await self.connection.start()

    def on_resize(self) -> None:
        """Write all anew: whatever the size was in between, the terminal may have lost what it showed."""
        self._terminal.forget()
        self.screen.refresh()

    async def on_unmount(self) -> None:
        """Say goodbye to the hub."""
        self._end_state()
        await self.connection.close()

    def say(self, sentence: str) -> None:
        """Tell the user something: in a corner for a while, and among the events for good."""
        self.event_log.tell(Kind.HUB, sentence, "warn")
        self.notify(safe(sentence), timeout=NOTICE_SECONDS, markup=False)

    def choose_theme(self, name: str) -> None:
        """Change the colours, and keep that.

        Args:
            name: Of a theme of ours, in full.
        """
        self.theme = name
        self.keep("display.theme", name.removeprefix("qubix-"))

    def keep(self, key: str, value: object) -> None:
        """Keep a setting that was changed on the screen."""
        try:
            self.store.change(key, value)
        except OSError as error:
            self.notify(f"That holds until you leave: it can't be kept ({error.strerror}).", markup=False)

    async def ask(self, kind: str, data: Wire) -> Event | None:
        """Ask the hub for something, and say in words if it refuses, or does not answer; None then."""
        try:
            return await self.connection.request(kind, data)
        except ClientError as error:
            self.notify(safe(f"{error}."), severity="error", timeout=NOTICE_SECONDS, markup=False)
            return None

    def action_pause(self) -> None:
        """Hold the picture, or let it go on."""
        self._frozen = None if self._frozen is not None else self.fleet.frozen()
        self._summary = None
        screen = self.screen
        if isinstance(screen, ConsoleScreen):
            screen.pause_changed()

    def action_retry(self) -> None:
        """Try to reach the hub at once."""
        self.connection.retry_now()

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        names = [theme.name for theme in THEMES]
        place = names.index(self.theme) if self.theme in names else -1
        self.choose_theme(names[(place + 1) % len(names)])

    def action_help(self) -> None:
        """Show every key of this screen."""
        bindings = self.screen.active_bindings.values()
        self.push_screen(HelpScreen(bindings, ascii_only=self.ascii_only))

    def get_key_display(self, binding: Binding) -> str:
        """Give how a key is called: as it is printed on keyboards, where there is a sign for it."""
        return sign_of(binding.key, ascii_only=self.ascii_only) or super().get_key_display(binding)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what makes sense now: to retry where there is something to."""
        return not self.is_live if action == "retry" else super().check_action(action, parameters)

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        """Write to the terminal only what differs from what is there."""
        if self._running and not self._closed and not self.is_headless and not self._batch_count:
            colours = self.console._color_system or ColorSystem.TRUECOLOR  # noqa: SLF001 - as Textual asks for it
            renderable = self._terminal.narrowed(renderable, self.size, colours)
        super()._display(screen, renderable)

    def _look_for_alerts(self, _event: Event) -> None:
        if self.books.alert_desk.has_fresh and not self._alerts_wait:
            # Those that come together are told together.
            self._alerts_wait = True
            self.set_timer(ALERT_DELAY_SECONDS, self._announce)

    def _announce(self) -> None:
        self._alerts_wait = False
        announce(self, self.books.alert_desk.take_fresh())

    def _ask_for_news(self) -> None:
        sentence = self._news() if self._news is not None else None
        if sentence is not None:
            self.say(sentence)

    def _on_connection_state(self, state: ConnectionState) -> None:
        if state is ConnectionState.OPEN:
            self.books.store.forget()
            if self._lost_at is not None:
                self.event_log.tell(Kind.HUB, "the hub is back", "ok")
            self._lost_at, self._was_open = None, True
        elif self._was_open and self._lost_at is None and state is ConnectionState.RECONNECTING:
            self._lost_at = self.monotonic()
            why = self.connection.last_error or "the hub stopped answering"
            self.event_log.tell(Kind.HUB, why, "hot")
        self.screen.refresh_bindings()
