"""The list of events, and the list of alerts, as a person uses them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from qubix_tui.client import ConnectionState
from qubix_tui.console import alert_toasts
from qubix_tui.console.alert_toasts import MOST_TOASTS
from qubix_tui.console.app import QubixApp
from qubix_tui.console.event_log import Entry, Kind
from qubix_tui.console.places import Place
from qubix_tui.console.screens.alerts import AlertsScreen
from qubix_tui.console.screens.events import EventsScreen
from qubix_tui.console.screens.provider import ProviderScreen
from qubix_tui.console.themes import THEMES
from qubix_tui.console.widgets.record_list import RecordList
from qubix_tui.console.widgets.top_bar import TopBar
from qubix_tui.protocol import channels, events
from qubix_tui.protocol.events import Event, StatusChanged
from qubix_tui.protocol.job_records import Job, JobState
from qubix_tui.protocol.marketplace import FleetDigest, FleetSnapshot, JobStateChanged
from qubix_tui.protocol.records import ProviderState, ProviderStatus
from qubix_tui.protocol.types import to_timestamp
from tests.console.provider_stage import StandInConnection, console
from tests.console.records import NOW, headline, provider
from tests.console.snapshots import Snapshot

SIZES = [(80, 24), (120, 40), (200, 60)]


class Stage:
    """The console on a list, with the hub in the test's hands."""

    def __init__(self, app: QubixApp, connection: StandInConnection, pilot: Pilot[None]) -> None:
        self.app, self.connection, self.pilot = app, connection, pilot

    @property
    def rows(self) -> RecordList[Any]:
        """The list on the screen."""
        return self.app.screen.query_one(RecordList)

    @property
    def texts(self) -> list[str]:
        """What is listed."""
        return [record.text for record in self.rows.records]

    @property
    def count(self) -> str:
        """What is said of the list."""
        return str(self.app.screen.query_one("#events-count", Static).content)

    def say(self, kind: str, data: Any) -> None:
        """Let the hub say something on the marketplace."""
        for handler in self.connection.handlers:
            handler(Event(type=kind, data=data, channel=channels.MARKETPLACE))

    def state(self, name: str, state: ProviderState, *, reason: str | None = None, **more: Any) -> None:
        """Let a provider's state change, now."""
        status = ProviderStatus(
            is_online=state.is_online, is_available=state.is_available, state=state, reason=reason, **more
        )
        change = StatusChanged(
            provider_id=f"{name}-3f9a1c", status=status, timestamp=to_timestamp(self.connection.now)
        )
        self.say(events.PROVIDER_STATUS_CHANGED, change)

    def job(self, job_id: str, state: JobState, **more: Any) -> None:
        """Let a job move on."""
        job = Job(id=job_id, workload="train", state=state, created_at=to_timestamp(NOW), **more)
        self.say(events.MARKETPLACE_UPDATE, JobStateChanged(job=job))

    async def settle(self) -> None:
        """Let the screen paint what it knows."""
        await self.pilot.pause()
        screen = self.app.screen
        assert isinstance(screen, EventsScreen | AlertsScreen)
        screen._wake()
        await self.pilot.pause()

    async def text(self) -> str:
        """Give what is on the screen."""
        await self.settle()
        return "\n".join(strip.text for strip in self.app.screen._compositor.render_strips())


def a_day(stage: Stage) -> None:
    """Let the things of one day happen, from yesterday on."""
    stage.connection.now = NOW - 90_000
    stage.state("rig-2", ProviderState.OFFLINE, reason="goodbye")
    stage.connection.now = NOW - 60
    stage.state("rig-2", ProviderState.AVAILABLE)
    stage.job("train-7f", JobState.RUNNING, provider_id="rig-1-3f9a1c", attempt=1)
    stage.state("rig-1", ProviderState.BUSY, current_job_id="train-7f")
    stage.connection.now = NOW - 20
    stage.state("rig-1", ProviderState.UNREACHABLE, reason="no word for 15 s", current_job_id="train-7f")
    stage.connection.now = NOW
    stage.job("render-1", JobState.FAILED, provider_id="rig-2-3f9a1c", reason="exit_code: 3")


@asynccontextmanager
async def stage(
    key: str, size: tuple[int, int] = (120, 40), *, ascii_only: bool = False, filled: bool = True
) -> AsyncIterator[Stage]:
    """Open the console on a list, with what happened in a day."""
    app, connection = console(ascii_only=ascii_only)
    connection.now = NOW
    app.monotonic = lambda: 1000.0
    app._alerts_wait = True  # alerts are told when the test says so
    async with app.run_test(size=size, notifications=True) as pilot:
        shown = Stage(app, connection, pilot)
        fleet = FleetSnapshot(providers=[provider("rig-1"), provider("rig-2")], page=1, pages=1)
        shown.say(events.MARKETPLACE_UPDATE, fleet)
        if filled:
            a_day(shown)
        await pilot.press(key)
        await shown.settle()
        yield shown


@pytest.mark.parametrize("size", SIZES)
async def test_everything_that_happened(size: tuple[int, int], snapshot: Snapshot) -> None:
    """When (with the date where that is not today), what kind, who, and what, newest at the end."""
    async with stage("e", size) as shown:
        text = await shown.text()
        assert size[0] == 80 or "rig-1 unreachable (no word for 15 s), while it had train-7f" in text
        assert "job render-1 failed on rig-2: exit_code: 3" in text
        assert "2027-01-14 " in text
        snapshot(shown.app, f"events-{size[0]}x{size[1]}")


async def test_with_nothing_there_it_says_what_will_be(snapshot: Snapshot) -> None:
    """No empty table: a sentence."""
    async with stage("e", (80, 24), filled=False) as shown:
        assert "Nothing has happened since this console was opened." in await shown.text()
        snapshot(shown.app, "events-empty")


async def test_a_hub_that_goes_is_an_event() -> None:
    """Gone and back are told, and so is a gap that could not be filled."""
    async with stage("e", filled=False) as shown:
        shown.connection.change_state(ConnectionState.OPEN)
        shown.connection.last_error = "the connection to the hub was lost"
        shown.connection.change_state(ConnectionState.RECONNECTING)
        shown.connection.change_state(ConnectionState.OPEN)
        for handler in shown.connection.gap_handlers:
            handler("marketplace")
        await shown.settle()
        assert shown.texts == [
            "the connection to the hub was lost",
            "the hub is back",
            "what happened on marketplace meanwhile is not known",
        ]


async def test_it_follows_until_somebody_looks_back() -> None:
    """The cursor goes with the newest; moved up it stays on its event; ``end`` follows again."""
    async with stage("e") as shown:
        assert "follows" in shown.count
        await shown.pilot.press("up")
        chosen = shown.rows.selected
        assert "scrolled back" in shown.count
        shown.state("rig-2", ProviderState.PAUSED)
        await shown.settle()
        assert shown.rows.selected is chosen
        await shown.pilot.press("end")
        shown.state("rig-2", ProviderState.AVAILABLE)
        await shown.settle()
        assert shown.rows.selected is shown.rows.records[-1]


async def test_it_can_stand_still() -> None:
    """``space`` holds the list while events are counted; once more and they are there."""
    async with stage("e") as shown:
        before = shown.texts
        await shown.pilot.press("space")
        for state in (ProviderState.PAUSED, ProviderState.AVAILABLE):
            shown.state("rig-2", state)
        await shown.settle()
        assert shown.texts == before
        assert "stands still, 2 new" in shown.count
        await shown.pilot.press("space")
        await shown.settle()
        assert shown.texts[-2:] == ["rig-2 paused", "rig-2 available"]
        assert "follows" in shown.count


async def test_filters() -> None:
    """``/`` filters as one types, ``K`` by kind; what is wrong is said; Esc clears, then leaves."""
    async with stage("e") as shown:
        total = len(shown.texts)
        await shown.pilot.press("slash", *"provider:rig-2", "down")
        assert {record.provider_id for record in shown.rows.records} == {"rig-2-3f9a1c"}
        assert f"{len(shown.texts)} of {total}" in shown.count
        await shown.pilot.press("K")
        field = shown.app.screen.query_one("#events-filter", Input)
        assert field.value == "kind:state provider:rig-2"
        await shown.settle()
        assert shown.texts == ["rig-2 offline (goodbye)", "rig-2 available"]
        await shown.pilot.press("slash", "end", "space", *"heat:1")
        await shown.settle()
        assert "no heat: there are kind, provider, job" in shown.count
        assert shown.texts, "what is right of a filter holds still"
        await shown.pilot.press("escape")
        await shown.settle()
        assert len(shown.texts) == total
        await shown.pilot.press("escape")
        assert not isinstance(shown.app.screen, EventsScreen)


async def test_kinds_go_round() -> None:
    """Each kind alone, then all again."""
    async with stage("e") as shown:
        field = shown.app.screen.query_one("#events-filter", Input)
        values = []
        for _ in range(len(Kind) + 1):
            await shown.pilot.press("K")
            values.append(field.value)
        assert values == [*(f"kind:{kind}" for kind in Kind), ""]


async def test_a_filter_that_leaves_nothing_says_so() -> None:
    """With how to get out of it."""
    async with stage("e") as shown:
        await shown.pilot.press("slash", *"nobody")
        assert "events matches nobody" in await shown.text()


async def test_enter_goes_to_what_it_is_about_and_back() -> None:
    """To the provider; Esc comes back to the list."""
    async with stage("e") as shown:
        await shown.pilot.press("home", "enter")
        await shown.pilot.pause()
        screen = shown.app.screen
        assert isinstance(screen, ProviderScreen)
        assert screen.provider_id == "rig-2-3f9a1c"
        await shown.pilot.press("escape")
        assert isinstance(shown.app.screen, EventsScreen)


async def test_others_lead_to_a_filtered_list() -> None:
    """A place may name a filter: the list opens with it."""
    async with stage("e") as shown:
        await shown.pilot.press("f")
        shown.app.go(Place("events", "job:render-1"))
        await shown.settle()
        assert [text for text in shown.texts if "render-1" not in text] == []


async def test_the_selected_event_is_copied_and_the_list_saved() -> None:
    """A line with its moment; a table of all that is listed."""
    async with stage("e") as shown:
        screen = shown.app.screen
        assert isinstance(screen, EventsScreen)
        await shown.pilot.press("home")
        entry = shown.rows.selected
        assert isinstance(entry, Entry)
        assert screen.copied() == f"{to_timestamp(entry.moment)}  state  rig-2 offline (goodbye)"
        await shown.pilot.press("y")
        assert shown.app.clipboard == screen.copied()
        table = screen.saved()
        assert len(table.rows) == len(shown.texts)
        assert table.rows[0][1:] == ("state", "rig-2-3f9a1c", None, "rig-2 offline (goodbye)")


async def test_work_does_not_grow_with_lines_out_of_view() -> None:
    """With ten thousand events a new one draws what is in view and nothing more."""
    async with stage("e", (120, 24), filled=False) as shown:
        for number in range(10_000):
            shown.app.event_log.tell(Kind.HUB, f"event {number}")
        await shown.settle()
        shown.app.screen._tick_timer.pause()  # type: ignore[attr-defined]
        shown.app.screen._flush_timer.pause()  # type: ignore[attr-defined]
        await shown.pilot.pause()
        before = shown.rows.painted_rows
        shown.app.event_log.tell(Kind.HUB, "one more")
        await shown.settle()
        assert 0 < shown.rows.painted_rows - before <= 3 * shown.rows.size.height


@pytest.mark.parametrize("size", SIZES)
async def test_alerts_are_listed(size: tuple[int, int], snapshot: Snapshot) -> None:
    """When, whether it still holds and how long, which rule, and why, the newest first."""
    async with stage("a", size) as shown:
        text = await shown.text()
        assert size[0] == 80 or "rig-1: unreachable (no word for 15 s) while it has train-7f" in text
        assert "holds 20s" in text
        assert "job render-1 (train) failed: exit_code: 3" in text
        snapshot(shown.app, f"alerts-{size[0]}x{size[1]}")


async def test_an_alert_that_is_over_says_how_long_it_was() -> None:
    """Back again: over, with its length."""
    async with stage("a") as shown:
        shown.connection.now = NOW + 40
        shown.state("rig-1", ProviderState.BUSY, current_job_id="train-7f")
        assert "over, 1m00s" in await shown.text()


async def test_without_alerts_the_rules_are_told(snapshot: Snapshot) -> None:
    """What it watches for, and where that is written."""
    async with stage("a", (80, 24), filled=False) as shown:
        text = await shown.text()
        assert "GPU hot, provider lost, GPU lost, job failed" in " ".join(text.split())
        snapshot(shown.app, "alerts-empty")


async def test_an_alert_leads_to_its_provider() -> None:
    """Enter on it."""
    async with stage("a") as shown:
        await shown.pilot.press("end", "enter")
        await shown.pilot.pause()
        assert isinstance(shown.app.screen, ProviderScreen)
        await shown.pilot.press("escape")
        assert isinstance(shown.app.screen, AlertsScreen)


async def test_an_alert_is_told_wherever_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toast with rule and cause, one flash of the edges, and an event; the bell only where asked."""
    monkeypatch.setattr(alert_toasts, "FLASH_SECONDS", 600.0)  # looked at in each theme, however slow that is
    async with stage("e", filled=False) as shown:
        shown.state("rig-1", ProviderState.OFFLINE, current_job_id="train-7f")
        shown.app._announce()
        await shown.pilot.pause()
        assert shown.app.screen.has_class("-alert")
        for theme in THEMES:
            shown.app.theme = theme.name
            await shown.pilot.pause()
            assert shown.app.screen.query_one(TopBar).styles.tint.a > 0, theme.name
        (note,) = shown.app._notifications
        assert note.message == "provider lost: rig-1: offline while it has train-7f"
        assert note.severity == "error"
        assert shown.app.event_log.entries[-1].kind is Kind.ALERT


async def test_the_flash_of_an_alert_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and the edges are as they were."""
    monkeypatch.setattr(alert_toasts, "FLASH_SECONDS", 0.05)
    async with stage("e", filled=False) as shown:
        shown.state("rig-1", ProviderState.OFFLINE, current_job_id="train-7f")
        shown.app._announce()
        for _ in range(200):
            await shown.pilot.pause(0.05)
            if not shown.app.screen.has_class("-alert"):
                break
        assert shown.app.screen.query_one(TopBar).styles.tint.a == 0


async def test_many_alerts_at_once_are_one_toast() -> None:
    """The last one, and how many more: a rack that goes does not cover the screen."""
    async with stage("e", filled=False) as shown:
        names = [f"n{number}" for number in range(MOST_TOASTS + 20)]
        shown.say(
            events.MARKETPLACE_UPDATE,
            FleetSnapshot(providers=[provider(name) for name in names], page=1, pages=1),
        )
        shown.say(
            events.MARKETPLACE_UPDATE,
            FleetDigest(providers=[headline(name, gpus_lost=1) for name in names]),
        )
        shown.app._announce()
        await shown.pilot.pause()
        (note,) = shown.app._notifications
        assert note.message.endswith(f"and {len(names) - 1} more alerts; a lists them")


async def test_ascii_only_means_ascii() -> None:
    """With ``--ascii`` no cell of both lists is anything else."""
    for key in ("e", "a"):
        async with stage(key, ascii_only=True) as shown:
            assert (await shown.text()).isascii()
