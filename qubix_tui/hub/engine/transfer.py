"""From one engine to another: all that is stored, event by event, and a proof that it arrived.

While it moves no hub runs on either. What arrives has the epoch and the offsets of before, so that clients go
on where they were. The store that was left says so, and no hub starts on it by mistake: two that went on from
one history would give one offset to two events.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

import msgspec

BATCH: Final = 500
"""Rows, channels or events that are read and written at a time."""


class MoveFailed(Exception):
    """Nothing was taken from the source; the message says why and what to do."""


class Head(msgspec.Struct, frozen=True):
    """What there is once in a store.

    Attributes:
        epoch: See `Engine.epoch`.
        forgotten: The offset that a channel which nobody remembers starts after.
    """

    epoch: str
    forgotten: int


class Row(msgspec.Struct, frozen=True):
    """One key of a table."""

    table: str
    key: str
    value: bytes


class Channel(msgspec.Struct, frozen=True):
    """A channel's newest offset; the events that it numbers may be gone."""

    name: str
    offset: int


class Event(msgspec.Struct, frozen=True):
    """One event; ``committed_at_ms`` is when it came (milliseconds since the epoch)."""

    channel: str
    offset: int
    type: str
    data: bytes
    committed_at_ms: int


Piece = Row | Channel | Event


class Source(Protocol):
    """A store that is read."""

    async def head(self) -> Head:
        """Give what there is once."""
        ...

    def pieces(self) -> AsyncIterator[Sequence[Piece]]:
        """Give everything: rows, then channels by when they were used, then events, in order within each."""
        ...


class Target(Source, Protocol):
    """A store that is written. What was written can be read before it is finished, as from a source."""

    async def begin(self) -> None:
        """Get ready.

        Raises:
            MoveFailed: There is something already.
        """
        ...

    async def write(self, pieces: Sequence[Piece]) -> None:
        """Take some of it, in the order of `Source.pieces`."""
        ...

    async def finish(self, head: Head) -> None:
        """Be a store from here on; before this no hub would start on it."""
        ...


class Tally:
    """Counts and sums, in whatever order things come: two stores with the same have the same in them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """Rows by table, under ``events`` and ``channels`` these."""
        self._sums: dict[str, int] = {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tally):
            return NotImplemented
        return self.counts == other.counts and self._sums == other._sums

    __hash__ = None  # type: ignore[assignment]

    def add(self, pieces: Sequence[Piece]) -> None:
        """Count some."""
        for piece in pieces:
            match piece:
                case Row(table=table):
                    name = f"table {table}"
                case Channel():
                    name = "channels"
                case Event():
                    name = "events"
            digest = hashlib.blake2b(msgspec.msgpack.encode(msgspec.structs.astuple(piece)), digest_size=16)
            self.counts[name] = self.counts.get(name, 0) + 1
            self._sums[name] = (self._sums.get(name, 0) + int.from_bytes(digest.digest())) % 2**128


async def copy(source: Source, target: Target) -> Tally:
    """Bring everything over, and see whether it is there.

    Returns:
        What was moved.

    Raises:
        MoveFailed: The target has something already, or not what was written to it.
    """
    head = await source.head()
    await target.begin()
    sent, arrived = Tally(), Tally()
    async for pieces in source.pieces():
        sent.add(pieces)
        await target.write(pieces)
    async for pieces in target.pieces():
        arrived.add(pieces)
    if sent != arrived:
        raise MoveFailed(
            f"what arrived is not what was sent ({_shown(sent)} sent, {_shown(arrived)} arrived): the source "
            "is as it was; try again"
        )
    await target.finish(head)
    return sent


def _shown(tally: Tally) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(tally.counts.items())) or "nothing"
