"""How a hub comes to a store on a Redis: for the first time, and after each break."""

import asyncio
import logging
import secrets
from typing import Final

import msgspec

from qubix_tui.hub.engine import redis_node_scripts as node_scripts
from qubix_tui.hub.engine import redis_scripts as scripts
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.engine.cluster import LEASE_SECONDS
from qubix_tui.hub.engine.redis_cluster import RedisCluster
from qubix_tui.hub.engine.redis_commits import EMPTIED, UNKNOWN, Applied, Lost
from qubix_tui.hub.engine.redis_link import RedisLink, Server
from qubix_tui.protocol.checks import printable

POLL_SECONDS: Final = 0.2
"""How often somebody who waits for a store looks at it."""

HOLD_SECONDS: Final = 2.0
"""How long commits wait at most, on a Redis that may have lost its end, until all hubs are back with theirs.

One that finds out a second later than others, and tries to connect for another, is not too late.
"""

_MOVES: Final = {
    scripts.MOVING: "is half of a move that was cut short: run qubix hub move again",
    scripts.MOVED: "was moved to sqlite: start the hub with that engine, or move it back (qubix hub move)",
}

_logger = logging.getLogger("qubix.hub.engine")


class LeaseWatch:
    """Tells somebody who is there from one that is gone: the lease of the latter only ever gets shorter."""

    def __init__(self) -> None:
        self._left: int | None = None

    def is_renewed(self, left: int) -> bool:
        """Look at what is left of a lease (milliseconds); True once somebody has renewed it."""
        before, self._left = self._left, left
        return before is not None and left > before


class Joined(msgspec.Struct, frozen=True):
    """What a hub finds in the store that it joins.

    Attributes:
        epoch: See `Engine.epoch`.
        term: What entitles it to write.
        seq: The last commit.
        mark: Of that one.
        forgotten: The offset that a channel which nobody remembers starts after.
        wait: For how many seconds it may send no commit.
    """

    epoch: str
    term: str
    seq: int
    mark: str
    forgotten: int
    wait: float


async def join(link: RedisLink, server: Server, cluster: RedisCluster, applied: Applied) -> Joined:
    """Make a hub one of those that share a store.

    Raises:
        EngineUnavailable: A move has it, or it is of another form.
    """
    watch = LeaseWatch()
    loop = asyncio.get_running_loop()
    patient_until, waited = loop.time() + LEASE_SECONDS, False
    while True:
        patient = int(loop.time() < patient_until)
        words = scripts.FORM, server.run, int(server.keeps), secrets.token_hex(8), patient
        call = link.call(node_scripts.JOIN, *cluster.arguments(), applied.floor, *words)
        reply = await link.ask(*call)
        match reply:
            case [b"joined", [epoch, term, seq, mark, forgotten], now, wait]:
                cluster.told_at = now
                return Joined(
                    epoch.decode(), term.decode(), int(seq), mark.decode(), int(forgotten), wait / 1000
                )
            case [b"form", form]:
                raise EngineUnavailable(_other_form(link, form))
            case [b"held", who, left] if watch.is_renewed(left):
                raise EngineUnavailable(
                    f"Redis at {link.address} is being moved ({shown(who)}): wait until that is done"
                )
        if not waited:
            _logger.info("waiting for a move, or for hubs that were here before Redis was restarted")
            waited = True
        await asyncio.sleep(POLL_SECONDS)


def _other_form(link: RedisLink, form: bytes) -> str:
    where = f"what Redis at {link.address} holds"
    if form in _MOVES:
        return f"{where} {_MOVES[form]}"
    return (
        f"{where} was written by another version of the hub (form {shown(form)}; this one knows "
        f"{scripts.FORM.decode()}): run that version, or move it to sqlite with it (qubix hub move)"
    )


async def resume(
    link: RedisLink, server: Server, cluster: RedisCluster, applied: Applied
) -> tuple[int, float]:
    """Be there again, over a new connection.

    Returns:
        The last commit that Redis has, and for how many seconds no commit may be sent.

    Raises:
        Lost: The hub has to start anew.
        EngineUnavailable: Redis refuses.
    """
    loop = asyncio.get_running_loop()
    patient_until = loop.time() + LEASE_SECONDS
    hold = round(HOLD_SECONDS * 1000)
    while True:
        words = cluster.term, server.run, int(server.keeps), cluster.told_at, secrets.token_hex(8), hold
        known = applied.position, applied.mark, applied.journal.floor, int(loop.time() < patient_until)
        stays = int(cluster.stays)
        call = link.call(node_scripts.RESUME, *cluster.arguments(), applied.floor, *words, *known, stays)
        match await link.ask(*call):
            case [b"resumed", seq, wait]:
                return seq, wait / 1000
            case [b"lost"]:
                raise Lost(EMPTIED)
            case [b"unknown"]:
                raise Lost(UNKNOWN)
        await asyncio.sleep(POLL_SECONDS)


def shown(word: bytes) -> str:
    """Give what stands in the store as it may be shown."""
    return printable(word.decode(errors="replace")) or "unknown"
