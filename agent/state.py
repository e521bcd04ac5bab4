"""The agent's state directory: who this provider is, and that only one agent says so."""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from qubix_tui import home
from qubix_tui.protocol.channels import is_id

_WORKER_ID: Final = "worker-id"


class StateError(Exception):
    """The state directory can't be used; the message says why and what to do."""


class AlreadyRunning(StateError):
    """Another agent holds the state directory."""


@contextmanager
def locked(directory: Path) -> Iterator[Path]:
    """Hold the state directory (made if missing) for as long as the block runs.

    The lock is the kernel's: it is gone with the process, however that ends.

    Raises:
        AlreadyRunning: Another agent holds it; the message says which process.
        StateError: It can't be made or written.
        qubix_tui.home.HomeError: It can't be made.
    """
    home.private_dir(directory)
    path = directory / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"can't write to {directory}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise StateError(f"can't lock {path}: {error.strerror}") from None
            raise AlreadyRunning(_who_runs(descriptor, directory)) from None
        _write_pid(descriptor)
        yield directory
    finally:
        os.close(descriptor)


def running_agent(directory: Path) -> str | None:
    """Say which agent holds the state directory, in words; None where none does."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def _holder(descriptor: int) -> str:
    pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return f"the agent with process id {pid}" if pid.isdecimal() else "another agent"


def _who_runs(descriptor: int, directory: Path) -> str:
    return (
        f"{_holder(descriptor)} already uses {directory}; stop it, or give this one a QUBIX_HOME of its own"
    )


def _write_pid(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        # A full disk: the lock holds all the same, it just can't say who has it.
        return


@contextmanager
def identity(directory: Path) -> Iterator[tuple[Path, str]]:
    """Give the state directory and this provider's identity, also where an agent runs that has one already.

    Raises:
        AlreadyRunning: An agent has just been started, and has yet to make its identity.
        StateError: The directory can't be used, or holds no identity where there should be one.
        qubix_tui.home.HomeError: It can't be made.
    """
    try:
        with locked(directory):
            yield directory, worker_id(directory)
    except AlreadyRunning:
        if not (directory / _WORKER_ID).exists():
            raise
        yield directory, worker_id(directory)


def worker_id(directory: Path) -> str:
    """Give this provider's identity, made at random (0600) the first time and never changed.

    Args:
        directory: The state directory, locked by the caller.

    Raises:
        StateError: It can't be read or made, or holds no id.
    """
    path = directory / _WORKER_ID
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return _make_worker_id(path)
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"can't read {path}: {error}") from None
    if not is_id(text):
        raise StateError(
            f"{path} holds no worker id; put the old one back, or remove the file to become a new provider"
        )
    return text


def _make_worker_id(path: Path) -> str:
    made = secrets.token_hex(16)
    write_private(path, f"{made}\n".encode())
    return made


def write_private(path: Path, content: bytes) -> None:
    """Write a file (0600) of the state directory as a whole: after a power cut it is the old one or this.

    Raises:
        StateError: It can't be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            # Else a power cut could leave an empty file under the right name.
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StateError(f"can't write {path}: {error.strerror}") from None
