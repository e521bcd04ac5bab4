"""Who wants to hear of what: handlers by event type, called in order, none of them able to break the rest."""

import functools
import logging
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVarTuple

from qubix_tui.protocol.events import Event

Arguments = TypeVarTuple("Arguments")

EventHandler = Callable[[Event], None]

ANY: Final = "*"

_logger = logging.getLogger("qubix_tui.client")


class Handlers(Generic[*Arguments]):
    """An ordered list of callables that may change while it is being called."""

    def __init__(self) -> None:
        self._handlers: tuple[Callable[[*Arguments], None], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def add(self, handler: Callable[[*Arguments], None]) -> Callable[[], None]:
        """Add one at the end, and give the function that takes it away again."""
        self._handlers = (*self._handlers, handler)
        return functools.partial(self.remove, handler)

    def remove(self, handler: Callable[[*Arguments], None]) -> None:
        """Take one away (its first entry); nothing happens if it is not there."""
        handlers = list(self._handlers)
        if handler in handlers:
            handlers.remove(handler)
            self._handlers = tuple(handlers)

    def call(self, *arguments: *Arguments) -> None:
        """Call each in order. What one raises is logged and keeps the others from nothing."""
        for handler in self._handlers:
            try:
                handler(*arguments)
            except Exception:
                _logger.exception("a handler failed: %r", handler)


class EventHandlers:
    """Handlers by event type, with ``*`` for all of them."""

    def __init__(self) -> None:
        self._by_type: dict[str, Handlers[Event]] = {}

    def add(self, event_type: str, handler: EventHandler) -> None:
        """Add a handler for one type, or for all (``*``)."""
        self._by_type.setdefault(event_type, Handlers()).add(handler)

    def remove(self, event_type: str, handler: EventHandler) -> None:
        """Take a handler away; nothing happens if it is not there."""
        handlers = self._by_type.get(event_type)
        if handlers is None:
            return
        handlers.remove(handler)
        if not handlers:
            del self._by_type[event_type]

    def call(self, event: Event) -> None:
        """Call the handlers of the event's type, then those of all types."""
        for event_type in (event.type, ANY):
            handlers: Handlers[Any] | None = self._by_type.get(event_type)
            if handlers is not None:
                handlers.call(event)
