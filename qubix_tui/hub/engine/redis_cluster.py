"""The hubs on one Redis, as one of them sees them: who is alive by Redis's clock, and what they send."""

import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from qubix_tui.hub.clock import Clock
from qubix_tui.hub.engine import redis_node_scripts as scripts
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.engine.cluster import LEASE_SECONDS, Node, Receiver
from qubix_tui.hub.engine.redis_commits import EMPTIED, Lost
from qubix_tui.hub.engine.redis_link import LinkDown, RedisLink, Word
from qubix_tui.hub.engine.telemetry import EngineTelemetry

RESULTS_SECONDS: Final = 86_400
"""How long a hub that is away may ask what its last commits came to."""

INBOX_SECONDS: Final = 3.0
"""After so long without its own sign of life an inbox is opened anew."""

_logger = logging.getLogger("qubix.hub.engine")


class Pipe(Protocol):
    """What takes a hub's words to Redis."""

    def ask(self, script: str | None, *arguments: Word) -> Awaitable[Any]:
        """Ask something, and give the answer."""
        ...

    def post(self, *words: Word) -> None:
        """Send something for which there is no answer; where it can't be sent it is dropped."""
        ...


class RedisCluster:
    """Implements `qubix_tui.hub.engine.cluster.Cluster` on a Redis or Valkey.

    Args:
        prefix: What all keys of the store begin with.
        clock: The machine's (``time``).
        telemetry: Where it is noted how far apart the clocks are, and whether there is more to apply.
        position: Gives the last commit that this hub has applied.
    """

    def __init__(
        self, prefix: str, clock: Clock, telemetry: EngineTelemetry, position: Callable[[], int]
    ) -> None:
        self.id = secrets.token_hex(8)
        self.node: str | None = self.id
        self.who = f"process {os.getpid()} on {socket.gethostname()}"
        self.words = b"{}"
        self.term = ""
        self.told_at = 0
        """When Redis heard this hub last (ms, Redis's clock)."""
        self.stays = True
        """It is not about to end."""
        self.pipe: Pipe | None = None
        self._prefix = prefix
        self._clock = clock
        self._telemetry = telemetry
        self._position = position
        self._nodes: list[Node] = []
        self._receiver: Receiver | None = None
        self._acknowledged: float | None = None
        self._behind: tuple[int, float] | None = None

    @property
    def nodes(self) -> Sequence[Node]:
        """The hubs that are alive, the oldest first; see `Cluster.nodes`."""
        return self._nodes

    @property
    def leads(self) -> bool:
        """Whether this hub is the oldest; see `Cluster.leads`."""
        return bool(self._nodes) and self._nodes[0].id == self.id

    @property
    def may_renew(self) -> bool:
        """Whether no other hub can take this one for gone now; see `Cluster.may_renew`."""
        now = time.monotonic()
        is_heard = self._acknowledged is not None and now - self._acknowledged < LEASE_SECONDS
        return is_heard and (self._behind is None or now - self._behind[1] < LEASE_SECONDS)

    def is_live(self, node: str | None) -> bool:
        """Whether a hub is alive; see `Cluster.is_live`."""
        return any(one.id == node for one in self._nodes)

    def describe(self, words: bytes) -> None:
        """Have the others told this; see `Cluster.describe`."""
        self.words = words

    def receive(self, receiver: Receiver) -> None:
        """Have somebody given what other hubs send; see `Cluster.receive`."""
        self._receiver = receiver

    def send(self, node: str, message: bytes) -> None:
        """Send something to a hub; see `Cluster.send`."""
        if self.pipe is not None:
            self.pipe.post("PUBLISH", self._channel(node), b"%s\n%s" % (self.id.encode(), message))

    async def leave(self) -> None:
        """Count as gone from now on; see `Cluster.leave`."""
        self.stays, self._acknowledged = False, None
        if self.pipe is not None:
            with contextlib.suppress(EngineUnavailable):
                await self.pipe.ask(scripts.LEAVE, self.id)

    # What the pipe and the session do

    def arguments(self) -> tuple[Word, ...]:
        """Give what the scripts of hubs begin with."""
        lease, ttl = round(LEASE_SECONDS * 1000), RESULTS_SECONDS * 1000
        return self._prefix, self.id, self.who, self.words, lease, ttl

    def begin(self, term: str) -> None:
        """Be a hub of a store."""
        self.term, self.stays = term, True

    def renewal(self, link: RedisLink) -> list[Sequence[Word]]:
        """Give the commands by which others, and this hub's own inbox, know that it is alive."""
        stays = int(self.stays)
        return [
            link.call(scripts.RENEW, *self.arguments(), self.term, stays),
            ("PUBLISH", self._channel(self.id), b""),
        ]

    def renewed(self, reply: Any, sent: float, answered: float) -> None:  # noqa: ANN401
        """Take the reply to that.

        Args:
            reply: Of the first of the commands.
            sent: When they were sent (monotonic).
            answered: When the answer was there (likewise).

        Raises:
            Lost: The hub has to start anew.
        """
        if isinstance(reply, Exception):
            _logger.warning("Redis does not take this hub's sign of life: %s", reply)
            return
        if reply[0] == b"lost":
            raise Lost(EMPTIED)
        _, self.told_at, seq, alive = reply
        self._telemetry.clock_skew = self.told_at / 1000 - (self._clock.time() - (answered - sent) / 2)
        self._nodes = [
            Node(id=node.decode(), age=unheard / 1000, words=words or b"") for node, unheard, words in alive
        ]
        if self.stays:
            self._acknowledged = sent
        self._note_lag(seq, answered)

    def _note_lag(self, seq: int, now: float) -> None:
        position = self._position()
        if position >= seq:
            self._behind, self._telemetry.lag = None, 0.0
            return
        if self._behind is None or position >= self._behind[0]:
            self._behind = seq, now
        self._telemetry.lag = max(self._telemetry.lag, now - self._behind[1])

    # The inbox

    async def open_inbox(self, link: RedisLink) -> None:
        """Have what others send come over a connection.

        Raises:
            EngineUnavailable: Redis refuses.
        """
        await link.ask("SUBSCRIBE", self._channel(self.id))

    async def read_inbox(self, link: RedisLink) -> None:
        """Pass on what comes, for good.

        Raises:
            LinkDown: The connection is gone.
        """
        while True:
            pushed = await link.listen(INBOX_SECONDS)
            if isinstance(pushed, Exception):
                raise LinkDown(link.refusal(pushed))
            sender, _, message = pushed[-1].partition(b"\n")
            if not sender or self._receiver is None:
                continue
            try:
                self._receiver(sender.decode(), message)
            except Exception:
                _logger.exception("what another hub has sent could not be taken")

    def _channel(self, node: str) -> str:
        return f"{self._prefix}to:{node}"
