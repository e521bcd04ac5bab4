"""Reads files that a job wrote, and nothing else, whatever the job puts in their place."""

import os
import stat
from pathlib import Path
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe that nobody writes to would make whoever opens it wait.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotAFile(OSError):
    """What lies there is no plain file of the job's own."""


def open_beneath(directory: Path, path: str) -> int:
    """Open a plain file for reading, without following a link on the way.

    The reader may be root where the job is not: no link of the job's, symbolic or hard, may lead it to a file
    that the job itself could not read.

    Args:
        directory: A directory whose own path is to be trusted.
        path: Of the file, relative to it.

    Raises:
        NotAFile: It is a link, a pipe, a device, or lies outside.
        OSError: It is not there, or can't be read.
    """
    parts = Path(path).parts
    if not parts or ".." in parts or Path(path).is_absolute():
        raise NotAFile(f"{path} is no path inside the working directory")
    descriptor = os.open(directory, _DIRECTORY)
    try:
        for part in parts[:-1]:
            above, descriptor = descriptor, os.open(part, _DIRECTORY, dir_fd=descriptor)
            os.close(above)
        file = os.open(parts[-1], _FILE, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(file)
        raise NotAFile(f"{path} is no plain file")
    return file


def read_beneath(directory: Path, path: str, *, limit: int) -> bytes:
    """Read the first ``limit`` bytes of such a file.

    Raises:
        OSError: As `open_beneath`.
    """
    descriptor = open_beneath(directory, path)
    try:
        content = b""
        while len(content) < limit and (chunk := os.read(descriptor, limit - len(content))):
            content += chunk
    finally:
        os.close(descriptor)
    return content
