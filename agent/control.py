"""How an owner speaks to the running agent: a Unix socket (0600) in its state directory.

One command a connection: a line of JSON each way. The kernel says who is at the other end: only the agent's
own user, and root, are heard. A hub has no part in it.
"""

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.state import running_agent
from agent.status import Status
from qubix_tui.protocol.types import Sentence

SOCKET_NAME: Final = "control.sock"

ANSWER_SECONDS: Final = 5.0
"""How long an agent may take to answer; one that takes longer hangs."""

MAX_LINE_BYTES: Final = 256 * 1024

_LONGEST_ADDRESS: Final = 100
"""Bytes that any kernel takes as the address of a Unix socket (Linux 107, macOS 103)."""

_CREDENTIALS: Final = struct.Struct("3i")
"""Linux' ``struct ucred``: process, user, group."""


class ControlError(Exception):
    """There is no speaking to the agent; the message says why and what to do."""


class Command(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What an owner wants."""

    do: Literal["status", "pause", "drain", "resume"]
    reason: Sentence | None = None
    """Why, for those who look at the hub."""


class Reply(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What the agent answers: how it is now, or why it does not do it."""

    status: Status | None = None
    warning: str | None = None
    """What is not as it should be, though it was done."""
    error: str | None = None


Answer = Callable[[Command], Awaitable[Reply]]


class ControlServer:
    """The agent's end.

    Args:
        directory: The state directory, held by this agent.
        answer: Gives the reply to a command.
    """

    def __init__(self, directory: Path, answer: Answer) -> None:
        self._path = directory / SOCKET_NAME
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. What a killed agent left there is taken away.

        Raises:
            ControlError: That can't be done.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            with _address(self._path) as address:
                listener.bind(address)
            # Nobody can connect before it listens.
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE_BYTES)
        except OSError as error:
            listener.close()
            raise ControlError(
                f"can't listen for its owner at {self._path}: {error.strerror or error}"
            ) from None

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                writer.write(msgspec.json.encode(await self._reply(reader, writer)) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError):
            # Whoever asked has gone, or does not read.
            return
        finally:
            writer.close()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Reply:
        if not may_command(writer.get_extra_info("socket")):
            return Reply(error="only the agent's own user and root may command it")
        try:
            command = msgspec.json.decode(await reader.readline(), type=Command)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
            return Reply(error="that is no command of this version of qubix-agent")
        return await self._answer(command)


def may_command(connection: socket.socket) -> bool:
    """Whether the process at the other end is the agent's own user's, or root's."""
    if sys.platform != "linux":
        # The mode of the socket decides there.
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return user in {0, os.geteuid()}


def ask(directory: Path, command: Command, patience: float = ANSWER_SECONDS) -> Reply:
    """Have the running agent do something.

    Args:
        directory: Its state directory.
        command: What.
        patience: Seconds it may take.

    Raises:
        ControlError: None runs there, it does not answer, or it is another user's.
    """
    path = directory / SOCKET_NAME
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience)
            with _address(path) as address:
                connection.connect(address)
            connection.sendall(msgspec.json.encode(command) + b"\n")
            line = _read_line(connection)
        return msgspec.json.decode(line, type=Reply)
    except (FileNotFoundError, ConnectionRefusedError):
        raise ControlError(_why_nobody_listens(directory)) from None
    except PermissionError:
        raise ControlError(
            f"{path} is another user's; only the agent's own user and root may command it"
        ) from None
    except TimeoutError:
        who = running_agent(directory) or "an agent"
        raise ControlError(
            f"{who} does not answer; it hangs: end it (kill -9), and no job begins here any more"
        ) from None
    except OSError as error:
        raise ControlError(f"can't speak to the agent at {path}: {error.strerror or error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ControlError(
            "the agent that runs is of another version than this command; restart it"
        ) from None


def _read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
        chunk = connection.recv(65536)
        if not chunk:
            break
        line += chunk
    return line


def _why_nobody_listens(directory: Path) -> str:
    who = running_agent(directory)
    if who is None:
        return f"no agent runs with {directory}; start it (qubix-agent), or say which QUBIX_HOME it has"
    return f"{who} takes no commands: {directory / SOCKET_NAME} is not there, or not its own; restart it"


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give an address for a socket file, however long its path is.

    Raises:
        OSError: There is none.
    """
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    if sys.platform != "linux":
        raise OSError(f"the path is too long for a socket ({_LONGEST_ADDRESS} bytes at most)")
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
