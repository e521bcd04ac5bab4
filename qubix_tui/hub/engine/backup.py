"""A copy of a hub's database, made while the hub goes on.

SQLite's own backup reads one state of the file, whatever is committed meanwhile. The copy appears under its
name whole or not at all.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from qubix_tui.hub.engine.schema import APPLICATION_ID

LOCK_SECONDS = 10.0
"""How long another program may hold the database before the copy is given up."""


class BackupFailed(Exception):
    """There is no copy; the message says why and what to do."""


def back_up(database: Path, target: Path) -> int:
    """Copy a hub's database, and give the bytes of the copy.

    Args:
        database: The hub's, in use or not.
        target: Where the copy is to be; never one that exists. Readable by its owner alone.

    Raises:
        BackupFailed: There is nothing at ``target`` but what was there before.
    """
    if not database.is_file():
        raise BackupFailed(f"there is no database {database}; name the hub's data directory with --data")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise BackupFailed(f"can't write in {target.parent}: {error.strerror}") from None
    try:
        _copy(database, partial)
        # Unlike a rename this never takes the place of anything.
        os.link(partial, target)
        sync_directory(target.parent)
        return target.stat().st_size
    except FileExistsError:
        raise BackupFailed(f"{target} exists, and is not written over; give another name") from None
    except OSError as error:
        raise BackupFailed(f"can't write {target}: {error.strerror}") from None
    except sqlite3.Error as error:
        raise BackupFailed(f"{database} can't be copied to {target}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _copy(database: Path, partial: Path) -> None:
    # Not read-only: the first reader of a database whose hub was killed has to settle its log.
    with (
        contextlib.closing(sqlite3.connect(database, timeout=LOCK_SECONDS)) as source,
        contextlib.closing(sqlite3.connect(partial)) as copy,
    ):
        if source.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise BackupFailed(f"{database} is the database of another program")
        source.backup(copy)
        # One file, without a log beside it.
        copy.execute("PRAGMA journal_mode=DELETE")
        (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise BackupFailed(f"{database} is damaged, and so would be its copy: {' '.join(found.split())}")
    descriptor = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
