"""A hub whose store is away: what the console knows of it, and what every screen's first line says."""

import pytest

from qubix_tui.client import ConnectionState
from qubix_tui.console.event_log import EventLog
from qubix_tui.console.fleet import Fleet
from qubix_tui.console.hub_store import HubStore
from qubix_tui.console.link_words import store_away
from qubix_tui.console.widgets.top_bar import TopBar
from qubix_tui.protocol.events import MARKETPLACE_UPDATE, Event
from qubix_tui.protocol.marketplace import StoreState
from qubix_tui.protocol.types import to_timestamp
from tests.console.provider_stage import console
from tests.console.records import NOW

AWAY = StoreState(up=False, reason="Redis at rack does not answer", since=to_timestamp(NOW))
BACK = StoreState(up=True, since=to_timestamp(NOW + 12))


def told(store: HubStore, *states: StoreState) -> None:
    """Have the hub say how its store is."""
    for state in states:
        store.take(Event(type=MARKETPLACE_UPDATE, data=state))


def known(store: HubStore) -> tuple[float | None, str | None]:
    """Since when it is away, and why."""
    return store.away_since, store.reason


@pytest.fixture
def log() -> EventLog:
    """An empty one."""
    return EventLog(Fleet(lambda: NOW))


@pytest.fixture
def store(log: EventLog) -> HubStore:
    """A store of which nothing was said."""
    return HubStore(log)


def words(log: EventLog) -> list[tuple[str, str, float]]:
    """What happened, oldest first: words, style, and when."""
    return [(entry.text, entry.style, entry.moment) for entry in log.entries]


def test_a_store_that_goes_and_comes_back_is_written_down(store: HubStore, log: EventLog) -> None:
    """Why, and for how long it was away; by the hub's clock."""
    assert known(store) == (None, None)
    told(store, AWAY)
    assert known(store) == (NOW, "Redis at rack does not answer")
    told(store, BACK)
    assert known(store) == (None, None)
    assert words(log) == [
        ("the hub's store is away: Redis at rack does not answer", "warn", NOW),
        ("the hub's store is back, after 12s", "ok", NOW + 12),
    ]


def test_what_is_said_twice_happened_once(store: HubStore, log: EventLog) -> None:
    """A hub says it anew to each subscription, and for a while that the store is back."""
    told(store, AWAY, AWAY, BACK, BACK)
    assert len(words(log)) == 2
    told(HubStore(other := EventLog(Fleet(lambda: NOW))), BACK)
    assert words(other) == []


def test_another_connection_begins_anew(store: HubStore, log: EventLog) -> None:
    """It is another hub, or this one says it again."""
    told(store, AWAY)
    store.forget()
    assert known(store) == (None, None)
    told(store, AWAY)
    assert known(store)[0] == NOW
    assert len(words(log)) == 1


def test_a_reason_that_is_not_known_is_left_out(store: HubStore, log: EventLog) -> None:
    """No colon with nothing behind it."""
    told(store, StoreState(up=False, since=to_timestamp(NOW)))
    assert words(log)[0][0] == "the hub's store is away"


def test_there_are_words_for_every_width() -> None:
    """All say that it is away and since when; the longest says what that means."""
    phrases = store_away(NOW, NOW + 75)
    assert [len(phrase) for phrase in phrases] == sorted((len(phrase) for phrase in phrases), reverse=True)
    assert "changes are refused, live values go on" in phrases[0]
    assert phrases[-1] == "store away 1m15s"
    assert store_away(None, NOW) == ()


@pytest.mark.parametrize(
    ("width", "says"),
    [
        (60, "  store away 12s"),
        (80, ": changes are refused  ● live"),
        (120, ": changes are refused, live values go on  ● live"),
        (200, ": changes are refused, live values go on  ● live"),
    ],
)
async def test_the_first_line_of_every_screen_says_it(width: int, says: str) -> None:
    """And no longer once the store is back; the hub is live all the while."""
    app, connection = console()
    connection.now = NOW + 12
    async with app.run_test(size=(width, 40)) as pilot:

        async def first_line() -> str:
            await pilot.pause()
            app.screen._on_tick()  # type: ignore[attr-defined]
            await pilot.pause()
            bar = app.screen.query_one(TopBar)
            return "".join(segment.text for segment in bar.make_lines(width - 2, 1)[0])

        for key in "fjeah":
            await pilot.press(key)
            connection.emit(MARKETPLACE_UPDATE, AWAY)
            assert says in await first_line()
            connection.emit(MARKETPLACE_UPDATE, BACK)
            assert "away" not in await first_line()


async def test_a_connection_that_was_made_anew_says_nothing_of_the_last() -> None:
    """Nor one that is lost: its own words come first."""
    app, connection = console()
    async with app.run_test(size=(120, 40)):
        connection.emit(MARKETPLACE_UPDATE, AWAY)
        assert app.warnings()
        connection.change_state(ConnectionState.RECONNECTING)
        assert app.warnings() == ()
        connection.change_state(ConnectionState.OPEN)
        assert app.warnings() == ()
