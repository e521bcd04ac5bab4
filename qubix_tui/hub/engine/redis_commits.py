"""Commits on their way to Redis, and those that it acknowledged last.

Redis may be restarted, or replaced by a replica, without its last second or so. The hub that wrote that
second still has it: what it had acknowledged is written once more, as it was, before anything else.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from qubix_tui.hub.engine.base import Change, Conflict, NewEvent, Precondition
from qubix_tui.hub.engine.redis_lease import Fenced, Lost

JOURNAL_SECONDS: Final = 10.0
"""How long an acknowledged commit is kept, in case that Redis loses it."""

JOURNAL_BYTES: Final = 8 * 1024 * 1024


class PendingCommit:
    """One commit, and who waits for it.

    Args:
        preconditions: See `Engine.commit`.
        changes: Likewise.
        events: Likewise.
        now: When it was asked for (seconds since the epoch).
        future: Whoever waits.
        apply: See `Engine.commit`.

    Raises:
        ValueError: It holds what no store takes, such as half a surrogate pair.
    """

    __slots__ = (
        "acknowledged_at",
        "apply",
        "body",
        "events",
        "future",
        "grows",
        "now",
        "offsets",
        "preconditions",
        "seq",
        "size",
    )

    def __init__(
        self,
        preconditions: Sequence[Precondition],
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        now: float,
        future: "asyncio.Future[list[int]]",
        apply: Callable[[], None] | None = None,
    ) -> None:
        self.preconditions = tuple(preconditions)
        self.events = tuple(events)
        self.now = round(now * 1000)
        self.future = future
        self.apply = apply
        self.grows = bool(events) or any(change.value is not None for change in changes)
        self.body: list[bytes | int] = [
            len(preconditions),
            *_rows(preconditions),
            len(changes),
            *_rows(changes),
            len(events),
            *(part for event in events for part in (event.channel.encode(), event.type.encode(), event.data)),
        ]
        self.size = sum(len(part) for part in self.body if isinstance(part, bytes))
        self.seq = 0
        self.offsets: list[int] | None = None
        """What Redis gave once it had acknowledged it."""
        self.acknowledged_at = 0.0


def _rows(rows: Iterable[Precondition | Change]) -> Iterable[bytes]:
    for row in rows:
        yield from (
            row.table.encode(),
            row.key.encode(),
            b"0" if row.value is None else b"1",
            row.value or b"",
        )


class Done(msgspec.Struct, frozen=True):
    """What became of a commit.

    Attributes:
        forgotten: The offset that a channel which nobody remembers starts after.
        offsets: One for each of its events.
        names: The channels that were forgotten with it.
    """

    forgotten: int
    offsets: list[int]
    names: list[str]


def parse_result(packed: bytes, commit: PendingCommit) -> Done | Conflict:
    """Read what the script says of a commit.

    Raises:
        Fenced: The hub may not write any more.
        Lost: The store was emptied.
    """
    word, *rest = msgspec.msgpack.decode(packed)
    if word == "lost":
        raise Lost
    if word == "fenced":
        raise Fenced(rest[0])
    if word == "conflict":
        condition = commit.preconditions[rest[0] - 1]
        return Conflict(condition.table, condition.key)
    forgotten, offsets, names = rest
    # An empty table of Lua is a list or a map, as it comes.
    return Done(forgotten, list(offsets), list(names))


class Journal:
    """The commits that Redis acknowledged last, oldest first."""

    def __init__(self) -> None:
        self._commits: deque[PendingCommit] = deque()
        self._bytes = 0
        self.floor = 0
        """The last commit that is not kept any more: a Redis without it has lost what can't be given back."""

    def add(self, commit: PendingCommit, offsets: list[int], now: float) -> None:
        """Keep one more.

        Args:
            commit: Which; its ``seq`` is the highest so far.
            offsets: What was given to its events.
            now: The time, by a clock that never goes back.
        """
        commit.offsets, commit.acknowledged_at = offsets, now
        self._commits.append(commit)
        self._bytes += commit.size
        while self._commits and (
            self._bytes > JOURNAL_BYTES or now - self._commits[0].acknowledged_at > JOURNAL_SECONDS
        ):
            oldest = self._commits.popleft()
            self._bytes -= oldest.size
            self.floor = oldest.seq

    def after(self, seq: int) -> list[PendingCommit]:
        """Give those that came after one of them."""
        return [commit for commit in self._commits if commit.seq > seq]
