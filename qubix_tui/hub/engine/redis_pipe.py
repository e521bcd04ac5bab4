"""What a hub asks of Redis, in order, over one connection that may break.

What is asked in one turn of the event loop, and whatever came while Redis was busy, is one pipeline. A
connection that breaks leaves commits of which nobody knows whether they were done: they are neither
acknowledged nor refused until Redis is back and has been asked. Whatever else waits, or comes meanwhile, is
refused at once.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from qubix_tui.hub.engine import redis_node_scripts as node_scripts
from qubix_tui.hub.engine import redis_scripts as scripts
from qubix_tui.hub.engine.base import Conflict, EngineUnavailable
from qubix_tui.hub.engine.redis_address import RedisAddress
from qubix_tui.hub.engine.redis_cluster import RedisCluster
from qubix_tui.hub.engine.redis_commits import EMPTIED, UNKNOWN, Applied, Lost, PendingCommit
from qubix_tui.hub.engine.redis_link import RedisLink, Word
from qubix_tui.hub.engine.telemetry import EngineTelemetry

RENEW_SECONDS: Final = 1.0
"""How often Redis hears of the hub at least; a Redis that is gone is found out by it."""

MAX_BATCH: Final = 500
"""Commits and reads in one pipeline."""

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""What a pipeline is not added to beyond: all of it has to be answered in time."""

MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""What may wait for a Redis that is slower than what it is asked for, and to be applied: half of the log, so
that a hub that is alone is never told that its decision is too old."""

NOT_OPEN: Final = "the store is not open; the hub is starting or stopping, try again"

KINDS: Final = {
    scripts.COMMIT: "commit",
    scripts.RESTORE: "restore",
    scripts.LOAD: "load",
    scripts.REPLAY: "replay",
    node_scripts.JOIN: "join",
    node_scripts.RESUME: "resume",
    node_scripts.RENEW: "renew",
    node_scripts.LEAVE: "leave",
    node_scripts.BREAK: "break",
}
"""What the scripts are called in the metrics."""

_LOST: Final = {"lost": EMPTIED, "unknown": UNKNOWN}


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much history the store keeps.

    Attributes:
        max_events: Events per channel; some more lie there until Redis trims them.
        max_age_ms: How long an event is kept.
        max_commits: Commits in the log.
        max_bytes: What they take together.
        max_offsets: Channels whose offset is remembered.
    """

    max_events: int
    max_age_ms: int
    max_commits: int
    max_bytes: int
    max_offsets: int

    @property
    def history(self) -> tuple[int, ...]:
        """What the scripts that write are given of it."""
        return self.max_events, self.max_age_ms, self.max_commits, self.max_bytes


class _Question:
    """What is asked, and who waits for its answer, if anybody does."""

    __slots__ = ("future", "script", "size", "words")

    def __init__(
        self, script: str | None, words: Sequence[Word], future: "asyncio.Future[Any] | None"
    ) -> None:
        self.script = script
        # Here, what is no text fails for who asks it alone.
        self.words = [word.encode() if isinstance(word, str) else word for word in words]
        self.size = sum(len(word) for word in self.words if isinstance(word, bytes))
        self.future = future

    def fail(self, error: Exception) -> None:
        """Tell who waits."""
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)


class RedisPipe:
    """The talk with one Redis.

    Args:
        address: Where it is.
        prefix: What all keys of the store begin with.
        bounds: How much history is kept.
        applied: How far this hub has applied the log.
        cluster: This hub, and the others.
        telemetry: Where it is noted how long things take.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        prefix: str,
        bounds: Bounds,
        applied: Applied,
        cluster: RedisCluster,
        telemetry: EngineTelemetry,
    ) -> None:
        self.trouble: str | None = NOT_OPEN
        """Why nothing is taken now; None while Redis answers."""
        self._address = address
        self._prefix = prefix
        self._bounds = bounds
        self._applied = applied
        self._cluster = cluster
        self._telemetry = telemetry
        self._asked = asyncio.Event()
        self._renew_at = 0.0
        self._waiting: deque[PendingCommit | _Question] = deque()
        self._waiting_bytes = 0
        self._sent: list[PendingCommit | _Question] = []

    def write(self, commit: PendingCommit) -> "asyncio.Future[list[int]]":
        """Have a commit done; gives what resolves to its offsets, or fails as `Engine.commit` does.

        Raises:
            EngineUnavailable: Nothing is taken now.
        """
        self.check()
        self._enqueue(commit)
        return commit.future

    def ask(self, script: str | None, *arguments: Word) -> "asyncio.Future[Any]":
        """Ask something after all that was asked before, plainly or by a script, which is given the prefix.

        Raises:
            EngineUnavailable: Nothing is taken now.
        """
        self.check()
        words = arguments if script is None else (self._prefix, *arguments)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._enqueue(_Question(script, words, future))
        return future

    def post(self, *words: Word) -> None:
        """Send a command for whose answer nobody waits; where much waits already it is dropped."""
        # Half of the room is for what somebody waits for.
        if self.trouble is None and self._load < 0.5:
            self._enqueue(_Question(None, words, None))

    def check(self) -> None:
        """Tell whether something can be asked.

        Raises:
            EngineUnavailable: Nothing is taken now.
        """
        if self.trouble is not None:
            raise EngineUnavailable(self.trouble)
        if self._load >= 1.0:
            raise EngineUnavailable(f"Redis at {self._address} is slower than what it is asked; try again")

    @property
    def _load(self) -> float:
        """How much of what may wait does so, from 0 to 1."""
        applied = self._applied
        return max(
            (len(self._waiting) + len(applied.pending)) / MAX_WAITING,
            (self._waiting_bytes + applied.pending_bytes) / MAX_WAITING_BYTES,
        )

    async def serve(self, link: RedisLink) -> None:
        """Ask what is to be asked, for good.

        Raises:
            LinkDown: The connection is gone.
            Lost: The hub has to start anew.
        """
        loop = asyncio.get_running_loop()
        self._renew_at = loop.time()
        while True:
            self._sent = await self._next_batch()
            commands = self._commands(link, self._sent)
            renewal = self._cluster.renewal(link) if loop.time() >= self._renew_at else []
            if renewal:
                self._renew_at = loop.time() + RENEW_SECONDS
            began = loop.time()
            replies = await link.exchange([*commands, *renewal])
            ended = loop.time()
            self._count(self._sent, ended - began)
            sent, self._sent = self._sent, []
            for one, reply in zip(sent, replies, strict=False):
                self._settle(link, one, reply)
            if renewal:
                self._telemetry.called("renew", 1, ended - began)
                self._cluster.renewed(replies[len(commands)], began, ended)

    async def send_again(self, link: RedisLink) -> None:
        """Send once more what was sent and not applied: what was done gets the result that it had.

        Raises:
            LinkDown: The connection is gone.
            Lost: The hub has to start anew.
        """
        self._applied.forget_conflicts()
        commits = list(self._applied.pending.values())
        for start in range(0, len(commits), MAX_BATCH):
            batch = commits[start : start + MAX_BATCH]
            replies = await link.exchange(self._commands(link, batch))
            for commit, reply in zip(batch, replies, strict=True):
                self._settle(link, commit, reply)

    def break_off(self, why: str) -> None:
        """Tell all who wait that nothing of theirs was done, and take nothing; what is in doubt stays so."""
        self.trouble = why
        for one in (*self._sent, *self._waiting):
            if isinstance(one, _Question) or one.number == 0:
                one.fail(EngineUnavailable(why))
        self._sent = []
        self._waiting.clear()
        self._waiting_bytes = 0

    def _enqueue(self, one: PendingCommit | _Question) -> None:
        self._waiting.append(one)
        self._waiting_bytes += one.size
        self._asked.set()

    async def _next_batch(self) -> list[PendingCommit | _Question]:
        """Wait for something to do, but not beyond the time to renew the lease."""
        if not self._waiting:
            self._asked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._renew_at):
                    await self._asked.wait()
        batch: list[PendingCommit | _Question] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            one = self._waiting.popleft()
            size += one.size
            self._waiting_bytes -= one.size
            if isinstance(one, PendingCommit):
                self._applied.sends(one)
            batch.append(one)
        return batch

    def _commands(self, link: RedisLink, batch: Sequence[PendingCommit | _Question]) -> list[Sequence[Word]]:
        kept = *self._bounds.history, self._bounds.max_offsets
        who = self._prefix, self._cluster.term, self._cluster.id
        floor = self._applied.floor
        commands: list[Sequence[Word]] = []
        for one in batch:
            if isinstance(one, PendingCommit):
                words = one.number, floor, int(one.grows), one.decided_at, one.now
                commands.append(link.call(scripts.COMMIT, *who, *words, *kept, one.conditions, one.body))
            elif one.script is None:
                commands.append(one.words)
            else:
                commands.append(link.call(one.script, *one.words))
        return commands

    def _settle(self, link: RedisLink, one: PendingCommit | _Question, reply: Any) -> None:  # noqa: ANN401
        """Note what came of it, and tell who waits; of a commit that was done once it is applied."""
        if isinstance(one, PendingCommit):
            if isinstance(reply, Exception):
                self._applied.refused(one, EngineUnavailable(link.refusal(reply)))
            else:
                self._settle_commit(one, reply.decode())
        elif isinstance(reply, Exception):
            one.fail(EngineUnavailable(link.refusal(reply)))
        elif one.future is not None and not one.future.done():
            one.future.set_result(reply)

    def _settle_commit(self, commit: PendingCommit, result: str) -> None:
        word, *numbers = result.split()
        if word == "done":
            return
        if word in _LOST:
            raise Lost(_LOST[word])
        index, seq = map(int, numbers)
        rows = commit.preconditions if word == "condition" else commit.changes
        row = rows[index - 1]
        self._applied.conflicts(commit, Conflict(row.table, row.key), seq)

    def _count(self, batch: Sequence[PendingCommit | _Question], seconds: float) -> None:
        kinds: dict[str, int] = {}
        for one in batch:
            script = scripts.COMMIT if isinstance(one, PendingCommit) else one.script
            if script is not None:
                kinds[KINDS[script]] = kinds.get(KINDS[script], 0) + 1
        for kind, count in kinds.items():
            self._telemetry.called(kind, count, seconds)
