"""Every key of the other views does what it says: one table for each, held complete."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.widgets import Input

from qubix_tui.console.places import Place, Trail
from qubix_tui.console.screens.fleet import FleetScreen
from qubix_tui.console.screens.hub import HubScreen
from qubix_tui.console.screens.job import JobScreen
from qubix_tui.console.screens.job_actions import WhyScreen
from qubix_tui.console.screens.jobs import JobsScreen
from qubix_tui.console.screens.pick import PickScreen
from qubix_tui.console.screens.provider import ProviderScreen
from qubix_tui.console.screens.submit import SubmitScreen
from qubix_tui.console.widgets.log_view import LogView
from qubix_tui.console.widgets.record_list import RecordList
from qubix_tui.protocol import events, marketplace
from qubix_tui.protocol.answers import Match
from tests.console.test_console_app import until
from tests.console.test_console_hub_watch import stats
from tests.console.test_console_jobs_screen import JOBS, Stage, stage

Check = Callable[[Stage], object]


def place(shown: Stage) -> int:
    """Where the cursor of the list is."""
    listing = shown.app.screen.query_one(RecordList)
    return list(listing.records).index(listing.selected)


def shows(kind: type) -> Check:
    """A screen is in front."""
    return lambda shown: isinstance(shown.app.screen, kind)


def top(shown: Stage) -> float:
    """The first line of the log that is in view."""
    return shown.app.screen.query_one(LogView).scroll_offset.y


def said(shown: Stage) -> str:
    """All that was said in corners."""
    return "\n".join(note.message for note in shown.app._notifications)


LISTS: dict[str, tuple[list[str], Check]] = {
    "list.up": (["end", "up"], lambda shown: place(shown) > 0),
    "list.down": (["home", "down"], lambda shown: place(shown) == 1),
    "list.page-down": (["home", "pagedown"], lambda shown: place(shown) > 1),
    "list.page-up": (["end", "pageup"], lambda shown: place(shown) == 0),
    "list.top": (["home"], lambda shown: place(shown) == 0),
    "list.end": (["end"], lambda shown: place(shown) > 1),
    "screen.copy": (["home", "y"], lambda shown: bool(shown.app.clipboard)),
    "screen.save": (["S"], shows(PickScreen)),
    "screen.back": (["escape"], shows(FleetScreen)),
}

JOBS_KEYS: dict[str, tuple[list[str], Check]] = {
    **LISTS,
    "list.open": (["home", "enter"], shows(JobScreen)),
    "jobs.filter": (["slash"], lambda shown: shown.app.screen.query_one("#jobs-filter").has_focus),
    "jobs.to-list": (["slash", "down"], lambda shown: shown.app.screen.query_one(RecordList).has_focus),
    "jobs.submit": (["n"], shows(SubmitScreen)),
    "jobs.cancel": (["home", "x"], shows(PickScreen)),
    "jobs.why": (["home", "w"], shows(WhyScreen)),
    "jobs.mark": (["home", "space"], lambda shown: len(shown.app.screen._marked) == 1),  # type: ignore[attr-defined]
}

EVENTS_KEYS: dict[str, tuple[list[str], Check]] = {
    **LISTS,
    "list.open": (["home", "enter"], shows(JobScreen)),
    "events.filter": (["slash"], lambda shown: shown.app.screen.query_one("#events-filter").has_focus),
    "events.to-list": (["slash", "down"], lambda shown: shown.app.screen.query_one(RecordList).has_focus),
    "events.kind": (
        ["K"],
        lambda shown: shown.app.screen.query_one("#events-filter", Input).value == "kind:state",
    ),
    "events.follow": (["end", "space"], lambda shown: shown.app.screen._stands_still),  # type: ignore[attr-defined]
}

HUB_KEYS: dict[str, tuple[list[str], Check]] = {
    "hub.span": (["g"], lambda shown: shown.app.screen._span == 1),  # type: ignore[attr-defined]
    "screen.copy": (["y"], lambda shown: "Nothing is selected" in said(shown)),
    "screen.save": (["S"], shows(PickScreen)),
    "screen.back": (["escape"], shows(FleetScreen)),
}

JOB_KEYS: dict[str, tuple[list[str], Check]] = {
    "log.up": (["end", "up"], lambda shown: not shown.app.screen.query_one(LogView).is_following),
    "log.down": (["home", "down"], lambda shown: top(shown) == 1),
    "log.page-up": (["end", "pageup"], lambda shown: 0 < top(shown) < 90),
    "log.page-down": (["home", "pagedown"], lambda shown: top(shown) > 1),
    "log.right": (["right"], lambda shown: shown.app.screen.query_one(LogView).scroll_offset.x == 8),
    "log.left": (["right", "left"], lambda shown: shown.app.screen.query_one(LogView).scroll_offset.x == 0),
    "log.top": (["home"], lambda shown: top(shown) == 0),
    "log.end": (["home", "end"], lambda shown: top(shown) > 50),
    "job.hold": (["space"], lambda shown: shown.app.screen.query_one(LogView).stands_still),
    "job.search": (["slash"], lambda shown: shown.app.screen.query_one("#log-search").has_focus),
    "job.older": (["slash", "7", "enter", "n", "n"], lambda shown: top(shown) < 90),
    "job.newer": (["slash", "7", "enter", "N"], lambda shown: top(shown) == 0),
    "job.facts": (["i"], lambda shown: shown.app.screen.has_class("-facts")),
    "job.provider": (["o"], shows(ProviderScreen)),
    "job.cancel": (["x"], shows(PickScreen)),
    "job.why": (["w"], shows(WhyScreen)),
    "screen.copy": (["y"], lambda shown: "line 7\n" in shown.app.clipboard),
    "screen.save": (["S"], shows(PickScreen)),
    "screen.back": (["escape"], shows(JobsScreen)),
}

TABLES = {"j": JOBS_KEYS, "e": EVENTS_KEYS, "h": HUB_KEYS, "job": JOB_KEYS}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved is saved where the test may."""
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def view(name: str) -> AsyncIterator[Stage]:
    """Open a view with something in it, as somebody would who comes from the fleet."""
    async with stage((120, 24)) as shown:
        shown.answer("job:why", "match", Match(job_id=JOBS[0].id, providers=0, rules=[]))
        shown.answer("hub:stats", events.HUB_STATISTICS, stats(100))
        for one in JOBS:
            shown.say(marketplace.JobStateChanged(job=one))
        await enter(shown, name)
        yield shown


async def enter(shown: Stage, name: str) -> None:
    """Go to a view from the fleet, and find it as it begins, whatever was done there before."""
    app = shown.app
    while len(app.screen_stack) > 1:
        app.pop_screen()
    app.trail = Trail(Place("fleet"))
    await app.switch_mode("fleet")
    app.clear_notifications()
    if name == "job":
        app.action_go("jobs")
        app.open_job("train-7f")
        await shown.pilot.pause()
        shown.snapshot()
        shown.printed = 0
        shown.print("".join(f"line {number}\n" for number in range(100)), f"{'long ' * 50}\n")
    else:
        app.action_go({"j": "jobs", "e": "events", "h": "hub"}[name])
        await shown.pilot.pause()
        screen = app.screen
        if isinstance(screen, HubScreen):
            screen._span = 0
        else:
            screen.query_one(Input).value = ""
            screen.query_one(RecordList).focus()
        if isinstance(screen, JobsScreen):
            screen._marked.clear()
    await shown.lines()


@pytest.mark.parametrize("name", TABLES)
async def test_each_key_does_what_it_says(name: str) -> None:
    """From where the view begins, its keys lead to their effect; no key is left out of the table."""
    async with view(name) as shown:
        screen = shown.app.screen
        found = {active.binding.id for active in screen.active_bindings.values() if active.binding.id}
        # Some of them are the screen's own and stand behind those of the list.
        found |= {one.id for one in type(screen).BINDINGS if isinstance(one, Binding) and one.id}
        assert {one for one in found if not one.startswith("app.")} == TABLES[name].keys()
        for binding, (keys, check) in TABLES[name].items():
            await enter(shown, name)
            await shown.press(*keys)
            await until(shown.pilot, partial(check, shown))
            assert check(shown), (binding, said(shown))
