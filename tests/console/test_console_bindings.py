"""Every key of the fleet's screen and of the console does what it says: one table, held complete."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from textual.command import CommandPalette

from qubix_tui.client import ConnectionState
from qubix_tui.console.columns import SortOrder
from qubix_tui.console.options import Options
from qubix_tui.console.places import Place, Trail
from qubix_tui.console.screens.alerts import AlertsScreen
from qubix_tui.console.screens.events import EventsScreen
from qubix_tui.console.screens.fleet import FleetScreen
from qubix_tui.console.screens.help import HelpScreen
from qubix_tui.console.screens.hub import HubScreen
from qubix_tui.console.screens.jobs import JobsScreen
from qubix_tui.console.screens.pick import PickScreen
from qubix_tui.console.screens.provider import ProviderScreen
from qubix_tui.console.screens.saved_views import SavedViewsScreen
from tests.console.test_console_app import until
from tests.console.test_console_fleet_screen import Stage, stage
from tests.console.test_console_navigation import said

Check = Callable[[Stage], object]


def at(place: int) -> Check:
    """The cursor is on the row at a place."""
    return lambda shown: shown.screen.table.cursor_id == shown.screen.table.ids[place]


def shows(kind: type) -> Check:
    """A screen is in front."""
    return lambda shown: isinstance(shown.app.screen, kind)


def sorted_by(place: int) -> Check:
    """The rows are sorted by the column at a place, from 1."""
    return lambda shown: shown.screen.table.order.key == shown.screen.table.column_keys[place - 1]


def copied(start: str) -> Check:
    """Something is in the clipboard."""
    return lambda shown: shown.app.clipboard.startswith(start)


EFFECTS: dict[str, tuple[list[str], Check]] = {
    "fleet.up": (["end", "up"], at(-2)),
    "fleet.down": (["home", "down"], at(1)),
    "fleet.page-down": (["home", "pagedown"], lambda shown: shown.place >= 10),
    "fleet.page-up": (["end", "pageup"], lambda shown: shown.place < 30),
    "fleet.top": (["end", "home"], at(0)),
    "fleet.end": (["home", "end"], at(-1)),
    "fleet.open": (["enter"], shows(ProviderScreen)),
    "fleet.mark": (["space"], lambda shown: len(shown.screen.table.marked) == 1),
    "fleet.mark-all": (["ctrl+a"], lambda shown: len(shown.screen.table.marked) == len(shown.names)),
    "fleet.marked": (["space", "m"], lambda shown: len(shown.names) == 1),
    "fleet.filter": (["slash"], lambda shown: shown.screen.query_one("#filter").has_focus),
    "fleet.sort": (["s"], lambda shown: shown.screen.table.order == SortOrder("state")),
    "fleet.reverse": (["R"], lambda shown: shown.screen.table.order.reverse),
    **{f"fleet.sort-{place}": ([str(place)], sorted_by(place)) for place in range(1, 10)},
    "fleet.views": (["v"], shows(SavedViewsScreen)),
    "fleet.act": (["x"], shows(PickScreen)),
    "fleet.remove": (["delete"], lambda shown: "can be removed" in said(shown.app)),
    "fleet.copy-rows": (["Y"], copied("id\tname")),
    "fleet.clear": (["space", "escape"], lambda shown: not shown.screen.table.marked),
    "screen.copy": (["home", "y"], lambda shown: shown.app.clipboard == shown.screen.table.cursor_id),
    "screen.save": (["S"], shows(PickScreen)),
    "app.jobs": (["j"], shows(JobsScreen)),
    "app.events": (["e"], shows(EventsScreen)),
    "app.alerts": (["a"], shows(AlertsScreen)),
    "app.hub": (["h"], shows(HubScreen)),
    "app.last": (["e", "f", "minus"], shows(EventsScreen)),
    "app.fleet": (["e", "f"], shows(FleetScreen)),
    "app.pause": (["p"], lambda shown: shown.app.is_paused),
    "app.theme": (["t"], lambda shown: shown.app.theme == "qubix-light"),
    "app.help": (["question_mark"], shows(HelpScreen)),
    "app.palette": (["colon"], shows(CommandPalette)),
}
"""Of each binding the keys that lead there, and what is so then."""

LEAVING = {"app.quit", "app.interrupt"}
"""They end the console; so does a test of them."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved is saved where the test may."""
    monkeypatch.chdir(tmp_path)


async def test_the_table_is_complete() -> None:
    """Each binding that the screen has, with a hub and without, is in the table."""
    async with stage(40) as shown:
        await shown.pilot.press("e", "f")
        await until(shown.pilot, lambda: isinstance(shown.app.screen, FleetScreen))
        found = {active.binding.id for active in shown.screen.active_bindings.values()} - {None}
        assert found - LEAVING | {"app.fleet"} == EFFECTS.keys()
        shown.connection.change_state(ConnectionState.RECONNECTING)
        await shown.pilot.pause()
        more = {active.binding.id for active in shown.screen.active_bindings.values()} - {None}
        assert more - found == {"app.retry"}


async def reset(shown: Stage) -> None:
    """Bring the console back to where it began, as far as a test of keys can tell."""
    app = shown.app
    while len(app.screen_stack) > 1:
        app.pop_screen()
    app.trail = Trail(Place("fleet"))
    await app.switch_mode("fleet")
    if app.is_paused:
        app.action_pause()
    table = shown.screen.table
    table.marked.clear()
    table.shows_marked = False
    table.order = SortOrder()
    shown.screen.bar.ask("")
    table.focus()
    app.theme = "qubix-dark"
    app.clear_notifications()
    await shown.pilot.pause()


async def test_each_key_does_what_it_says() -> None:
    """From where the console begins, its keys lead to its effect."""
    async with stage(40) as shown:
        for keys, check in EFFECTS.values():
            await reset(shown)
            await shown.pilot.press(*keys)
            await until(shown.pilot, partial(check, shown))


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_two_keys_leave(key: str) -> None:
    """``q`` and, whatever is in front, ctrl+c end the console with 0."""
    async with stage(3) as shown:
        if key == "ctrl+c":
            await shown.pilot.press("slash", "x", "question_mark")
        await shown.pilot.press(key)
        await until(shown.pilot, lambda: not shown.app.is_running)
        assert not shown.app.return_code


async def test_retry_asks_the_connection() -> None:
    """``r`` is offered while there is no hub, and makes the next attempt at once."""
    async with stage(3) as shown:
        await shown.pilot.press("r")
        assert shown.connection.retries == 0
        shown.connection.change_state(ConnectionState.RECONNECTING)
        await shown.pilot.press("r")
        assert shown.connection.retries == 1


async def test_a_key_can_be_moved(tmp_path: Path) -> None:
    """What a keymap moves works at its new place, is shown there, and is gone from the old one."""
    (tmp_path / "console.toml").write_text('[keys]\napp.pause = "f6"\n', encoding="utf-8")
    async with stage(3, options=Options(directory=tmp_path)) as shown:
        paused = []
        for key in ("p", "f6"):
            await shown.pilot.press(key)
            paused.append(shown.app.is_paused)
        assert paused == [False, True]
        line = shown.screen.query_one("KeyLine").render_line(0).text
        assert "f6 pause" in line
