"""What is mounted where, as the kernel tells this process."""

import re
from pathlib import Path
from typing import Final, NamedTuple

MOUNTINFO: Final = Path("/proc/self/mountinfo")

_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    device: str
    """``major:minor`` of what files on it have as their ``st_dev``."""
    root: str
    """Which directory of the filesystem is seen at ``point``."""
    point: Path
    kind: str
    source: str
    options: frozenset[str]
    """Of the filesystem; of a version 1 control group, its controllers."""


def read_mounts(path: Path = MOUNTINFO) -> list[Mount]:
    """Give all mounts; none where that can't be told."""
    try:
        text = path.read_text(errors="surrogateescape")
    except OSError:
        return []
    return [mount for line in text.splitlines() if (mount := _parse(line)) is not None]


def _parse(line: str) -> Mount | None:
    place, _, filesystem = line.partition(" - ")
    where, what = place.split(" "), filesystem.split(" ")
    if len(where) < 5 or len(what) < 3:
        return None
    return Mount(
        device=where[2],
        root=_plain(where[3]),
        point=Path(_plain(where[4])),
        kind=what[0],
        source=_plain(what[1]),
        options=frozenset(what[2].split(",")),
    )


def _plain(text: str) -> str:
    """Take back the escapes of spaces and the like."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
