"""The fleet's screen: what its keys do, and how it looks at every size."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from qubix_tui.client import Connection, ConnectionState
from qubix_tui.console.app import QubixApp
from qubix_tui.console.columns import SortOrder
from qubix_tui.console.options import Options
from qubix_tui.console.screens.ask import AskScreen
from qubix_tui.console.screens.fleet import SORTABLE, FleetScreen
from qubix_tui.console.screens.pick import PickScreen
from qubix_tui.console.screens.saved_views import SavedViewsScreen
from qubix_tui.hub.access import Access
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.server import Hub
from qubix_tui.protocol.records import ProviderState
from qubix_tui.protocol.requests import Register
from qubix_tui.protocol.tokens import Role, new_token
from tests.console.fleet_stage import fill, fleet_console, lose
from tests.console.provider_stage import NOW, StandInConnection
from tests.console.snapshots import Snapshot
from tests.console.test_console_app import PATIENCE, until
from tests.console.test_console_navigation import said

SIZES = [(80, 24), (120, 40), (200, 60)]


class Stage:
    """The console on the fleet, with the hub in the test's hands."""

    def __init__(self, app: QubixApp, connection: StandInConnection, pilot: Pilot[None]) -> None:
        self.app, self.connection, self.pilot = app, connection, pilot

    @property
    def screen(self) -> FleetScreen:
        """The fleet's screen, whatever is in front of it."""
        screen = self.app.screen_stack[0]
        assert isinstance(screen, FleetScreen)
        return screen

    @property
    def names(self) -> list[str]:
        """The rows, in their order, by name."""
        return [key.removesuffix("-3f9a1c") for key in self.screen.table.ids]

    @property
    def place(self) -> int:
        """Where the cursor is, from 0."""
        return self.screen.table.ids.index(self.screen.table.cursor_id or "")

    async def settle(self) -> None:
        """Let everything that is known be on the screen."""
        await self.pilot.pause()
        self.app._summary = None
        self.screen.on_screen_resume()
        self.screen._wake()
        await self.pilot.pause()
        await self.pilot.pause()

    def count(self) -> str:
        """What is said beside the query."""
        return str(self.screen.query_one("#count", Static).content)


@asynccontextmanager
async def stage(
    providers: int = 3, size: tuple[int, int] = (120, 40), options: Options | None = None
) -> AsyncIterator[Stage]:
    """Show a fleet of so many."""
    app, connection = fleet_console(options=options)
    async with app.run_test(size=size, notifications=True) as pilot:
        connection.change_state(ConnectionState.OPEN)
        fill(connection, providers)
        shown = Stage(app, connection, pilot)
        await shown.settle()
        yield shown


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("providers", [0, 3, 128], ids=["empty", "three", "crowded"])
async def test_how_it_looks(providers: int, size: tuple[int, int], snapshot: Snapshot) -> None:
    """Nobody, three machines, and a crowd, at every size."""
    async with stage(providers, size) as shown:
        if providers == 3:
            lose(shown.connection, "barn-7-3f9a1c", "no word for 15 s")
            await shown.settle()
        snapshot(shown.app, f"fleet-{providers}-{size[0]}x{size[1]}")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_how_it_looks_without_the_hub(size: tuple[int, int], snapshot: Snapshot) -> None:
    """Everything is of the past, and the screen says since when and what comes next."""
    async with stage(3, size) as shown:
        shown.connection.attempt = 3
        shown.connection.last_error = "ws://localhost:3001 closed the connection"
        shown.connection.change_state(ConnectionState.RECONNECTING)
        shown.app.monotonic = lambda: 1012.0
        shown.connection.next_attempt_at = 1016.0
        await shown.settle()
        snapshot(shown.app, f"fleet-down-{size[0]}x{size[1]}")


async def test_columns_sort_by_number_letter_and_click() -> None:
    """A digit sorts by that column and, again, turns it round; ``s`` goes to the next; ``R`` turns round."""
    async with stage() as shown:
        table = shown.screen.table
        place = table.column_keys.index("name") + 1
        await shown.pilot.press(str(place))
        assert shown.names == ["barn-7", "host-a9", "rig-41"]
        await shown.pilot.press(str(place))
        assert shown.names == ["rig-41", "host-a9", "barn-7"]
        assert shown.count().endswith("by name, reversed")
        await shown.pilot.press("R")
        assert table.order == SortOrder("name")
        for key in [*SORTABLE[SORTABLE.index("name") + 1 :], *SORTABLE]:
            await shown.pilot.press("s")
            assert table.order == SortOrder(key)


async def test_marks_are_what_actions_are_about() -> None:
    """Space marks and goes on; copying takes the marked; ``m`` shows them alone; Esc clears."""
    async with stage() as shown:
        await shown.pilot.press("home", "space", "space")
        assert len(shown.screen.table.marked) == 2
        await until(shown.pilot, lambda: shown.count().startswith("2 marked"))
        await shown.pilot.press("y")
        assert shown.app.clipboard.splitlines() == [f"{name}-3f9a1c" for name in shown.names[:2]]
        await shown.pilot.press("Y")
        lines = [line.split("\t") for line in shown.app.clipboard.splitlines()]
        assert [line[lines[0].index("name")] for line in lines[1:]] == shown.names[:2]
        await shown.pilot.press("m")
        assert len(shown.names) == 2
        await shown.pilot.press("escape")
        assert len(shown.names) == 3
        assert not shown.screen.table.marked
        await shown.pilot.press("ctrl+a")
        assert len(shown.screen.table.marked) == 3
        await shown.pilot.press("home", "space")
        assert len(shown.screen.table.marked) == 2


async def test_actions_are_a_list_with_letters() -> None:
    """``x`` asks; a letter answers; where nothing is marked it is about the provider under the cursor."""
    async with stage() as shown:
        await shown.pilot.press("x")
        await until(shown.pilot, lambda: isinstance(shown.app.screen, PickScreen))
        assert shown.app.screen.query_one(OptionList).option_count == 3
        await shown.pilot.press("n")
        await until(shown.pilot, lambda: shown.app.clipboard == "rig-41")
        await shown.pilot.press("space", "space", "x", "m")
        await until(shown.pilot, lambda: len(shown.names) == 2)


async def test_a_console_that_may_only_look_offers_no_removal() -> None:
    """With ``--read-only``, or a viewer's token, the key does nothing and is not listed."""
    for options, role in ((Options(read_only=True), "operator"), (None, "viewer")):
        async with stage(options=options) as shown:
            shown.connection.role = role
            keys = {active.binding.id for active in shown.screen.active_bindings.values()}
            assert "fleet.remove" not in keys
            assert "fleet.act" in keys
            await shown.pilot.press("delete")
            assert shown.app.screen is shown.screen
            assert said(shown.app) == ""


async def test_only_what_is_offline_can_be_removed() -> None:
    """Others stay, with a sentence that says what to do."""
    async with stage() as shown:
        await shown.pilot.press("delete")
        assert "Stop its agent first" in said(shown.app)
        assert shown.app.screen is shown.screen


async def test_an_offline_provider_is_removed_from_the_hub() -> None:
    """Asked first, the hub forgets it, and it leaves the table."""
    operator, token = new_token(Role.OPERATOR), new_token(Role.PROVIDER)
    access = Access()
    access.add_token(operator, Role.OPERATOR, "tests")
    access.add_token(token, Role.PROVIDER, "rig")
    hub = Hub(HubConfig(port=0), access=access)
    await hub.start()
    agent = Connection(hub.url, token=token)
    try:
        await agent.start()
        await agent.wait_open(PATIENCE)
        await agent.request("provider:register", Register(worker_id="w", instance="i", name="rig-41"))
        await agent.close()
        app = QubixApp(hub.url, operator)
        async with app.run_test(size=(120, 30), notifications=True) as pilot:
            await until(pilot, lambda: app.fleet.rows)
            (row,) = app.fleet.rows.values()
            await until(pilot, lambda: row.record.state is ProviderState.OFFLINE)
            await until(pilot, lambda: app.screen.table.ids)  # type: ignore[attr-defined]
            await pilot.press("delete", "n")
            await pilot.pause()
            assert app.fleet.rows
            await pilot.press("delete")
            await until(pilot, lambda: isinstance(app.screen, PickScreen))
            await pilot.press("y")
            await until(pilot, lambda: not app.fleet.rows)
            assert "Removed rig-41." in said(app)
    finally:
        await agent.close()
        await hub.stop()


async def test_the_query_completes_and_points() -> None:
    """Tab takes the first proposal; what is wrong is pointed at; Enter leaves it, Esc clears it."""
    async with stage() as shown:
        bar, field = shown.screen.bar, shown.screen.query_one("#filter", Input)
        hint = shown.screen.query_one("#query-hint", Static)
        await shown.pilot.press("slash", *"te")
        await until(shown.pilot, lambda: "temp>" in str(hint.content))
        await shown.pilot.press("tab", *"80")
        assert field.value == "temp>80"
        await until(shown.pilot, lambda: shown.names == ["rig-41"])
        await shown.pilot.press("space", *"state:b", "tab", "space", *"(x")
        assert field.value == "temp>80 state:busy (x"
        await until(shown.pilot, lambda: "^ this ( is not closed" in str(hint.content))
        assert bar.error is not None
        await shown.pilot.press(")")
        await until(shown.pilot, lambda: not hint.display)
        await shown.pilot.press("enter")
        await until(shown.pilot, lambda: shown.screen.table.has_focus)
        assert field.value == "temp>80 state:busy (x)"
        await shown.pilot.press("escape")
        await until(shown.pilot, lambda: len(shown.names) == 3)


async def test_a_far_fault_is_pointed_at_from_the_left() -> None:
    """At the end of a long query there is no room behind the carets: the sentence stands before them."""
    async with stage(size=(80, 24)) as shown:
        shown.screen.bar.ask(f"{'a' * 50} heat>1")
        hint = shown.screen.query_one("#query-hint", Static)
        await until(shown.pilot, lambda: str(hint.content).endswith(" ^^^^"))
        assert str(hint.content).index("^") == 2 + 51


async def test_the_cursor_stays_on_its_provider() -> None:
    """However the order changes; and the order by trouble brings what is worst to the top."""
    async with stage() as shown:
        await shown.pilot.press("end")
        chosen = shown.screen.table.cursor_id
        assert chosen == "host-a9-3f9a1c"
        await shown.pilot.press("2", "2", "s")
        assert shown.screen.table.cursor_id == chosen


async def test_nothing_is_drawn_for_rows_out_of_view() -> None:
    """A fleet fifty times as large costs the same rows: those in view."""
    painted = {}
    for providers in (100, 5000):
        async with stage(providers, (120, 40)) as shown:
            shown.screen._flush_timer.pause()
            shown.screen._tick_timer.pause()
            before = shown.screen.table.painted_rows
            shown.connection.now = NOW + 1
            fill(shown.connection, providers)
            await shown.settle()
            painted[providers] = shown.screen.table.painted_rows - before
            in_view = shown.screen.table.size.height - 1
    assert 0 < painted[100] <= 2 * in_view
    assert painted[5000] <= 2 * in_view


async def test_what_is_changed_on_the_screen_is_kept(tmp_path: Path) -> None:
    """The theme, the order and a saved view are there in the next console."""
    options = Options(directory=tmp_path)
    async with stage(options=options) as shown:
        place = shown.screen.table.column_keys.index("temp") + 1
        await shown.pilot.press("t", str(place), str(place))
        await shown.pilot.press("slash", *"rig", "enter", "v", "a")
        await until(shown.pilot, lambda: isinstance(shown.app.screen, AskScreen))
        await shown.pilot.press(*"mine", "enter", "escape", "escape")
        await until(shown.pilot, lambda: len(shown.names) == 3)
    async with stage(options=options) as shown:
        assert shown.app.theme == "qubix-light"
        assert shown.screen.table.order == SortOrder("temp", reverse=True)
        await shown.pilot.press("v", "enter")
        await until(shown.pilot, lambda: shown.names == ["rig-41"])
        await shown.pilot.press("v", "r", *"2", "enter")
        await until(shown.pilot, lambda: list(shown.app.store.views) == ["mine2"])
        await until(shown.pilot, lambda: isinstance(shown.app.screen, SavedViewsScreen))
        await shown.pilot.press("d")
        await until(shown.pilot, lambda: not shown.app.store.views)


async def test_a_persons_settings_hold(tmp_path: Path) -> None:
    """Keys, columns and the order are as console.toml says; what is wrong in it is said on the screen."""
    text = (
        '[fleet]\ncolumns = ["name", "temp"]\nsort = "name"\n[keys]\nfleet.reverse = "o"\nfleet.srot = "x"\n'
    )
    (tmp_path / "console.toml").write_text(f"{text}[display]\nthme = 1\n", encoding="utf-8")
    async with stage(options=Options(directory=tmp_path)) as shown:
        assert shown.screen.table.column_keys == ["name", "temp"]
        assert shown.names == ["barn-7", "host-a9", "rig-41"]
        await shown.pilot.press("o")
        assert shown.names == ["rig-41", "host-a9", "barn-7"]
        await shown.pilot.press("R")
        assert shown.names == ["rig-41", "host-a9", "barn-7"]
        assert "line 8: there is no setting display.thme" in said(shown.app)
        assert "did you mean fleet.sort?" in said(shown.app)
