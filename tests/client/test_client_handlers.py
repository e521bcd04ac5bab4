"""Handlers: order, removal, and faults that stay where they are."""

import logging

import pytest

from qubix_tui.client.handlers import EventHandlers, Handlers
from qubix_tui.protocol.events import Event


def event(kind: str) -> Event:
    """An event of a type."""
    return Event(type=kind, data=None)


def test_handlers_are_called_in_order_with_the_star_last() -> None:
    """Handlers of the type come in the order they were added, then those of all types."""
    heard: list[str] = []
    handlers = EventHandlers()
    handlers.add("*", lambda _: heard.append("star"))
    handlers.add("a", lambda _: heard.append("first"))
    handlers.add("a", lambda _: heard.append("second"))
    handlers.add("b", lambda _: heard.append("other"))
    handlers.call(event("a"))
    assert heard == ["first", "second", "star"]


def test_a_removed_handler_hears_nothing_more() -> None:
    """Removal is by type and handler; removing what is not there is no error."""
    heard: list[str] = []
    handlers = EventHandlers()

    def take(taken: Event) -> None:
        heard.append(taken.type)

    handlers.add("a", take)
    handlers.remove("b", take)
    handlers.remove("a", print)
    handlers.call(event("a"))
    handlers.remove("a", take)
    handlers.remove("a", take)
    handlers.call(event("a"))
    assert heard == ["a"]


def test_a_failing_handler_is_logged_and_the_rest_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """What one handler raises reaches the log, and the next handler its event."""
    heard: list[int] = []
    handlers: Handlers[int] = Handlers()

    def fail(_: int) -> None:
        raise RuntimeError("on purpose")

    handlers.add(fail)
    handlers.add(heard.append)
    with caplog.at_level(logging.ERROR, logger="qubix_tui.client"):
        handlers.call(3)
    assert heard == [3]
    assert "on purpose" in caplog.text


def test_handlers_may_change_while_they_are_called() -> None:
    """One that removes itself, or adds another, changes the next call and not this one."""
    heard: list[str] = []
    handlers: Handlers[int] = Handlers()

    def once(_: int) -> None:
        heard.append("once")
        forget()
        handlers.add(lambda _: heard.append("added"))

    forget = handlers.add(once)
    handlers.add(lambda _: heard.append("always"))
    handlers.call(1)
    assert heard == ["once", "always"]
    handlers.call(2)
    assert heard == ["once", "always", "always", "added"]
