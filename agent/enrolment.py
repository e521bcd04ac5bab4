"""How an agent comes by a token of its own: it trades a code, once, and keeps what it got."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final, Self

import msgspec

from agent.state import StateError
from agent.transport import SYSTEM_TRUST, Transport
from qubix_tui import __version__
from qubix_tui.client import BadUrl, ClientError, Connection, ConnectionState, Refused, RetryPolicy, check_url
from qubix_tui.protocol.answers import Enrolled
from qubix_tui.protocol.requests import Enroll
from qubix_tui.protocol.tokens import is_token

OPEN_SECONDS: Final = 10.0
"""How long a hub may take to greet."""

_FILE: Final = "enrollment.json"


class EnrollFailed(Exception):
    """There is no token; the message says why and what to do."""


class Kept(msgspec.Struct, frozen=True, rename="camel"):
    """What an agent got when it enrolled. The token is for this hub alone."""

    hub: str
    provider_id: str
    token: str

    def __repr__(self) -> str:
        """Without the token: it must never reach a log."""
        return f"Kept(hub={self.hub!r}, provider_id={self.provider_id!r}, token='…')"

    def is_for(self, url: str) -> bool:
        """Whether an address means the hub that it is for."""
        with contextlib.suppress(BadUrl):
            asked, own = check_url(url), check_url(self.hub)
            return (asked.host, asked.port, asked.secure) == (own.host, own.port, own.secure)
        return False


def kept(directory: Path) -> Kept | None:
    """Give what this agent got when it enrolled, None where it never did.

    Args:
        directory: The agent's state directory.

    Raises:
        StateError: The file is there, but can't be read or is none of ours.
    """
    path = directory / _FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"can't read {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = None
    if found is None or not is_token(found.token):
        raise StateError(f"{path} holds no enrollment; remove it and enroll again (qubix-agent enroll)")
    return found


async def enroll(
    url: str, code: str, worker_id: str, directory: Path, transport: Transport = SYSTEM_TRUST
) -> Kept:
    """Trade a code for a token, and keep it (0600).

    Args:
        url: The hub.
        code: What its operator handed out.
        worker_id: This agent's identity.
        directory: The agent's state directory.
        transport: How to reach it.

    Raises:
        agent.transport.TransportError: The authority to trust can't be read.
        EnrollFailed: The hub can't be reached, or refuses.
        StateError: The token can't be kept.
    """
    with _Draft(directory) as draft:
        enrolled = await _trade(url, Enroll(code=code, worker_id=worker_id), transport)
        result = Kept(hub=url, provider_id=enrolled.provider_id, token=enrolled.token)
        draft.keep(result)
    return result


class _Draft:
    """The file that the token will be in, made before the code is spent; gone where nothing was kept."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._draft = directory / f".{_FILE}.new"

    def __enter__(self) -> Self:
        try:
            self._draft.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self._draft, flags, 0o600)
        except OSError as error:
            raise StateError(f"can't write to {self._draft.parent}: {error.strerror}") from None
        return self

    def keep(self, result: Kept) -> None:
        try:
            os.write(self._descriptor, msgspec.json.encode(result))
            # Else a power cut could leave an empty file under the right name.
            os.fsync(self._descriptor)
            self._draft.replace(self._path)
        except OSError as error:
            raise StateError(
                f"the hub gave a token for {result.provider_id}, but {self._path} can't be written "
                f"({error.strerror}); have the token revoked, and enroll with a new code"
            ) from None

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._draft.unlink(missing_ok=True)


async def _trade(url: str, request: Enroll, transport: Transport) -> Enrolled:
    connection = Connection(
        url,
        retry=RetryPolicy(attempts=0),
        ssl_context=transport.ssl_context(),
        proxy=transport.proxy,
        user_agent=f"qubix-agent/{__version__}",
    )
    settled = asyncio.Event()

    def settle(state: ConnectionState) -> None:
        if state is not ConnectionState.CONNECTING:
            settled.set()

    connection.on_state(settle)
    try:
        await connection.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_SECONDS):
                await settled.wait()
        await connection.wait_open(timeout=0)
        reply = await connection.request("enroll", request)
    except Refused as error:
        raise EnrollFailed(f"the hub refuses: {error.message}") from None
    except ClientError as error:
        raise EnrollFailed(str(error)) from None
    finally:
        await connection.close()
    enrolled: Enrolled = reply.data
    return enrolled
