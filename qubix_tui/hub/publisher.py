"""From a decision to its readers: what was committed is fanned out, in the order of the commits.

Commits may run at the same time, so that an engine can put them into one transaction. The engine tells of
each once it is stored, in the one order that they have, and of those of other hubs as well.

`Publisher.published` is the offset up to which a channel has been fanned out. A subscriber that joins the
fan-out and, in the same step, notes that offset gets every later event live and every earlier one by replay:
each once.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence

from qubix_tui.hub import framing
from qubix_tui.hub.engine.base import Change, Engine, EngineUnavailable, NewEvent, StoredEvent
from qubix_tui.hub.fanout import Fanout

_logger = logging.getLogger("qubix.hub.engine")


def _ignore(changes: Sequence[Change]) -> None:
    """Let it be."""


class Publisher:
    """Commits changes with their events, and publishes events as the engine tells of them.

    Args:
        engine: Where they are kept; not open yet.
        fanout: Who hears them.
    """

    def __init__(self, engine: Engine, fanout: Fanout) -> None:
        self.follow: Callable[[Sequence[Change]], None] = _ignore
        """Called with what another hub has written, before its events are published."""
        self._engine = engine
        self._fanout = fanout
        self._refusal: str | None = None
        engine.listen(self)

    @property
    def stores(self) -> bool:
        """Whether the engine took what it was given last, and has not gone away since."""
        return self._refusal is None and self._engine.available

    async def trouble(self) -> str | None:
        """Give why the engine takes nothing, for a person; None where it does, or that is not known."""
        if self._refusal is None and not self._engine.available:
            try:
                await self._engine.read("hub", ())
            except EngineUnavailable as error:
                return str(error)
        return self._refusal

    async def probe(self) -> None:
        """See whether an engine that took nothing does so again."""
        if self._refusal is not None:
            with contextlib.suppress(EngineUnavailable):
                await self.commit([Change("hub", "probe", b"", blind=True)], ())

    def published(self, channel: str) -> int:
        """Give the offset of the last event of a channel that was fanned out."""
        return self._engine.offset(channel)

    async def commit(
        self,
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        apply: Callable[[], None] | None = None,
        *,
        decided_at: int | None = None,
    ) -> None:
        """Store changes and events in one step, then publish the events.

        Args:
            changes: What to store.
            events: What to store and publish.
            apply: Called once it is stored and before anybody hears of it: brings the hub's own state up to
                date.
            decided_at: See `Engine.commit`.

        Raises:
            Conflict: Another hub was faster; decide again (`settled`).
            EngineUnavailable: Nothing was stored, nothing is published, ``apply`` was not called.
            ValueError: An event is longer than a frame may be; likewise.
        """
        for event in events:
            if len(event.data) > framing.MAX_ITEMS_BYTES:
                raise ValueError(
                    f"{event.type} has {len(event.data)} bytes; {framing.MAX_ITEMS_BYTES} at most"
                )
        try:
            await self._engine.commit((), changes, events, apply, decided_at=decided_at)
        except EngineUnavailable as error:
            if self._refusal is None and self._engine.available:
                # One that is gone tells so itself.
                _logger.error("changes are refused: %s", error)
            self._refusal = str(error)
            raise
        if self._refusal is not None:
            self._refusal = None
            _logger.warning("changes are stored again")

    # What the engine tells

    def changed_elsewhere(self, changes: Sequence[Change]) -> None:
        """Bring this hub up to what another one has written."""
        self.follow(changes)

    def happened(self, events: Sequence[StoredEvent]) -> None:
        """Publish what happened, here or elsewhere."""
        for event in events:
            frame = framing.event_frame(event.type, event.data, event.channel, event.offset)
            self._fanout.publish(event.type, event.channel, frame)
