"""A control group of a job's own, where cgroup v2 can be written: nothing escapes it, one write ends it.

Without one (v1 alone, or no right to write) its processes are found in other ways (`agent.jobs.processes`).
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Final, Self

_PREFIX: Final = "qubix-"
_EMPTY_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.01


class Cgroup:
    """One job's control group.

    Args:
        path: Its directory, which exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(cls, tag: str) -> Self | None:
        """Make the group of one attempt beside this process, None where that can't be done."""
        path = _place(tag)
        if path is None:
            return None
        try:
            path.mkdir(exist_ok=True)
            usable = os.access(path / "cgroup.kill", os.W_OK) and os.access(path / "cgroup.procs", os.W_OK)
        except OSError:
            return None
        if not usable:
            with contextlib.suppress(OSError):
                path.rmdir()
            return None
        return cls(path)

    @classmethod
    def find(cls, tag: str) -> Self | None:
        """Give the group of one attempt beside this process, None where there is none."""
        path = _place(tag)
        return cls(path) if path is not None and path.is_dir() else None

    def open_entrance(self) -> int:
        """Give a descriptor: a process that writes ``0`` to it has entered the group.

        Raises:
            OSError: There is no such group any more.
        """
        return os.open(self.path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def processes(self) -> list[int]:
        """The ids of all processes in it, or in groups that they made below it."""
        found: list[int] = []
        for directory, _, _ in os.walk(self.path):
            with contextlib.suppress(OSError):
                found += map(int, Path(directory, "cgroup.procs").read_text().split())
        # 0 stands for a process of another pid namespace, which can't be named from here.
        return [pid for pid in found if pid > 0]

    def kill(self) -> None:
        """Send SIGKILL to everything in it, at once; what forks meanwhile dies too."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")

    def set_limit(self, name: str, value: int) -> bool:
        """Set one of its limits (``memory.max``, say); False where the controller is not there."""
        try:
            (self.path / name).write_text(str(value))
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """Take the empty group away; one that is not empty stays."""
        deadline = time.monotonic() + _EMPTY_SECONDS
        while True:
            for directory, _, _ in os.walk(self.path, topdown=False):
                with contextlib.suppress(OSError):
                    Path(directory).rmdir()
            # The kernel lets go of a process a moment after it is gone.
            if not self.path.exists() or time.monotonic() >= deadline:
                return
            time.sleep(_LOOK_SECONDS)


def _place(tag: str) -> Path | None:
    own = _own_group()
    return None if own is None else own / f"{_PREFIX}{tag}"


def _own_group() -> Path | None:
    """The directory of the v2 group that this process is in."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::") for line in groups if line.startswith("0::")), None)
    for line in mounts:
        fields, _, kind = line.partition(" - ")
        if own is None or not kind.startswith("cgroup2 "):
            continue
        root, place = fields.split()[3:5]
        if own == root or own.startswith(root.rstrip("/") + "/"):
            return Path(place, os.path.relpath(own, root))
    return None
