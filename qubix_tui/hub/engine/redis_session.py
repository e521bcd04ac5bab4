"""A hub's hold on a Redis: it joins, and is there again after each break.

Two connections make a session: one on which the hub asks, one on which it reads the log. They begin and end
together: a hub that can't hear of commits makes none.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine, Sequence
from typing import Final

from qubix_tui.hub.engine import redis_node_scripts as node_scripts
from qubix_tui.hub.engine import redis_scripts as scripts
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.engine.redis_address import RedisAddress
from qubix_tui.hub.engine.redis_cluster import RedisCluster
from qubix_tui.hub.engine.redis_commits import EMPTIED, Applied, Lost, Parted
from qubix_tui.hub.engine.redis_feed import Feed
from qubix_tui.hub.engine.redis_join import POLL_SECONDS, join, resume
from qubix_tui.hub.engine.redis_link import ANSWER_SECONDS, RedisLink, Server
from qubix_tui.hub.engine.redis_log import Entry
from qubix_tui.hub.engine.redis_pipe import KINDS, NOT_OPEN, Bounds, RedisPipe
from qubix_tui.hub.engine.telemetry import EngineTelemetry

RETRY_SECONDS: Final = 0.2

LOAD_ROWS: Final = 500
"""Offsets that are read, and commits that are restored, in one step."""

RESTORE_MS: Final = 300
"""How long commits wait for the next one that is restored."""

_FAILED: Final = "answers what the hub does not expect: restart it, and report what its log says"

_logger = logging.getLogger("qubix.hub.engine")


class RedisSession:
    """Keeps a hub at work on a Redis.

    Args:
        address: Where it is.
        prefix: What all keys of the store begin with.
        bounds: How much history is kept.
        applied: How far the hub has applied the log.
        cluster: The hub, and the others.
        pipe: What it asks.
        feed: What it hears.
        telemetry: Where it is noted how often it came back.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        prefix: str,
        bounds: Bounds,
        applied: Applied,
        cluster: RedisCluster,
        pipe: RedisPipe,
        feed: Feed,
        telemetry: EngineTelemetry,
    ) -> None:
        self.epoch = ""
        self._address = address
        self._prefix = prefix
        self._bounds = bounds
        self._applied = applied
        self._cluster = cluster
        self._pipe = pipe
        self._feed = feed
        self._telemetry = telemetry
        self._worker: asyncio.Task[None] | None = None
        self._inbox: asyncio.Task[None] | None = None
        self._links: list[RedisLink] = []
        self._lost = asyncio.Event()
        self._why_lost = ""

    async def open(self) -> None:
        """Connect, join, and find out what there is.

        Raises:
            EngineUnavailable: It can't be reached or used; the message says what to do.
        """
        inbox = await RedisLink.dial(self._address, ())
        try:
            await self._cluster.open_inbox(inbox)
            link, feed = await self._join()
        except BaseException as error:
            await inbox.close()
            await self._close_links()
            self._pipe.trouble = NOT_OPEN
            if isinstance(error, Lost | Parted):
                raise EngineUnavailable(f"Redis at {self._address} changed meanwhile; try again") from error
            raise
        self._pipe.trouble = None
        self._worker = asyncio.create_task(self._work(link, feed), name="qubix-store")
        self._inbox = asyncio.create_task(self._receive(inbox), name="qubix-inbox")

    async def _join(self) -> tuple[RedisLink, RedisLink]:
        link = await self._dial(*KINDS)
        server = await link.look_over()
        joined = await join(link, server, self._cluster, self._applied)
        self.epoch = joined.epoch
        self._applied.begin(joined.seq, joined.mark, joined.forgotten)
        self._cluster.begin(joined.term)
        await self._await_others(link, server, joined.wait)
        await self._read_offsets(link)
        feed = await self._dial()
        await self._feed.catch_up(feed, self._applied.catch_up)
        await self._renew(link)
        return link, feed

    async def close(self) -> None:
        """Finish what was asked for, and let go of the store. Again is no error."""
        worker, self._worker = self._worker, None
        inbox, self._inbox = self._inbox, None
        if worker is None or inbox is None:
            return
        if self._pipe.trouble is None:
            with contextlib.suppress(EngineUnavailable, TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._finish()
        self._pipe.break_off(NOT_OPEN)
        for task in (worker, inbox):
            task.cancel()
        await asyncio.gather(worker, inbox, return_exceptions=True)
        self._applied.give_up("the hub ended before Redis had told whether this was done")
        await self._close_links()

    async def _finish(self) -> None:
        await self._cluster.leave()
        await self._pipe.ask(None, "DEL", f"{self._prefix}results:{self._cluster.id}")
        if pending := [commit.future for commit in self._applied.pending.values()]:
            await asyncio.wait(pending)

    async def lost(self) -> str:
        """Wait until the store is lost to this hub for good; give why."""
        await self._lost.wait()
        return self._why_lost

    async def _dial(self, *of_scripts: str) -> RedisLink:
        link = await RedisLink.dial(self._address, of_scripts)
        self._links.append(link)
        return link

    async def _close_links(self) -> None:
        links, self._links = self._links, []
        for link in links:
            await link.close()

    async def _read_offsets(self, link: RedisLink) -> None:
        cursor: bytes | int = 0
        while cursor != b"0":
            words = f"{self._prefix}offsets", cursor, "COUNT", LOAD_ROWS
            cursor, pairs = await link.ask("HSCAN", *words)
            for channel, offset in zip(pairs[::2], pairs[1::2], strict=True):
                self._applied.offsets[channel.decode()] = int(offset)

    async def _renew(self, link: RedisLink) -> None:
        sent = asyncio.get_running_loop().time()
        renewed, *_ = await link.exchange(self._cluster.renewal(link))
        self._cluster.renewed(renewed, sent, asyncio.get_running_loop().time())

    async def _await_others(self, link: RedisLink, server: Server, seconds: float) -> None:
        """Wait while hubs give back what Redis has lost."""
        while seconds > 0:
            self._pipe.trouble = (
                f"Redis at {self._address} is back, and waits for what other hubs have: try again"
            )
            await asyncio.sleep(min(seconds, POLL_SECONDS))
            _, seconds = await resume(link, server, self._cluster, self._applied)

    # At work, away, and back

    async def _work(self, link: RedisLink, feed: RedisLink) -> None:
        try:
            while True:
                try:
                    await _first_failure(self._pipe.serve(link), self._feed.follow(feed))
                except EngineUnavailable as error:
                    _logger.error("%s", error)
                    self._pipe.break_off(str(error))
                await self._close_links()
                link, feed = await self._come_back()
        except Lost as error:
            why = str(error)
        except Parted:
            await self._break_history()
            why = EMPTIED
        except Exception:
            _logger.exception("the talk with Redis has failed")
            why = _FAILED
        self._why_lost = f"Redis at {self._address} {why}"
        _logger.critical("%s", self._why_lost)
        self._pipe.break_off(self._why_lost)
        self._applied.give_up(self._why_lost)
        await self._close_links()
        self._lost.set()

    async def _come_back(self) -> tuple[RedisLink, RedisLink]:
        while True:
            try:
                links = await self._reconnect()
            except EngineUnavailable as error:
                await self._close_links()
                if str(error) != self._pipe.trouble:
                    _logger.error("%s", error)
                self._pipe.trouble = str(error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._pipe.trouble = None
                self._telemetry.reconnects += 1
                _logger.warning("Redis at %s is back", self._address)
                return links

    async def _reconnect(self) -> tuple[RedisLink, RedisLink]:
        link = await self._dial(*KINDS)
        server = await link.look_over()
        seq, wait = await resume(link, server, self._cluster, self._applied)
        if missing := self._applied.journal.after(seq):
            await self._restore(link, missing, RESTORE_MS if wait else 0)
        await self._await_others(link, server, wait)
        feed = await self._dial()
        await self._feed.catch_up(feed, self._applied.apply)
        await self._renew(link)
        await self._pipe.send_again(link)
        return link, feed

    async def _restore(self, link: RedisLink, entries: Sequence[Entry], hold: int) -> None:
        """Give Redis what it has lost, as far as nobody else has yet."""
        _logger.warning(
            "Redis at %s came back without the last %d commits; they are written again",
            self._address,
            len(entries),
        )
        kept = *self._bounds.history, hold
        for start in range(0, len(entries), LOAD_ROWS):
            calls = [
                link.call(scripts.RESTORE, self._prefix, self._cluster.term, entry.seq, entry.raw, *kept)
                for entry in entries[start : start + LOAD_ROWS]
            ]
            for reply in await link.exchange(calls):
                if isinstance(reply, Exception):
                    raise EngineUnavailable(link.refusal(reply))
                if reply == b"lost":
                    raise Lost(EMPTIED)
                if reply == b"other":
                    raise Parted

    async def _break_history(self) -> None:
        """Have every hub start anew, for they do not all know the same."""
        with contextlib.suppress(EngineUnavailable):
            link = await self._dial(node_scripts.BREAK)
            words = self._prefix, self._cluster.term, secrets.token_hex(8)
            await link.ask(*link.call(node_scripts.BREAK, *words))

    # The inbox

    async def _receive(self, link: RedisLink) -> None:
        """Pass on what other hubs send; what they send while this is away is lost."""
        try:
            while True:
                with contextlib.suppress(EngineUnavailable):
                    await self._cluster.read_inbox(link)
                await link.close()
                link = await self._reopen_inbox()
        finally:
            await link.close()

    async def _reopen_inbox(self) -> RedisLink:
        while True:
            with contextlib.suppress(EngineUnavailable):
                link = await RedisLink.dial(self._address, ())
                try:
                    await self._cluster.open_inbox(link)
                except BaseException:
                    await link.close()
                    raise
                return link
            await asyncio.sleep(RETRY_SECONDS)


async def _first_failure(*coroutines: Coroutine[None, None, None]) -> None:
    """Run some that never end; when one fails end all, and raise what weighs most."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [error for error in ended if isinstance(error, Exception)]
    raise next((error for error in failures if not isinstance(error, EngineUnavailable)), failures[0])
