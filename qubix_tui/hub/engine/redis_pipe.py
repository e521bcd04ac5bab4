"""What a hub asks of Redis, in order, over one connection that may break.

What is asked in one turn of the event loop, and whatever came while Redis was busy, is one pipeline. A
connection that breaks leaves commits of which nobody knows whether they were done: they are neither
acknowledged nor refused until Redis is back and has been asked. Whatever else waits, or comes meanwhile, is
refused at once.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from qubix_tui.hub.engine import redis_scripts as scripts
from qubix_tui.hub.engine.base import Conflict, EngineUnavailable
from qubix_tui.hub.engine.redis_address import RedisAddress
from qubix_tui.hub.engine.redis_commits import Done, Journal, PendingCommit, parse_result
from qubix_tui.hub.engine.redis_lease import Fenced, Lease, Lost, Taken
from qubix_tui.hub.engine.redis_link import LinkDown, RedisLink, Word

RENEW_SECONDS: Final = 1.0
"""How often Redis hears of the hub at least; a Redis that is gone is found out by it."""

RETRY_SECONDS: Final = 0.2

MAX_BATCH: Final = 500
"""Commits and reads in one pipeline."""

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""What a pipeline is not added to beyond: all of it has to be answered in time."""

MAX_WAITING: Final = 20_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""What may wait for a Redis that is slower than what it is asked for."""

_SCRIPTS: Final = (
    scripts.COMMIT,
    scripts.TAKE,
    scripts.RESUME,
    scripts.RENEW,
    scripts.RELEASE,
    scripts.LOAD,
    scripts.REPLAY,
)
_NOT_OPEN: Final = "the store is not open; the hub is starting or stopping, try again"

_logger = logging.getLogger("qubix.hub.engine")


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much history the store keeps.

    Attributes:
        max_events: Events per channel; some more lie there until Redis trims them.
        max_age_ms: How long an event is kept.
        max_offsets: Channels whose offset is remembered.
    """

    max_events: int
    max_age_ms: int
    max_offsets: int


class _Read:
    """A question, and who waits for its answer."""

    __slots__ = ("arguments", "future", "script")

    def __init__(self, script: str | None, arguments: Sequence[Word], future: "asyncio.Future[Any]") -> None:
        self.script = script
        self.arguments = arguments
        self.future = future


class RedisPipe:
    """The talk with one Redis.

    Args:
        address: Where it is.
        prefix: What all keys of the store begin with.
        bounds: How much history is kept.
        done: Called with each commit that was done, and what came of it, before anybody hears of it.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        prefix: str,
        bounds: Bounds,
        done: Callable[[PendingCommit, Done], None],
    ) -> None:
        self.trouble: str | None = _NOT_OPEN
        """Why nothing is taken now; None while Redis answers."""
        self._address = address
        self._prefix = prefix
        self._bounds = bounds
        self._done = done
        self._lease = Lease(prefix)
        self._journal = Journal()
        self._epoch = ""
        self._seq = 0
        self._link: RedisLink | None = None
        self._worker: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._why_lost = ""
        self._asked = asyncio.Event()
        self._renew_at = 0.0
        self._waiting: deque[PendingCommit | _Read] = deque()
        self._waiting_bytes = 0
        self._sent: list[PendingCommit | _Read] = []
        self._in_doubt: list[PendingCommit] = []

    async def open(self) -> Taken:
        """Connect, and take the store for this hub.

        Raises:
            EngineUnavailable: It can't be reached or used, or another hub has it; the message says what to
                do.
        """
        link = await RedisLink.dial(self._address, _SCRIPTS)
        try:
            taken = await self._lease.take(link, await link.look_over())
        except BaseException:
            await link.close()
            raise
        self._epoch, self._seq, self._journal.floor = taken.epoch, taken.seq, taken.seq
        self._link, self.trouble = link, None
        self._renew_at = asyncio.get_running_loop().time()
        self._worker = asyncio.create_task(self._work(), name="qubix-store")
        return taken

    async def close(self) -> None:
        """Finish what was asked for, and let go of the store. Again is no error."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if self.trouble is None and not worker.done():
            with contextlib.suppress(EngineUnavailable):
                await self._enqueue(self._question(scripts.RELEASE, self._lease.holder), 0)
        self.trouble = _NOT_OPEN
        self._refuse(_NOT_OPEN)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        self._give_up("the hub ended before Redis had told whether this was done")
        if self._link is not None:
            await self._link.close()

    async def lost(self) -> str:
        """Wait until the store is lost to this hub for good; give why."""
        await self._lost.wait()
        return self._why_lost

    def write(self, commit: PendingCommit) -> "asyncio.Future[list[int]]":
        """Have a commit done; gives what resolves to its offsets, or fails as `Engine.commit` does.

        Raises:
            EngineUnavailable: Nothing is taken now.
        """
        self.check()
        return self._enqueue(commit, commit.size)

    def ask(self, script: str | None, *arguments: Word) -> "asyncio.Future[Any]":
        """Ask something after all that was asked before, plainly or by a script, which is given the prefix.

        Raises:
            EngineUnavailable: Nothing is taken now.
        """
        self.check()
        return self._enqueue(self._question(script, *arguments), 0)

    def check(self) -> None:
        """Tell whether something can be asked.

        Raises:
            EngineUnavailable: Nothing is taken now.
        """
        if self._worker is None:
            raise EngineUnavailable(_NOT_OPEN)
        if self.trouble is not None:
            raise EngineUnavailable(self.trouble)
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES:
            raise EngineUnavailable(f"Redis at {self._address} is slower than what it is asked; try again")

    def _question(self, script: str | None, *arguments: Word) -> _Read:
        words = arguments if script is None else (self._prefix, *arguments)
        return _Read(script, words, asyncio.get_running_loop().create_future())

    def _enqueue(self, one: PendingCommit | _Read, size: int) -> "asyncio.Future[Any]":
        self._waiting.append(one)
        self._waiting_bytes += size
        self._asked.set()
        return one.future

    async def _next_batch(self) -> list[PendingCommit | _Read]:
        """Wait for something to do, but not beyond the time to renew the lease."""
        if not self._waiting:
            self._asked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._renew_at):
                    await self._asked.wait()
        batch: list[PendingCommit | _Read] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            one = self._waiting.popleft()
            if isinstance(one, PendingCommit):
                size += one.size
                self._waiting_bytes -= one.size
                self._seq += 1
                one.seq = self._seq
            batch.append(one)
        return batch

    def _refuse(self, why: str) -> None:
        """Tell all that wait that nothing of theirs was done."""
        while self._waiting:
            _fail(self._waiting.popleft().future, why)
        self._waiting_bytes = 0

    def _give_up(self, why: str) -> None:
        """Tell those whose commit may have been done or not that nobody will know."""
        for one in (*self._sent, *self._in_doubt):
            _fail(one.future, why)
        self._sent, self._in_doubt = [], []

    async def _work(self) -> None:
        try:
            while True:
                assert self._link is not None
                try:
                    await self._serve(self._link)
                except LinkDown as error:
                    self._go_away(str(error))
                    await self._come_back()
        except Fenced as other:
            why = f"another hub ({other}) has taken the store on Redis at {self._address}: end this one"
        except Lost:
            why = (
                f"Redis at {self._address} holds not what this hub had written (emptied, or an older copy): "
                "restart the hub, which then takes it as it is"
            )
        except Exception:
            _logger.exception("the talk with Redis has failed")
            why = "the hub has failed in its talk with Redis: restart it, and report what its log says"
        self.trouble = why
        _logger.critical("%s", why)
        self._why_lost = why
        self._lost.set()
        self._refuse(why)
        self._give_up(why)

    async def _serve(self, link: RedisLink) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._sent = await self._next_batch()
            commands = self._commands(link, self._sent)
            renews = loop.time() >= self._renew_at
            if renews:
                commands.append(self._lease.renewal(link))
                self._renew_at = loop.time() + RENEW_SECONDS
            replies = await link.exchange(commands)
            for one, reply in zip(self._sent, replies, strict=False):
                self._settle(link, one, reply)
            self._sent = []
            if renews:
                self._lease.check(replies[-1])

    def _commands(self, link: RedisLink, batch: Sequence[PendingCommit | _Read]) -> list[Sequence[Word]]:
        bounds = self._bounds
        kept = bounds.max_events, bounds.max_age_ms, bounds.max_offsets
        commands: list[Sequence[Word]] = []
        first = next((one.seq for one in batch if isinstance(one, PendingCommit)), 0)
        for one in batch:
            if isinstance(one, PendingCommit):
                words = self._prefix, self._lease.holder, one.seq, first, int(one.grows), one.now
                commands.append(link.call(scripts.COMMIT, *words, *kept, *one.body))
            elif one.script is None:
                commands.append(one.arguments)
            else:
                commands.append(link.call(one.script, *one.arguments))
        return commands

    def _settle(self, link: RedisLink, one: PendingCommit | _Read, reply: Any) -> None:  # noqa: ANN401
        """Tell who waits what came of it."""
        if isinstance(reply, Exception):
            _fail(one.future, link.refusal(reply))
        elif isinstance(one, PendingCommit):
            self._settle_commit(one, reply)
        elif not one.future.done():
            one.future.set_result(reply)

    def _settle_commit(self, commit: PendingCommit, packed: bytes) -> None:
        result = parse_result(packed, commit)
        failure: Exception | None = result if isinstance(result, Conflict) else None
        if isinstance(result, Done):
            self._journal.add(commit, result.offsets, asyncio.get_running_loop().time())
            try:
                self._done(commit, result)
            except Exception as error:  # noqa: BLE001 - it goes to who asked
                failure = error
        if commit.future.done():
            return
        if failure is not None:
            commit.future.set_exception(failure)
        elif isinstance(result, Done):
            commit.future.set_result(result.offsets)

    # Away, and back

    def _go_away(self, why: str) -> None:
        self.trouble = why
        _logger.error("%s", why)
        for one in self._sent:
            if isinstance(one, PendingCommit):
                self._in_doubt.append(one)
            else:
                _fail(one.future, why)
        self._sent = []
        self._refuse(why)

    async def _come_back(self) -> None:
        while True:
            try:
                self._link = await self._reconnect()
            except EngineUnavailable as error:
                if str(error) != self.trouble:
                    _logger.error("%s", error)
                self.trouble = str(error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.trouble = None
                self._renew_at = asyncio.get_running_loop().time() + RENEW_SECONDS
                _logger.warning("Redis at %s is back", self._address)
                return

    async def _reconnect(self) -> RedisLink:
        link = await RedisLink.dial(self._address, _SCRIPTS)
        try:
            server = await link.look_over()
            seq, results = await self._lease.resume(
                link, server, epoch=self._epoch, floor=self._journal.floor
            )
            in_doubt, self._in_doubt = self._in_doubt, []
            for commit in in_doubt:
                if commit.seq in results:
                    self._settle_commit(commit, results[commit.seq])
                else:
                    self._in_doubt.append(commit)
            lost = self._journal.after(seq)
            if lost:
                _logger.warning(
                    "Redis at %s came back without the last %d commits; they are written again",
                    self._address,
                    len(lost),
                )
            await self._write_again(link, [*lost, *self._in_doubt])
        except BaseException:
            await link.close()
            raise
        return link

    async def _write_again(self, link: RedisLink, commits: Sequence[PendingCommit]) -> None:
        for start in range(0, len(commits), MAX_BATCH):
            batch = commits[start : start + MAX_BATCH]
            replies = await link.exchange(self._commands(link, batch))
            for commit, reply in zip(batch, replies, strict=True):
                if commit.offsets is None:
                    self._in_doubt.remove(commit)
                    self._settle(link, commit, reply)
                elif isinstance(reply, Exception):
                    raise EngineUnavailable(link.refusal(reply))
                elif not _is_same(parse_result(reply, commit), commit):
                    raise Lost


def _is_same(result: Done | Conflict, commit: PendingCommit) -> bool:
    return isinstance(result, Done) and result.offsets == commit.offsets


def _fail(future: "asyncio.Future[Any]", why: str) -> None:
    if not future.done():
        future.set_exception(EngineUnavailable(why))
