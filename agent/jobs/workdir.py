"""The directory that a job works in: made for it, and removed with all that it left there."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from agent.jobs.child import Identity


def make(root: Path, tag: str, owner: Identity | None) -> Path:
    """Make a working directory (0700) that belongs to whom the job runs as.

    Args:
        root: Where.
        tag: Of the attempt; its name begins with it.
        owner: Whom the job runs as, None for this process's own user.

    Raises:
        OSError: It can't be made.
    """
    path = Path(tempfile.mkdtemp(prefix=f"qubix-{tag}-", dir=root)).resolve()
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)
    return path


def remove(path: Path) -> None:
    """Remove a working directory; what can't be removed stays. No process of the job may run any more."""
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        return
    # A job may have taken the rights to its own directories away.
    for parent, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            Path(parent).chmod(0o700)
        for entry in Path(parent).iterdir():
            if entry.is_dir() and not entry.is_symlink():
                with contextlib.suppress(OSError):
                    entry.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
