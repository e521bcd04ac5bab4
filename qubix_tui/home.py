"""The files of one user on one machine: ``QUBIX_HOME`` and what lies in it.

``hub/`` (a hub's data), ``agent/``, ``console/``, ``tokens/`` (made once, never overwritten) and ``hub.json``
(the address of the local hub). Everything is readable by its owner alone.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec
import platformdirs
import psutil

from qubix_tui.protocol import tokens
from qubix_tui.protocol.tokens import Role

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class HomeError(Exception):
    """A file of QUBIX_HOME can't be used; the message says which, why, and what to do."""


class HubRecord(msgspec.Struct, frozen=True):
    """What ``hub.json`` says of the hub that runs on this machine for this user."""

    url: str
    pid: int
    started: float
    """Creation time of the process, seconds since the epoch: a pid alone may have been reused."""


def home_dir() -> Path:
    """Give ``QUBIX_HOME`` (default: the platform's user state directory), made 0700 if it is missing.

    Raises:
        HomeError: It can't be made or written.
    """
    path = Path(os.environ.get("QUBIX_HOME") or platformdirs.user_state_dir("qubix", appauthor=False))
    return private_dir(path)


def private_dir(path: Path) -> Path:
    """Make a directory 0700, with its parents, if it is missing.

    Raises:
        HomeError: It can't be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(
            f"can't make {path}: {error.strerror}; choose a place that you may write, "
            "with QUBIX_HOME (or --data, for a hub)"
        ) from None
    return path


def local_token(role: Role, *, home: Path) -> str | None:
    """Give this user's own token of a role, or None where no hub has made one yet.

    Raises:
        HomeError: The file is there but holds no token, or can't be read.
    """
    path = home / "tokens" / role.value
    try:
        return read_token(path)
    except FileNotFoundError:
        return None


def read_token(path: Path) -> str:
    """Read a token file.

    Raises:
        FileNotFoundError: There is no such file.
        HomeError: It holds no token, or can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise HomeError(f"can't read the token in {path}: {error}") from None
    if not tokens.is_token(text):
        raise HomeError(f"{path} holds no valid token (mistyped, or cut short); put a whole one there")
    return text


def ensure_local_token(role: Role, *, home: Path) -> str:
    """Give this user's own token of a role, made (0600) the first time and never overwritten.

    Raises:
        HomeError: It can't be read or made.
    """
    existing = local_token(role, home=home)
    if existing is not None:
        return existing
    directory = private_dir(home / "tokens")
    token = tokens.new_token(role)
    path = directory / role.value
    try:
        with _beside(path, f"{token}\n".encode()) as temporary:
            # A hard link, unlike a rename, does not replace what another process made meanwhile.
            os.link(temporary, path)
    except FileExistsError:
        return read_token(path)
    except OSError as error:
        raise HomeError(f"can't make {path}: {error.strerror}") from None
    return token


@contextlib.contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """Write a file of a name of its own (0600) next to ``path``; what is left of it at the end is removed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_hub_record(url: str, *, home: Path) -> None:
    """Say where the local hub listens, for the consoles and agents of the same user.

    Raises:
        HomeError: It can't be written.
    """
    record = HubRecord(url=url, pid=os.getpid(), started=psutil.Process().create_time())
    path = home / "hub.json"
    try:
        with _beside(path, msgspec.json.encode(record)) as temporary:
            temporary.replace(path)
    except OSError as error:
        raise HomeError(f"can't write {path}: {error.strerror}") from None


def remove_hub_record(*, home: Path) -> None:
    """Take back what `write_hub_record` said, if it was this process that said it."""
    record = _read_hub_record(home)
    if record is not None and record.pid == os.getpid():
        with contextlib.suppress(OSError):
            (home / "hub.json").unlink()


def running_hub(*, home: Path) -> str | None:
    """Give the address of the local hub of this user, None if its process is gone."""
    record = _read_hub_record(home)
    if record is None:
        return None
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.started) < 1
        # One that ended and whom nobody waited for has its pid still, but no longer its port.
        alive = same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return None
    return record.url if alive else None


def credentials_for(url: str, role: Role, *, home: Path) -> tuple[str, str | None]:
    """Give the address to dial and the token to show there.

    A local token goes only to the hub that ``hub.json`` names: where ``url`` means that hub, the address
    comes back exactly as recorded (``localhost`` could resolve to an address where somebody else listens).

    Args:
        url: What the user asked for.
        role: Which of the local tokens is wanted.
        home: QUBIX_HOME.
    """
    local = running_hub(home=home)
    if local is None or not _same_hub(url, local):
        return url, None
    return local, local_token(role, home=home)


def _same_hub(asked: str, local: str) -> bool:
    try:
        asked_parts, local_parts = urlsplit(asked), urlsplit(local)
        asked_port, local_port = _port(asked_parts), _port(local_parts)
    except ValueError:
        return False
    return (
        asked_parts.scheme == local_parts.scheme
        and asked_parts.hostname in LOOPBACK_NAMES
        and local_parts.hostname in LOOPBACK_NAMES
        and asked_port == local_port
    )


def _port(parts: SplitResult) -> int:
    """The port that an address means, by the WebSocket standard."""
    return parts.port or (443 if parts.scheme == "wss" else 80)


def _read_hub_record(home: Path) -> HubRecord | None:
    try:
        return msgspec.json.decode((home / "hub.json").read_bytes(), type=HubRecord)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
