"""The hub's own screen: what it asks, what it shows, and what it says when it gets no answer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot
from textual.timer import Timer

from qubix_tui.client import ConnectionLost, ConnectionState, Refused
from qubix_tui.console.app import QubixApp
from qubix_tui.console.screens.hub import HubScreen
from qubix_tui.console.widgets.hub_panel import HubPanel
from qubix_tui.protocol.answers import HeldSubscriptions, HubNode
from qubix_tui.protocol.errors import ErrorCode
from qubix_tui.protocol.events import HUB_STATISTICS, MARKETPLACE_UPDATE, Event
from qubix_tui.protocol.marketplace import StoreState
from qubix_tui.protocol.types import to_timestamp
from tests.console.provider_stage import StandInConnection, console
from tests.console.records import NOW
from tests.console.snapshots import Snapshot
from tests.console.test_console_hub_watch import stats

SIZES = [(80, 24), (120, 40), (200, 60)]
HELD = [
    HeldSubscriptions(kind="marketplace", channels=1, subscriptions=3),
    HeldSubscriptions(kind="provider:<id>", channels=12, subscriptions=14),
]


def node(name: str, **more: Any) -> HubNode:
    """One of the hubs that share a store."""
    known: dict[str, Any] = {
        "id": name.replace("/", "-"),
        "name": name,
        "version": "0.1.0",
        "started_at": to_timestamp(NOW - 11_000),
        "connections": 412,
        "providers": 120,
        "received_per_second": 131.0,
        "sent_per_second": 4820.0,
        "lag_seconds": 0.0024,
        "clock_skew_seconds": 0.02,
        "age_seconds": 0.4,
    }
    return HubNode(**{**known, **more})


NODES = [
    node("hub-a/4711", is_this=True, age_seconds=0.0),
    node(
        "hub-b.rack-7.example.com/812",
        version="0.2.0",
        started_at=to_timestamp(NOW - 40),
        connections=3,
        providers=0,
        received_per_second=None,
        sent_per_second=None,
        lag_seconds=4.2,
        clock_skew_seconds=-12.4,
    ),
    node("hub-c/99", age_seconds=4.6, lag_seconds=None, clock_skew_seconds=None),
]


class Stage:
    """The console on the hub's screen, with the hub in the test's hands."""

    def __init__(self, app: QubixApp, connection: StandInConnection, pilot: Pilot[None]) -> None:
        self.app, self.connection, self.pilot = app, connection, pilot

    @property
    def screen(self) -> HubScreen:
        """The screen, which must be in front."""
        assert isinstance(self.app.screen, HubScreen)
        return self.app.screen

    async def answer(self, *seconds: float, nodes: Sequence[HubNode] = ()) -> None:
        """Let the hub answer once at each of these seconds of its life."""
        for second in seconds:
            self.connection.now = NOW + second
            self.connection.replies["hub:stats"] = Event(
                type=HUB_STATISTICS, data=stats(second, subscriptions=HELD, nodes=list(nodes))
            )
            self.screen._ask()
            await self.app.workers.wait_for_complete()

    async def text(self) -> str:
        """Give what is on the screen, once it is up to date."""
        self.screen._has_changed = True
        self.screen._wake()
        await self.pilot.pause()
        return "\n".join(strip.text for strip in self.screen._compositor.render_strips())


def is_running(timer: Timer) -> bool:
    """Whether a timer is not paused."""
    return bool(timer._active.is_set())


@asynccontextmanager
async def stage(size: tuple[int, int] = (120, 40), *, ascii_only: bool = False) -> AsyncIterator[Stage]:
    """Open the console on the hub's screen; nothing is asked but what the test lets be."""
    app, connection = console(ascii_only=ascii_only)
    connection.replies["hub:stats"] = ConnectionLost("not yet")
    app.monotonic = lambda: 1000.0
    async with app.run_test(size=size) as pilot:
        await pilot.press("h")
        await pilot.pause()
        shown = Stage(app, connection, pilot)
        shown.screen._ask_timer.pause()
        await app.workers.wait_for_complete()
        yield shown


@pytest.mark.parametrize("size", SIZES)
async def test_the_hub_in_numbers(size: tuple[int, int], snapshot: Snapshot) -> None:
    """Connections, messages by type with their rates, who hears what, the fan-out, and graphs."""
    async with stage(size) as shown:
        await shown.answer(*range(100, 130))
        text = await shown.text()
        assert "connections 15 of 20000" in text
        assert "GPU_METRICS_UPDATE" in text
        assert "1.0k" in text
        assert "provider:<id>" in text
        assert "slow readers cut 0" in text
        snapshot(shown.app, f"hub-{size[0]}x{size[1]}")


@pytest.mark.parametrize("size", SIZES)
async def test_the_hubs_that_share_a_store(size: tuple[int, int], snapshot: Snapshot) -> None:
    """A line each: clients, providers, rates, how far behind, whose clock is wrong; this one is marked.

    One that is not heard is dimmed, with since when; what is unknown is a dash.
    """
    async with stage(size) as shown:
        await shown.answer(*range(100, 130), nodes=NODES)
        text = await shown.text()
        mine, behind, silent = text.splitlines()[5:8]
        assert "hubs 3, ▸ this" in text
        assert mine.split() == [
            "▸",
            "hub-a/4711",
            "0.1.0",
            "412",
            "120",
            "131",
            "4.8k",
            "2.4ms",
            "+0.0s",
            "3h05m",
        ]
        assert behind.split()[1:] == ["0.2.0", "3", "0", "—", "—", "4.2s", "-12s", "2m49s"]
        assert "/812" in behind
        assert silent.split() == ["hub-c/99", "0.1.0", "412", "120", "131", "4.8k", "—", "—", "5s", "ago"]
        snapshot(shown.app, f"hub-nodes-{size[0]}x{size[1]}")


async def test_many_hubs_leave_room_for_the_rest() -> None:
    """This one, the oldest, and how many more there are."""
    async with stage((80, 24)) as shown:
        hubs = [node(f"hub-{number}/1", is_this=number == 20) for number in range(30)]
        await shown.answer(100, 101, nodes=hubs)
        text = await shown.text()
        assert "hubs 30" in text
        assert "▸ hub-20/1" in text
        assert "  hub-0/1" in text
        assert "and 28 more" in text
        assert "GPU_METRICS_UPDATE" in text


async def test_a_hub_that_is_alone_lists_none() -> None:
    """It has a store of its own, and nothing to tell apart."""
    async with stage() as shown:
        await shown.answer(100, 101)
        assert "hubs" not in await shown.text()


async def test_why_the_store_is_away_is_said() -> None:
    """In the hub's own words, made harmless; gone when the store is back."""
    async with stage() as shown:
        await shown.answer(100, 101)
        away = StoreState(
            up=False, reason="Redis at rack:6379 does not answer\x1b[2J", since=to_timestamp(NOW)
        )
        shown.connection.emit(MARKETPLACE_UPDATE, away)
        text = await shown.text()
        assert "Nothing can be stored: Redis at rack:6379 does not answer" in text
        assert "\x1b" not in text
        shown.connection.emit(MARKETPLACE_UPDATE, StoreState(up=True, since=to_timestamp(NOW + 9)))
        assert "Nothing can be stored" not in await shown.text()


async def test_a_hub_without_its_store_says_so() -> None:
    """What it takes has no size then: new states are refused."""
    async with stage() as shown:
        shown.connection.replies["hub:stats"] = Event(
            type=HUB_STATISTICS, data=msgspec.structs.replace(stats(100), store_up=False)
        )
        shown.screen._ask()
        await shown.app.workers.wait_for_complete()
        assert "store away, nothing new is kept" in await shown.text()


async def test_a_store_that_has_no_size_is_not_taken_for_unknown() -> None:
    """A Redis tells no size of its own for one hub; that it is there is known."""
    async with stage() as shown:
        shared = msgspec.structs.replace(stats(100), store_up=True, store_bytes=None)
        shown.connection.replies["hub:stats"] = Event(type=HUB_STATISTICS, data=shared)
        shown.screen._ask()
        await shown.app.workers.wait_for_complete()
        assert "store ok" in await shown.text()


async def test_before_an_answer_nothing_is_claimed(snapshot: Snapshot) -> None:
    """No numbers, no zeros: a sentence."""
    async with stage((80, 24)) as shown:
        text = await shown.text()
        assert "Asking the hub how it does." in text
        assert "connections" not in text
        snapshot(shown.app, "hub-asking")


async def test_a_hub_that_is_gone_leaves_no_live_picture(snapshot: Snapshot) -> None:
    """What is shown is dimmed, with a sentence on why and from when."""
    async with stage((80, 24)) as shown:
        await shown.answer(100, 101)
        shown.connection.change_state(ConnectionState.OPEN)
        shown.connection.change_state(ConnectionState.RECONNECTING)
        text = await shown.text()
        assert "stopped answering" in text
        assert shown.screen.query_one(HubPanel).is_stale
        snapshot(shown.app, "hub-down")


async def test_an_answer_that_is_late_is_said() -> None:
    """The connection is there, and the numbers are old: their age is told."""
    async with stage() as shown:
        await shown.answer(100, 101)
        shown.connection.now += 7
        assert "These numbers are 7s old: the hub is late to answer." in await shown.text()


async def test_an_older_hub_tells_nothing_of_itself() -> None:
    """It does not know the question: that is said in words, and is no error on the screen."""
    async with stage() as shown:
        shown.connection.replies["hub:stats"] = Refused(ErrorCode.UNKNOWN_TYPE, "unknown type hub:stats")
        shown.screen._ask()
        await shown.app.workers.wait_for_complete()
        assert "This hub is older than this console, and tells nothing of itself." in await shown.text()


async def test_troubles_that_grow_are_in_colour() -> None:
    """A counter of trouble that grew lately says by how much; the others are plain."""
    async with stage() as shown:
        await shown.answer(100, 101)
        shown.connection.now += 1
        more = stats(102, rate_limited=5)
        shown.connection.replies["hub:stats"] = Event(type=HUB_STATISTICS, data=more)
        shown.screen._ask()
        await shown.app.workers.wait_for_complete()
        text = await shown.text()
        assert "limits hit 5 (+5 now)" in text
        assert "slow readers cut 0 " in text


async def test_it_asks_only_while_it_is_in_front() -> None:
    """Another screen in front: no more questions; back again: one at once."""
    async with stage() as shown:
        screen = shown.screen
        screen._ask_timer.resume()
        before = shown.connection.requested.count("hub:stats")
        await shown.pilot.press("f")
        assert shown.app.screen is not screen
        assert not is_running(screen._ask_timer)
        asked = shown.connection.requested.count("hub:stats")
        assert asked - before <= 1
        await shown.pilot.press("h")
        await shown.app.workers.wait_for_complete()
        assert shown.connection.requested.count("hub:stats") > asked
        screen._ask_timer.pause()


async def test_the_span_of_the_graphs_changes_by_a_key() -> None:
    """One minute, ten, an hour, and one again."""
    async with stage() as shown:
        await shown.answer(100, 101)
        for label in ("1 min", "10 min", "1 h", "1 min"):
            assert f"{label} " in await shown.text()
            await shown.pilot.press("g")


async def test_ascii_only_means_ascii() -> None:
    """With ``--ascii`` no cell is anything else."""
    async with stage(ascii_only=True) as shown:
        await shown.answer(100, 101, 102, nodes=NODES)
        assert (await shown.text()).isascii()
