"""Which hub may write: it holds a lease that it renews, and its name stands in the store.

The lease is for hubs that start: they see that somebody is there, and who. The name is what each commit is
checked against, so that a hub which has lost the store without knowing writes nothing.
"""

import asyncio
import logging
import os
import secrets
import socket
from typing import Final

import msgspec

from qubix_tui.hub.engine import redis_scripts as scripts
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.engine.redis_link import RedisLink, Server, Word
from qubix_tui.protocol.checks import printable

LEASE_SECONDS: Final = 5.0
"""So long after its hub's last word a store is anybody's."""

POLL_SECONDS: Final = 0.2
"""How often somebody who waits for a store looks at its lease."""

_MOVES: Final = {
    scripts.MOVING: "is half of a move that was cut short: run qubix hub move again",
    scripts.MOVED: "was moved to sqlite: start the hub with that engine, or move it back (qubix hub move)",
}

_logger = logging.getLogger("qubix.hub.engine")


class Fenced(Exception):
    """Another hub has the store now; the argument is its lease."""


class Lost(Exception):
    """The store is not what this hub had written there."""


class LeaseWatch:
    """Tells a hub that is there from one that is gone: the lease of the latter only ever gets shorter."""

    def __init__(self) -> None:
        self._left: int | None = None

    def is_renewed(self, left: int) -> bool:
        """Look at what is left of a lease (milliseconds); True once somebody has renewed it."""
        before, self._left = self._left, left
        return before is not None and left > before


class Taken(msgspec.Struct, frozen=True):
    """What a hub finds in the store that it takes.

    Attributes:
        epoch: See `Engine.epoch`.
        seq: Of the last commit.
        forgotten: The offset that a channel which nobody remembers starts after.
    """

    epoch: str
    seq: int
    forgotten: int


class Lease:
    """One hub's hold on a store.

    Args:
        prefix: What all keys of the store begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._hub = f"{secrets.token_hex(8)}/"
        self._connections = 0
        self._words = f"process {os.getpid()} on {socket.gethostname()}"

    @property
    def holder(self) -> str:
        """The hub and its connection, as they stand in the store; an older connection may not write."""
        return f"{self._hub}{self._connections}"

    async def take(self, link: RedisLink, server: Server) -> Taken:
        """Take the store, once the lease of a hub that is gone has run out.

        Raises:
            EngineUnavailable: Another hub has it, or it is of another form.
        """
        watch: LeaseWatch | None = None
        while True:
            words = scripts.FORM, server.run, int(server.keeps), secrets.token_hex(8)
            reply = await link.ask(*link.call(scripts.TAKE, *self._arguments(), *words))
            if reply[0] == b"taken":
                epoch, seq, forgotten = reply[1]
                return Taken(epoch.decode(), int(seq), int(forgotten))
            if reply[0] == b"form":
                if reply[1] in _MOVES:
                    raise EngineUnavailable(f"what Redis at {link.address} holds {_MOVES[reply[1]]}")
                raise EngineUnavailable(
                    f"what Redis at {link.address} holds was written by another version of the hub (form "
                    f"{_shown(reply[1])}; this one knows {scripts.FORM.decode()}): run that version"
                )
            who = _shown(reply[1])
            if watch is None:
                _logger.info("%s has the store; waiting for whether that hub is still there", who)
                watch = LeaseWatch()
            if watch.is_renewed(reply[2]):
                raise EngineUnavailable(
                    f"another hub ({who}) has the store on Redis at {link.address}, which is for one hub at "
                    "a time: end that one, or give this one another database (redis://HOST/1)"
                )
            await asyncio.sleep(POLL_SECONDS)

    async def resume(
        self, link: RedisLink, server: Server, *, epoch: str, floor: int
    ) -> tuple[int, dict[int, bytes]]:
        """Take the store over a new connection; from then on the old one writes nothing any more.

        Args:
            link: The new connection.
            server: What is at its other end.
            epoch: What was found when the store was taken.
            floor: The last commit that the store must have, or it has lost what can't be given back.

        Returns:
            The last commit that the store has, and what became of those that were sent last, by their number.

        Raises:
            Fenced: Another hub has it.
            Lost: It is not what this hub had written there.
            EngineUnavailable: Redis refuses it.
        """
        self._connections += 1
        words = epoch, floor, server.run, secrets.token_hex(8)
        word, *rest = await link.ask(*link.call(scripts.RESUME, *self._arguments(), self._hub, *words))
        if word == b"fenced":
            raise Fenced(_shown(rest[0]))
        if word == b"lost":
            raise Lost
        seq, results = rest
        return int(seq), {
            int(number): packed for number, packed in zip(results[::2], results[1::2], strict=True)
        }

    def renewal(self, link: RedisLink) -> tuple[Word, ...]:
        """Give the command that holds on to the store."""
        return link.call(scripts.RENEW, *self._arguments())

    @staticmethod
    def check(renewed: object) -> None:
        """Look at the reply to `renewal`.

        A Redis that is full, or can't write, refuses that too: it is the scripts that keep others out.

        Raises:
            Fenced: Another hub has the store.
            Lost: It was emptied.
        """
        if isinstance(renewed, list) and renewed[0] == b"lost":
            raise Lost
        if isinstance(renewed, list) and renewed[0] == b"fenced":
            raise Fenced(_shown(renewed[1]))

    def _arguments(self) -> tuple[Word, ...]:
        return self._prefix, self.holder, self._words, round(LEASE_SECONDS * 1000)


def _shown(word: bytes) -> str:
    return printable(word.decode(errors="replace")) or "unknown"
