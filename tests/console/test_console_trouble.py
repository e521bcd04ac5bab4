"""What a person reads when something is wrong: on every screen a sentence, what to do, and a key."""

import pytest

from qubix_tui.client import ConnectionState
from qubix_tui.console.app import QubixApp
from qubix_tui.console.screens.base import ConsoleScreen
from tests.client.scripted_hub import ScriptedHub
from tests.console.provider_stage import console, metrics, record
from tests.console.test_console_app import text_of, until

VIEWS = {"f": "fleet", "j": "jobs", "e": "events", "a": "alerts", "h": "hub"}


@pytest.mark.parametrize("key", VIEWS)
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_every_view_says_that_the_hub_is_gone(key: str, size: tuple[int, int]) -> None:
    """Since when, how old what is shown is, when it is tried again, and by which key at once."""
    app, connection = console()
    app.monotonic = lambda: 1000.0
    async with app.run_test(size=size) as pilot:
        connection.snapshot(record(1), metrics(1))
        if key != "f":
            await pilot.press(key)
        connection.change_state(ConnectionState.OPEN)
        connection.attempt, connection.next_attempt_at = 3, 1004.0
        connection.change_state(ConnectionState.RECONNECTING)
        app.monotonic = lambda: 1012.0
        connection.next_attempt_at = 1016.0
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, ConsoleScreen)
        assert screen.place.view == VIEWS[key]
        screen._wake()
        await pilot.pause()
        text = " ".join("".join(strip.text for strip in screen._compositor.render_strips()).split())
        assert "stopped answering 12s ago; what you see is from then. Attempt 3 of 10 in 4s (r: now)." in text
        assert "stale 12s" in text
        retry = next(one for one in screen.active_bindings.values() if one.binding.id == "app.retry")
        assert retry.enabled


async def test_a_hub_newer_than_this_program_is_said() -> None:
    """Which protocol it speaks, and that a newer version is needed; nothing is tried by itself."""
    async with ScriptedHub() as hub:
        hub.greeting_changes = {"protocol": 2}
        app = QubixApp(hub.url)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.connection.state is ConnectionState.DISCONNECTED)
            await until(pilot, lambda: "newer than this program" in text_of(app, "#empty"))
            words = text_of(app, "#empty")
            assert words.startswith("The hub speaks protocol 2, newer than this program")
            assert "Install a newer version, and start that; r tries again." in words


async def test_a_token_that_is_revoked_while_one_looks() -> None:
    """The connection ends with 4003: who was refused, and how to show another token."""
    async with ScriptedHub() as hub:
        app = QubixApp(hub.url)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.is_live)
            await (await hub.peer()).close(4003, "this token was revoked")
            await until(pilot, lambda: "4003" in text_of(app, "#empty"))
            words = text_of(app, "#empty")
            assert "this token was revoked" in words
            assert "Start the console with another token (--token-file FILE, or QUBIX_TOKEN)" in words
