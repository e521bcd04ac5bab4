"""The hubs that share an engine: which of them are alive, and what they tell one another.

A hub is alive as long as the engine has heard it within `LEASE_SECONDS`, by the engine's clock. What has to
be done once for all of them is done by the oldest, the leader. Nothing depends on there being only one: two
that think they lead get in each other's way, and the engine refuses the slower one's commits.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

LEASE_SECONDS: Final = 5.0
"""So long after its last word a hub counts as gone."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A hub that is alive.

    Attributes:
        id: Its name, a new one each time that it starts.
        age: Seconds since it was heard, by the engine's clock, when that was asked.
        words: What it tells of itself, as it told it (`Cluster.describe`).
    """

    id: str
    age: float
    words: bytes


Receiver = Callable[[str, bytes], None]
"""Takes a message of another hub: that one's id, and what it sent."""


class Cluster(Protocol):
    """The hubs of one engine, as one of them sees them."""

    @property
    def node(self) -> str | None:
        """This hub's id; None where no other hub can be there."""
        ...

    @property
    def nodes(self) -> Sequence[Node]:
        """The hubs that are alive, this one among them, the oldest first; empty where none can be.

        As the engine told it last: asked each second.
        """
        ...

    @property
    def leads(self) -> bool:
        """Whether this hub does what has to be done once."""
        ...

    @property
    def may_renew(self) -> bool:
        """Whether no other hub can take this one for gone now.

        The engine has acknowledged, less than `LEASE_SECONDS` after it was sent, that this hub is alive, and
        this hub is not further behind what the others have written.
        """
        ...

    def is_live(self, node: str | None) -> bool:
        """Whether a hub is alive. Where no other one can be, None is."""
        ...

    def describe(self, words: bytes) -> None:
        """Have the others told this, with the next sign of life."""
        ...

    def receive(self, receiver: Receiver) -> None:
        """Have somebody given what other hubs send; once, before the engine is opened."""
        ...

    def send(self, node: str, message: bytes) -> None:
        """Send something to a hub. It may get lost, and never comes twice."""
        ...

    async def leave(self) -> None:
        """Count as gone from now on: the hub is about to end. No error where that can't be told."""
        ...


class Alone:
    """The cluster of a hub whose engine nobody shares."""

    node: str | None = None
    nodes: Sequence[Node] = ()
    leads = True
    may_renew = True

    def is_live(self, node: str | None) -> bool:
        """Whether it is this hub's own None."""
        return node is None

    def describe(self, words: bytes) -> None:
        """Tell nobody."""

    def receive(self, receiver: Receiver) -> None:
        """Give nobody anything."""

    def send(self, node: str, message: bytes) -> None:
        """Send it to nobody."""

    async def leave(self) -> None:
        """Leave nobody."""
