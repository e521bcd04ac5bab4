"""From a decision to its readers: commit first, then fan out, in the order of the offsets.

Commits may run at the same time, so that an engine can put them into one transaction. They take effect in the
order in which they are called, and their events are fanned out in that same order, whoever's call returns
first.

`Publisher.published` is the offset up to which a channel has been fanned out. A subscriber that joins the
fan-out and, in the same step, notes that offset gets every later event live and every earlier one by replay:
each once.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Sequence

from qubix_tui.hub import framing
from qubix_tui.hub.engine.base import Change, Engine, EngineUnavailable, NewEvent
from qubix_tui.hub.fanout import Fanout


class _Commit:
    """A commit: under way, or over and waiting for earlier ones. A failed one has no offsets."""

    __slots__ = ("events", "offsets", "over")

    def __init__(self, events: Sequence[NewEvent]) -> None:
        self.events = events
        self.offsets: list[int] = []
        self.over = False


class _InFlight:
    """A channel with commits that were not fanned out yet: how many events, and the last offset that was."""

    __slots__ = ("events", "published")

    def __init__(self, published: int) -> None:
        self.events = 0
        self.published = published


class Publisher:
    """Commits changes with their events, and publishes these.

    Args:
        engine: Where they are kept.
        fanout: Who hears them.
    """

    def __init__(self, engine: Engine, fanout: Fanout) -> None:
        self._engine = engine
        self._fanout = fanout
        self._commits: deque[_Commit] = deque()
        self._in_flight: dict[str, _InFlight] = {}
        self._took = True

    @property
    def stores(self) -> bool:
        """Whether the engine took what it was given last, and has not gone away since."""
        return self._took and self._engine.available

    async def probe(self) -> None:
        """See whether an engine that took nothing does so again."""
        if not self._took:
            with contextlib.suppress(EngineUnavailable):
                await self.commit([Change("hub", "probe", b"")], ())

    def published(self, channel: str) -> int:
        """Give the offset of the last event of a channel that was fanned out."""
        in_flight = self._in_flight.get(channel)
        return self._engine.offset(channel) if in_flight is None else in_flight.published

    async def commit(
        self,
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        apply: Callable[[], None] = lambda: None,
    ) -> None:
        """Store changes and events in one step, then publish the events.

        Args:
            changes: What to store.
            events: What to store and publish.
            apply: Called once it is stored and before anybody hears of it: brings the hub's own state up to
                date.

        Raises:
            EngineUnavailable: Nothing was stored, nothing is published, ``apply`` was not called.
            ValueError: An event is longer than a frame may be; likewise.
        """
        for event in events:
            if len(event.data) > framing.MAX_ITEMS_BYTES:
                raise ValueError(
                    f"{event.type} has {len(event.data)} bytes; {framing.MAX_ITEMS_BYTES} at most"
                )
        commit = _Commit(events)
        self._enter(commit)
        try:
            commit.offsets = await self._engine.commit((), changes, events)
            self._took = True
            apply()
        except EngineUnavailable:
            self._took = False
            raise
        finally:
            commit.over = True
            if not commit.offsets:
                # Nothing to publish, nothing to wait for: an engine that is away may hold up an earlier one.
                self._commits.remove(commit)
                self._leave(commit)
            self._publish_in_order()

    def _enter(self, commit: _Commit) -> None:
        self._commits.append(commit)
        for event in commit.events:
            in_flight = self._in_flight.get(event.channel)
            if in_flight is None:
                in_flight = self._in_flight[event.channel] = _InFlight(self._engine.offset(event.channel))
            in_flight.events += 1

    def _publish_in_order(self) -> None:
        while self._commits and self._commits[0].over:
            commit = self._commits.popleft()
            for event, offset in zip(commit.events, commit.offsets, strict=True):
                frame = framing.event_frame(event.type, event.data, event.channel, offset)
                self._in_flight[event.channel].published = offset
                self._fanout.publish(event.type, event.channel, frame)
            self._leave(commit)

    def _leave(self, commit: _Commit) -> None:
        for event in commit.events:
            in_flight = self._in_flight[event.channel]
            in_flight.events -= 1
            if not in_flight.events:
                del self._in_flight[event.channel]
