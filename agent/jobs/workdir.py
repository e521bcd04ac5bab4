"""The directory that a job works in: made for it, and removed with all that it left there.

It lies in one that belongs to the agent's own user: a job can't move its directory away, nor put a link in
its place for an agent that runs as root to follow.
"""

import contextlib
import os
import secrets
import tempfile
from itertools import islice
from pathlib import Path
from typing import Final

from agent.jobs.child import Identity

_NAME: Final = "work"
_BATCH: Final = 1_000
"""Entries of a directory that are looked at together: a job may have left millions."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make(root: Path, tag: str, owner: Identity | None) -> Path:
    """Make a working directory (0700) that belongs to whom the job runs as.

    Args:
        root: Where.
        tag: Of the attempt; the name of the directory around it begins with it.
        owner: Whom the job runs as, None for this process's own user.

    Raises:
        OSError: It can't be made.
    """
    around = Path(tempfile.mkdtemp(prefix=f"qubix-{tag}-", dir=root)).resolve()
    path = around / _NAME
    path.mkdir(mode=0o700)
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)
        # To be passed through, and neither read nor written.
        around.chmod(0o711)
    return path


def remove(path: Path) -> None:
    """Remove a working directory; what can't be removed stays. No process of the job may run any more."""
    with contextlib.suppress(OSError):
        around = os.open(path.parent, _DIRECTORY)
        try:
            _empty(around)
        finally:
            os.close(around)
        path.parent.rmdir()


def _empty(directory: int) -> None:
    """Remove all that lies in a directory, however deep: what one in it holds is moved up into this one.

    So neither a path nor the number of open files grows with the depth, and no link is followed.
    """
    while sum(_remove_entry(directory, entry) for entry in _some(directory)):
        pass


def _some(directory: int) -> list["os.DirEntry[str]"]:
    with os.scandir(directory) as entries:
        return list(islice(entries, _BATCH))


def _remove_entry(directory: int, entry: "os.DirEntry[str]") -> bool:
    """Remove one entry, or some of what it holds; False where nothing could be done."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return _lift(directory, entry.name)
        os.unlink(entry.name, dir_fd=directory)
    except OSError:
        return False
    return True


def _lift(above: int, name: str) -> bool:
    """Move directories that lie in one up beside it, and remove files; once it is empty, remove it."""
    _unlock(above, name)
    directory = os.open(name, _DIRECTORY, dir_fd=above)
    try:
        entries = _some(directory)
        moved = [_move_up(directory, above, entry) for entry in entries]
    finally:
        os.close(directory)
    if entries:
        return any(moved)
    os.rmdir(name, dir_fd=above)
    return True


def _move_up(directory: int, above: int, entry: "os.DirEntry[str]") -> bool:
    try:
        if entry.is_dir(follow_symlinks=False):
            _unlock(directory, entry.name)
            os.rename(entry.name, secrets.token_hex(16), src_dir_fd=directory, dst_dir_fd=above)
        else:
            os.unlink(entry.name, dir_fd=directory)
    except OSError:
        return False
    return True


def _unlock(above: int, name: str) -> None:
    """Give a directory of our own user's back the rights that a job took away; root needs none."""
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=above)
