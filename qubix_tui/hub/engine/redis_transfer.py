"""A Redis as the source, or the target, of a move; see `qubix_tui.hub.engine.transfer`."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Self

from qubix_tui.hub.engine import redis_node_scripts as node_scripts
from qubix_tui.hub.engine import redis_scripts as scripts
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.engine.cluster import LEASE_SECONDS
from qubix_tui.hub.engine.redis_address import RedisAddress
from qubix_tui.hub.engine.redis_join import POLL_SECONDS, LeaseWatch, shown
from qubix_tui.hub.engine.redis_link import RedisLink, Word
from qubix_tui.hub.engine.transfer import BATCH, Channel, Event, Head, MoveFailed, Piece, Row

_LEFT_OVER: Final = (scripts.MOVING, scripts.MOVED)


class RedisStore:
    """A store on a Redis that is read or written, while no hub uses it.

    Args:
        address: Where it is.
        prefix: What all its keys begin with.
        max_age: Seconds that an event is kept there.
    """

    def __init__(self, address: RedisAddress, *, prefix: str, max_age: float) -> None:
        self._address = address
        self._prefix = prefix
        self._max_age_ms = max(1_000, round(max_age * 1000))
        self._link: RedisLink | None = None
        self._run = ""
        self._channels = 0
        self._words = f"qubix hub move, process {os.getpid()} on {socket.gethostname()}"

    async def __aenter__(self) -> Self:
        """Connect, and hold the store.

        Raises:
            EngineUnavailable: It can't be reached or used.
            MoveFailed: A hub has it.
        """
        self._link = await RedisLink.dial(self._address, [scripts.LOAD, node_scripts.HOLD])
        try:
            self._run = (await self._link.look_over()).run
            await self._take(self._link)
        except BaseException:
            await self._link.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        link, lease = self._linked(), self._key("lease")
        with contextlib.suppress(EngineUnavailable):
            if await link.ask("GET", lease) == self._words.encode():
                await link.ask("DEL", lease)
        await link.close()

    async def _take(self, link: RedisLink) -> None:
        watch = LeaseWatch()
        words = self._prefix, self._words, round(LEASE_SECONDS * 1000), secrets.token_hex(8)
        while True:
            word, *rest = await link.ask(*link.call(node_scripts.HOLD, *words))
            if word == b"taken":
                return
            holder, left = rest
            if watch.is_renewed(left):
                who = "a hub" if word == b"alive" else "another move"
                raise MoveFailed(
                    f"{who} ({shown(holder)}) has the store on Redis at {self._address}: end it first"
                )
            await asyncio.sleep(POLL_SECONDS)

    async def head(self) -> Head:
        """Give what there is once; see `Source.head`.

        Raises:
            MoveFailed: There is no store, or none that can be moved.
        """
        form, epoch, forgotten = await self._ask("HMGET", self._key("meta"), "form", "epoch", "forgotten")
        if form != scripts.FORM:
            raise MoveFailed(
                f"there is no hub's state on Redis at {self._address}"
                if form is None or form in _LEFT_OVER
                else f"what Redis at {self._address} holds was written by another version of the hub: move "
                "it with that one"
            )
        return Head(epoch.decode(), int(forgotten))

    async def pieces(self) -> AsyncIterator[Sequence[Piece]]:
        """Give everything; see `Source.pieces`."""
        for table in await self._tables():
            start: bytes = b"-"
            while True:
                link = self._linked()
                keys, values = await self._ask(
                    *link.call(scripts.LOAD, self._prefix, table, start, "+", BATCH)
                )
                yield [Row(table, key.decode(), value) for key, value in zip(keys, values, strict=True)]
                if len(keys) < BATCH:
                    break
                start = b"(" + keys[-1]
        names: list[bytes] = []
        while found := await self._ask("ZRANGE", self._key("used"), len(names), len(names) + BATCH - 1):
            offsets = await self._ask("HMGET", self._key("offsets"), *found)
            yield [Channel(name.decode(), int(offset)) for name, offset in zip(found, offsets, strict=True)]
            names += found
        for name in names:
            async for events in self._events(name):
                yield events

    async def begin(self) -> None:
        """Mark it, and drop what an earlier move left here; see `Target.begin`.

        Raises:
            MoveFailed: A hub's state is there.
        """
        form = await self._ask("HGET", self._key("meta"), "form")
        if form is not None and form not in _LEFT_OVER:
            raise MoveFailed(
                f"there is a hub's state on Redis at {self._address}, which is not written over: give "
                "another database (redis://HOST/1)"
            )
        await self._ask("HSET", self._key("meta"), "form", scripts.MOVING)
        spared = {self._key("meta").encode(), self._key("lease").encode()}
        async for keys in self._scan(""):
            if doomed := [key for key in keys if key not in spared]:
                await self._ask("UNLINK", *doomed)

    async def write(self, pieces: Sequence[Piece]) -> None:
        """Take some of it; see `Target.write`."""
        commands: list[Sequence[Word]] = []
        for piece in pieces:
            match piece:
                case Row(table=table, key=key, value=value):
                    commands.append(("HSET", self._key(f"table:{table}"), key, value))
                    commands.append(("ZADD", self._key(f"index:{table}"), 0, key))
                case Channel(name=name, offset=offset):
                    # Before all that the first hub here will give.
                    self._channels += 1
                    commands.append(("HSET", self._key("offsets"), name, offset))
                    commands.append(("ZADD", self._key("used"), self._channels - 2**52, name))
                case Event(channel=channel, offset=offset, type=kind, data=data, committed_at_ms=at):
                    stream = self._key(f"events:{channel}")
                    commands.append(("XADD", stream, f"{offset}-0", "t", kind, "d", data, "a", at))
                    commands.append(("PEXPIRE", stream, self._max_age_ms))
        for start in range(0, len(commands), BATCH):
            await self._exchange(commands[start : start + BATCH])

    async def finish(self, head: Head) -> None:
        """Be a store from here on; see `Target.finish`."""
        words = "form", scripts.FORM, "epoch", head.epoch, "run", self._run, "forgotten", head.forgotten
        empty = "term", secrets.token_hex(8), "seq", 0, "last", "", "first", 1, "bytes", 0
        await self._ask("HSET", self._key("meta"), *words, *empty)

    async def leave(self) -> None:
        """Say that it was moved."""
        await self._ask("HSET", self._key("meta"), "form", scripts.MOVED)

    async def _tables(self) -> list[str]:
        start = self._key("table:")
        tables = {key.decode().removeprefix(start) async for keys in self._scan("table:") for key in keys}
        return sorted(tables)

    async def _scan(self, start: str) -> AsyncIterator[list[bytes]]:
        """Give the keys of the store that begin so, some of them more than once."""
        pattern = "".join(f"\\{letter}" if letter in "*?[]^-\\" else letter for letter in self._key(start))
        cursor: bytes = b""
        while cursor != b"0":
            cursor, keys = await self._ask("SCAN", cursor or 0, "MATCH", f"{pattern}*", "COUNT", BATCH)
            yield keys

    async def _events(self, channel: bytes) -> AsyncIterator[Sequence[Event]]:
        start: bytes = b"-"
        stream = self._key("events:").encode() + channel
        while True:
            entries = await self._ask("XRANGE", stream, start, "+", "COUNT", BATCH)
            yield [
                Event(channel.decode(), int(entry.partition(b"-")[0]), kind.decode(), data, int(at))
                for entry, (_, kind, _, data, _, at) in entries
            ]
            if len(entries) < BATCH:
                return
            start = b"(" + entries[-1][0]

    async def _ask(self, *words: Word) -> Any:  # noqa: ANN401 - whatever Redis replies
        return (await self._exchange([words]))[0]

    async def _exchange(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        """Send commands, and hold on to the store meanwhile.

        Raises:
            MoveFailed: It was held up, and a hub may have come.
        """
        link, lease = self._linked(), self._key("lease")
        held = ("GET", lease), ("PEXPIRE", lease, round(LEASE_SECONDS * 1000))
        *replies, holder, _ = await link.exchange([*commands, *held])
        for reply in replies:
            if isinstance(reply, Exception):
                raise EngineUnavailable(link.refusal(reply))
        if holder != self._words.encode():
            raise MoveFailed("the move was held up for too long, and nothing was taken away; try again")
        return replies

    def _linked(self) -> RedisLink:
        assert self._link is not None
        return self._link

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"
