"""The interface of an engine: where state and the recoverable events of channels live.

State and event are one step. `Engine.commit` is the one durable write; events are sent to subscribers, and
requests acknowledged, only after it returns: else a crash could give one offset to two different events.
`Engine.latest` is the separate path for metrics, which is never durable.

An engine stores bytes and looks into none of them. What any engine must keep is written as a test suite,
``tests/hub/test_hub_engine_contract.py``.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Change(msgspec.Struct, frozen=True):
    """One write to a table: the new value of a key, or None to delete it."""

    table: str
    key: str
    value: bytes | None


class Precondition(msgspec.Struct, frozen=True):
    """What must be stored under a key for a commit to happen; None for nothing at all."""

    table: str
    key: str
    value: bytes | None


class NewEvent(msgspec.Struct, frozen=True):
    """An event to be stored: its channel key, its message type, and its ``data`` as encoded JSON."""

    channel: str
    type: str
    data: bytes


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event and the offset that it got: 1 for a channel's first, one more for each that follows."""

    offset: int
    channel: str
    type: str
    data: bytes


class Replay(msgspec.Struct, frozen=True):
    """What came after an offset.

    Attributes:
        events: Oldest first, without a gap. Empty where ``complete`` is False: a replay is never partial.
        complete: Nothing is missing between the offset asked for and the channel's newest event.
    """

    events: list[StoredEvent]
    complete: bool


class Conflict(Exception):
    """A precondition did not hold. Nothing was written.

    Args:
        table: The table of the first precondition that did not hold.
        key: Its key.
    """

    def __init__(self, table: str, key: str) -> None:
        super().__init__(f"{table}/{key} is not what it was expected to be")
        self.table = table
        self.key = key


class EngineUnavailable(Exception):
    """The store can't be used now; the message says why and what to do."""


class Engine(Protocol):
    """Tables of bytes, and channels of events with offsets. All calls are made from one event loop."""

    @property
    def epoch(self) -> str:
        """A random name of this history. It changes only when history is lost. Known once opened."""
        ...

    @property
    def available(self) -> bool:
        """Whether what is asked now is not refused for want of the store."""
        ...

    async def open(self) -> None:
        """Make the store ready.

        Raises:
            EngineUnavailable: It can't be used.
        """
        ...

    async def lost(self) -> str:
        """Wait until this engine will never take anything again; give why.

        Only a store that others can take, or put another one in the place of, can be lost while it is open.
        """
        ...

    async def close(self) -> None:
        """Let go of the store; what was committed stays where the engine is durable. Idempotent."""
        ...

    async def commit(
        self,
        preconditions: Sequence[Precondition],
        changes: Sequence[Change],
        events: Sequence[NewEvent],
    ) -> list[int]:
        """Write all of it, or nothing. Commits take effect in the order in which they are called.

        Commits that are waiting at the same time may share a transaction; one that meets a conflict does
        not touch the others.

        Args:
            preconditions: What must be stored now; compared with the bytes, before any change.
            changes: Applied in this order.
            events: Appended to their channels in this order.

        Returns:
            One offset per event, in the order of ``events``.

        Raises:
            Conflict: A precondition did not hold; nothing was written.
            EngineUnavailable: The store is not open, or failed; nothing was acknowledged.
        """
        ...

    async def load(self, table: str, *, prefix: str = "") -> dict[str, bytes]:
        """Give the keys of a table that begin with a prefix, with their values, in no particular order.

        All of them without a prefix; none of a table that was never written.

        Raises:
            EngineUnavailable: The store is not open, or failed.
        """
        ...

    async def read(self, table: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the values of some keys of a table; a key that is not there is left out.

        Raises:
            EngineUnavailable: The store is not open, or failed.
        """
        ...

    async def replay(self, channel: str, since: int, *, limit: int) -> Replay:
        """Give what came on a channel after an offset.

        Args:
            channel: A channel key, no wildcard.
            since: The last offset that the reader has. 0 asks for all that is kept, and is always complete.
            limit: The most events to give: where more came after ``since`` the replay is not complete;
                with ``since`` 0 the newest ``limit`` are given.

        Returns:
            Not complete where history no longer reaches back to ``since``, or never got that far.

        Raises:
            EngineUnavailable: The store is not open, or failed.
        """
        ...

    def offset(self, channel: str) -> int:
        """Give the offset of a channel's newest event; 0 when there was none. It never goes back."""
        ...

    def size(self) -> int | None:
        """Give the bytes that what is kept takes; None where that can't be told."""
        ...

    def latest(self, channel: str, subject: str, value: bytes | None) -> None:
        """Keep the newest value of a subject (None forgets it). Never durable, never an event."""
        ...

    def read_latest(self, channel: str, subject: str) -> bytes | None:
        """Give what `latest` last kept, None where there is nothing (any more)."""
        ...
