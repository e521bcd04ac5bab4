"""Keys that every screen has, on a console with a stand-in for its connection."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.widgets import OptionList

from qubix_tui.console.app import QubixApp
from qubix_tui.console.options import Options
from qubix_tui.console.palette import places_of, score
from qubix_tui.console.places import Place
from qubix_tui.console.screens.fleet import FleetScreen
from qubix_tui.console.screens.help import HelpScreen
from qubix_tui.console.screens.pick import PickScreen
from qubix_tui.console.screens.provider import ProviderScreen
from qubix_tui.console.widgets.fleet_table import FleetTable
from qubix_tui.console.widgets.key_line import KeyLine
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot
from qubix_tui.protocol.records import Provider
from tests.console.provider_stage import NOW, StandInConnection, console
from tests.console.records import headline, provider
from tests.console.test_console_app import PATIENCE, until

NAMES = ("alpha", "beta", "gamma")


@asynccontextmanager
async def shown(
    options: Options | None = None, size: tuple[int, int] = (120, 30)
) -> AsyncIterator[tuple[QubixApp, StandInConnection, Pilot[None]]]:
    """A console that knows three providers."""
    app, connection = console(options=options)
    async with app.run_test(size=size, notifications=True) as pilot:
        records: list[Provider] = [provider(name) for name in NAMES]
        connection.emit("MARKETPLACE_UPDATE", FleetSnapshot(providers=records, page=1, pages=1))
        await until(pilot, lambda: len(app.screen.query_one(FleetTable).ids) == len(NAMES))
        yield app, connection, pilot


def top_line(app: QubixApp) -> str:
    """What the first line says."""
    return app.screen.query_one("TopBar").render_line(0).text


def said(app: QubixApp) -> str:
    """What stands in the corner."""
    return "\n".join(notification.message for notification in app._notifications)


async def test_back_and_to_and_fro() -> None:
    """Enter opens, Esc comes back to the same row, ``-`` toggles, ``f`` leads to the fleet."""
    async with shown() as (app, _, pilot):
        await pilot.press("down")
        table = app.screen.query_one(FleetTable)
        chosen = table.cursor_id
        assert chosen is not None
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ProviderScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
        assert table.cursor_id == chosen
        await pilot.press("minus")
        await until(pilot, lambda: isinstance(app.screen, ProviderScreen))
        assert app.trail.here == Place("fleet", chosen)
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
        await pilot.press("minus", "minus")
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))


async def test_from_one_provider_to_another() -> None:
    """A deep link from a provider's screen shows the other one; the way back leads through the first."""
    async with shown() as (app, _, pilot):
        for name in ("alpha", "beta"):
            app.open_provider(f"{name}-3f9a1c")
            await pilot.pause()
        assert isinstance(app.screen, ProviderScreen)
        assert app.screen.provider_id == "beta-3f9a1c"
        assert len(app.screen_stack) == 2
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen.provider_id == "alpha-3f9a1c"
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))


async def test_pause_holds_the_picture_and_counts() -> None:
    """Paused, the table says what it said, whatever the cursor does; let go, it has caught up."""
    async with shown() as (app, connection, pilot):
        await pilot.press("p")
        assert "paused" in top_line(app)
        table = app.screen.query_one(FleetTable)
        digest = FleetDigest(providers=[headline(name, at=NOW, gpu_temp=77.0) for name in NAMES])
        connection.emit("MARKETPLACE_UPDATE", digest)
        snapshot = FleetSnapshot(providers=[provider("delta")], page=1, pages=1)
        connection.emit("MARKETPLACE_UPDATE", snapshot)
        await pilot.press("down", "up")
        await until(pilot, lambda: " changes waiting" in top_line(app) and " 0 changes" not in top_line(app))
        assert len(table.ids) == len(NAMES)
        assert not any("77°" in table.render_line(y).text for y in range(5))
        await pilot.press("p")
        await until(pilot, lambda: list(table.ids) == ["delta-3f9a1c"])
        assert "paused" not in top_line(app)


async def test_paused_it_says_how_many_changes_wait() -> None:
    """Each row that changed counts."""
    async with shown() as (app, connection, pilot):
        await pilot.press("p")
        for second in range(4):
            digest = FleetDigest(providers=[headline(name, at=NOW + second) for name in NAMES])
            connection.emit("MARKETPLACE_UPDATE", digest)
        await until(pilot, lambda: "12 changes waiting" in top_line(app))


async def test_copying_says_what_and_where(tmp_path: Path) -> None:
    """``y`` puts the provider's id into the clipboard and into a file, and says both."""
    async with shown(Options(directory=tmp_path), (160, 30)) as (app, _, pilot):
        await pilot.press("y")
        await pilot.pause()
        chosen = app.screen.query_one(FleetTable).cursor_id
        assert app.clipboard == chosen
        assert (tmp_path / "clipboard.txt").read_text(encoding="utf-8") == f"{chosen}\n"
        assert str(chosen) in said(app)
        assert str(tmp_path) in said(app)


async def test_saving_asks_for_the_form_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``S`` and a letter save a picture, or the whole table, into the directory that one is in."""
    monkeypatch.chdir(tmp_path)
    async with shown() as (app, _, pilot):
        for letter in ("p", "c", "j"):
            await pilot.press("S")
            await until(pilot, lambda: isinstance(app.screen, PickScreen))
            await pilot.press(letter)
            await until(pilot, lambda: not isinstance(app.screen, PickScreen))
            await pilot.pause()
        await until(pilot, lambda: len(list(tmp_path.iterdir())) == 3)
        (picture,) = tmp_path.glob("*.svg")
        (table,) = tmp_path.glob("*.csv")
        (records,) = tmp_path.glob("*.json")
        svg = picture.read_text(encoding="utf-8")
        assert "alpha" in svg
        assert "Save&#160;as" not in svg
        assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + len(NAMES)
        assert {row["name"] for row in json.loads(records.read_text(encoding="utf-8"))} == set(NAMES)
        assert picture.name in said(app)
        await pilot.press("S", "escape")
        await until(pilot, lambda: isinstance(app.screen, FleetScreen))
        assert len(list(tmp_path.iterdir())) == 3


async def test_the_palette_finds_actions_and_providers() -> None:
    """It lists every action of the screen; a few letters of a name open that provider."""
    async with shown() as (app, _, pilot):
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        options = app.screen.query_one(OptionList)
        await until(pilot, lambda: options.option_count > 5)
        await pilot.press(*"gmm")
        await until(pilot, lambda: options.option_count == 1)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ProviderScreen))
        assert app.trail.here == Place("fleet", "gamma-3f9a1c")


STABLE_LOOKS = 20
"""A line that is the same so many times, 5 ms apart, has all its keys."""


async def test_the_last_line_has_the_keys_that_fit() -> None:
    """At any width it is whole words, help among them; a click on a key presses it."""
    for width in (40, 80, 120):
        async with shown(size=(width, 24)) as (app, _, pilot):
            line = app.screen.query_one(KeyLine)
            async with asyncio.timeout(PATIENCE):
                seen, looks = "", 0
                while looks < STABLE_LOOKS:
                    # Others come before it as the fleet does.
                    text = line.render_line(0).text
                    looks = looks + 1 if text == seen and "? help" in text else 0
                    seen = text
                    await asyncio.sleep(0.005)
                await pilot.click(line, offset=(seen.find("? help") + 1, 0))
                while isinstance(app.screen, FleetScreen):  # noqa: ASYNC110 - a screen has no event for it
                    await asyncio.sleep(0.005)
            assert isinstance(app.screen, HelpScreen)


@pytest.mark.parametrize(
    ("letters", "better", "worse"),
    [
        ("rig", "rig", "rig-41"),
        ("rig", "rig-41", "big-rig"),
        ("rig", "big-rig", "brig"),
        ("rig", "brig", "r-i-g"),
        ("r41", "rig-41", "right-4-1"),
    ],
)
def test_names_that_fit_better_come_first(letters: str, better: str, worse: str) -> None:
    """The name itself, its beginning, a word's beginning, a part of it, its letters in their order."""
    assert score(letters, better) > score(letters, worse) > 0


def test_names_that_do_not_fit_are_left_out() -> None:
    """All letters must be there, in their order."""
    assert score("gir", "rig") == 0
    assert score("", "rig") == 0
    assert places_of("r41", "rig-41") == [0, 4, 5]
    assert places_of("41r", "rig-41") == []
