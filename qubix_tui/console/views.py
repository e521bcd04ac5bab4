"""The views of the console, a line each: to add one, add its line."""

from collections.abc import Callable
from typing import Final, NamedTuple

from qubix_tui.console.screens.alerts import AlertsScreen
from qubix_tui.console.screens.base import ConsoleScreen
from qubix_tui.console.screens.events import EventsScreen
from qubix_tui.console.screens.fleet import FleetScreen
from qubix_tui.console.screens.hub import HubScreen
from qubix_tui.console.screens.job import JobScreen
from qubix_tui.console.screens.jobs import JobsScreen
from qubix_tui.console.screens.provider import ProviderScreen


class View(NamedTuple):
    """One view: a Textual mode with a screen of its own, and a letter that leads there from everywhere."""

    name: str
    key: str
    tooltip: str
    screen: Callable[[], ConsoleScreen]
    """Makes its screen, the first time that somebody goes there."""
    detail: Callable[[str], ConsoleScreen] | None = None
    """Makes the screen of one thing of it (a provider, a job), which stands on top of the view's own.

    Without one, a subject is handed to the view's own screen (`ConsoleScreen.aim`).
    """


VIEWS: Final = (
    View("fleet", "f", "The fleet: every provider, live", FleetScreen, ProviderScreen),
    View("jobs", "j", "The jobs: running, waiting, over", JobsScreen, JobScreen),
    View("events", "e", "Everything that happened", EventsScreen),
    View("alerts", "a", "The last alerts, and which still hold", AlertsScreen),
    View("hub", "h", "The hub itself: connections, messages, limits", HubScreen),
)
"""In the order of their keys in the last line of the screen. The console opens on the first."""

BY_NAME: Final = {view.name: view for view in VIEWS}
