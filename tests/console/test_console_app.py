"""The console on a real hub, driven as a person would."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from qubix_tui.client import Connection
from qubix_tui.console.app import QubixApp
from qubix_tui.console.columns import SortOrder
from qubix_tui.console.options import Options
from qubix_tui.console.palette import ConsoleCommands
from qubix_tui.console.screens.help import HelpScreen
from qubix_tui.console.screens.provider import ProviderScreen
from qubix_tui.console.themes import MEANINGS, THEMES
from qubix_tui.console.widgets.fleet_table import FleetTable
from qubix_tui.console.widgets.line_panel import LinePanel
from qubix_tui.console.widgets.news_feed import NewsFeed
from qubix_tui.hub.access import Access
from qubix_tui.hub.config import HubConfig
from qubix_tui.hub.server import Hub
from qubix_tui.protocol.events import Event
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot
from qubix_tui.protocol.records import GpuMetrics, Metrics
from qubix_tui.protocol.requests import PublishMetrics, Register
from qubix_tui.protocol.tokens import Role, new_token
from tests.console.records import headline, provider

OPERATOR = new_token(Role.OPERATOR)
PATIENCE = 15.0


@asynccontextmanager
async def hub(port: int = 0) -> AsyncIterator[Hub]:
    """A real hub that knows an operator."""
    access = Access()
    access.add_token(OPERATOR, Role.OPERATOR, "tests")
    running = Hub(HubConfig(port=port), access=access)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@asynccontextmanager
async def machine(url: str, name: str, temperature: float = 60.0) -> AsyncIterator[Connection]:
    """A provider that registered and sent one sample."""
    connection = Connection(url, token=OPERATOR)
    await connection.start()
    await connection.wait_open(PATIENCE)
    await connection.request(
        "provider:register",
        Register(
            worker_id=name, instance="i1", name=name, simulated=True, gpu_count=1, gpu_model="NVIDIA H200"
        ),
    )
    metrics = Metrics(
        gpu_percent=50.0,
        gpu_temp=temperature,
        seq=1,
        gpus=[GpuMetrics(index=0, util_percent=50.0, temp_c=temperature)],
    )
    connection.send("GPU_METRICS_UPDATE", PublishMetrics(metrics=metrics))
    try:
        yield connection
    finally:
        await connection.close()


async def until(pilot: Pilot[None], look: Callable[[], object]) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(PATIENCE):
        while not look():
            await pilot.pause(0.02)


def table_of(app: QubixApp) -> FleetTable:
    """The table on the screen."""
    return app.screen.query_one(FleetTable)


def text_of(app: QubixApp, selector: str) -> str:
    """What a line of text on the screen says."""
    return str(app.screen.query_one(selector, Static).content)


@asynccontextmanager
async def console(url: str, size: tuple[int, int] = (120, 40)) -> AsyncIterator[tuple[QubixApp, Pilot[None]]]:
    """A console on a hub."""
    app = QubixApp(url, OPERATOR)
    async with app.run_test(size=size) as pilot:
        yield app, pilot


async def test_an_empty_fleet_says_how_to_add_a_provider() -> None:
    """With nobody there the screen has the exact command, and a key that copies it."""
    async with hub() as running, console(running.url) as (app, pilot):
        await until(pilot, lambda: "No providers yet" in text_of(app, "#empty"))
        assert f"qubix-agent --hub {running.url}" in text_of(app, "#empty")
        await pilot.press("y")
        assert app.clipboard == f"qubix-agent --hub {running.url}"


async def test_keys_move_filter_sort_and_open() -> None:
    """Arrows move, ``/`` filters as you type, ``s`` and ``R`` sort, Enter opens, Esc comes back."""
    async with (
        hub() as running,
        machine(running.url, "alpha"),
        machine(running.url, "beta", temperature=90.0),
        machine(running.url, "gamma"),
        console(running.url) as (app, pilot),
    ):
        await until(pilot, lambda: len(table_of(app).ids) == 3 and app.fleet.newest_at)
        table = table_of(app)
        await until(pilot, lambda: table.ids[0] == "sim-beta")
        assert table.cursor_id == "sim-beta", "untouched, the cursor rests on what is worst"
        await pilot.press("down")
        assert table.cursor_id == "sim-alpha"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ProviderScreen))
        assert isinstance(app.screen, ProviderScreen)
        assert app.screen.provider_id == "sim-alpha"
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ProviderScreen))
        assert table.cursor_id == "sim-alpha"
        await pilot.press("slash", *"temp>80")
        await until(pilot, lambda: list(table.ids) == ["sim-beta"])
        assert text_of(app, "#count").startswith("1 of 3")
        await pilot.press("space", *"heat>1")
        hint = text_of(app, "#query-hint")
        assert "no field heat" in hint
        assert hint.index("^^^^ ") == 2 + len("temp>80 ")
        field = app.screen.query_one("#filter", Input)
        assert field.has_class("-wrong")
        assert list(table.ids) == ["sim-beta"], "what is right of a filter holds already"
        await pilot.press("escape")
        await until(pilot, lambda: len(table.ids) == 3)
        table.order = SortOrder("name")
        assert list(table.ids) == ["sim-alpha", "sim-beta", "sim-gamma"]
        await pilot.press("R")
        assert list(table.ids) == ["sim-gamma", "sim-beta", "sim-alpha"]
        await pilot.press("s")
        assert table.order == SortOrder("gpus")


async def test_the_mouse_sorts_and_selects() -> None:
    """A click on a head sorts by it, once more turns it round; a click on a row selects it."""
    async with (
        hub() as running,
        machine(running.url, "alpha"),
        machine(running.url, "beta"),
        console(running.url) as (app, pilot),
    ):
        await until(pilot, lambda: len(table_of(app).ids) == 2)
        table = table_of(app)
        await until(pilot, lambda: "NAME" in table.render_line(0).text)
        head = table.render_line(0).text
        await pilot.click(table, offset=(head.index("NAME"), 0))
        assert table.order == SortOrder("name")
        await pilot.click(table, offset=(head.index("NAME"), 0))
        assert table.order == SortOrder("name", reverse=True)
        await pilot.click(table, offset=(10, 2))
        assert table.cursor_id == table.ids[1]


async def test_the_hub_goes_and_comes_back() -> None:
    """While the hub is away the screen says so, counts, and dims what was known; then it goes on."""
    async with hub() as first:
        port = first.port
        async with machine(first.url, "alpha"), console(first.url) as (app, pilot):
            await until(pilot, lambda: len(table_of(app).ids) == 1)
            await first.stop()
            await until(pilot, lambda: "stopped answering" in text_of(app, "#banner"))
            banner = text_of(app, "#banner")
            assert "what you see is from then" in banner
            assert "of 10" in banner
            assert app.screen.has_class("-trouble")
            await until(pilot, lambda: table_of(app).is_past)
            assert list(table_of(app).ids) == ["sim-alpha"]
            async with hub(port):
                await pilot.press("r")
                await until(pilot, lambda: app.is_live)
                await until(pilot, lambda: not app.screen.has_class("-trouble"))
                await until(pilot, lambda: not table_of(app).is_past)
                assert "the hub is back" in [entry.text for entry in app.event_log.entries]


async def test_a_refused_token_is_said_and_can_be_tried_again() -> None:
    """A token that the hub does not know: a sentence and a key, no table that looks alive."""
    async with hub() as running:
        app = QubixApp(running.url, new_token(Role.OPERATOR))
        async with app.run_test() as pilot:
            await until(pilot, lambda: "token" in text_of(app, "#empty"))
            assert "r tries this one again" in text_of(app, "#empty")


async def test_simulated_data_is_labelled() -> None:
    """Wherever a simulated provider is shown, the row and the screen say so."""
    async with (
        hub() as running,
        machine(running.url, "alpha"),
        console(running.url, (80, 24)) as (app, pilot),
    ):
        await until(pilot, lambda: len(table_of(app).ids) == 1)
        await until(pilot, lambda: " SIM" in table_of(app).render_line(1).text)
        await until(pilot, lambda: "SIM" in app.screen.query_one("TopBar").render_line(0).text)


async def test_help_lists_the_bindings() -> None:
    """``?`` shows every key of the screen with what it does; Esc closes it."""
    async with hub() as running, console(running.url) as (app, pilot):
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        words = "\n".join(str(line.content) for line in app.screen.query(Static))
        for tooltip in (
            "Filter the table",
            "Leave",
            "The next theme",
            "Every action and every provider, by name (also ctrl+p)",
            "unreachable",
        ):
            assert tooltip in words
        await pilot.press("escape")
        assert not isinstance(app.screen, HelpScreen)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60), (60, 12)])
async def test_every_theme_paints_at_every_size(size: tuple[int, int]) -> None:
    """Each theme has all meanings, and the table is drawn over its whole width in each."""
    async with (
        hub() as running,
        machine(running.url, "alpha"),
        console(running.url, size) as (app, pilot),
    ):
        await until(pilot, lambda: len(table_of(app).ids) == 1)
        for theme in THEMES:
            app.theme = theme.name
            await pilot.pause()
            assert all(meaning in app.theme_variables for meaning in MEANINGS)
            table = table_of(app)
            for y in range(table.size.height):
                assert table.render_line(y).cell_length == table.size.width


async def test_work_does_not_grow_with_rows_out_of_view() -> None:
    """A change of rows that are scrolled away draws nothing; one of a row in view draws that row."""
    async with hub() as running, console(running.url, (120, 24)) as (app, pilot):
        await until(pilot, lambda: app.is_live and app.fleet.is_loaded)
        names = [f"n{number:05d}" for number in range(5000)]
        snapshot = FleetSnapshot(providers=[provider(name) for name in names], page=1, pages=1)
        app.fleet.take(Event(type="MARKETPLACE_UPDATE", data=snapshot))
        table = table_of(app)
        await until(pilot, lambda: len(table.ids) == 5000)
        app.screen._tick_timer.pause()  # type: ignore[attr-defined]
        await pilot.pause()
        before = table.painted_rows
        now = app.fleet.now()
        digest = FleetDigest(providers=[headline(name, at=now) for name in names[100:]])
        app.fleet.take(Event(type="MARKETPLACE_UPDATE", data=digest))
        await until(pilot, lambda: not app.fleet.take_changes()[0])
        assert table.painted_rows == before
        app.fleet.take(
            Event(type="MARKETPLACE_UPDATE", data=FleetDigest(providers=[headline(names[3], at=now)]))
        )
        await until(pilot, lambda: table.painted_rows > before)
        assert table.painted_rows <= before + 2


async def test_the_palette_sorts_opens_and_changes_colours() -> None:
    """The palette has every provider by name and every column to sort by; Textual's own themes paint too."""
    async with (
        hub() as running,
        machine(running.url, "alpha"),
        console(running.url, (100, 24)) as (app, pilot),
    ):
        await until(pilot, lambda: len(table_of(app).ids) == 1)
        commands = {command.name: command.run for command in ConsoleCommands(app.screen)._all()}
        commands["Sort by name"]()
        assert table_of(app).order == SortOrder("name")
        for theme in app.available_themes:
            app.theme = theme
            await pilot.pause()
            assert table_of(app).render_line(1).cell_length == table_of(app).size.width
        commands["alpha"]()
        await until(pilot, lambda: isinstance(app.screen, ProviderScreen))


async def test_notices_stay_among_the_events() -> None:
    """What is said at the start can still be read when its corner is empty again; markup in it is text."""
    notice = "port 3001 was busy: the hub is at [b]ws://localhost:3002[/b]"
    async with hub() as running:
        app = QubixApp(running.url, OPERATOR, notices=[notice])
        async with app.run_test(size=(120, 40)) as pilot:
            feed = app.screen.query_one(NewsFeed)
            await until(pilot, lambda: any(notice in feed.render_line(y).text for y in range(4)))


async def test_without_a_hub_nothing_is_counted() -> None:
    """A hub that never answered: a sentence with the count of attempts, and no sums of what is not known."""
    async with console("ws://127.0.0.1:9", (80, 24)) as (app, pilot):
        await until(pilot, lambda: "of 10" in text_of(app, "#empty"))
        assert text_of(app, "#empty").startswith("No hub at ws://127.0.0.1:9")
        assert text_of(app, "#count") == ""
        assert app.screen.query_one("SummaryBar").render_line(0).text.strip() == ""
        assert "no hub" in app.screen.query_one("TopBar").render_line(0).text


async def test_the_filter_has_its_own_keys() -> None:
    """While it is typed, Esc clears it and the arrow goes to what it left."""
    async with (
        hub() as running,
        machine(running.url, "alpha"),
        machine(running.url, "beta"),
        console(running.url) as (app, pilot),
    ):
        await until(pilot, lambda: len(table_of(app).ids) == 2)
        await pilot.press("slash", *"beta", "down")
        await until(pilot, lambda: list(table_of(app).ids) == ["sim-beta"] and table_of(app).has_focus)
        await pilot.press("slash")
        assert app.screen.active_bindings["escape"].binding.id == "query.clear"
        await pilot.press("escape")
        await until(pilot, lambda: len(table_of(app).ids) == 2 and table_of(app).has_focus)


async def test_pages_and_ends() -> None:
    """Page keys and ends move through a long fleet; the selected row is always in view."""
    async with hub() as running, console(running.url, (100, 24)) as (app, pilot):
        await until(pilot, lambda: app.is_live and app.fleet.is_loaded)
        records = [provider(f"n{number:03d}") for number in range(200)]
        app.fleet.take(
            Event(type="MARKETPLACE_UPDATE", data=FleetSnapshot(providers=records, page=1, pages=1))
        )
        table = table_of(app)
        await until(pilot, lambda: len(table.ids) == 200 and table.size.height > 1)
        rows = table.size.height - 1
        for key, place in (("end", 199), ("pageup", 200 - rows), ("home", 0), ("pagedown", rows - 1)):
            await pilot.press(key)
            assert table.cursor_id == table.ids[place]
            top = round(table.scroll_target_y)
            assert top <= place < top + rows
        await pilot.press("up", "up", "down")
        assert table.cursor_id == table.ids[rows - 2]


async def test_ascii_only_means_ascii() -> None:
    """With ``--ascii`` every cell of the table and of the lines around it is ASCII, the unknown too."""
    async with hub() as running, machine(running.url, "alpha"):
        app = QubixApp(running.url, OPERATOR, options=Options(ascii_only=True))
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: "alpha" in table_of(app).render_line(1).text)
            for widget in (table_of(app), *app.screen.query(LinePanel)):
                for y in range(widget.size.height):
                    assert widget.render_line(y).text.isascii()
