"""What the screens of the console have in common."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Final, cast

from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from qubix_tui.console.command import Command
from qubix_tui.console.places import Place
from qubix_tui.console.saving import Table
from qubix_tui.console.screens.save_actions import ask_to_save, copy
from qubix_tui.console.widgets.banner import Banner
from qubix_tui.console.widgets.line_panel import TO_ASCII
from qubix_tui.console.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from qubix_tui.console.app import QubixApp

TICK_SECONDS: Final = 0.5
"""How often a screen looks at the clock."""


class ConsoleScreen(Screen[None]):
    """A screen that paints what the app has learnt: often what changed, now and then what the time changes.

    A subclass says in `VIEW` which view it belongs to, and in `flush` and `tick` what is painted. Both are
    called only while the screen can be seen; `flush` not while the picture is paused.
    """

    VIEW: ClassVar[str]
    """Name of the view that it belongs to."""

    CHANGES: ClassVar[frozenset[str]] = frozenset()
    """Names of the actions that change something on the hub: a console that may only look hides them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back", id="screen.back", tooltip="Back to where you came from"),
        Binding("y", "copy", "copy", show=False, id="screen.copy", tooltip="Copy what is selected"),
        Binding("S", "save", "save", show=False, id="screen.save", tooltip="Save a picture or the table"),
    ]

    @property
    def console_app(self) -> "QubixApp":
        """The app, as what it is."""
        return cast("QubixApp", self.app)

    @property
    def subject(self) -> str | None:
        """What of its view it shows; None for the whole."""
        return None

    @property
    def place(self) -> Place:
        """Where one is while it is in front."""
        return Place(self.VIEW, self.subject)

    def aim(self, subject: str | None) -> None:
        """Show something in particular, or all: called where the view has no screen for each subject."""

    def flush(self) -> None:
        """Paint what changed since the last time."""

    def tick(self) -> None:
        """Paint what changes with the time: ages, and how fresh the data is."""

    def copied(self) -> str | None:
        """Give what ``y`` copies; None where nothing is selected."""
        return None

    def saved(self) -> Table | None:
        """Give the table that ``S`` saves; None where the screen has none."""
        return None

    def on_mount(self) -> None:
        """Begin to paint. Textual calls this beside a subclass's own."""
        app = self.console_app
        self.set_class(app.ascii_only, "-ascii")
        self._flush_timer = self.set_interval(app.frame_seconds, self.update)
        self._tick_timer = self.set_interval(max(TICK_SECONDS, app.frame_seconds), self._on_tick)

    def on_screen_suspend(self) -> None:
        """Rest while another screen covers this one."""
        if not isinstance(self.app.screen, ModalScreen):
            self._flush_timer.pause()
            self._tick_timer.pause()

    def on_screen_resume(self) -> None:
        """Go on with what came meanwhile."""
        self._flush_timer.resume()
        self._tick_timer.resume()
        self._wake()

    def update(self) -> None:
        """Paint what changed, unless the picture is paused."""
        if not self.console_app.is_paused:
            with suppress(
                NoMatches
            ):  # what it is made of is not all there yet, or no longer: it comes, or goes
                self.flush()

    def write(self, selector: str, words: str) -> None:
        """Put words into a line of text, if they are not there already: each change costs a layout."""
        if self.console_app.ascii_only:
            words = words.translate(TO_ASCII)
        line = self.query_one(selector, Static)
        if line.content != words:
            line.update(words)

    def commands(self) -> Iterable[Command]:
        """Give what the palette finds besides the keys of the screen."""
        return ()

    def pause_changed(self) -> None:
        """Paint the held picture as such, or what waited while it was held."""
        self._wake()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Hide what changes something from a console that may only look."""
        return action not in self.CHANGES or not self.console_app.is_read_only

    def action_back(self) -> None:
        """Go back to where one came from."""
        self.console_app.go_back()

    def action_copy(self) -> None:
        """Copy what is selected."""
        text = self.copied()
        if text is None:
            self.notify("Nothing is selected to copy.", markup=False)
        else:
            copy(self.console_app, text)

    def action_save(self) -> None:
        """Ask in which form to save the screen."""
        ask_to_save(self.console_app, self.saved())

    def _wake(self) -> None:
        self.update()
        self._on_tick()

    def _on_tick(self) -> None:
        app = self.console_app
        for bar in self.query(TopBar):
            bar.show(app.standing(), warnings=app.warnings(), simulated=app.is_simulated, clock=app.clock())
        for banner in self.query(Banner):
            banner.show(app.trouble())
        with suppress(NoMatches):
            self.tick()
