"""Where one goes in the console: the views, what is opened on top of them, and the way back."""

from textual.app import App

from qubix_tui.console.places import Place, Trail
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.screens.fleet import FleetScreen
from qubix_tui.console.views import BY_NAME, VIEWS


class NavigatingApp(App[None]):
    """An app of views: each is a mode with a screen of its own, and with one of its subjects on top.

    Args:
        ansi_color: Whether the terminal's own colours are used, as `textual.app.App` takes it.
    """

    MODES = {view.name: view.screen for view in VIEWS}  # noqa: RUF012 - as Textual declares it
    DEFAULT_MODE = VIEWS[0].name

    def __init__(self, *, ansi_color: bool) -> None:
        super().__init__(ansi_color=ansi_color)
        self.trail = Trail(Place(self.DEFAULT_MODE))

    def go(self, place: Place) -> None:
        """Show a place."""
        self.trail.go(place)
        self._show(place)

    def go_back(self) -> None:
        """Show the place that one came from; the view itself where that is not known."""
        self._show(self.trail.back() or Place(self.trail.here.view))

    def open_provider(self, provider_id: str) -> None:
        """Show one provider."""
        self.go(Place("fleet", provider_id))

    def open_neighbour(self, provider_id: str, step: int) -> None:
        """Show the provider that is so many rows further in the fleet's table, from the last on the first."""
        fleet = self.screen_stack[0]
        ids = fleet.table.ids if isinstance(fleet, FleetScreen) else ()
        if isinstance(fleet, FleetScreen) and provider_id in ids:
            neighbour = ids[(ids.index(provider_id) + step) % len(ids)]
            fleet.table.select(neighbour)
            self.trail.move(Place("fleet", neighbour))
            self._show(self.trail.here)

    def open_job(self, job_id: str) -> None:
        """Show one job."""
        self.go(Place("jobs", job_id))

    def action_go(self, view: str) -> None:
        """Go to a view."""
        self.go(Place(view))

    def action_last_place(self) -> None:
        """Go to where one was before."""
        if self.trail.before is not None:
            self.go(self.trail.before)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer to go where one is not."""
        match action:
            case "go":
                return self.trail.here != Place(str(parameters[0]))
            case "last_place":
                return self.trail.before is not None
            case _:
                return True

    def _show(self, place: Place) -> None:
        if place.view != self.current_mode:
            self.switch_mode(place.view)
        if not (isinstance(self.screen, ConsoleScreen) and self.screen.place == place):
            while len(self.screen_stack) > 1:
                self.pop_screen()
            detail = BY_NAME[place.view].detail
            if detail is None and isinstance(self.screen, ConsoleScreen):
                self.screen.aim(place.subject)
            elif detail is not None and place.subject is not None:
                self.push_screen(detail(place.subject))
        self.screen.refresh_bindings()
