"""How far a hub has applied the log, and its own commits that are not there yet.

Nothing of a commit is known to anybody before it was applied, and all is applied in the order of the log:
whoever's it was, and whenever Redis had told this hub of its own.
"""

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Final

from qubix_tui.hub.engine.base import (
    Change,
    Conflict,
    EngineUnavailable,
    Listener,
    NewEvent,
    Precondition,
    StoredEvent,
    tell,
)
from qubix_tui.hub.engine.redis_log import Entry, Journal, pack_body, pack_conditions

_logger = logging.getLogger("qubix.hub.engine")

EMPTIED: Final = (
    "holds not what this hub had written (emptied, an older copy, or moved): restart the hub, which "
    "then takes it as it is"
)
BEHIND: Final = "no longer keeps what others wrote while this hub was held up: restart the hub"
CONFUSING: Final = (
    "holds what another hub has written and this one can't follow: run one version everywhere, and restart "
    "this hub"
)
UNKNOWN: Final = "no longer knows what this hub wrote last, which was away for too long: restart the hub"


class Lost(Exception):
    """The hub has to start anew; the argument says what Redis does."""


class Parted(Exception):
    """What follows in the log does not follow what was applied here: history has parted."""


class PendingCommit:
    """One commit, and who waits for it.

    Args:
        preconditions: See `Engine.commit`.
        changes: Likewise.
        events: Likewise.
        apply: Likewise.
        decided_at: Likewise.
        now: When it was asked for (seconds since the epoch).
        future: Whoever waits.

    Raises:
        ValueError: It holds what no store takes, such as half a surrogate pair.
    """

    __slots__ = (
        "apply",
        "body",
        "changes",
        "conditions",
        "decided_at",
        "events",
        "future",
        "grows",
        "now",
        "number",
        "preconditions",
        "size",
    )

    def __init__(
        self,
        preconditions: Sequence[Precondition],
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        *,
        apply: Callable[[], None] | None,
        decided_at: int,
        now: float,
        future: "asyncio.Future[list[int]]",
    ) -> None:
        self.preconditions = tuple(preconditions)
        self.changes = tuple(changes)
        self.events = tuple(events)
        self.apply = apply
        self.decided_at = decided_at
        self.now = round(now * 1000)
        self.future = future
        self.grows = bool(events) or any(change.value is not None for change in changes)
        self.conditions = pack_conditions(self.preconditions)
        self.body = pack_body(self.changes, self.events)
        self.size = len(self.conditions) + len(self.body)
        self.number = 0

    def fail(self, error: Exception) -> None:
        """Tell who waits, if anybody still does."""
        if not self.future.done():
            self.future.set_exception(error)


class Applied:
    """What this hub has applied of the log.

    Args:
        node: This hub.
    """

    def __init__(self, node: str) -> None:
        self.listener: Listener | None = None
        self.position = 0
        """The last commit that was applied."""
        self.mark = ""
        """Of that one."""
        self.taken_at = 0
        """When Redis had taken it (ms, Redis's clock)."""
        self.offsets: dict[str, int] = {}
        self.forgotten = 0
        self.journal = Journal(0)
        self.pending: dict[int, PendingCommit] = {}
        """The hub's own commits that were sent and not applied, by their numbers, in order."""
        self.pending_bytes = 0
        self.number = 0
        """Of the last commit that was sent."""
        self._node = node
        self._conflicts: list[tuple[int, int, PendingCommit, Conflict]] = []
        self._readers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def begin(self, seq: int, mark: str, forgotten: int) -> None:
        """Begin at a commit of which the hub reads what it came to."""
        self.position, self.mark, self.forgotten = seq, mark, forgotten
        self.journal = Journal(seq)
        self.offsets = {}

    def offset(self, channel: str) -> int:
        """Give the offset of a channel's newest event."""
        return self.offsets.get(channel, self.forgotten)

    @property
    def floor(self) -> int:
        """The number of the oldest commit of this hub whose result is open."""
        return next(iter(self.pending), self.number + 1)

    def sends(self, commit: PendingCommit) -> None:
        """Number a commit, which is sent now."""
        self.number += 1
        commit.number = self.number
        self.pending[commit.number] = commit
        self.pending_bytes += commit.size

    def refused(self, commit: PendingCommit, error: Exception) -> None:
        """Note that a commit was not done, and will not be."""
        if self._take(commit.number) is not None:
            commit.fail(error)

    def conflicts(self, commit: PendingCommit, conflict: Conflict, seq: int) -> None:
        """Note that a commit was not done; who waits is told once another one was applied."""
        heapq.heappush(self._conflicts, (seq, next(self._order), commit, conflict))
        self._tell_of_conflicts()

    async def reached(self, seq: int) -> None:
        """Wait until a commit was applied."""
        if self.position < seq:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._readers, (seq, next(self._order), future))
            await future

    def forget_conflicts(self) -> None:
        """Have what a conflict was told of asked again: nobody was told yet."""
        self._conflicts.clear()

    def give_up(self, why: str) -> None:
        """Tell those whose commit may have been done or not that nobody will know."""
        self._conflicts.clear()
        for number in list(self.pending):
            if (commit := self._take(number)) is not None:
                commit.fail(EngineUnavailable(why))

    def apply(self, entry: Entry) -> None:
        """Apply the next commit.

        Raises:
            Lost: What comes before it is not in the log any more; or the hub can't follow it.
            Parted: It follows another commit than the one that was applied last.
        """
        self._advance(entry)
        commit = self._take(entry.number) if entry.node == self._node else None
        changes, events = ((), commit.events) if commit is not None else entry.content()
        stored = _stored(entry, events)
        if commit is None and self.listener is not None:
            try:
                self.listener.changed_elsewhere(changes)
            except Exception as error:
                # What this hub decides about those rows would be taken, for it has applied what others wrote.
                _logger.exception("what another hub has written could not be followed")
                raise Lost(CONFUSING) from error
        self._number_channels(entry, stored)
        try:
            tell(self.listener, None if commit is None else commit.apply, stored)
        except Exception as error:
            if commit is None:
                _logger.exception("what another hub has published could not be passed on")
            else:
                commit.fail(error)
        if commit is not None and not commit.future.done():
            commit.future.set_result(entry.offsets)
        self._tell_of_conflicts()
        while self._readers and self._readers[0][0] <= self.position:
            _, _, reader = heapq.heappop(self._readers)
            if not reader.done():
                reader.set_result(None)

    def catch_up(self, entry: Entry) -> None:
        """Take note of a commit whose changes the hub has not read yet, and which it tells nobody."""
        self._advance(entry)
        _, events = entry.content()
        self._number_channels(entry, _stored(entry, events))

    def _advance(self, entry: Entry) -> None:
        if entry.seq != self.position + 1:
            raise Lost(BEHIND)
        if entry.previous != self.mark:
            raise Parted
        self.position, self.mark, self.taken_at = entry.seq, entry.mark, entry.taken_at
        self.journal.add(entry, asyncio.get_running_loop().time())

    def _number_channels(self, entry: Entry, events: Sequence[StoredEvent]) -> None:
        self.forgotten = entry.forgotten
        for event in events:
            self.offsets[event.channel] = event.offset
        for channel in entry.names:
            self.offsets.pop(channel, None)

    def _take(self, number: int) -> PendingCommit | None:
        commit = self.pending.pop(number, None)
        if commit is not None:
            self.pending_bytes -= commit.size
        return commit

    def _tell_of_conflicts(self) -> None:
        while self._conflicts and self._conflicts[0][0] <= self.position:
            _, _, commit, conflict = heapq.heappop(self._conflicts)
            self.refused(commit, conflict)


def _stored(entry: Entry, events: Sequence[NewEvent]) -> list[StoredEvent]:
    return [
        StoredEvent(offset, event.channel, event.type, event.data)
        for event, offset in zip(events, entry.offsets, strict=True)
    ]
