"""One connection to a Redis: commands in, replies out, in order. It is over with its first failure.

The client library is used below its retries and its pool: what is sent twice, or over another connection, has
to be decided by who knows what it was.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Self

import msgspec
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.engine.redis_address import RedisAddress
from qubix_tui.protocol.checks import printable

CONNECT_SECONDS: Final = 1.0
"""How long a connection may take to come about."""

ANSWER_SECONDS: Final = 2.0
"""How long Redis may take to answer before the connection is given up."""

STALL_SECONDS: Final = 0.5
"""So much later than it was to be woken up a process has stood still."""

OLDEST_VERSION: Final = (7, 0)

Word = bytes | str | int

_ADVICE: Final = {
    "OOM": "is full: raise its maxmemory",
    "MISCONF": "can't write to its disk: see its log, and free some space there",
    "READONLY": "is a replica: give the hub the address of the primary",
    "NOREPLICAS": "has too few replicas to take a write: see its min-replicas-to-write",
    "NOPERM": "does not let this user do that: see the user's rules in docs/scaling.md",
}
"""What to say of a refusal, by the first word of Redis's own."""


class LinkDown(EngineUnavailable):
    """The connection is gone; of what was sent over it last nobody knows whether it was done."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be known of a Redis.

    Attributes:
        run: A name of its own for each time that it is started.
        keeps: What it has acknowledged is there again when it was restarted. Not so for one that may be a
            promoted replica, nor for one that writes its file only once a second.
    """

    run: str
    keeps: bool


class RedisLink:
    """A connection; made by `dial`."""

    def __init__(self, connection: AbstractConnection, address: RedisAddress) -> None:
        self._connection = connection
        self.address = address
        self._scripts: dict[str, str] = {}

    @classmethod
    async def dial(cls, address: RedisAddress, scripts: Sequence[str]) -> Self:
        """Connect, and have Redis know some scripts.

        Raises:
            LinkDown: It can't be reached, or does not let this user in; the message says what to do.
            EngineUnavailable: It refuses the scripts.
        """
        link = cls(_connection(address), address)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await link._connection.connect()
            await link._introduce(scripts)
        except BaseException as error:
            await link.close()
            if isinstance(error, TimeoutError | OSError | RedisError):
                raise LinkDown(link._explain(error)) from error
            raise
        return link

    async def _introduce(self, scripts: Sequence[str]) -> None:
        names = await self.exchange([("SCRIPT LOAD", script) for script in scripts])
        for script, name in zip(scripts, names, strict=True):
            if isinstance(name, Exception):
                raise EngineUnavailable(self.refusal(name))
            self._scripts[script] = name.decode()

    async def close(self) -> None:
        """Let go of it. Again is no error."""
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    def call(self, script: str, *arguments: Word) -> tuple[Word, ...]:
        """Give the command that runs a script that was given to `dial`."""
        return ("EVALSHA", self._scripts[script], 0, *arguments)

    async def ask(self, *words: Word, patience: float = 0.0) -> Any:  # noqa: ANN401 - whatever Redis replies
        """Send one command, which may take some seconds longer than others.

        Raises:
            LinkDown: The connection is gone.
            EngineUnavailable: Redis refuses it.
        """
        (reply,) = await self.exchange([words], patience)
        if isinstance(reply, Exception):
            raise EngineUnavailable(self.refusal(reply))
        return reply

    async def exchange(self, commands: Sequence[Sequence[Word]], patience: float = 0.0) -> list[Any]:
        """Send commands in one go, and give their replies in order: what Redis refuses is an exception there.

        Raises:
            LinkDown: The connection is gone.
        """
        connection = self._connection
        if not connection.is_connected:
            raise LinkDown(f"the connection to Redis at {self.address} is gone")
        try:
            async with _patience(ANSWER_SECONDS + patience):
                await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                return [await self._reply() for _ in commands]
        except (TimeoutError, OSError, RedisError) as error:
            await self.close()
            raise LinkDown(self._explain(error)) from error

    async def listen(self, patience: float) -> Any:  # noqa: ANN401
        """Give the next that Redis sends unasked, within some seconds.

        Raises:
            LinkDown: The connection is gone, or nothing came.
        """
        try:
            async with _patience(patience):
                return await self._connection.read_response()
        except (TimeoutError, OSError, RedisError) as error:
            await self.close()
            raise LinkDown(self._explain(error)) from error

    async def _reply(self) -> Any:  # noqa: ANN401
        try:
            return await self._connection.read_response()
        except (NoScriptError, ReadOnlyError):
            # Its scripts were taken away, or it is no primary any more: a new connection will tell.
            raise
        except ResponseError as error:
            return error

    async def look_over(self) -> Server:
        """Check the version and the settings that a hub needs.

        Raises:
            EngineUnavailable: One is not as it has to be; the message says how to set it.
        """
        info = _parse_info(await self.ask("INFO"))
        where = f"Redis at {self.address}"
        version = info.get("valkey_version") or info.get("redis_version", "0")
        if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST_VERSION:
            raise EngineUnavailable(f"{where} is version {version}; a hub needs 7.0 or newer, or any Valkey")
        if info.get("cluster_enabled") == "1":
            raise EngineUnavailable(
                f"{where} is a Cluster, over which one commit can't be one step: give the hub a single "
                "primary"
            )
        if info.get("role") != "master":
            raise EngineUnavailable(f"{where} {_ADVICE['READONLY']}")
        if info.get("aof_enabled") != "1":
            raise EngineUnavailable(
                f"{where} would forget what it acknowledged: set appendonly yes, in its file and by CONFIG "
                "SET"
            )
        if info.get("maxmemory_policy") != "noeviction":
            raise EngineUnavailable(
                f"{where} would throw away what it was given to keep when it is full "
                f"({info.get('maxmemory_policy')}): set maxmemory-policy noeviction"
            )
        promoted = info.get("master_replid2", "").strip("0") != ""
        return Server(run=info.get("run_id", ""), keeps=not promoted and await self._syncs_always())

    async def _syncs_always(self) -> bool:
        (reply,) = await self.exchange([("CONFIG GET", "appendfsync")])
        # A hosted Redis does not let anybody ask; the careful answer is no.
        return isinstance(reply, list) and reply[1:] == [b"always"]

    def refusal(self, error: Exception) -> str:
        """Say why Redis refused something, and what to do."""
        # The library takes the first word off where it knows the error.
        word = getattr(error, "status_code", None) or str(error).partition(" ")[0]
        advice = _ADVICE.get(word, "refuses what it is asked")
        # Of a full one Redis's own words tell no more than the name of a script.
        detail = "" if word == "OOM" else f" ({printable(str(error), 200)})"
        return f"Redis at {self.address} {advice}{detail}"

    def _explain(self, error: BaseException) -> str:
        where = f"Redis at {self.address}"
        # The library says that it could not connect, and why as the cause.
        error = error.__cause__ if isinstance(error.__cause__, RedisError) else error
        if isinstance(error, AuthenticationError | AuthorizationError):
            return (
                f"{where} does not let this hub in: see its user and password, in the address and in "
                f"storage.engine_password_file ({printable(str(error), 200)})"
            )
        if isinstance(error, BusyLoadingError):
            return f"{where} is still reading its file; it answers when it is through"
        if isinstance(error, TimeoutError):
            tls = ", whether it speaks TLS there" if self.address.scheme == "rediss" else ""
            return f"{where} does not answer; see whether it runs{tls}, and what it is busy with"
        if isinstance(error, ResponseError) and "DB index" in str(error):
            return f"{where} has no database of that number: take a smaller one, or see its setting databases"
        causes = (error, error.__cause__, error.__context__)
        reason = next((_reason(one) for one in causes if isinstance(one, OSError)), str(error))
        return f"{where} can't be reached: see whether it runs there ({printable(reason, 200)})"


def _reason(error: OSError) -> str:
    """Say in the system's words what failed: asyncio puts its own in their place."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return error.strerror or str(error)


@contextlib.asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    """Wait so long for what is done in it, not counting when this process itself stood still.

    Raises:
        TimeoutError: It was not done.
    """
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    async with asyncio.timeout(None) as deadline:

        def start() -> None:
            due = loop.time() + seconds
            timers[:] = [loop.call_at(due, look, due)]

        def look(due: float) -> None:
            now = loop.time()
            if now - due > STALL_SECONDS:
                # What came meanwhile is still to be read.
                start()
            else:
                deadline.reschedule(now)

        start()
        try:
            yield
        finally:
            timers[0].cancel()


def _connection(address: RedisAddress) -> AbstractConnection:
    common: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "client_name": "qubix-hub",
        "protocol": 2,
        # `RedisLink` has deadlines of its own, for all that is under way together.
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_SECONDS,
    }
    if address.scheme == "unix":
        return UnixDomainSocketConnection(path=address.host, **common)
    common |= {"host": address.host, "port": address.port, "db": address.database}
    return SSLConnection(**common) if address.scheme == "rediss" else Connection(**common)


def _parse_info(text: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value.strip() for name, _, value in lines if value}
