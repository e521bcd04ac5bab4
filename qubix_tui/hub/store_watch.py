"""Tells clients that the hub's store went away, and that it is back.

It can't be an event like others, for there is nothing to keep it: it has no offset, and who subscribes to the
marketplace while the store is away, or shortly after, is told it anew.
"""

from collections.abc import Iterator
from typing import Final

from qubix_tui.hub import framing
from qubix_tui.hub.clock import Clock
from qubix_tui.hub.fanout import Fanout
from qubix_tui.hub.publisher import Publisher
from qubix_tui.protocol import channels, codec, events
from qubix_tui.protocol.checks import printable
from qubix_tui.protocol.marketplace import StoreState
from qubix_tui.protocol.types import MAX_SENTENCE, to_timestamp

TOLD_SECONDS: Final = 60.0
"""So long after the store's return new subscribers hear of it: one that was refused while it was away has
heard of that, and asks again."""


class StoreWatch:
    """The store of one hub, as its clients see it.

    Args:
        publisher: Knows whether it takes anything.
        fanout: Who hears of the marketplace.
        clock: Since when, and for how long.
    """

    def __init__(self, publisher: Publisher, fanout: Fanout, clock: Clock) -> None:
        self._publisher = publisher
        self._fanout = fanout
        self._clock = clock
        self._frame: bytes | None = None
        self._up = True
        self._changed_at = 0.0

    async def look(self) -> None:
        """See how the store is, and tell where that has changed; to be called often."""
        up = self._publisher.stores
        if up == self._up:
            return
        reason = None if up else await self._publisher.trouble()
        self._up, self._changed_at = up, self._clock.monotonic()
        state = StoreState(
            up=up,
            reason=None if reason is None else printable(reason, MAX_SENTENCE),
            since=to_timestamp(self._clock.time()),
        )
        self._frame = framing.page_frame(channels.MARKETPLACE, codec.encode_record(state))
        self._fanout.publish(events.MARKETPLACE_UPDATE, channels.MARKETPLACE, self._frame)

    def frames(self) -> Iterator[bytes]:
        """Give what a new subscriber of the marketplace is told: nothing in ordinary times."""
        if self._up and self._clock.monotonic() - self._changed_at > TOLD_SECONDS:
            self._frame = None
        if self._frame is not None:
            yield self._frame
