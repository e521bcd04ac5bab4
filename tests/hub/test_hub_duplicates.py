"""Second agents with one identity: told once each time they come, taken back once they are gone."""

from qubix_tui.hub.duplicates import GONE_SECONDS, Duplicates
from tests.hub.manual_clock import ManualClock


def test_it_is_news_once() -> None:
    """However often it tries; each provider for itself."""
    clock = ManualClock()
    duplicates = Duplicates(clock)
    assert [duplicates.seen("a"), duplicates.seen("a"), duplicates.seen("b")] == [True, False, True]
    for _ in range(10):
        clock.advance(60)
        assert not duplicates.seen("a")
        assert "a" not in duplicates.take_gone()


def test_it_is_gone_once_it_tries_no_more() -> None:
    """Told once; when it comes back it is news again."""
    clock = ManualClock()
    duplicates = Duplicates(clock)
    duplicates.seen("a")
    clock.advance(GONE_SECONDS - 1)
    assert duplicates.take_gone() == []
    clock.advance(1)
    assert [duplicates.take_gone(), duplicates.take_gone()] == [["a"], []]
    assert duplicates.seen("a")
