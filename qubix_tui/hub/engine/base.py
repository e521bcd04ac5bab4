"""The interface of an engine: where state and the recoverable events of channels live.

State and event are one step. `Engine.commit` is the one durable write; events are sent to subscribers, and
requests acknowledged, only after it: else a crash could give one offset to two different events.

Several hubs may share one engine (`qubix_tui.hub.engine.cluster`). All of them apply all commits in one
order, and what a hub decides is checked against what the others have written meanwhile.

An engine stores bytes and looks into none of them. What any engine must keep is written as a test suite,
``tests/hub/test_hub_engine_contract.py``.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from qubix_tui.hub.engine.cluster import Cluster
from qubix_tui.hub.engine.telemetry import EngineTelemetry

T = TypeVar("T")

ATTEMPTS: Final = 20
"""How often something is decided anew because another hub was faster."""


class Change(msgspec.Struct, frozen=True):
    """One write to a table.

    Attributes:
        table: Which.
        key: Which row of it.
        value: Its new value, or None to delete it.
        blind: It is written whatever other hubs have written there meanwhile.
    """

    table: str
    key: str
    value: bytes | None
    blind: bool = False


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
    """A precondition did not hold, or another hub was faster. Nothing was written.

    Args:
        table: The table of the first row that was not as expected.
        key: Its key.
    """

    def __init__(self, table: str, key: str) -> None:
        super().__init__(f"{table}/{key} is not what it was expected to be")
        self.table = table
        self.key = key


class EngineUnavailable(Exception):
    """The store can't be used now; the message says why and what to do."""


class Listener(Protocol):
    """Who is told of commits: of each once it is stored, in the one order that they have for all hubs."""

    def changed_elsewhere(self, changes: Sequence[Change]) -> None:
        """Another hub has written this. For a hub's own commits their ``apply`` is called in place of it."""
        ...

    def happened(self, events: Sequence[StoredEvent]) -> None:
        """These are a commit's events, whoever's it was; called after what it changed is known."""
        ...


def tell(listener: Listener | None, apply: Callable[[], None] | None, events: Sequence[StoredEvent]) -> None:
    """Bring a hub up to a commit of its own, and tell its listener what happened."""
    try:
        if apply is not None:
            apply()
    finally:
        if listener is not None and events:
            listener.happened(events)


async def settled(attempt: Callable[[], Awaitable[T]]) -> T:
    """Decide and commit; and once more, from what is so then, where another hub was faster.

    Args:
        attempt: Decides and commits.

    Raises:
        EngineUnavailable: The store failed, or others were faster `ATTEMPTS` times.
    """
    for _ in range(ATTEMPTS):
        try:
            return await attempt()
        except Conflict as conflict:
            last = conflict
    raise EngineUnavailable(f"other hubs change the same all the time ({last}); try again")


async def caught_up(engine: "Engine") -> None:
    """Wait until a hub has been told of all that others have stored by now.

    Raises:
        EngineUnavailable: The store is not there.
    """
    # A replay gives only what its hub was told of, even of a channel on which there is nothing.
    await engine.replay("hub", 0, limit=1)


class Engine(Protocol):
    """Tables of bytes, and channels of events with offsets. All calls are made from one event loop."""

    @property
    def cluster(self) -> Cluster:
        """The hubs that share it."""
        ...

    @property
    def telemetry(self) -> EngineTelemetry:
        """How it is doing."""
        ...

    @property
    def epoch(self) -> str:
        """A random name of this history. It changes only when history is lost. Known once opened."""
        ...

    @property
    def available(self) -> bool:
        """Whether what is asked now is not refused for want of the store."""
        ...

    @property
    def position(self) -> int:
        """How far the listener has been told of commits: it grows with each. Where one hub is alone, 0."""
        ...

    def listen(self, listener: Listener) -> None:
        """Have somebody told of commits; once, before `open`."""
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
        apply: Callable[[], None] | None = None,
        *,
        decided_at: int | None = None,
    ) -> list[int]:
        """Write all of it, or nothing. Commits take effect in the order in which they are called.

        Commits that are waiting at the same time may share a transaction; one that meets a conflict does
        not touch the others.

        Args:
            preconditions: What must be stored now; compared with the bytes, before any change.
            changes: Applied in this order.
            events: Appended to their channels in this order.
            apply: Called once it is stored, in the order of all commits, before the listener hears of its
                events: brings the hub's own state up to date.
            decided_at: The `position` at which this was decided; by default that of now. A row that another
                hub has written after it is a conflict, except for blind changes.

        Returns:
            One offset per event, in the order of ``events``.

        Raises:
            Conflict: A precondition did not hold, or another hub was faster; nothing was written. What that
                one wrote has been applied here.
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
            What the listener has been told of by then. Not complete where history no longer reaches back to
            ``since``, or never got that far.

        Raises:
            EngineUnavailable: The store is not open, or failed.
        """
        ...

    def offset(self, channel: str) -> int:
        """Give the offset of the newest event of a channel that the listener was told of; 0 for none."""
        ...

    def size(self) -> int | None:
        """Give the bytes that what is kept takes; None where that can't be told."""
        ...
